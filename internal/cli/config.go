package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check or print the configuration",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "check", Short: "Report everything that is wrong with the configuration", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := a.config(nil); err != nil {
				return err
			}
			fmt.Fprintln(a.Out, "The configuration is fine.")
			return nil
		},
	}, &cobra.Command{
		Use: "print", Short: "Print the configuration that is in force, secrets masked", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.config(nil)
			if err != nil {
				return err
			}
			return c.Print(a.Out)
		},
	})
	return cmd
}
