package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/verify"
	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
)

func (d *deployment) infoCommand() *cobra.Command {
	var asJSON, check bool
	cmd := &cobra.Command{
		Use: "info", Short: "Show what is there, its addresses, what ends when, what it has cost, and what is not as the file says", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.planned(cmd.Context(), asJSON, func(at *place, p deploy.Plan) error {
				return d.info(cmd.Context(), at, p, check)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.Flags().BoolVar(&check, "check", false, "fail when something is not as the file says, is in quarantine, or ends within three weeks")
	return cmd
}

// info shows how a place is, and with check fails when somebody should look at it.
func (d *deployment) info(ctx context.Context, at *place, p deploy.Plan, check bool) error {
	wrong := 0
	for _, s := range p.Steps {
		d.state(s)
		if s.Action.Writes() {
			wrong++
		}
	}
	s, err := d.commits(ctx, at)
	if err != nil {
		return err
	}
	if s.Quarantined != "" {
		wrong++
	}
	wrong += len(s.Waits) + d.ends(ctx, at, p)
	d.spent(p, time.Now())
	if at.domain != nil {
		if err := at.domain(ctx); err != nil {
			return err
		}
	}
	if !check || wrong == 0 {
		return nil
	}
	return &binnacle.Error{
		Code: binnacle.CodeConflict, Op: "cli.info", Message: fmt.Sprintf("%d things are not as they should be.", wrong),
		Hint: "binnacle deploy plan shows what up would change; a commit in quarantine needs one that mends it.",
	}
}

// commits tells which commit of the deployment's repository runs, which one does not
// and why.
func (d *deployment) commits(ctx context.Context, at *place) (s watch.State, err error) {
	if at.hub == nil {
		return s, nil
	}
	b, err := at.hub.Commits(ctx)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound { // nothing is there yet
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if s, err = watch.Read(b); err != nil {
		return s, err
	}
	if s.Applied != "" {
		fmt.Fprintf(d.Out, "commit %.12s: runs since %s\n", clean(s.Applied), s.When.UTC().Format(time.RFC3339))
	}
	for _, text := range s.Waits {
		fmt.Fprintf(d.Out, "             waits for a person who runs up: %s\n", clean(text))
	}
	if s.Trying != "" {
		fmt.Fprintf(d.Out, "commit %.12s: is being tried, %d of %d tries failed\n", clean(s.Trying), s.Failures, watch.Tries)
	}
	if s.Quarantined != "" {
		fmt.Fprintf(d.Out, "commit %.12s: in quarantine since %s, not tried again: %s\n", clean(s.Quarantined), s.Since.UTC().Format(time.RFC3339), clean(s.Reason))
	}
	return s, nil
}

// ends tells until when certificate and credentials are good, and how many of them
// end soon, or can't be looked at.
func (d *deployment) ends(ctx context.Context, at *place, p deploy.Plan) (soon int) {
	const day, weeks = 24 * time.Hour, 21 * 24 * time.Hour
	for _, s := range p.Steps {
		url := s.Resource.Outputs["url"]
		if !strings.HasPrefix(url, "https://") {
			continue
		}
		c, err := verify.ReadCertificate(ctx, url, nil)
		if err != nil {
			fmt.Fprintf(d.Out, "certificate: %s\n", clean(binnacle.Public(err).Message))
			soon++
			continue
		}
		if time.Until(c.Ends) < weeks {
			soon++
		}
		fmt.Fprintf(d.Out, "certificate of %s: ends on %s, in %d days; by %s. The hub renews it by itself.\n",
			clean(strings.Join(c.Names, ", ")), c.Ends.UTC().Format(time.DateOnly), time.Until(c.Ends)/day, clean(c.Issuer))
	}
	c := at.config
	if c.Target != config.TargetAzure {
		return soon
	}
	if c.Registry.Kind == config.RegistryAzure && c.Registry.PasswordFrom == "" {
		fmt.Fprintln(d.Out, "the registry's token: does not end by itself")
	}
	if c.Azure.SignIn == "service_principal" {
		fmt.Fprintln(d.Out, "your service principal's secret: ends when its owner said; nothing that runs depends on it")
	}
	return soon
}

// spent says what the place has cost since it was made, by list prices: bills are
// for whoever may read them.
func (d *deployment) spent(p deploy.Plan, now time.Time) {
	total, ok := p.Total()
	for _, s := range p.Steps {
		created, err := time.Parse(time.RFC3339, s.Resource.Outputs["created"])
		if !ok || err != nil {
			continue
		}
		hours := now.Sub(created).Hours()
		fmt.Fprintf(d.Out, "cost since %s: between %.2f (idle) and %.2f %s (full) at list prices, without traffic and disks, less while it slept\n",
			created.UTC().Format(time.DateOnly), total.Idle*hours, total.Full*hours, total.Currency)
	}
}
