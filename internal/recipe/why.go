package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// Reason is a chain from a package to the declaration that asked for it.
type Reason struct {
	// Chain begins with the package and ends with the one that is declared, as
	// "name version".
	Chain []string `json:"chain"`
	// Package is the declaration; its From says file and line. Its Name is empty
	// when no file of the repository asks for it.
	Package Package `json:"package,omitzero"`
	// By says why it is there all the same: one of the values below.
	By string `json:"by,omitempty"`
}

// Why there is what no file asks for.
const (
	ByJupyter = "jupyter" // Jupyter needs it, or the language that it runs
	ByBase    = "base"    // the base image has it
	ByScript  = "script"  // nobody needs it: a script of the repository may have installed it
)

// mostReasons keeps the answer readable: numpy is needed by everything.
const mostReasons = 20

// Why says who asked for a package: declarations that name it, and chains of
// packages that need it, the shortest first. files are an image's LockStore by
// name. Nil when it is not there.
func Why(r Recipe, files map[string]string, name string) []Reason {
	want := canonical(name)
	asks := asker{recipe: r, declared: map[[2]string]Package{}, installed: map[[2]string]Installed{}}
	var starts []Installed
	there := map[string]bool{}
	for _, in := range ReadInstalled(files) {
		asks.installed[[2]string{in.Manager, in.ID}] = in
		if canonical(in.Name) == want {
			starts, there[in.Manager] = append(starts, in), true
		}
	}
	var out []Reason
	for _, p := range r.Packages() {
		if p.From.File == "" { // ours, as IJulia is, or the link's
			continue
		}
		key := [2]string{p.Manager, canonical(p.Name)}
		if first, ok := asks.declared[key]; !ok || inLock(first.From.File) && !inLock(p.From.File) {
			asks.declared[key] = p
		}
		if key[1] == want && !there[p.Manager] {
			out = append(out, Reason{Chain: []string{p.Name}, Package: p})
		}
	}
	for _, in := range starts {
		out = append(out, asks.chains(in)...)
	}
	ours := func(p Package) bool { return p.From.File == "" && canonical(p.Name) == want }
	server := func(l Locked) bool { return l.Name == want }
	if len(out) == 0 && (slices.ContainsFunc(ParseLocked(string(serverLock)), server) || slices.ContainsFunc(r.Packages(), ours)) {
		out = append(out, Reason{Chain: []string{want}, By: ByJupyter})
	}
	return out
}

// inLock says that a declaration in that file is an entry of a lock, which also has what
// nobody asked for.
func inLock(file string) bool {
	return regexp.MustCompile(`\.lock$|lock\.(json|ya?ml)$|^pylock\..*toml$`).MatchString(path.Base(file))
}

// asker finds out who asked for what is installed.
type asker struct {
	recipe    Recipe
	declared  map[[2]string]Package   // by manager and name
	installed map[[2]string]Installed // by manager and ID
}

// chains walks from a package to what is declared, breadth first, so that the
// shortest come first; no package is met twice. Where nothing on the way is
// declared, they end with what nobody needs.
func (a asker) chains(from Installed) []Reason {
	var out, ends []Reason
	seen := map[string]bool{from.ID: true}
	for queue := [][]Installed{{from}}; len(queue) > 0 && len(out) < mostReasons; queue = queue[1:] {
		steps := queue[0]
		in := steps[len(steps)-1]
		reason := Reason{}
		for _, step := range steps {
			reason.Chain = append(reason.Chain, strings.TrimSpace(step.Name+" "+step.Version))
		}
		if p, ok := a.declaration(in); ok {
			reason.Package = p
			out = append(out, reason)
		} else if len(in.By) == 0 {
			reason.By = byOf(in)
			ends = append(ends, reason)
		}
		for _, id := range in.By {
			if by, known := a.installed[[2]string{in.Manager, id}]; known && !seen[id] {
				seen[id] = true
				queue = append(queue, append(slices.Clone(steps), by))
			}
		}
	}
	switch {
	case len(out) > 0:
		return out
	case from.Manager == "apt":
		return []Reason{{Chain: []string{from.Name + " " + from.Version}, By: ByBase}}
	}
	return ends[:min(len(ends), mostReasons)]
}

// byOf says why there is what no file asks for and nobody needs.
func byOf(in Installed) string {
	switch {
	case in.Manager == "conda" || strings.HasPrefix(in.ID, serverFile): // Python, pip, R and its kernel
		return ByJupyter
	case in.Manager == "pip" && slices.ContainsFunc(ParseLocked(string(serverLock)), func(l Locked) bool { return l.Name == in.ID }):
		return ByJupyter
	}
	return ByScript
}

// declaration is the line that asks for a package, or the file of which its lock
// says so. An entry of a lock asks for what nobody else needs.
func (a asker) declaration(in Installed) (Package, bool) {
	p, ok := a.declared[[2]string{in.Manager, canonical(in.Name)}]
	if ok && (!inLock(p.From.File) || len(in.By) == 0 || len(in.Asked) > 0) {
		return p, true
	}
	asked := in.Asked
	if slices.Contains([]string{"cran", "nix"}, in.Manager) && len(in.By) == 0 && a.file(in.Manager) != "" {
		asked = []string{""} // the program asks for it, whatever it writes
	}
	for _, file := range asked {
		if file == "" {
			file = a.file(in.Manager)
		} else {
			file = path.Join(a.recipe.Dir, file)
		}
		if file != "" {
			return Package{Manager: in.Manager, Name: in.Name, Spec: in.Name, From: Location{File: file}}, true
		}
	}
	return Package{}, false
}

// file is the one of a manager whose declarations can't all be named.
func (a asker) file(manager string) string {
	names := map[string][]string{
		"pip": {"pyproject.toml", "setup.py"}, "go": {"go.mod", "go.work"}, "cargo": {"Cargo.toml"}, "cran": {"install.R"}, "nix": {"default.nix", "flake.nix"},
	}
	for _, name := range names[manager] {
		if file := path.Join(a.recipe.Dir, name); a.recipe.uses(file) {
			return file
		}
	}
	return ""
}
