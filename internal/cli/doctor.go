package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
)

// checkState is the outcome of one check.
type checkState string

const (
	checkOK   checkState = "ok"
	checkWarn checkState = "warn" // it works, but
	checkFail checkState = "fail"
)

// finding is what one check of this machine found.
type finding struct {
	Name    string     `json:"name"`
	State   checkState `json:"state"`
	Message string     `json:"message"`
	Fix     string     `json:"fix,omitempty"` // the command that mends it
}

func good(name, format string, args ...any) finding {
	return finding{Name: name, State: checkOK, Message: fmt.Sprintf(format, args...)}
}

func warn(name, fix, format string, args ...any) finding {
	return finding{Name: name, State: checkWarn, Message: fmt.Sprintf(format, args...), Fix: fix}
}

func fail(name, fix, format string, args ...any) finding {
	return finding{Name: name, State: checkFail, Message: fmt.Sprintf(format, args...), Fix: fix}
}

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Tell whether this machine can run Binnacle, and how to mend what is missing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.config(nil)
			if err != nil {
				return err
			}
			list := diagnose(cmd.Context(), c)
			if asJSON {
				enc := json.NewEncoder(a.Out)
				enc.SetIndent("", "  ")
				if err := enc.Encode(list); err != nil {
					return err
				}
			} else {
				printFindings(a.Out, list)
			}
			for _, f := range list {
				if f.State == checkFail {
					return &silentError{binnacle.CodeUnavailable}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func diagnose(ctx context.Context, c config.Config) []finding {
	checks := []func(context.Context, config.Config) finding{
		checkRoot, checkKernel, checkNamespaces, checkOverlay, checkFirewall, checkCgroups,
		checkRuntime, checkGit, checkBase, checkData, checkDisk, checkMemory, checkPort,
		checkDNS, checkClock, checkCA, checkProxy,
	}
	list := make([]finding, 0, len(checks))
	for _, check := range checks {
		list = append(list, check(ctx, c))
	}
	return list
}

func printFindings(w io.Writer, list []finding) {
	marks := map[checkState]string{checkOK: "ok  ", checkWarn: "warn", checkFail: "FAIL"}
	failed, warned := 0, 0
	for _, f := range list {
		fmt.Fprintf(w, "%s  %-10s %s\n", marks[f.State], f.Name, clean(f.Message))
		if f.Fix != "" {
			fmt.Fprintf(w, "                  try: %s\n", clean(f.Fix))
		}
		switch f.State {
		case checkFail:
			failed++
		case checkWarn:
			warned++
		}
	}
	switch {
	case failed > 0:
		fmt.Fprintf(w, "\n%d checks failed: Binnacle can't run here yet.\n", failed)
	case warned > 0:
		fmt.Fprintf(w, "\nBinnacle can run here; %d things could be better.\n", warned)
	default:
		fmt.Fprintln(w, "\nBinnacle can run here.")
	}
}
