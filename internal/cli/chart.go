package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/registry"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
)

// chartOptions are the flags of `binnacle deploy chart`.
type chartOptions struct {
	dir, push, dockerConfig string
	plainHTTP               bool
}

// chartCommand writes the chart that this program carries, for those who install
// with Helm, or publishes it in a registry.
func (a *app) chartCommand() *cobra.Command {
	var o chartOptions
	cmd := &cobra.Command{
		Use:   "chart",
		Short: "Write the Helm chart that this version carries, or publish it",
		Long: "Writes the chart as an archive that Helm installs. With --push it goes to a registry too, from\n" +
			"where Helm installs it: helm install hub oci://registry.example.org/charts/" + chart.Name + ".\n" +
			"The registry's login is that of `helm registry login` or `docker login`.",
		Example: "  binnacle deploy chart --output charts\n  binnacle deploy chart --push oci://registry.example.org/charts",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.chart(o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.dir, "output", "o", ".", "the `directory` to write it to")
	f.StringVar(&o.push, "push", "", "push it to this `address` too, such as oci://registry.example.org/charts")
	f.StringVar(&o.dockerConfig, "docker-config", "", "`file` with the registry's login, as docker login writes it")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "the registry speaks http")
	return cmd
}

func (a *app) chart(o chartOptions) error {
	c, err := chart.Load("")
	if err != nil {
		return err
	}
	if o.push != "" && !strings.HasPrefix(o.push, registry.OCIScheme+"://") {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "deploy.chart", Message: fmt.Sprintf("Charts are pushed to an address that begins with oci://, not %q.", o.push),
			Hint: "Such as --push oci://registry.example.org/charts.",
		}
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil { //nolint:gosec // a chart is no secret
		return fmt.Errorf("write the chart: %w", err)
	}
	path, err := chartutil.Save(c, o.dir)
	if err != nil {
		return fmt.Errorf("write the chart: %w", err)
	}
	fmt.Fprintln(a.Out, path)
	if o.push == "" {
		return nil
	}
	return a.pushChart(o, c, path)
}

// pushChart publishes the archive at path.
func (a *app) pushChart(o chartOptions, c *v2.Chart, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("push the chart: %w", err)
	}
	var opts []registry.ClientOption
	if o.plainHTTP {
		opts = append(opts, registry.ClientOptPlainHTTP())
	}
	if o.dockerConfig != "" {
		opts = append(opts, registry.ClientOptCredentialsFile(o.dockerConfig))
	}
	client, err := registry.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("push the chart: %w", err)
	}
	to := strings.TrimSuffix(strings.TrimPrefix(o.push, registry.OCIScheme+"://"), "/") + "/" + c.Name() + ":" + c.Metadata.Version
	pushed, err := client.Push(b, to)
	if err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "deploy.chart", Message: "The registry did not take the chart as " + to + ".",
			Hint: "Check the address, and that `helm registry login` or --docker-config has a login that may push there.", Err: err,
		}
	}
	fmt.Fprintf(a.Out, "%s://%s@%s\n", registry.OCIScheme, pushed.Ref, pushed.Manifest.Digest)
	return nil
}
