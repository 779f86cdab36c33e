package recipe

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// The outline of a tree is what an editable installation looks at: names of
// directories and modules, and the few files that say what a package is called
// and who made it. What modules say does not matter: they stay where they are, and
// the environment only learns the place. So the step needs the outline alone, and a
// commit that leaves it as it is does not run it.
const (
	outlineFile = "outline.txt" // a directory, with a slash, or an empty file on each line
	outlineTree = "tree"        // below it, files with their text
	// unfold makes the outline's files in RepoDir, the step's directory.
	unfold = `sed -n '/\/$/p' ` + InputDir + `/` + outlineFile + ` | xargs -r -d '\n' mkdir -p --
sed -n '/[^/]$/p' ` + InputDir + `/` + outlineFile + ` | xargs -r -d '\n' touch --
cp -r --no-preserve=all ` + InputDir + `/` + outlineTree + `/. .
`
	mostLooked   = 20_000  // entries of a tree that is outlined
	mostOutlined = 4_000   // names in an outline
	mostText     = 1 << 20 // bytes of its files
)

// errOutline ends a walk: the outline does not say all that decides.
var errOutline = errors.New("more than names decides")

// outlined lets a step that installs packages in dirs of the tree, all of them
// editable, run with their outline instead of the tree, when that is enough.
func (r *reader) outlined(s Step, dirs []string) Step {
	if s.Build == nil || len(dirs) == 0 {
		return s
	}
	inputs, ok := r.outline(dirs)
	if !ok {
		return s
	}
	s.Stage, s.Inputs, s.Script = StageOutline, append(slices.Clone(s.Inputs), inputs...), unfold+s.Script
	return s
}

// outline is nothing when a package's files decide about more than its place: code
// that runs to build it, a version that is in them, compiled parts.
func (r *reader) outline(dirs []string) ([]Input, bool) {
	if r.has(".dockerignore") || r.has(".containerignore") { // the image's tree is another one
		return nil, false
	}
	o := outline{r: r, names: map[string]bool{}, texts: map[string]string{}}
	for _, dir := range dirs {
		inside, ok := inTree("", dir)
		if !ok || !o.add(inside) {
			return nil, false
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(o.names)) {
		if _, has := o.texts[name]; !has {
			lines = append(lines, name)
		}
	}
	inputs := []Input{linesInput(outlineFile, lines)}
	for _, name := range slices.Sorted(maps.Keys(o.texts)) {
		inputs = append(inputs, Input{Name: outlineTree + "/" + name, Content: []byte(o.texts[name])})
	}
	return inputs, len(lines) <= mostOutlined && o.size <= mostText
}

// outline is one being made.
type outline struct {
	r     *reader
	names map[string]bool   // directories end with a slash
	texts map[string]string // files that are read, with their text
	size  int               // bytes of texts
}

// add takes the package in dir.
func (o *outline) add(dir string) bool {
	text, ok, err := o.r.text(path.Join(dir, "pyproject.toml"))
	var f map[string]any
	if err != nil || !ok || toml.Unmarshal([]byte(text), &f) != nil || !editable(f) {
		return false
	}
	for above := dir; above != "."; above = path.Dir(above) { // uv looks for the workspace of a package
		if !o.text(path.Join(path.Dir(above), "pyproject.toml")) {
			return false
		}
	}
	if err := fs.WalkDir(o.r.fs, dir, o.visit(dir)); err != nil {
		return false
	}
	for _, name := range named(f) {
		file, inside := inTree(dir, name)
		if inside && o.r.hasPath(file) && !o.text(file) {
			return false
		}
	}
	return true
}

// visit takes what counts of the files of the package in dir.
func (o *outline) visit(dir string) fs.WalkDirFunc {
	seen := 0
	special := regexp.MustCompile(`^(\.gitignore|MANIFEST\.in|setup\.cfg|(LICEN[CS]E|COPYING|NOTICE|AUTHORS).*)$`)
	return func(name string, d fs.DirEntry, err error) error {
		if seen++; err != nil || seen > mostLooked {
			return errOutline
		}
		below := strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
		if dir == "." {
			below = name
		}
		depth, base := strings.Count(below, "/"), path.Base(name)
		switch {
		case name == dir:
			if dir != "." {
				o.names[name+"/"] = true
			}
		case d.Type()&fs.ModeSymlink != 0, strings.ContainsAny(name, "\n\\"):
			return errOutline // who knows where it leads
		case d.IsDir() && strings.HasPrefix(base, "."), d.IsDir() && base == "__pycache__":
			return fs.SkipDir
		case d.IsDir() && depth < 2: // setuptools takes any that could be a package
			o.names[name+"/"] = true
			if base == "node_modules" {
				return fs.SkipDir
			}
		case d.IsDir():
		case base == "pyproject.toml", depth == 0 && special.MatchString(base), path.Dir(below) == "LICENSES":
			if !o.text(name) {
				return errOutline
			}
		case depth == 0 && slices.Contains([]string{"setup.py", "hatch.toml", "pdm_build.py"}, base):
			return errOutline
		case strings.HasSuffix(base, ".py"), strings.HasSuffix(base, ".pyi"):
			o.names[path.Dir(name)+"/"], o.names[name] = true, true
		}
		return nil
	}
}

// text takes a file with what is in it; one that is not there is none.
func (o *outline) text(name string) bool {
	if _, has := o.texts[name]; has {
		return true
	}
	text, ok, err := o.r.bytes(name, maxFile+1)
	if err != nil || len(text) > maxFile {
		return false
	}
	if !ok {
		return true
	}
	if path.Base(name) == "setup.cfg" && regexp.MustCompile(`attr:|file:|ext_modules|cffi_modules|data_files`).Match(text) {
		return false
	}
	o.texts[name] = string(text)
	o.size += len(text)
	return true
}

// requiredName is the package that a line of build-system.requires is about.
func requiredName(line string) string {
	return canonical(regexp.MustCompile(`^[A-Za-z0-9._-]*`).FindString(strings.TrimSpace(line)))
}

// editable says whether the names of a package's files are all that an editable
// installation of it depends on, as its pyproject.toml is.
func editable(f map[string]any) bool {
	backend, _ := at(f, "build-system", "build-backend").(string)
	forbidden, known := readsMore()[backend]
	if !known || at(f, "build-system", "backend-path") != nil {
		return false
	}
	for _, setting := range forbidden {
		if at(f, strings.Split(setting, ".")...) != nil {
			return false
		}
	}
	for _, line := range texts(at(f, "build-system", "requires")) {
		name := requiredName(line)
		if slices.Contains([]string{"hatch-vcs", "hatch-fancy-pypi-readme", "setuptools-scm"}, name) {
			return false
		}
	}
	for _, pattern := range named(f) { // of license files, mostly: who knows what it finds
		if strings.Contains(pattern, "*") && slices.Contains(texts(at(f, "project", "license-files")), pattern) {
			return false
		}
	}
	const poetry = "poetry.core.masonry.api" // all it needs is in pyproject.toml
	dynamic, _ := at(f, "project", "dynamic").([]any)
	name := at(f, "project", "name")
	if backend == poetry {
		return name != nil || at(f, "tool", "poetry", "name") != nil
	}
	return name != nil && len(dynamic) == 0
}

// readsMore are the backends that are understood, and settings with which they
// read files, run code or copy into the environment.
func readsMore() map[string][]string {
	return map[string][]string{
		"flit_core.buildapi": {"tool.flit.metadata", "tool.flit.external-data"},
		"hatchling.build": {
			"tool.hatch.version", "tool.hatch.metadata.hooks", "tool.hatch.build.hooks", "tool.hatch.build.force-include",
			"tool.hatch.build.targets.wheel.hooks", "tool.hatch.build.targets.wheel.force-include", "tool.hatch.build.targets.wheel.shared-data",
			"tool.hatch.build.targets.wheel.shared-scripts", "tool.hatch.build.targets.wheel.extra-metadata", "tool.hatch.build.targets.wheel.sbom-files",
		},
		"pdm.backend":             {"tool.pdm.version", "tool.pdm.build.custom-hook", "tool.pdm.build.hooks", "tool.pdm.build.run-setuptools", "tool.pdm.build.wheel-data"},
		"poetry.core.masonry.api": {"tool.poetry.build", "tool.poetry-dynamic-versioning"},
		"setuptools.build_meta":   {"tool.setuptools.dynamic", "tool.setuptools.ext-modules", "tool.setuptools.data-files", "tool.setuptools.cmdclass", "tool.setuptools_scm"},
		"uv_build":                {"tool.uv.build-backend.data"},
	}
}

// at is what nested tables hold; nil when there is nothing.
func at(v any, keys ...string) any {
	for _, key := range keys {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[key]
	}
	return v
}

// named are all texts in a value: some are names of files.
func named(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			out = append(out, named(e)...)
		}
		return out
	case map[string]any:
		var out []string
		for _, key := range sortedNames(v) {
			out = append(out, named(v[key])...)
		}
		return out
	}
	return nil
}
