package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/importer"
)

func (a *app) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import", Short: "Read how another kind of hub was configured",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var out string
	var asJSON bool
	binder := &cobra.Command{
		Use: "binderhub VALUES.YAML…", Short: "Turn values of the chart of BinderHub, with JupyterHub's inside, into those of ours",
		Long: "Reads the values that BinderHub's Helm chart was installed with, several files as Helm\n" +
			"merges them, and writes values for the chart of Binnacle. Each key is listed: taken over,\n" +
			"different, not needed and why, or unknown. Secrets are not copied: it says how to store them.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.importBinderHub(args, out, asJSON) },
	}
	binder.Flags().StringVarP(&out, "output", "o", "", "write the values to this `file` instead of the standard output")
	binder.Flags().BoolVar(&asJSON, "json", false, "print values and the list of keys as JSON")
	cmd.AddCommand(binder)
	return cmd
}

func (a *app) importBinderHub(paths []string, out string, asJSON bool) error {
	var files []io.Reader
	for _, path := range paths {
		if path == "-" {
			files = append(files, a.In)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "import.open", Message: "The values can't be read: " + err.Error() + ".", Err: err}
		}
		defer f.Close()
		files = append(files, f)
	}
	values, err := importer.Read(files...)
	if err != nil {
		return err
	}
	result := importer.BinderHub(values)
	if asJSON {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(result)
	}
	text, err := chartValues(result.Values)
	if err != nil {
		return err
	}
	if out == "" {
		fmt.Fprint(a.Out, text)
	} else if err := os.WriteFile(out, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the values: %w", err)
	}
	a.listKeys(result.Keys)
	return nil
}

func chartValues(v map[string]any) (string, error) {
	var b strings.Builder
	b.WriteString("# Values of the chart of Binnacle, from those of BinderHub's.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("write the values: %w", err)
	}
	return b.String(), enc.Close()
}

// listKeys tells what became of each key, what needs a person first.
func (a *app) listKeys(keys []importer.Key) {
	for _, o := range []importer.Outcome{importer.Unknown, importer.Different, importer.NotNeeded, importer.Taken} {
		var lines []string
		for _, k := range keys {
			if k.Outcome != o {
				continue
			}
			line := "  " + k.Path
			if len(k.To) > 0 {
				line += " → " + strings.Join(k.To, ", ")
			}
			if k.Why != "" {
				line += "\n      " + k.Why
			}
			lines = append(lines, line)
		}
		if len(lines) > 0 {
			fmt.Fprintf(a.Err, "%s (%d):\n%s\n", o, len(lines), clean(strings.Join(lines, "\n")))
		}
	}
}
