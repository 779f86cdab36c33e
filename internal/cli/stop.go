package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
)

func (a *app) stopCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "stop SESSION…", Short: "Stop sessions; what is in them is lost",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("name the sessions to stop, or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withHub(cmd.Context(), func(ctx context.Context, h hubAPI) error {
				return a.stop(ctx, h, args, all)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "stop every session")
	return cmd
}

func (a *app) stop(ctx context.Context, h hubAPI, ids []string, all bool) error {
	list, err := h.Sessions(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, s := range list {
		there[s.ID] = true
		if all {
			ids = append(ids, s.ID)
		}
	}
	var errs []error
	for _, id := range ids {
		if !there[id] {
			errs = append(errs, &binnacle.Error{
				Code: binnacle.CodeNotFound, Op: "cli.stop", Message: fmt.Sprintf("No session is called %q.", id), Hint: "binnacle ps lists them.",
			})
			continue
		}
		if err := h.Stop(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(a.Out, id)
	}
	return errors.Join(errs...)
}
