package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

func (a *app) cleanCommand() *cobra.Command {
	var budget string
	var all, dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Show what takes disk and reclaim it down to a budget",
		Long: "Shows what takes disk. With --budget or --all it removes what is not used: first\n" +
			"the build cache, then the images that were not used for longest, then the caches\n" +
			"of downloads. Running sessions and their images stay.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := hub.CleanRequest{All: all, DryRun: dryRun}
			if budget != "" {
				n, err := config.ParseSize(budget)
				if err != nil || n <= 0 {
					return binnacle.Errorf(binnacle.CodeInvalid, "--budget %s is not a size such as 20GiB.", budget)
				}
				req.Budget = n
			}
			return a.withHub(cmd.Context(), func(ctx context.Context, h hubAPI) error {
				return a.clean(ctx, h, req, budget != "" || all, asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&budget, "budget", "", "remove until no more than this `size` is taken (20GiB)")
	cmd.Flags().BoolVar(&all, "all", false, "remove whatever no session uses")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be removed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) clean(ctx context.Context, h hubAPI, req hub.CleanRequest, reclaim, asJSON bool) error {
	if !reclaim {
		use, err := h.Usage(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(a.Out).Encode(use)
		}
		return a.printUsage(use)
	}
	report, err := h.Clean(ctx, req)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.Out).Encode(report)
	}
	word := "Freed"
	if req.DryRun {
		word = "Would free"
	}
	fmt.Fprintf(a.Out, "%s %s.\n\n", word, config.FormatSize(report.Freed))
	return a.printUsage(report.After)
}

func (a *app) printUsage(u hub.Usage) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "SIZE\tUNUSED\tCOUNT\t  WHAT")
	for _, p := range u.Parts {
		fmt.Fprintf(w, "%s\t%s\t%d\t  %s\n", config.FormatSize(p.Bytes), config.FormatSize(p.Reclaimable), p.Count, p.Name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "\n%s in all", config.FormatSize(u.Total))
	if u.Budget > 0 {
		fmt.Fprintf(a.Out, "; the hub keeps to %s", config.FormatSize(u.Budget))
	}
	fmt.Fprintln(a.Out, ".")
	return nil
}
