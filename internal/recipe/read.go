// Package recipe reads what a repository declares and says what its
// environment needs: files in, a [Recipe] out. It is pure: it looks at an
// fs.FS and touches nothing else.
//
// [Read] finds the directory the declarations are in, asks each kind in the
// order of repo2docker's precedence, and lets the first that recognises its
// file describe the environment. apt.txt, postBuild and start are added to
// every kind but a Dockerfile. A new kind is one file here and one line in kinds.
//
// What is declared and can't be followed is an error that names the file and,
// where there is one, the line; what is passed over is listed in Files, and a
// Note says so where the author may not expect it.
package recipe

import (
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Options are the choices of a hub.
type Options struct {
	// DefaultPython is taken when the repository names no version, "X.Y"; empty
	// is the Python of the base image.
	DefaultPython string
	// BasePython is the version that the base image has, "X.Y"; empty is 3.13,
	// which the base we bootstrap has.
	BasePython string
	// Pythons are the versions a repository may ask for, oldest first; empty is
	// [Pythons].
	Pythons []string
	// Date is the commit's: what is not pinned is resolved as of its day, so that
	// a link opens the same environment in five years. Zero takes the newest.
	Date time.Time
	// Today is the day of the build: nothing can be as of a later one. Zero believes
	// every date.
	Today time.Time
	// BaseR is the R that the base image's distribution has, "X.Y.Z"; empty is 4.5.0,
	// which the base we bootstrap has.
	BaseR string
	// Interface is what the link asks for, from its urlpath: "vscode"; else empty.
	Interface string
	// Arch is the processor that locks are read for, "amd64" or "arm64"; empty is amd64.
	Arch string
}

// Pythons are the minor versions that our Jupyter runs on, oldest first.
func Pythons() []string { return []string{"3.9", "3.10", "3.11", "3.12", "3.13", "3.14"} }

// baseMinor is the Python of Debian trixie, the base we bootstrap.
const baseMinor = "3.13"

// kind is one way to describe an environment.
type kind struct {
	name string
	// has says whether the repository uses the kind.
	has func(r *reader) bool
	// read adds what the kind declares to the recipe.
	read func(r *reader) error
}

// kinds in the order of precedence: the first that has its file wins. The
// order is repo2docker's (its documentation, "Configuration files").
func kinds() []kind {
	kinds := append([]kind{dockerfileKind(), juliaKind(), nixKind(), rKind(), condaKind(), pipfileKind(), pixiKind(), condaLockKind(), requirementsInKind(), pythonKind(), devcontainerKind()}, languageKinds()...)
	return append(kinds, flakeKind())
}

// Read says what the repository needs. Returns build_failed with file and line
// for what it declares wrongly or what is not supported.
func Read(fsys fs.FS, opt Options) (Recipe, error) {
	if len(opt.Pythons) == 0 {
		opt.Pythons = Pythons()
	}
	if opt.BasePython == "" {
		opt.BasePython = baseMinor
	}
	if opt.BaseR == "" {
		opt.BaseR = baseR
	}
	r := &reader{fs: fsys, opt: opt}
	if err := r.read(); err != nil {
		return Recipe{}, err
	}
	return r.Recipe, nil
}

// reader is a recipe being read.
type reader struct {
	Recipe
	fs  fs.FS
	opt Options
	err error // the first failure of has
	// asks is the line that chose the Python; the zero one is the hub.
	asks Location
	// lock is the file of exact Python versions that decides, or that would if it
	// were not older than pyproject.toml; else empty.
	lock string
	// old says that the Python is too old for Jupyter: see oldPythons.
	old bool
	// servers are programs that a kind brings, for readInterfaces.
	servers map[string]server
}

func (r *reader) read() error {
	if err := r.findDir(); err != nil {
		return err
	}
	chosen := pythonKind() // nothing is declared: plain Python with Jupyter
	for _, k := range kinds() {
		has := k.has(r)
		if r.err != nil {
			return r.err
		}
		if has {
			chosen = k
			break
		}
	}
	r.Kind = chosen.name
	parts := []func(*reader) error{chosen.read, readLanguages, readNode, readInterfaces, readApt, readScripts, readGitVersion, readIgnore, noteOthers, noteKernel}
	if chosen.name == dockerfile {
		parts = []func(*reader) error{chosen.read, readIgnore, noteAsked, noteOthers}
	}
	for _, part := range parts {
		if err := part(r); err != nil {
			return err
		}
	}
	slices.SortStableFunc(r.Steps, func(a, b Step) int { return slices.Index(stages(), a.Stage) - slices.Index(stages(), b.Stage) })
	return nil
}

// stages in the order of their layers: the server first, because every image
// has the same.
func stages() []Stage {
	return []Stage{StageServer, StageSystem, StageBinary, StageEnvironment, StageOutline, StageContent, StagePostBuild}
}

// findDir is repo2docker's rule: when there is binder/ or .binder/, only files
// in it count; both at once are a mistake.
func (r *reader) findDir() error {
	var found []string
	for _, name := range []string{"binder", ".binder"} {
		at, err := r.resolve(name)
		if err != nil {
			return err
		}
		if info, err := fs.Stat(r.fs, at); err == nil && info.IsDir() {
			found = append(found, name)
		}
	}
	if len(found) > 1 {
		return wrong("", 0, "The repository has both a binder and a .binder directory, so it is not clear which one describes it.", "Keep one of them.")
	}
	if len(found) == 1 {
		r.Dir = found[0]
	}
	return nil
}

// path is where a declaration is looked for.
func (r *reader) path(name string) string { return path.Join(r.Dir, name) }

// wrong is a declaration that can't be followed.
func wrong(file string, line int, message, hint string) *binnacle.Error {
	return &binnacle.Error{Code: binnacle.CodeBuildFailed, Op: "recipe.read", File: file, Line: line, Message: message, Hint: hint}
}

func (r *reader) use(file, why string) {
	r.Files = append(r.Files, File{Path: file, Used: true, Why: why})
}

func (r *reader) pass(file, why string) { r.Files = append(r.Files, File{Path: file, Why: why}) }

func (r *reader) note(file string, line int, message, hint string) {
	r.Notes = append(r.Notes, Note{Location{file, line}, message, hint})
}

// add appends a step.
func (r *reader) add(steps ...Step) { r.Steps = append(r.Steps, steps...) }
