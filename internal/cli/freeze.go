package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func (a *app) freezeCommand() *cobra.Command {
	var ref, subdir, out string
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use:   "freeze REPO",
		Short: "Write lock files with the exact versions that were installed",
		Long: "Builds REPO if it is not built yet and writes what was installed, exact versions\n" +
			"and hashes, as lock files to commit: the repository then installs the same in five\n" +
			"years. They go into REPO when it is a directory, else into --output. A loose\n" +
			"requirements.txt is kept as requirements.in.",
		Example: "  binnacle freeze .\n  binnacle freeze gh/owner/name --output locks",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
					return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.freeze", Message: "Where do the files go? " + args[0] + " is no directory.", Hint: "Name a checkout of it with --output."}
				}
				out = filepath.Join(args[0], subdir)
			}
			r, files, err := a.installed(cmd.Context(), args[0], ref, subdir, asJSON)
			if err != nil {
				return err
			}
			frozen, notes := recipe.Freeze(r, files)
			if !dry {
				if err := writeFrozen(out, frozen); err != nil {
					return err
				}
			}
			return a.tellFrozen(frozen, notes, asJSON)
		},
	}
	f := cmd.Flags()
	placeFlags(f, &ref, &subdir)
	f.StringVarP(&out, "output", "o", "", "`directory` to write into")
	f.BoolVar(&dry, "dry-run", false, "tell what would be written")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// installed builds a repository, or finds its image, and reads what is in it.
func (a *app) installed(ctx context.Context, repo, ref, subdir string, quiet bool) (_ recipe.Recipe, _ map[string]string, err error) {
	c, err := a.config(nil)
	if err != nil {
		return recipe.Recipe{}, nil, err
	}
	r, _, err := a.readRecipe(ctx, c, repo, ref, subdir, "")
	if err != nil {
		return r, nil, err
	}
	h, stop, err := a.connect(ctx, c)
	if err != nil {
		return r, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	show := a.follow
	if quiet {
		show = a.wait
	}
	l, err := show(ctx, h, binnacle.LaunchRequest{Repo: localPath(repo), Ref: ref, Subdir: subdir, BuildOnly: true}, false)
	if err != nil {
		return r, nil, err
	}
	list, err := h.Resolved(ctx, l.ID)
	if err != nil {
		return r, nil, err
	}
	files := map[string]string{}
	for _, f := range list {
		files[f.Name] = f.Content
	}
	return r, files, nil
}

// wait is follow without a word: the answer alone goes to the terminal.
func (a *app) wait(ctx context.Context, h hubAPI, req binnacle.LaunchRequest, _ bool) (binnacle.Launch, error) {
	silent := *a
	silent.Err = io.Discard
	return silent.follow(ctx, h, req, false)
}

// writeFrozen writes below dir only, whatever links are in it.
func writeFrozen(dir string, files []recipe.Frozen) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a checkout, which people share
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, f := range files {
		if f.Keep != "" {
			if err := keepLoose(root, f); err != nil {
				return err
			}
		}
		if err := root.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := root.WriteFile(f.Path, []byte(f.Content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	return nil
}

// keepLoose moves the author's file out of the way, unless an earlier freeze
// has done so: then what stands there is a lock of ours.
func keepLoose(root *os.Root, f recipe.Frozen) error {
	if _, err := root.Lstat(f.Keep); err == nil {
		return nil
	}
	err := root.Rename(f.Path, f.Keep)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a directory other than the checkout
	}
	return err
}

func (a *app) tellFrozen(files []recipe.Frozen, notes []recipe.Note, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.Out).Encode(struct {
			Files []recipe.Frozen `json:"files"`
			Notes []recipe.Note   `json:"notes,omitempty"`
		}{files, notes})
	}
	for _, f := range files {
		kept := ""
		if f.Keep != "" {
			kept = ", the loose one is kept as " + f.Keep
		}
		fmt.Fprintf(a.Out, "%s: %s%s\n", clean(f.Path), f.Why, clean(kept))
	}
	if len(files) == 0 {
		fmt.Fprintln(a.Out, "There is nothing to freeze: nothing was resolved that a lock file can name.")
	}
	for _, n := range notes {
		fmt.Fprintln(a.Out, n.Message)
	}
	return nil
}
