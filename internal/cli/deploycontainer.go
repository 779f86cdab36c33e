package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/button"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/page"
	"github.com/binnacle-hub/binnacle/internal/deploy/verify"
)

// containing are the flags of container.
type containing struct {
	page           string
	linger, rights time.Duration
}

func (d *deployment) containerCommand() *cobra.Command {
	c := containing{page: ":8080", linger: 30 * time.Minute, rights: 10 * time.Minute}
	cmd := &cobra.Command{
		Use: "container", Short: "Deploy what the environment describes, and show it on a page: what the button's container runs", Args: cobra.NoArgs,
		Long: "The deployment is described by " + button.Variable + " (binnacle.yaml, or the same as JSON), or by the\n" +
			"variables of binderhub-deploy's container (BINDERHUB_CONTAINER_MODE). It is brought up and verified\n" +
			"as `up` does, without questions. The page shows each step and how it ended; it stays for a while\n" +
			"after that, so that whoever waits for the end can read it.",
		RunE: func(cmd *cobra.Command, _ []string) error { return d.container(cmd.Context(), c) },
	}
	f := cmd.Flags()
	f.StringVar(&c.page, "page", c.page, "the `address` that the page listens on")
	f.DurationVar(&c.linger, "linger", c.linger, "how long the page stays after the end")
	f.DurationVar(&c.rights, "rights-within", c.rights, "how long to wait for rights that were just given")
	return cmd
}

func (d *deployment) container(ctx context.Context, c containing) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.page)
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	shown := page.New()
	const patience = 10 * time.Second
	server := &http.Server{Handler: shown, ReadHeaderTimeout: patience, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Fprintf(d.Err, "The page listens on %s\n", l.Addr())
	inner := *d.app
	inner.Out, inner.Err = io.MultiWriter(d.Out, shown), io.MultiWriter(d.Err, shown)
	work := &deployment{app: &inner, lasts: new(lasting), file: d.file, noHub: d.noHub}
	url, err := work.fromEnvironment(ctx, c.rights)
	result := page.Result{State: page.Done, URL: url}
	if err != nil {
		public := binnacle.Public(err)
		result = page.Result{State: page.Failed, Message: public.Message, Hint: public.Hint}
	}
	shown.End(result)
	select {
	case <-time.After(c.linger):
	case <-ctx.Done():
	case serveErr := <-served:
		return errors.Join(err, serveErr)
	}
	err = errors.Join(err, server.Close())
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// fromEnvironment brings up and verifies what the environment describes; it
// returns how people reach the hub.
func (d *deployment) fromEnvironment(ctx context.Context, rights time.Duration) (url string, err error) {
	if err := d.describe(); err != nil {
		return "", err
	}
	at, err := d.openSoon(ctx, rights)
	if err != nil {
		return "", err
	}
	defer at.close(ctx)
	err = d.recorded(ctx, at, "up", func() error {
		if err := d.apply(ctx, at, true); err != nil {
			return err
		}
		return d.verify(ctx, at, verifying{answer: verify.DefaultAnswer})
	})
	if err != nil || at.hub == nil {
		return "", err
	}
	return hubURL(ctx, at)
}

// describe writes the file from what the environment says. Secrets stay there.
func (d *deployment) describe() error {
	text := lookup(d.Environ, button.Variable)
	if text == "" {
		i, err := d.foreign(nil)
		if err != nil {
			if binnacle.CodeOf(err) == binnacle.CodeInvalid && lookup(d.Environ, "BINDERHUB_CONTAINER_MODE") == "" {
				return &binnacle.Error{
					Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: "The environment describes no deployment: " + button.Variable + " is not set.",
					Hint: "This is what the button's container runs; on a terminal use binnacle deploy up.",
				}
			}
			return err
		}
		d.notes(i.Notes)
		b, err := i.Config.Marshal()
		if err != nil {
			return err
		}
		text = string(b)
	}
	if _, ps := config.Load([]byte(text)); len(ps) > 0 {
		return ps.Err("The environment's " + button.Variable)
	}
	return writeNew(d.file, []byte(text), true, "", "")
}

// openSoon opens the place, with its plan, as soon as that is allowed: on Azure a role that was
// just given is seen some minutes later.
func (d *deployment) openSoon(ctx context.Context, rights time.Duration) (*place, error) {
	const looks = 60
	limit, pause := time.After(rights), rights/looks
	for {
		at, err := d.open(ctx)
		if err == nil {
			var p deploy.Plan
			if p, err = at.engine.Plan(ctx); err == nil {
				at.plan = &p
				return at, nil
			}
			at.close(ctx)
		}
		switch binnacle.CodeOf(err) {
		case binnacle.CodeForbidden, binnacle.CodeUnauthorized, binnacle.CodeNotFound:
		default:
			return nil, err
		}
		fmt.Fprintf(d.Err, "not allowed yet: %s\n", clean(binnacle.Public(err).Message))
		select {
		case <-time.After(pause):
		case <-limit:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
