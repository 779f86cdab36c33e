package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// watching are the flags of watch.
type watching struct {
	from, branch, state string
	interval            time.Duration
	once                bool
}

func (d *deployment) watchCommand() *cobra.Command {
	w := watching{state: "watch", interval: time.Minute}
	var v verifying
	cmd := &cobra.Command{
		Use: "watch", Short: "Follow the repository that holds the file: what is new there is deployed and verified", Args: cobra.NoArgs,
		Long: "Looks at the branch of a repository again and again. A new commit is deployed as `upgrade` does,\n" +
			"with a real launch in the end; when that fails the hub goes back, and the commit is not tried\n" +
			"again until another one follows. Nobody needs a way into the cloud from outside for this.",
		Example: "  binnacle deploy watch --from https://git.example.org/institute/hub --branch main",
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.watch(cmd.Context(), w, v) },
	}
	f := cmd.Flags()
	f.StringVar(&w.from, "from", "", "the `repository` that holds the file")
	f.StringVar(&w.branch, "branch", "", "its `branch`; default is the repository's own")
	f.StringVar(&w.state, "state", w.state, "the `directory` that remembers what was deployed, with its journal")
	f.DurationVar(&w.interval, "interval", w.interval, "how long to wait between two looks")
	f.BoolVar(&w.once, "once", false, "look once, deploy what is new, and end")
	v.flags(cmd)
	return cmd
}

func (d *deployment) watch(ctx context.Context, w watching, v verifying) error {
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
	if c.Source.Dir, err = filepath.Abs(filepath.Join(w.state, "git")); err != nil {
		return err
	}
	log := d.logger(c, slog.LevelInfo)
	src, err := source.New(c.Source, log)
	if err != nil {
		return err
	}
	repo, err := watch.NewGit(src, w.from, w.branch, d.file)
	if err != nil {
		return err
	}
	follow := *d
	follow.file = filepath.Join(w.state, "binnacle.yaml")
	apply := func(ctx context.Context, file []byte) error { return follow.takeCommit(ctx, file, v) }
	watcher := watch.New(repo, apply, filepath.Join(w.state, "watch.json"), time.Now, log)
	if !w.once {
		return watcher.Run(ctx, w.interval)
	}
	changed, err := watcher.Once(ctx)
	if err == nil && !changed {
		fmt.Fprintln(d.Out, "Nothing to do.")
	}
	return err
}

// takeCommit deploys a commit's file; what was taken back is the commit's fault.
// The file that is kept is the one of what runs, for the other commands.
func (d *deployment) takeCommit(ctx context.Context, file []byte, v verifying) (err error) {
	if err := os.MkdirAll(filepath.Dir(d.file), 0o700); err != nil {
		return fmt.Errorf("keep the deployment's file: %w", err)
	}
	before, readErr := os.ReadFile(d.file)
	defer func() {
		if err != nil && readErr == nil {
			err = errors.Join(err, os.WriteFile(d.file, before, 0o600)) //nolint:gosec // the operator names the directory
		}
	}()
	if err := os.WriteFile(d.file, file, 0o600); err != nil {
		return fmt.Errorf("keep the deployment's file: %w", err)
	}
	err = d.withHub(ctx, false, func(at *place) error {
		if _, err := at.hub.History(ctx); binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return d.recorded(ctx, at, "up", func() error { // the first one: there is nothing to go back to
				if err := d.apply(ctx, at, true); err != nil {
					return err
				}
				return d.verify(ctx, at, v)
			})
		}
		return d.upgrade(ctx, at, true, v)
	})
	if e, ok := errors.AsType[*binnacle.Error](err); ok && e.Op == "cli.upgrade" {
		back := *e
		back.Code = binnacle.CodeInvalid
		return &back
	}
	return err
}
