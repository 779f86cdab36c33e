package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/image"
)

type launchOptions struct {
	repo, ref, subdir, path  string
	memory, class            string
	cpu                      float64
	env                      []string
	open, detach, editable   bool
	asJSON, buildOnly, fresh bool
}

func (a *app) launchCommand() *cobra.Command {
	var o launchOptions
	cmd := &cobra.Command{
		Use:   "launch REPO",
		Short: "Build a repository and open it in JupyterLab",
		Long: "Builds what REPO declares and starts JupyterLab in it. REPO is a directory, a git\n" +
			"address, the page of a repository, or a spec such as gh/owner/name/ref.\n\n" +
			"A hub that runs on this machine is used; else one runs until the session ends.\n" +
			"Ctrl-C stops the session and leaves nothing behind.",
		Example: "  binnacle launch .\n  binnacle launch https://git.example.org/me/notebooks --ref main\n  binnacle launch gh/owner/name --urlpath lab/tree/index.ipynb",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.repo = localPath(args[0])
			return a.launch(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	placeFlags(f, &o.ref, &o.subdir)
	f.StringVar(&o.path, "urlpath", "", "`path` to open, such as lab/tree/index.ipynb, tree, vscode or desktop")
	f.StringArrayVarP(&o.env, "env", "e", nil, "variable of the session, `NAME=VALUE`, or NAME to hand on yours; may be repeated")
	f.StringVarP(&o.memory, "memory", "m", "", "memory of the session, a `size` such as 4GiB")
	f.Float64Var(&o.cpu, "cpu", 0, "`cores` of the session")
	f.StringVar(&o.class, "class", "", "`kind` of session that the hub's operator offers, such as gpu")
	f.BoolVar(&o.open, "open", true, "open the browser")
	f.BoolVarP(&o.detach, "detach", "d", false, "print the address and leave the session running")
	f.BoolVar(&o.editable, "editable", false, "REPO is a directory: work in it, not in a copy")
	f.BoolVar(&o.fresh, "rebuild", false, "build anew although an image is there")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON event per line, then the session")
	return cmd
}

// placeFlags are the flags of all commands that read a repository.
func placeFlags(f *pflag.FlagSet, ref, subdir *string) {
	f.StringVar(ref, "ref", "", "branch, tag or commit, instead of the one REPO names")
	f.StringVar(subdir, "subdir", "", "`folder` of the repository to take for all of it, such as courses/one")
}

// request is what the flags ask the hub for.
func (a *app) request(o launchOptions) (binnacle.LaunchRequest, error) {
	req := binnacle.LaunchRequest{
		Repo: o.repo, Ref: o.ref, Subdir: o.subdir, Path: o.path, Editable: o.editable, BuildOnly: o.buildOnly, Rebuild: o.fresh,
		Limits: binnacle.Limits{CPU: o.cpu}, Class: o.class,
	}
	if o.cpu < 0 {
		return req, binnacle.Errorf(binnacle.CodeInvalid, "--cpu must be more than 0.")
	}
	if o.memory != "" {
		n, err := config.ParseSize(o.memory)
		if err != nil || n <= 0 {
			return req, binnacle.Errorf(binnacle.CodeInvalid, "--memory %s is not a size such as 4GiB.", o.memory)
		}
		req.Limits.Memory = n
	}
	var err error
	req.Env, err = sessionEnv(o.env, a.Environ)
	return req, err
}

// sessionEnv are the variables that --env asks for, as with Docker: NAME=VALUE, or NAME
// for what it is here; one that is not set here is not set there either.
func sessionEnv(asked, environ []string) (map[string]string, error) {
	var env map[string]string
	for _, e := range asked {
		name, value, given := strings.Cut(e, "=")
		if name == "" {
			return nil, binnacle.Errorf(binnacle.CodeInvalid, "--env %s is not written NAME=VALUE.", e)
		}
		if !given {
			if !slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
				continue
			}
			value = lookup(environ, name)
		}
		if env == nil {
			env = map[string]string{}
		}
		env[name] = value
	}
	return env, nil
}

func (a *app) launch(ctx context.Context, o launchOptions) (err error) {
	req, err := a.request(o)
	if err != nil {
		return err
	}
	c, err := a.config(nil)
	if err != nil {
		return err
	}
	if o.detach {
		running, err := hubRuns(ctx, c)
		if err != nil {
			return err
		}
		if !running {
			if err := a.startBackground(ctx, c); err != nil {
				return err
			}
		}
	}
	h, stop, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	done, err := a.follow(ctx, h, req, o.asJSON)
	switch {
	case err != nil:
		return err
	case o.buildOnly && o.asJSON:
		return json.NewEncoder(a.Out).Encode(image.Image{Name: done.Image})
	case o.buildOnly:
		_, err := fmt.Fprintln(a.Out, done.Image)
		return err
	case done.Session == nil:
		return nil // somebody was quicker and stopped it
	default:
		return a.present(ctx, h, done, o)
	}
}

// follow launches and shows how it goes. When ctx ends first, the launch is
// canceled.
func (a *app) follow(ctx context.Context, h hubAPI, req binnacle.LaunchRequest, asJSON bool) (binnacle.Launch, error) {
	l, err := h.Launch(ctx, req)
	if err != nil {
		return l, err
	}
	d := a.newDisplay(ctx, asJSON)
	var end *binnacle.Event
	err = h.Events(ctx, l.ID, 0, func(e binnacle.Event) error {
		if e.Kind == binnacle.EventEnd {
			end = &e
		}
		return d.event(e)
	})
	d.close()
	if ctx.Err() != nil {
		return l, errors.Join(binnacle.Errorf(binnacle.CodeCanceled, "Canceled."), undo(ctx, func(ctx context.Context) error {
			return a.abandon(ctx, h, l.ID)
		}))
	}
	if err != nil {
		return l, err
	}
	if end == nil {
		return l, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "cli.follow", Message: "The hub stopped before the launch ended.", Hint: "Start it again: it goes on with launch " + l.ID + ".",
		}
	}
	if end.Error != nil {
		return l, end.Error
	}
	if end.Phase == binnacle.PhaseCanceled {
		return l, binnacle.Errorf(binnacle.CodeCanceled, "The launch was canceled.")
	}
	return h.Get(ctx, l.ID)
}

// abandon cancels a launch, or stops its session if it got that far.
func (a *app) abandon(ctx context.Context, h hubAPI, id string) error {
	err := h.Cancel(ctx, id)
	l, getErr := h.Get(ctx, id)
	if getErr == nil && l.Session != nil {
		return h.Stop(ctx, l.Session.ID)
	}
	if code := binnacle.CodeOf(err); code == binnacle.CodeNotFound || code == binnacle.CodeConflict {
		return nil // it had ended
	}
	return err
}

// undo runs f after ctx has ended, for a limited time.
func undo(ctx context.Context, f func(context.Context) error) error {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return f(ctx)
}

// present tells where the session is, and unless detached stays until it ends
// or the person does.
func (a *app) present(ctx context.Context, h hubAPI, l binnacle.Launch, o launchOptions) error {
	address := sessionAddress(*l.Session, cmp.Or(l.Path, l.Session.Path))
	if o.asJSON {
		if err := json.NewEncoder(a.Out).Encode(l.Session); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.Out, "\n    %s\n\n", address)
	}
	if o.open && !o.asJSON {
		cleanup := a.openBrowser(ctx, address)
		defer cleanup()
	}
	if o.detach {
		return nil
	}
	if !o.asJSON {
		fmt.Fprintln(a.Err, "Ctrl-C stops the session.")
	}
	// The log ends when the session does, whoever stops it.
	err := h.Logs(ctx, l.Session.ID, true, io.Discard)
	if ctx.Err() == nil && (err == nil || binnacle.CodeOf(err) == binnacle.CodeNotFound) {
		fmt.Fprintln(a.Err, "The session has ended.")
	}
	if ctx.Err() == nil && err != nil && binnacle.CodeOf(err) != binnacle.CodeNotFound {
		return err
	}
	return undo(ctx, func(ctx context.Context) error {
		err := h.Stop(ctx, l.Session.ID)
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return nil
		}
		return err
	})
}

// sessionAddress is the address to open, with the token that lets one in.
func sessionAddress(s binnacle.Session, path string) string {
	return hub.OpenURL(s, cmp.Or(path, "lab"))
}
