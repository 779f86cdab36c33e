package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle/internal/deploy/pipeline"
)

func (d *deployment) ciCommand() *cobra.Command {
	o := pipeline.Options{Forge: pipeline.GitHub, Branch: "main"}
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use: "ci", Short: "Write a pipeline: the plan on a proposed change, deployed when it is accepted", Args: cobra.NoArgs,
		Long: "Writes a workflow of GitHub, Azure Pipelines or GitLab into this repository, and says what only\n" +
			"a person can do: on Azure no secret is needed, because the forge itself says who the pipeline is.",
		Example: "  binnacle deploy ci --forge github --image registry.example.org/binnacle:1",
		RunE: func(*cobra.Command, []string) error {
			i, err := d.load()
			if err != nil {
				return err
			}
			o.File = filepath.ToSlash(d.file)
			made, err := pipeline.Make(i.Config, o)
			if err != nil {
				return err
			}
			return d.writePipeline(made, filepath.Join(dir, filepath.FromSlash(made.Path)), force)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Forge, "forge", o.Forge, strings.Join(pipeline.Forges(), ", ")+": whose `kind` of pipeline")
	f.StringVar(&o.Image, "image", "", "Binnacle's own `image`, as make image pushes it")
	f.StringVar(&o.Branch, "branch", o.Branch, "the `branch` that is deployed")
	f.StringVarP(&dir, "output", "o", ".", "the root `directory` of the repository")
	f.BoolVar(&force, "force", false, "overwrite a pipeline that is there")
	return cmd
}

func (d *deployment) writePipeline(made pipeline.Made, path string, force bool) error {
	const folder = 0o755
	if err := os.MkdirAll(filepath.Dir(path), folder); err != nil {
		return fmt.Errorf("write the pipeline: %w", err)
	}
	if err := writeNew(path, made.Content, force, "There is a pipeline already: "+path+".", "--force overwrites it; --output writes to another directory, to take over what you need."); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "Wrote %s. What is left to do:\n", path)
	for i, step := range made.Todo {
		fmt.Fprintf(d.Out, "%d. %s\n", i+1, step)
	}
	return nil
}
