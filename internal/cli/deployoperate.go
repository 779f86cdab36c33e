package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/cluster"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
	"github.com/binnacle-hub/binnacle/internal/deploy/verify"
	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
)

// verifying are the flags of what ends with a verified launch.
type verifying struct {
	skip       bool
	answer     time.Duration
	repository string
}

func (v *verifying) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&v.skip, "no-verify", false, "do not launch a repository to prove that the hub works")
	v.common(cmd)
}

func (v *verifying) common(cmd *cobra.Command) {
	cmd.Flags().StringVar(&v.repository, "repository", "", "what is launched to verify; default is the file's verify.`repository`")
	cmd.Flags().DurationVar(&v.answer, "answer-within", verify.DefaultAnswer, "how long the hub may take until it answers")
}

// verify proves that the hub works, by its public address.
func (d *deployment) verify(ctx context.Context, at *place, v verifying) error {
	if at.hub == nil || v.skip {
		return nil
	}
	url, err := hubURL(ctx, at)
	if err != nil {
		return err
	}
	h, err := client.New(url)
	if err != nil {
		return err
	}
	defer h.Close()
	way := d.way(at.config)
	if way != nil {
		h.By(way)
	}
	if v.repository == "" {
		v.repository = at.config.Verify.Repository
	}
	fmt.Fprintf(d.Err, "verify %s with %s\n", clean(url), clean(v.repository))
	report, err := verify.Run(ctx, h, verify.Options{
		Repository: v.repository, Answer: v.answer, Way: way, Now: time.Now,
		Tell: func(p verify.Phase) {
			fmt.Fprintf(d.Err, "  done: %s, %s\n", clean(p.Name), p.Took.Round(time.Millisecond))
		},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "Verified in %s: %s is launched and a cell ran. The hub is at %s\n", report.Total().Round(time.Millisecond), clean(v.repository), clean(url))
	return nil
}

// hubURL is how people reach the hub.
func hubURL(ctx context.Context, at *place) (string, error) {
	rel, err := at.hub.Find(ctx, deploy.Resource{Kind: cluster.KindRelease, Name: at.config.Name})
	if err != nil {
		return "", err
	}
	if url := rel.Outputs["url"]; url != "" {
		return url, nil
	}
	return "", &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "cli.deploy", Message: "How people reach the hub is not known.",
		Hint: "Set values: {url: https://hub.example.org}, or dns.domain; with a load balancer binnacle deploy info shows whether it has its address.",
	}
}

// withHub opens the place and hands over what works on the hub in it.
func (d *deployment) withHub(ctx context.Context, locked bool, f func(at *place) error) error {
	at, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer at.close(ctx)
	if at.hub == nil {
		return binnacle.Errorf(binnacle.CodeInvalid, "With --no-hub there is no hub to work on.")
	}
	if locked {
		if _, err := at.hub.History(ctx); err != nil {
			return err
		}
		if err := at.hub.Lock(ctx); err != nil {
			return err
		}
	}
	return f(at)
}

func (d *deployment) verifyCommand() *cobra.Command {
	var v verifying
	cmd := &cobra.Command{
		Use: "verify", Short: "Launch a repository through the public address and run a cell in it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), false, func(at *place) error { return d.verify(cmd.Context(), at, v) })
		},
	}
	v.common(cmd)
	return cmd
}

// upgrading are the flags of upgrade.
type upgrading struct {
	verifying

	yes    bool
	commit string
}

func (d *deployment) upgradeCommand() *cobra.Command {
	var u upgrading
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Bring the hub to this program's version and the file; goes back by itself when the hub does not work then", Args: cobra.NoArgs,
		Long: "With --commit, as pipelines run it, the hub remembers which commit the file is of: `info` shows it, and a\n" +
			"commit with which the hub did not work is refused when somebody runs its pipeline again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), false, func(at *place) error { return d.upgradeTo(cmd.Context(), at, u) })
		},
	}
	cmd.Flags().BoolVarP(&u.yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&u.commit, "commit", "", "the `commit` that the file is of")
	u.flags(cmd)
	return cmd
}

// upgradeTo upgrades, and keeps what that says of the commit beside the hub.
func (d *deployment) upgradeTo(ctx context.Context, at *place, u upgrading) error {
	if u.commit == "" {
		return d.upgrade(ctx, at, u.yes, u.verifying, nil)
	}
	file, err := os.ReadFile(d.file)
	if err != nil {
		return err
	}
	w := watch.New(watch.Options{
		Hub: &opened{d: d, at: at, u: u}, Store: commits{at.hub}, Version: d.Version, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	changed, err := w.Take(ctx, u.commit, file)
	if err == nil && !changed {
		fmt.Fprintf(d.Out, "The hub runs the commit %.12s already, or one with the same file.\n", u.commit)
	}
	return err
}

// opened is a hub whose place is open.
type opened struct {
	d  *deployment
	at *place
	u  upgrading
}

// Deploy implements [watch.Hub].
func (o *opened) Deploy(ctx context.Context, _ []byte, t *watch.Try) ([]string, error) {
	return nil, blamed(o.d.upgrade(ctx, o.at, o.u.yes, o.u.verifying, t))
}

// Return implements [watch.Hub].
func (o *opened) Return(ctx context.Context, revision int) error {
	return goBack(ctx, o.at.hub, revision)
}

// opUpgrade marks the errors of an upgrade that was taken back.
const opUpgrade = "cli.upgrade"

// start is the revision to go back to: the one in use, or the one that was when an
// earlier process began with the same.
func start(ctx context.Context, hub worker, t *watch.Try) (deploy.Revision, error) {
	before, err := current(ctx, hub)
	if err != nil || t == nil || t.From == 0 || t.From == before.Number {
		return before, err
	}
	list, err := hub.History(ctx)
	if err != nil {
		return before, err
	}
	if i := slices.IndexFunc(list, func(r deploy.Revision) bool { return r.Number == t.From && r.Worked }); i >= 0 {
		return list[i], nil
	}
	return before, nil
}

func (d *deployment) upgrade(ctx context.Context, at *place, yes bool, v verifying, t *watch.Try) error {
	before, err := start(ctx, at.hub, t)
	if err != nil {
		return err
	}
	err = d.recorded(ctx, at, "upgrade", func() error {
		if err := t.Begin(ctx, before.Number); err != nil {
			return err
		}
		if err := d.apply(ctx, at, yes); err != nil {
			return err
		}
		return d.verify(ctx, at, v)
	})
	if err == nil || ctx.Err() != nil || !before.Worked {
		return err
	}
	now, lookErr := current(ctx, at.hub)
	if lookErr != nil || now.Number == before.Number {
		return errors.Join(err, lookErr)
	}
	return d.takeBack(ctx, at, before.Number, err, t)
}

// takeBack goes back from what did not work, and says so.
func (d *deployment) takeBack(ctx context.Context, at *place, to int, err error, t *watch.Try) error {
	fmt.Fprintf(d.Err, "%s\nback to revision %d\n", clean(binnacle.Public(err).Message), to)
	if err := t.Back(ctx, err, to); err != nil {
		return err
	}
	note, back := at.hub.Rollback(ctx, to)
	if back == nil {
		back = at.hub.Await(ctx)
	}
	if back != nil {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: opUpgrade, Message: "The upgrade failed, and going back too: " + binnacle.Public(back).Message,
			Hint: "binnacle deploy logs and deploy info show what is wrong; binnacle deploy rollback tries again to go back.", Err: errors.Join(err, back),
		}
	}
	if note != "" {
		fmt.Fprintln(d.Err, clean(note))
	}
	return errors.Join(&binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: opUpgrade,
		Message: fmt.Sprintf("The upgrade failed and was taken back: revision %d runs again. The cause: %s", to, binnacle.Public(err).Message),
		Hint:    "Mend the cause, then upgrade again.", Err: err,
	}, t.Returned(ctx))
}

func (d *deployment) rollbackCommand() *cobra.Command {
	var to int
	var v verifying
	cmd := &cobra.Command{
		Use: "rollback", Short: "Go back to the revision before, or to a named one; the database stays as it is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), true, func(at *place) error {
				ctx := cmd.Context()
				if to == 0 {
					r, err := previous(ctx, at.hub)
					if err != nil {
						return err
					}
					to = r.Number
				}
				note, err := at.hub.Rollback(ctx, to)
				if err != nil {
					return err
				}
				if err := at.hub.Await(ctx); err != nil {
					return err
				}
				if note != "" {
					fmt.Fprintln(d.Out, clean(note))
				}
				fmt.Fprintf(d.Out, "Revision %d runs again. Until the file is changed back, up and upgrade would undo this.\n", to)
				return d.verify(ctx, at, v)
			})
		},
	}
	cmd.Flags().IntVar(&to, "to", 0, "the `revision`; deploy history shows them")
	v.flags(cmd)
	return cmd
}

func (d *deployment) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history", Short: "Show the revisions of the hub", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), false, func(at *place) error {
				list, err := at.hub.History(cmd.Context())
				if err != nil {
					return err
				}
				for _, r := range list {
					fmt.Fprintf(d.Out, "%4d  %s  %-10s  %s  %s\n", r.Number, r.Updated.UTC().Format(time.RFC3339), clean(r.Status), clean(r.Version), clean(r.Note))
				}
				return nil
			})
		},
	}
}

func (d *deployment) restartCommand() *cobra.Command {
	var component string
	cmd := &cobra.Command{
		Use: "restart", Short: "Start the hub anew, and the builders where there are any; sessions go on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), true, func(at *place) error {
				if err := at.hub.Restart(cmd.Context(), component); err != nil {
					return err
				}
				return d.awaited(cmd.Context(), at)
			})
		},
	}
	cmd.Flags().StringVar(&component, "component", "", "only this `part`: hub or builders")
	return cmd
}

func (d *deployment) sleepCommand() *cobra.Command {
	return &cobra.Command{
		Use: "sleep", Short: "Stop the hub and the builders; wake brings them back", Args: cobra.NoArgs,
		Long: "Nobody can launch meanwhile. Volumes stay. On Azure the cluster is stopped too: its machines cost nothing\n" +
			"then, but disks, the address and the registry do. On another cluster the nodes stay unless its autoscaler removes them.\n" +
			"On one machine the service is stopped, also across a restart of the machine; sessions go on without their pages.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), true, func(at *place) error {
				if err := at.hub.Sleep(cmd.Context()); err != nil {
					return err
				}
				if at.machines != nil {
					at.close(cmd.Context()) // the lock is in the cluster
					fmt.Fprintln(d.Err, "stop the cluster: this takes some minutes")
					if err := at.machines.Sleep(cmd.Context()); err != nil {
						return err
					}
				}
				fmt.Fprintln(d.Out, "The hub sleeps. Next: binnacle deploy wake")
				return nil
			})
		},
	}
}

func (d *deployment) wakeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "wake", Short: "Start again what sleep stopped", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), false, func(at *place) error { return d.wake(cmd.Context(), at) })
		},
	}
}

// wake starts the cluster, without which nothing else can be asked, and the hub.
func (d *deployment) wake(ctx context.Context, at *place) error {
	if at.machines != nil {
		fmt.Fprintln(d.Err, "start the cluster, if it is stopped: this takes some minutes")
		if err := at.machines.Wake(ctx); err != nil {
			return err
		}
	}
	if _, err := at.hub.History(ctx); err != nil {
		return err
	}
	if err := at.hub.Lock(ctx); err != nil {
		return err
	}
	if err := at.hub.Wake(ctx); err != nil {
		return err
	}
	return d.awaited(ctx, at)
}

// awaited waits until the hub runs again, and says so.
func (d *deployment) awaited(ctx context.Context, at *place) error {
	if err := at.hub.Await(ctx); err != nil {
		return err
	}
	fmt.Fprintln(d.Out, "The hub runs.")
	return nil
}

// Components that are not pods.
const (
	componentBuilds = "builds" // the images that are made
	componentCloud  = "cloud"  // the journal
)

// buildLogsOf are the same options for the logs of builds.
func buildLogsOf(o release.LogOptions) buildLogs {
	return buildLogs{since: cmp.Or(o.Since, recentBuilds), tail: o.Tail, follow: o.Follow}
}

func (d *deployment) logsCommand() *cobra.Command {
	var o release.LogOptions
	components := append(onClusters(), componentCloud)
	cmd := &cobra.Command{
		Use: "logs", Short: "Show what the hub and the builders say, and what builds and sessions said",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &binnacle.Error{
				Code: binnacle.CodeInvalid, Op: "cli.logs", Message: args[0] + " is not expected here: with logs, -f follows.",
				Hint: "binnacle deploy logs --file " + args[0],
			}
		},
		Example: "  binnacle deploy logs -f --component hub\n  binnacle deploy logs --component builds --since 2h\n  binnacle deploy logs --previous --since 1h",
		Long: "Each line begins with the pod's name. builders are the programs that build; builds are the logs of\n" +
			"the images that were built, as the page of a launch shows them: of everybody's launches, each line\n" +
			"with the launch and its repository, from the last 24 hours unless --since says otherwise. cloud is\n" +
			"the journal of what deploy asked the cloud for; sessions are the pods of people. Passwords and\n" +
			"tokens of the hub's configuration, and what looks like one, are taken out of builds.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Component == componentBuilds && o.Previous {
				return &binnacle.Error{
					Code: binnacle.CodeInvalid, Op: "cli.logs", Message: "--previous is of containers; builds have no run before.", Hint: "binnacle deploy logs --component builds --since 48h goes further back.",
				}
			}
			if o.Component == componentCloud {
				i, err := d.load()
				if err != nil {
					return err
				}
				b, err := os.ReadFile(d.journalFile(i.Config.Name))
				if errors.Is(err, os.ErrNotExist) {
					return binnacle.Errorf(binnacle.CodeNotFound, "Nothing was deployed from here: there is no journal.")
				}
				fmt.Fprint(d.Out, string(b))
				return err
			}
			return d.withHub(cmd.Context(), false, func(at *place) error {
				return at.hub.Logs(cmd.Context(), o, d.Out)
			})
		},
	}
	cmd.Flags().StringVar(&o.Component, "component", "", "only this `part`: "+strings.Join(onClusters(), ", ")+" or "+componentCloud+"; default hub and builders")
	_ = cmd.RegisterFlagCompletionFunc("component", cobra.FixedCompletions(components, cobra.ShellCompDirectiveNoFileComp)) // it is there
	// As everywhere, logs -f follows; it hides -f of the file here.
	cmd.Flags().StringVar(&d.file, "file", deployFile, "the `file` that describes the deployment")
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on as more is said")
	cmd.Flags().BoolVar(&o.Previous, "previous", false, "of the run before, when a container was started again")
	cmd.Flags().DurationVar(&o.Since, "since", 0, "only from so long ago, like 30m")
	cmd.Flags().Int64Var(&o.Tail, "tail", 0, "only the last so many lines of each pod, or of all builds")
	return cmd
}

func (d *deployment) journalFile(name string) string {
	return filepath.Join(filepath.Dir(d.file), ".binnacle", name, "journal")
}
