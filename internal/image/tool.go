package image

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/buildkit/client/llb"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// tools holds what installs or what steps copy, by name: the pinned requirements
// of a tool of PyPI (NAME.txt), or the script that makes it (NAME.sh) with the
// files that the script reads (NAME.*).
//
//go:embed tools
var tools embed.FS

// tool is a directory with a program, made on the base alone: whatever a
// repository asks for, its tools are made once.
func tool(prepared llb.State, name string) (llb.State, error) {
	if script, err := tools.ReadFile("tools/" + name + ".sh"); err == nil {
		return madeTool(prepared, name, string(script))
	}
	lock, err := tools.ReadFile("tools/" + name + ".txt")
	if err != nil {
		return llb.State{}, fmt.Errorf("the recipe asks for the tool %q, which is not known: %w", name, err)
	}
	at := path.Join(recipe.ToolDir, name)
	script := fmt.Sprintf(`python3 -m venv %[1]s
%[1]s/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --only-binary :all: --require-hashes -r %[2]s/%[3]s.txt
%[1]s/bin/pip uninstall -y -q pip
ln -sf bin/%[3]s %[1]s/%[3]s`, at, recipe.InputDir, name)
	return toolRun(prepared, name, script, []recipe.Input{{Name: name + ".txt", Content: lock}}), nil
}

// madeTool runs a script of ours as root. What it installs on the way is gone
// afterwards; only what it writes to $out is kept.
func madeTool(prepared llb.State, name, script string) (llb.State, error) {
	var in []recipe.Input
	files, err := fs.Glob(tools, "tools/"+name+".*")
	if err != nil {
		return llb.State{}, fmt.Errorf("the files of the tool %q: %w", name, err)
	}
	for _, file := range files {
		content, err := tools.ReadFile(file)
		if err != nil {
			return llb.State{}, fmt.Errorf("the files of the tool %q: %w", name, err)
		}
		if !strings.HasSuffix(file, ".sh") {
			in = append(in, recipe.Input{Name: path.Base(file), Content: content})
		}
	}
	head := "in=" + recipe.InputDir + " out=" + path.Join(recipe.ToolDir, name) + "\n"
	return toolRun(prepared, name, head+script, in), nil
}

func toolRun(prepared llb.State, name, script string, in []recipe.Input) llb.State {
	opts := []llb.RunOption{bash(script), llb.WithCustomName("Tool: " + name)}
	if len(in) > 0 {
		opts = append(opts, llb.AddMount(recipe.InputDir, inputs(in), llb.Readonly))
	}
	return prepared.Run(opts...).AddMount(path.Join(recipe.ToolDir, name), llb.Scratch())
}
