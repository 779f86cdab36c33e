package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/internal/source"
)

func (a *app) recipeCommand() *cobra.Command {
	var ref, subdir, iface string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "recipe REPO",
		Short: "Tell what would be installed, from which file and why, without building",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownInterface(iface); err != nil {
				return err
			}
			c, err := a.config(nil)
			if err != nil {
				return err
			}
			r, rev, err := a.readRecipe(cmd.Context(), c, args[0], ref, subdir, iface)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(a.Out)
				enc.SetIndent("", "  ")
				return enc.Encode(recipeReport{Revision: rev, Environment: r.Environment(), Recipe: r})
			}
			printRecipe(a.Out, rev, r)
			return nil
		},
	}
	placeFlags(cmd.Flags(), &ref, &subdir)
	cmd.Flags().StringVar(&iface, "interface", "", interfaceHelp)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

const interfaceHelp = "install the interface of this `name` although the repository does not imply it: vscode, desktop, rstudio, voila, marimo, …"

// knownInterface refuses a name that no link could ask for.
func knownInterface(name string) error {
	if name == "" || recipe.InterfaceOf(name) == name {
		return nil
	}
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "cli.interface", Message: "There is no interface called " + name + ".",
		Hint: "Those that can be asked for: " + strings.Join(recipe.InterfaceNames(), ", ") + ".",
	}
}

type recipeReport struct {
	Revision    binnacle.Revision `json:"revision"`
	Environment string            `json:"environment"` // its identity: equal ones are built once
	Recipe      recipe.Recipe     `json:"recipe"`
}

// readRecipe brings the repository's files into a temporary directory and reads
// them. It needs neither root nor an engine nor a hub.
func (a *app) readRecipe(ctx context.Context, c config.Config, repo, ref, subdir, iface string) (_ recipe.Recipe, _ binnacle.Revision, err error) {
	dir, err := os.MkdirTemp("", "binnacle-recipe-")
	if err != nil {
		return recipe.Recipe{}, binnacle.Revision{}, err
	}
	defer os.RemoveAll(dir)
	c.Source.Dir = filepath.Join(dir, "git")
	src, err := source.New(c.Source, a.logger(c, slog.LevelWarn))
	if err != nil {
		return recipe.Recipe{}, binnacle.Revision{}, err
	}
	rev, err := resolve(ctx, src, repo, ref, subdir)
	if err != nil {
		return recipe.Recipe{}, rev, err
	}
	tree := filepath.Join(dir, "tree")
	if err := src.Fetch(ctx, rev, source.Policy{Local: true}, tree, func(string) {}); err != nil {
		return recipe.Recipe{}, rev, err
	}
	date, err := src.CommitTime(ctx, rev)
	if err != nil {
		return recipe.Recipe{}, rev, err
	}
	r, err := readTree(tree, recipeOptions(c, date, iface))
	if e := rev.Renamed(); e != nil {
		r.Notes = append(r.Notes, recipe.Note{Message: e.Message, Hint: e.Hint})
	}
	return r, rev, err
}

func readTree(dir string, opt recipe.Options) (_ recipe.Recipe, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return recipe.Recipe{}, err
	}
	defer root.Close()
	return recipe.Read(root.FS(), opt)
}

// recipeOptions are the hub's choices for the recipe of a commit of that date;
// asked is the interface that a link opens.
func recipeOptions(c config.Config, date time.Time, asked string) recipe.Options {
	return recipe.Options{DefaultPython: c.Build.Python, BasePython: c.Base.Python, Arch: runtime.GOARCH, Date: date, Today: time.Now(), Interface: asked}
}

// resolve reads what a person typed: a directory of this machine when there is
// one, else an address.
func resolve(ctx context.Context, src *source.Source, repo, ref, subdir string) (binnacle.Revision, error) {
	target, err := source.Parse(localPath(repo))
	if err != nil {
		return binnacle.Revision{}, err
	}
	if ref != "" {
		if target.Spec.Provider == binnacle.Dir {
			return binnacle.Revision{}, &binnacle.Error{
				Code: binnacle.CodeInvalid, Op: "cli.ref", Message: "A directory is taken as it is: --ref does not fit it.",
				Hint: "file://" + target.Spec.Repo + " with --ref takes a commit of its git repository.",
			}
		}
		target.Spec.Ref, target.RefAndPath = ref, false
	}
	if subdir != "" {
		if target.Spec, err = target.Spec.In(subdir); err != nil {
			return binnacle.Revision{}, err
		}
	}
	rev, _, err := src.ResolveTarget(ctx, target, source.Policy{Local: true})
	return rev, err
}

// localPath makes a path of this machine absolute, so that the hub, which runs
// in another directory, finds it. Everything else stays as it is.
func localPath(repo string) string {
	if repo == "" || strings.Contains(repo, "://") {
		return repo
	}
	info, err := os.Stat(repo) //nolint:gosec // the person names it
	if err != nil || !info.IsDir() {
		return repo
	}
	abs, err := filepath.Abs(repo)
	if err != nil {
		return repo
	}
	if resolved, err := filepath.EvalSymlinks(abs); err == nil {
		return resolved
	}
	return abs
}

func printRecipe(w io.Writer, rev binnacle.Revision, r recipe.Recipe) {
	p := func(format string, args ...any) { fmt.Fprint(w, clean(fmt.Sprintf(format, args...))) }
	p("%s\n", repoText(rev.Spec.String()))
	if rev.Commit != "" && rev.Spec.Provider != binnacle.Dir {
		p("commit %s\n", rev.Commit)
	}
	p("\nKind         %s\n", r.Kind)
	if r.Dir != "" {
		p("Files in     %s/\n", r.Dir)
	}
	if r.Python.Value != "" {
		p("Python       %s  (%s)\n", r.Python.Value, r.Python.Why)
	}
	if r.Dockerfile != "" {
		p("Dockerfile   %s, built as it is\n", r.Dockerfile)
	}
	if r.Start != "" {
		p("Start        %s\n", r.Start)
	}
	if id := r.Environment(); id != "" {
		p("Environment  %s\n", id)
	}
	if len(r.Interfaces) > 0 {
		p("\nInterfaces\n")
		for _, i := range r.Interfaces {
			p("  %-24s %s\n", i.Path, i.Why)
		}
	}
	if len(r.Files) > 0 {
		p("\nFiles\n")
		for _, f := range r.Files {
			state := "used"
			if !f.Used {
				state = "not used"
			}
			p("  %-24s %-9s %s\n", f.Path, state, f.Why)
		}
	}
	if len(r.Steps) > 0 {
		p("\nSteps\n")
	}
	for i, s := range r.Steps {
		p("%3d. %s%s\n", i+1, s.Name, from(s.From))
		for _, pkg := range s.Packages {
			p("       %-6s %s%s\n", pkg.Manager, cmp.Or(pkg.Spec, pkg.Name), from([]recipe.Location{pkg.From}))
		}
	}
	if len(r.Notes) > 0 {
		p("\nNotes\n")
	}
	for _, n := range r.Notes {
		p("  %s%s\n", n.Message, from([]recipe.Location{n.Location}))
		if n.Hint != "" {
			p("    try: %s\n", n.Hint)
		}
	}
}

// from writes places as "  [requirements.txt:3]"; none is nothing.
func from(places []recipe.Location) string {
	var parts []string
	for _, l := range places {
		switch {
		case l.File == "":
		case l.Line > 0:
			parts = append(parts, fmt.Sprintf("%s:%d", l.File, l.Line))
		default:
			parts = append(parts, l.File)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	const most = 3
	if len(parts) > most {
		parts = append(parts[:most], "…")
	}
	return "  [" + strings.Join(parts, ", ") + "]"
}
