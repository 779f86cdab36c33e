package cli_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/binnacle-hub/binnacle/internal/cli"
)

// The page of the command line is written from the commands themselves.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Command line\n\n<!-- Written by `make generate` from the code; do not edit. -->\n\n" +
		"Commands talk to the hub of this machine over its socket in the data directory; where none runs\n" +
		"they run one themselves for as long as they need it. Both need root, `recipe`, `config`, `doctor`,\n" +
		"`completion` and `version` do not.\n")
	root := cli.Root()
	section(&b, root)
	b.WriteString(exitTable)
	golden(t, "../../docs/reference/cli.md", b.String())
}

const exitTable = `
## Exit codes

| code | meaning |
|---|---|
| 0 | it worked |
| 1 | a fault of Binnacle; please report it |
| 2 | the request cannot be right: a wrong flag, address or configuration |
| 3 | the repository is at fault (its build failed), or what was named is not there |
| 4 | not allowed |
| 5 | it may work later: a limit, something that is away, a timeout; ` + "`doctor`" + `: a check failed |
| 130 | canceled with Ctrl-C |

Errors are written to standard error as ` + "`binnacle: what failed`" + ` and, where something can be done,
` + "`  try: what to do`" + `. With ` + "`--verbose`" + ` the cause follows.
`

func section(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s.\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	if cmd.Long != "" && cmd.Parent() != nil && cmd.Parent().Name() != "completion" && cmd.Name() != "completion" {
		fmt.Fprintf(b, "\n%s\n", cmd.Long)
	}
	if cmd.Runnable() {
		fmt.Fprintf(b, "\n    %s\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n%s\n", strings.ReplaceAll("  "+strings.TrimSpace(cmd.Example), "  ", "    "))
	}
	var flags []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		flags = append(flags, flagLine(f))
	})
	if len(flags) > 0 {
		fmt.Fprintf(b, "\n%s", strings.Join(flags, ""))
	}
	children := cmd.Commands()
	slices.SortFunc(children, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	for _, child := range children {
		section(b, child)
	}
}

func flagLine(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if value != "" {
		name += " " + strings.ToUpper(value)
	}
	return fmt.Sprintf("- `%s`: %s\n", name, usage)
}
