package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func (a *app) whyCommand() *cobra.Command {
	var ref, subdir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why PACKAGE [REPO]",
		Short: "Tell who asked for a package",
		Long: "Tells which file and line of REPO asks for PACKAGE, or which packages need it and\n" +
			"who asked for those. REPO is built if it is not built yet; it is the current\n" +
			"directory unless given.",
		Example: "  binnacle why certifi\n  binnacle why numpy gh/owner/name",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo := "."
			if len(args) > 1 {
				repo = args[1]
			}
			r, files, err := a.installed(cmd.Context(), repo, ref, subdir, true)
			if err != nil {
				return err
			}
			reasons := recipe.Why(r, files, args[0])
			if asJSON {
				return json.NewEncoder(a.Out).Encode(reasons)
			}
			if len(reasons) == 0 {
				return &binnacle.Error{
					Code: binnacle.CodeNotFound, Op: "cli.why", Message: "Nothing in this repository asks for " + args[0] + ", and no package that is installed needs it.",
					Hint: "`binnacle recipe` lists what the repository asks for.",
				}
			}
			for _, reason := range reasons {
				fmt.Fprintln(a.Out, clean(because(reason)))
			}
			return nil
		},
	}
	placeFlags(cmd.Flags(), &ref, &subdir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// because writes a reason as a sentence.
func because(r recipe.Reason) string {
	var b strings.Builder
	b.WriteString(r.Chain[0])
	for _, by := range r.Chain[1:] {
		b.WriteString(", needed by " + by)
	}
	switch r.By {
	case recipe.ByBase:
		return b.String() + ", which the base image has"
	case recipe.ByScript:
		return b.String() + ", which no file asks for: a script of the repository may have installed it"
	case recipe.ByJupyter:
		return b.String() + ", needed by Jupyter"
	}
	at := r.Package.From.File
	if r.Package.From.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, r.Package.From.Line)
	}
	return b.String() + ", which " + at + " asks for (" + r.Package.Spec + ")"
}
