package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
)

// closed is what must not be reached, each as a name, an equals sign and an address.
type closed struct {
	targets []string
	within  time.Duration
}

// closedCommand is what `helm test` runs in a pod to which the policies of sessions
// apply: only from there it is seen whether the cluster enforces them.
func (a *app) closedCommand() *cobra.Command {
	var c closed
	cmd := &cobra.Command{
		Use: "closed NAME=ADDRESS…", Short: "Fail when an address can be reached from here", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.targets = args
			return c.run(cmd.Context(), a)
		},
	}
	// Some plugins take a while until a new pod has its policies.
	const within = 15 * time.Second
	cmd.Flags().DurationVar(&c.within, "within", within, "how long it may take until all are closed")
	return cmd
}

func (c closed) run(ctx context.Context, a *app) error {
	ctx, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	for {
		open, err := c.open(ctx)
		if err != nil {
			return err
		}
		if len(open) == 0 {
			fmt.Fprintf(a.Out, "Sessions reach none of: %s\n", strings.Join(c.targets, ", "))
			return nil
		}
		const pause = time.Second
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return &binnacle.Error{
				Code: binnacle.CodeForbidden, Op: "closed", Message: "A session reaches " + strings.Join(open, ", ") + ": the cluster does not enforce the policies of sessions.",
				Hint: "Use a network plugin that enforces NetworkPolicy, such as Cilium or Calico, and look whether kubernetes.session.network.allow is too wide.",
			}
		}
	}
}

// open are the targets that can be reached. A name that is not found is an error: then
// nothing would have been tried.
func (c closed) open(ctx context.Context) ([]string, error) {
	const patience = 3 * time.Second // policies drop, and nobody answers
	found := make([]string, len(c.targets))
	errs := make([]error, len(c.targets))
	var wg sync.WaitGroup
	for i, target := range c.targets {
		wg.Go(func() {
			name, address, ok := strings.Cut(target, "=")
			if !ok {
				errs[i] = fmt.Errorf("%q is not like NAME=ADDRESS", target)
				return
			}
			conn, err := (&net.Dialer{Timeout: patience}).DialContext(context.WithoutCancel(ctx), "tcp", address)
			if dns, ok := errors.AsType[*net.DNSError](err); ok {
				errs[i] = &binnacle.Error{
					Code: binnacle.CodeUnavailable, Op: "closed", Message: fmt.Sprintf("A session does not find %s: %v.", name, dns),
					Hint: "Sessions must reach the cluster's DNS: kubernetes.session.network.dns_labels, dns_namespace, dns_addresses.", Err: err,
				}
			} else if err == nil {
				found[i] = fmt.Sprintf("%s (%s)", name, address)
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
	var open []string
	for _, f := range found {
		if f != "" {
			open = append(open, f)
		}
	}
	return open, errors.Join(errs...)
}
