package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
)

func (a *app) serveCommand() *cobra.Command {
	var first string
	flags := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the hub",
		Long: "Runs the hub: pages, API, builds and sessions. SIGTERM and Ctrl-C end it; sessions\n" +
			"go on and the next hub on the same data directory finds them again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set := map[string]string{}
			for path, value := range flags {
				if *value != "" {
					set[path] = *value
				}
			}
			return a.serve(cmd.Context(), set, first)
		},
	}
	f := cmd.Flags()
	for _, flag := range []struct{ name, path, usage string }{
		{"listen", "listen", "`address` to listen on (default 127.0.0.1:8585)"},
		{"url", "url", "`address` people reach the hub under"},
		{"session-domain", "session_domain", "`domain` below which each session gets its own host"},
		{"tls-cert", "tls.cert", "certificate `file`"},
		{"tls-key", "tls.key", "key `file` of the certificate"},
		{"offline-mirror", "mirrors.site", "`address` of a mirror that has everything: nothing is fetched from elsewhere"},
		{"log-format", "log.format", "`format` of the log: auto, text or json"},
	} {
		flags[flag.path] = f.String(flag.name, "", flag.usage)
	}
	f.StringVar(&first, "launch", "", "launch this `repository` at once and print its address, for a first try")
	return cmd
}

func (a *app) serve(ctx context.Context, set map[string]string, first string) error {
	c, err := a.config(set)
	if err != nil {
		return err
	}
	log := a.logger(c, slog.LevelInfo)
	s, err := newServer(ctx, c, a.Version, log)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err = s.run(ctx, func() {
		log.InfoContext(ctx, "the hub answers", "url", s.url, "listen", s.public.Addr().String())
		fmt.Fprintf(a.Out, "Binnacle answers on %s\n", s.url)
		if err := notify(ctx, a.Environ, "READY=1\nSTATUS=Answers on "+s.url); err != nil {
			log.WarnContext(ctx, "the service manager can't be told", "err", err)
		}
		if first == "" {
			return
		}
		go func() {
			err := a.launchFirst(ctx, socketPath(c), first)
			if err != nil && ctx.Err() == nil {
				stop()
			}
			failed <- err
		}()
	})
	_ = notify(context.WithoutCancel(ctx), a.Environ, "STOPPING=1") // it may be gone
	if first != "" {
		if ferr := <-failed; binnacle.CodeOf(ferr) != binnacle.CodeCanceled {
			err = errors.Join(err, ferr)
		}
	}
	return err
}

// launchFirst launches a repository on the hub that has just started.
func (a *app) launchFirst(ctx context.Context, socket, repo string) error {
	h, err := dialHub(socket)
	if err != nil {
		return err
	}
	l, err := a.follow(ctx, h, binnacle.LaunchRequest{Repo: localPath(repo)}, false)
	if err != nil || l.Session == nil {
		return err
	}
	return a.present(ctx, h, l, launchOptions{open: true, detach: true})
}
