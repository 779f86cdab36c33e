package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
)

func (a *app) psCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "ps", Short: "List the running sessions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withHub(cmd.Context(), func(ctx context.Context, h hubAPI) error {
				list, err := h.Sessions(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					enc := json.NewEncoder(a.Out)
					enc.SetIndent("", "  ")
					return enc.Encode(list)
				}
				return a.printSessions(list, time.Now())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the tokens")
	return cmd
}

func (a *app) printSessions(list []binnacle.Session, now time.Time) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tSTATE\tAGE\tTIME LEFT\tREPOSITORY")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.ID, s.State, short(now.Sub(s.Started)), left(s, now), plainText(repoText(s.Repo)))
	}
	return w.Flush()
}

// repoText writes a spec the way people do.
func repoText(repo string) string {
	spec, err := binnacle.ParseSpec(repo)
	switch {
	case err != nil:
		return cmp.Or(repo, "-")
	case spec.Subdir != "":
		folder := spec.Subdir
		spec.Subdir = ""
		return folder + " of " + repoText(spec.String())
	case spec.Ref == "" || spec.Ref == binnacle.HeadRef:
		return spec.Repo
	default:
		return spec.Repo + " at " + spec.Ref
	}
}

// left is how long the session has: nobody working in it, or at all.
func left(s binnacle.Session, now time.Time) string {
	end := s.IdleEnds
	if end.IsZero() || (!s.Ends.IsZero() && s.Ends.Before(end)) {
		end = s.Ends
	}
	if end.IsZero() {
		return "no limit"
	}
	return short(end.Sub(now))
}

func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
}
