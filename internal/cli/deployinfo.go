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
)

func (d *deployment) infoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "info", Short: "Show what is there, its addresses, what ends when, what it has cost, and what is not as the file says", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.planned(cmd.Context(), asJSON, func(at *place, p deploy.Plan) error {
				for _, s := range p.Steps {
					d.state(s)
				}
				d.ends(cmd.Context(), at, p)
				d.spent(p, time.Now())
				if at.domain != nil {
					return at.domain(cmd.Context())
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// ends tells until when certificate and credentials are good.
func (d *deployment) ends(ctx context.Context, at *place, p deploy.Plan) {
	for _, s := range p.Steps {
		url := s.Resource.Outputs["url"]
		if !strings.HasPrefix(url, "https://") {
			continue
		}
		c, err := verify.ReadCertificate(ctx, url, nil)
		if err != nil {
			fmt.Fprintf(d.Out, "certificate: %s\n", clean(binnacle.Public(err).Message))
			continue
		}
		const day = 24 * time.Hour
		fmt.Fprintf(d.Out, "certificate of %s: ends on %s, in %d days; by %s. The hub renews it by itself.\n",
			clean(strings.Join(c.Names, ", ")), c.Ends.UTC().Format(time.DateOnly), time.Until(c.Ends)/day, clean(c.Issuer))
	}
	c := at.config
	if c.Target != config.TargetAzure {
		return
	}
	if c.Registry.Kind == config.RegistryAzure && c.Registry.PasswordFrom == "" {
		fmt.Fprintln(d.Out, "the registry's token: does not end by itself")
	}
	if c.Azure.SignIn == "service_principal" {
		fmt.Fprintln(d.Out, "your service principal's secret: ends when its owner said; nothing that runs depends on it")
	}
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
