package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"

	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
)

// chartCommand writes the chart that this program carries, for those who install
// with Helm or publish it in their own registry.
func (a *app) chartCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "chart",
		Short: "Write the Helm chart that this version carries",
		Long: "Writes the chart as an archive that Helm installs and publishes\n" +
			"(helm install hub binnacle-*.tgz; helm push binnacle-*.tgz oci://registry.example.org/charts).",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := chart.Load("")
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a chart is no secret
				return fmt.Errorf("write the chart: %w", err)
			}
			path, err := chartutil.Save(c, dir)
			if err != nil {
				return fmt.Errorf("write the chart: %w", err)
			}
			fmt.Fprintln(a.Out, path)
			return nil
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", ".", "the `directory` to write it to")
	return cmd
}
