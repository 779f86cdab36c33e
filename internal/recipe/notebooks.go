package recipe

import (
	"encoding/json"
	"strings"
)

// firstNotebook is what most links open.
const firstNotebook = "index.ipynb"

// noteKernel warns when the first notebook is in a language that the environment
// has no kernel for. Kernels of other languages may come with any package, and
// postBuild may bring each.
func noteKernel(r *reader) error {
	if r.Kind == dockerfile || r.Base != nil || r.Kind == "nix" || r.has("postBuild") || !r.hasPath(firstNotebook) {
		return nil
	}
	b, _, err := r.bytes(firstNotebook, inlineHead)
	if err != nil {
		return err
	}
	var n struct {
		Metadata struct {
			Kernel struct {
				Name     string `json:"name"`
				Language string `json:"language"`
			} `json:"kernelspec"`
			Language struct {
				Name string `json:"name"`
			} `json:"language_info"`
		} `json:"metadata"`
	}
	if json.Unmarshal(b, &n) != nil {
		return nil //nolint:nilerr // what can't be read asks for nothing
	}
	language := strings.ToLower(n.Metadata.Language.Name)
	if language == "" {
		language = strings.ToLower(n.Metadata.Kernel.Language)
	}
	if language == "" && n.Metadata.Kernel.Name == "ir" {
		language = "r"
	}
	how := map[string]struct{ name, hint string }{
		"r":     {"R", "Add runtime.txt with a line such as r-4.4-2025-06-01, or install.R."},
		"julia": {"Julia", "Add Project.toml."},
		"go":    {"Go", "Add go.mod to binder/, with the other files that count."},
		"rust":  {"Rust", "Add Cargo.toml to binder/, with the other files that count."},
	}
	if want, ok := how[language]; ok && r.Kind != language && r.Versions[language].Value == "" {
		r.note(firstNotebook, 0, firstNotebook+" is a notebook of "+want.name+", for which the environment has no kernel.", want.hint)
	}
	return nil
}
