package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/button"
)

func (d *deployment) buttonCommand() *cobra.Command {
	var b button.Button
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use: "button", Short: `Write the "Deploy to Azure" button: template, form, and the Markdown to paste`, Args: cobra.NoArgs,
		Long: "Writes " + button.TemplateFile + " and " + button.FormFile + ", for you to serve over https, and prints the Markdown\n" +
			"of a button that opens them in Azure's portal. Whoever presses it needs no terminal: a container\n" +
			"in their own subscription runs `binnacle deploy`, with an identity that may do just that.",
		Example: "  binnacle deploy button --image registry.example.org/binnacle:1 --base https://git.example.org/institute/hub/raw/main",
		RunE: func(*cobra.Command, []string) error {
			if err := b.Check(); err != nil {
				return err
			}
			const folder = 0o755
			if err := os.MkdirAll(dir, folder); err != nil {
				return fmt.Errorf("write the button: %w", err)
			}
			for name, text := range map[string]string{button.TemplateFile: b.Template(), button.FormFile: b.Form()} {
				path := filepath.Join(dir, name)
				if err := writeNew(path, []byte(text), force, fmt.Sprintf("The file %s is there already.", path), "--force overwrites it."); err != nil {
					return err
				}
			}
			fmt.Fprintf(d.Out, "Wrote %s and %s. Once they are at %s, paste this:\n\n%s\n\nFrom a Cloud Shell, without the form:\n\n%s\n",
				button.TemplateFile, button.FormFile, b.Base, b.Markdown(), b.CloudShell())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.Image, "image", "", "Binnacle's own `image`, as make image pushes it, public")
	f.StringVar(&b.Base, "base", "", "`address` below which the files will be served over https")
	f.StringVarP(&dir, "output", "o", ".", "the `directory` to write into")
	f.BoolVar(&force, "force", false, "overwrite files that are there")
	return cmd
}

// writeNew writes a file that everybody may read. One that is there stays unless
// forced: conflict, with what is said then.
func writeNew(path string, text []byte, force bool, there, hint string) error {
	const readable = 0o644
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode, readable)
	if errors.Is(err, os.ErrExist) {
		return &binnacle.Error{Code: binnacle.CodeConflict, Op: "cli.deploy", Message: there, Hint: hint, Err: err}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
