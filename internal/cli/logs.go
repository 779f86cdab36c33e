package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "logs SESSION", Short: "Show what a session's server wrote", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withHub(cmd.Context(), func(ctx context.Context, h hubAPI) error {
				return h.Logs(ctx, args[0], follow, a.Out)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the session ends")
	return cmd
}
