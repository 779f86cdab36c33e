package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// BuildDir is where a step that builds the repository's own package finds what it
// builds with, when that was fetched before.
const BuildDir = "/run/binnacle/build"

// ownPackages installs packages of the tree with what lies in BuildDir. What needs
// more than it says of itself is built a second time in an environment of its own,
// as without BuildDir.
const ownPackages = uvAlone + `own() {
  if [ -d ` + BuildDir + `/tools ]; then
    PYTHONPATH=` + BuildDir + `/tools uv pip install --no-build-isolation "$@" && return
    echo "It needs more than pyproject.toml says to be built: once more, in an environment of its own."
  fi
  uv pip install "$@"
}
`

// finishOwn removes uv's note of when files of the tree were changed: it would be
// another one on each machine. It compiles when a package that the step brought has
// sources in the environment: an editable installation has none, and to look at
// everything that is installed takes long. grep reads to the end, as pipefail wants.
const finishOwn = `for cache in $(find ` + Prefix + `/lib/python3*/site-packages -mindepth 2 -maxdepth 2 -path '*.dist-info/uv_cache.json' -newer /tmp/.begin); do
  sed -i '/\/uv_cache\.json,/d' "${cache%/*}/RECORD"
  rm "$cache"
done
if find ` + Prefix + `/lib/python3*/site-packages -maxdepth 1 -name '*.dist-info' -newer /tmp/.begin -exec cat {}/RECORD \; | grep '\.py,' > /dev/null; then
  PYTHONHASHSEED=0 ` + Prefix + `/bin/python -B ` + InputDir + `/compile.py /srv/conda
fi
` + tidy

// simpleBackends are packages that build others, are wheels themselves and need
// nothing that a repository would add.
func simpleBackends() []string {
	return []string{"editables", "flit-core", "hatch-fancy-pypi-readme", "hatch-vcs", "hatchling", "pdm-backend", "poetry-core", "setuptools", "setuptools-scm", "uv-build", "wheel"}
}

// buildTools fetches what builds the packages in dirs of the tree, apart from it
// and as of the commit's day: so it is fetched once for all repositories that ask
// for the same, and not again with each commit. It takes wheels only, which run
// nothing. Nil when any of them asks for something else.
func (r *reader) buildTools(dirs ...string) *Lock {
	python := r.pythonVersion()
	if python == "" || len(dirs) == 0 {
		return nil
	}
	var lines []string
	for _, dir := range dirs {
		if strings.HasSuffix(dir, ".whl") {
			continue
		}
		requires, ok := r.buildRequires(dir)
		if !ok || archive(dir) {
			return nil
		}
		lines = append(lines, requires...)
	}
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	dated := ""
	if at := r.asOf(python); !at.IsZero() {
		dated = "--exclude-newer " + at.Format(time.RFC3339)
	}
	return &Lock{
		Name: "Build tools: " + strings.Join(lines, ", "), Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: []Input{linesInput("build.txt", lines), compileInput()},
		Script: uvShared + `tools=` + OutDir + `/tools
fetch() { uv pip install --quiet --target $tools --python /usr/bin/python3 --python-version ` + python + ` --only-binary :all: --no-compile-bytecode "$@" -r ` + InputDir + `/build.txt; }
if fetch ` + dated + ` || fetch; then
  env -i PYTHONHASHSEED=0 /usr/bin/python3 -s -S -B ` + InputDir + `/compile.py /srv/conda $tools
  rm -rf $tools/.lock
else
  rm -rf $tools
fi
`,
	}
}

// buildRequires is what the package in dir asks for to be built; ok is false when
// that is more than one of the simple backends, or can't be read.
func (r *reader) buildRequires(dir string) (_ []string, ok bool) {
	inside, ok := inTree("", dir)
	if !ok {
		return nil, false
	}
	text, has, err := r.text(path.Join(inside, "pyproject.toml"))
	if err != nil {
		return nil, false
	}
	var f struct {
		BuildSystem *struct {
			Requires []string `toml:"requires"`
			Path     []string `toml:"backend-path"`
		} `toml:"build-system"`
	}
	if has && toml.Unmarshal([]byte(text), &f) != nil {
		return nil, false
	}
	if f.BuildSystem == nil { // PEP 517's default
		return []string{"setuptools", "wheel"}, true
	}
	if len(f.BuildSystem.Path) > 0 || len(f.BuildSystem.Requires) == 0 {
		return nil, false
	}
	simple := regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*) ?(\[[a-z, -]+\])? ?([<>=!~][<>=!~0-9A-Za-z.,* +-]*)?$`)
	var out []string
	for _, one := range f.BuildSystem.Requires {
		m := simple.FindStringSubmatch(strings.Join(strings.Fields(one), " "))
		if m == nil || !slices.Contains(simpleBackends(), canonical(m[1])) {
			return nil, false
		}
		out = append(out, m[0])
		if canonical(m[1]) == "hatchling" {
			out = append(out, "editables") // it asks for that while it builds
		}
	}
	return out, true
}

// ownDirs are the directories that lines of a requirements file name.
func ownDirs(lines []string) []string {
	var out []string
	for _, line := range lines {
		if option, _ := splitOption(line); option != "" && option != "-e" {
			continue
		}
		dir := strings.TrimPrefix(line, "-e ")
		if _, address, ok := strings.Cut(dir, " @ file:"); ok {
			dir = strings.TrimPrefix(address, "//")
		}
		dir, _, _ = strings.Cut(dir, " ")
		dir, _, _ = strings.Cut(dir, "[")
		out = append(out, dir)
	}
	return out
}
