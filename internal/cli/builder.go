package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/engine/network"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
)

// builderGrace is how long running builds may go on when a builder is to end.
const builderGrace = 10 * time.Minute

func (a *app) builderCommand() *cobra.Command {
	var listen, certificates string
	grace := builderGrace
	cmd := &cobra.Command{
		Use:   "builder",
		Short: "Build images for the hubs of a cluster",
		Long: "Serves BuildKit to the hubs of a cluster; the chart starts it in pods. SIGTERM drains:\n" +
			"no more builds are taken, and running ones may end. Needs root.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.config(nil)
			if err != nil {
				return err
			}
			return a.builder(cmd.Context(), c, listen, certificates, grace)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8372", "`address` to listen on")
	cmd.Flags().StringVar(&certificates, "tls", "", "`directory` with tls.crt, tls.key and ca.crt, which signed the hubs' certificates; without it nobody is asked who he is")
	cmd.Flags().DurationVar(&grace, "grace", builderGrace, "how long running builds may go on after SIGTERM")
	return cmd
}

func (a *app) builder(ctx context.Context, c config.Config, listen, certificates string, grace time.Duration) (err error) {
	log := a.logger(c, slog.LevelInfo)
	if err := errors.Join(asRoot(), takeData(c)); err != nil {
		return err
	}
	steps, err := network.New(ctx, c.Network, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, steps.Close()) }()
	below, stop := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return ignoreCanceled(steps.Run(below)) })
	defer func() {
		stop()
		err = errors.Join(err, group.Wait(), steps.Remove(context.WithoutCancel(ctx)))
	}()

	cfg := engineConfig(c, steps)
	cfg.CacheBudget = c.Launch.DiskBudget
	cfg.Registry = engine.Registry{Host: registry.New(c.Kubernetes.Registry, nil).Host(), Insecure: c.Kubernetes.Registry.Insecure}
	e, err := engine.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if _, err := e.EnsureBase(ctx, func(line string) { log.InfoContext(ctx, "the base image is made", slog.String("says", line)) }); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "builder.listen", Message: "The builder can't listen on " + listen + ".", Hint: "Choose another address with --listen.", Err: err,
		}
	}
	if certificates == "" {
		log.WarnContext(ctx, "whoever reaches this builder can run anything in it: there is no --tls")
	}
	log.InfoContext(ctx, "the builder answers", slog.String("listen", l.Addr().String()))
	return e.Serve(ctx, l, certificates, grace)
}
