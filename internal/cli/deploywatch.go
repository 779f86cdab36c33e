package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/forge"
	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// watching are the flags of watch.
type watching struct {
	from, branch, state, inside string
	status, api, token          string
	interval                    time.Duration
	once                        bool
}

func (d *deployment) watchCommand() *cobra.Command {
	w := watching{state: "watch", interval: time.Minute}
	var v verifying
	cmd := &cobra.Command{
		Use: "watch", Short: "Follow the repository that holds the file: what is new there is deployed and verified", Args: cobra.NoArgs,
		Long: "Looks at the branch of a repository again and again. A new commit is deployed as `upgrade` does,\n" +
			"with a real launch in the end; when that fails the hub goes back, and the commit is not tried\n" +
			"again until another one follows. Nobody needs a way into the cloud from outside for this.\n" +
			"With the section watch in the file `up` installs it as a part of the deployment, and nobody has to run it.",
		Example: "  binnacle deploy watch --from https://git.example.org/institute/hub --branch main",
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.watch(cmd.Context(), w, v) },
	}
	f := cmd.Flags()
	f.StringVar(&w.from, "from", "", "the `repository` that holds the file")
	f.StringVar(&w.branch, "branch", "", "its `branch`; default is the repository's own")
	f.StringVar(&w.state, "state", w.state, "the `directory` that remembers what was deployed, with its journal")
	f.DurationVar(&w.interval, "interval", w.interval, "how long to wait between two looks")
	f.BoolVar(&w.once, "once", false, "look once, deploy what is new, and end")
	f.StringVar(&w.status, "status", "", "write the verdict on each commit to a `forge`: github, gitlab, gitea or azure-devops")
	f.StringVar(&w.api, "api", "", "the `address` of the forge's API; default follows from the repository's")
	f.StringVar(&w.token, "token-from", "", "where a token of the forge is: env:NAME or file:`PATH`")
	f.StringVar(&w.inside, "inside", "", "as a part of the deployment, which this `file` of it describes")
	v.flags(cmd)
	return cmd
}

func (d *deployment) watch(ctx context.Context, w watching, v verifying) error {
	follow := *d
	if w.inside != "" {
		if err := follow.within(&w); err != nil {
			return err
		}
	}
	if w.from == "" {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.watch", Message: "watch needs a repository to follow.", Hint: "--from https://git.example.org/institute/hub"}
	}
	if w.interval <= 0 {
		return binnacle.Errorf(binnacle.CodeInvalid, "--interval must be more than 0, not %s.", w.interval)
	}
	c, err := d.config(nil)
	if err != nil {
		return err
	}
	log := d.logger(c, slog.LevelInfo)
	o := watch.Options{Version: d.Version, Now: time.Now, Log: log, Store: watch.File(filepath.Join(w.state, "watch.json"))}
	if o.Repository, err = d.followed(c.Source, w, cmp.Or(w.fileOf(follow), d.file), log); err != nil {
		return err
	}
	follow.file = filepath.Join(w.state, "binnacle.yaml")
	if follow.inside != nil {
		place, err := follow.ownPlace(ctx)
		if err != nil {
			return err
		}
		o.Store = commits{place}
	} else {
		o.Store = &mirrored{o.Store, &follow, log}
	}
	if o.Tell, err = d.teller(w); err != nil {
		return err
	}
	o.Hub = &watched{&follow, v}
	watcher := watch.New(o)
	if !w.once {
		return watcher.Run(ctx, w.interval)
	}
	changed, err := watcher.Once(ctx)
	if err == nil && !changed {
		fmt.Fprintln(d.Out, "Nothing to do.")
	}
	return err
}

// fileOf is the deployment's file in the repository that is followed from within.
func (w watching) fileOf(d deployment) string {
	if d.inside == nil {
		return ""
	}
	return d.inside.Path
}

// within reads what a part of the deployment is told by `up`.
func (d *deployment) within(w *watching) error {
	b, err := os.ReadFile(w.inside)
	if err != nil {
		return fmt.Errorf("read what is to be followed: %w", err)
	}
	in, every, err := config.ReadInside(b)
	if err != nil {
		return err
	}
	d.inside = &in
	w.from, w.branch, w.interval, w.status, w.api = in.Repository, in.Branch, every, in.Status, in.API
	if in.Token != "" {
		w.token = "file:" + in.Token
	}
	return nil
}

// followed is the repository, for whose forge git gets the token, if there is one.
func (d *deployment) followed(c source.Config, w watching, file string, log *slog.Logger) (*watch.Git, error) {
	var err error
	if c.Dir, err = filepath.Abs(filepath.Join(w.state, "git")); err != nil {
		return nil, err
	}
	if w.token != "" {
		home, err := d.login(w)
		if err != nil {
			return nil, err
		}
		c.Environ = append(c.Environ, "HOME="+home)
	}
	src, err := source.New(c, log)
	if err != nil {
		return nil, err
	}
	return watch.NewGit(src, w.from, w.branch, file)
}

// login writes the file from which git's HTTP takes the token, into a home of its
// own: it is on no command line.
func (d *deployment) login(w watching) (home string, err error) {
	token, err := config.Resolve("watch.token_from", w.token, d.Environ)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(w.from)
	if err != nil || u.Host == "" {
		return "", binnacle.Errorf(binnacle.CodeInvalid, "--token-from: a token is for the https address of a repository.")
	}
	if home, err = filepath.Abs(filepath.Join(w.state, "home")); err != nil {
		return "", err
	}
	const private = 0o700
	if err := os.MkdirAll(home, private); err != nil {
		return "", fmt.Errorf("keep the token for git: %w", err)
	}
	text := fmt.Sprintf("machine %s login x-access-token password %s\n", u.Hostname(), string(token))
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("keep the token for git: %w", err)
	}
	return home, nil
}

// teller writes verdicts to the forge; nil when that is not asked for. The token is
// read each time: it may be replaced while we run.
func (d *deployment) teller(w watching) (func(context.Context, string, forge.State, string) error, error) {
	if w.status == "" {
		return nil, nil
	}
	client := func() (*forge.Client, error) {
		token, err := config.Resolve("watch.token_from", cmp.Or(w.token, "env:FORGE_TOKEN"), d.Environ)
		if err != nil {
			return nil, err
		}
		return forge.New(forge.Options{Kind: w.status, Repository: w.from, API: w.api, Token: token, HTTP: new(http.Client)})
	}
	if _, err := client(); err != nil {
		return nil, err
	}
	return func(ctx context.Context, commit string, s forge.State, text string) error {
		c, err := client()
		if err != nil {
			return err
		}
		return c.Status(ctx, commit, s, text)
	}, nil
}

// commits keeps what is known of commits beside the hub.
type commits struct{ worker }

// Load implements [watch.Store].
func (c commits) Load(ctx context.Context) ([]byte, error) { return c.Commits(ctx) }

// Save implements [watch.Store].
func (c commits) Save(ctx context.Context, b []byte) error { return c.KeepCommits(ctx, b) }

// mirrored keeps it here, and a copy beside the hub, where `info` finds it.
type mirrored struct {
	watch.Store

	d   *deployment
	log *slog.Logger
}

// Save implements [watch.Store]. A copy that can't be kept is no failure.
func (m *mirrored) Save(ctx context.Context, b []byte) error {
	if err := m.Store.Save(ctx, b); err != nil {
		return err
	}
	if _, err := os.Stat(m.d.file); errors.Is(err, os.ErrNotExist) {
		return nil // nothing was deployed yet
	}
	quiet := *m.d
	app := *m.d.app
	app.Err = discard{}
	quiet.app = &app
	err := quiet.withHub(ctx, false, func(at *place) error { return at.hub.KeepCommits(ctx, b) })
	if err != nil {
		m.log.WarnContext(ctx, "what is known of commits is not kept beside the hub", slog.Any("error", err))
	}
	return nil
}

// discard drops what is written.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// watched deploys what a repository says.
type watched struct {
	d *deployment
	v verifying
}

// Deploy implements [watch.Hub]. What was taken back is the commit's fault. The file
// that is kept is the one of what runs, for the other commands.
func (h *watched) Deploy(ctx context.Context, file []byte, t *watch.Try) (waits []string, err error) {
	d := h.d
	if err := os.MkdirAll(filepath.Dir(d.file), 0o700); err != nil {
		return nil, fmt.Errorf("keep the deployment's file: %w", err)
	}
	before, readErr := os.ReadFile(d.file)
	defer func() {
		if err != nil && readErr == nil {
			err = errors.Join(err, os.WriteFile(d.file, before, 0o600)) //nolint:gosec // the operator names the directory
		}
	}()
	if err := os.WriteFile(d.file, file, 0o600); err != nil {
		return nil, fmt.Errorf("keep the deployment's file: %w", err)
	}
	err = d.withHub(ctx, false, func(at *place) error {
		waits = at.waits
		if _, err := at.hub.History(ctx); binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return d.recorded(ctx, at, "up", func() error { // the first one: there is nothing to go back to
				if err := d.apply(ctx, at, true); err != nil {
					return err
				}
				return d.verify(ctx, at, h.v)
			})
		}
		return d.upgrade(ctx, at, true, h.v, t)
	})
	return waits, blamed(err)
}

// blamed makes an upgrade that was taken back the fault of what was deployed.
func blamed(err error) error {
	if e, ok := errors.AsType[*binnacle.Error](err); ok && e.Op == opUpgrade {
		back := *e
		back.Code = binnacle.CodeInvalid
		return &back
	}
	return err
}

// Return implements [watch.Hub].
func (h *watched) Return(ctx context.Context, revision int) error {
	if h.d.inside == nil {
		return h.d.withHub(ctx, false, func(at *place) error { return goBack(ctx, at.hub, revision) })
	}
	at, err := h.d.ownPlace(ctx)
	if err != nil {
		return err
	}
	err = goBack(ctx, at, revision)
	return errors.Join(err, at.Close(context.WithoutCancel(ctx)))
}

// goBack goes back to a revision unless that was done, and waits.
func goBack(ctx context.Context, hub worker, revision int) error {
	if err := hub.Lock(ctx); err != nil {
		return err
	}
	if _, err := hub.Rollback(ctx, revision); err != nil {
		return err
	}
	return hub.Await(ctx)
}
