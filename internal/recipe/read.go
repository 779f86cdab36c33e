// Package recipe reads what a repository declares and says what its
// environment needs: files in, a [Recipe] out. It is pure: it looks at an
// fs.FS and touches nothing else.
//
// [Read] finds the directory the declarations are in, asks each kind in the
// order of repo2docker's precedence, and lets the first that recognises its
// file describe the environment. apt.txt, postBuild and start are added to
// every kind but a Dockerfile. A new kind is one file here and one line in kinds.
package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"unicode/utf8"

	"github.com/binnacle-hub/binnacle"
)

// Options are the choices of a hub.
type Options struct {
	// DefaultPython is taken when the repository names no version, "X.Y"; empty
	// is the Python of the base image.
	DefaultPython string
	// Pythons are the versions a repository may ask for, oldest first; empty is
	// [Pythons].
	Pythons []string
}

// Pythons are the minor versions that today's Jupyter runs on.
func Pythons() []string { return []string{"3.10", "3.11", "3.12", "3.13", "3.14"} }

// maxFile is the largest declaration that is read, in bytes.
const maxFile = 1 << 20

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
	return []kind{dockerfileKind(), unsupportedKind(), condaKind(), pythonKind()}
}

// Read says what the repository needs. Returns build_failed with file and line
// for what it declares wrongly or what is not supported.
func Read(fsys fs.FS, opt Options) (Recipe, error) {
	if len(opt.Pythons) == 0 {
		opt.Pythons = Pythons()
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
}

func (r *reader) read() error {
	if err := r.findDir(); err != nil {
		return err
	}
	for _, k := range kinds() {
		has := k.has(r)
		if r.err != nil {
			return r.err
		}
		if !has {
			continue
		}
		r.Kind = k.name
		if err := k.read(r); err != nil {
			return err
		}
		if r.Dockerfile != "" {
			return r.readIgnore()
		}
		break
	}
	if r.Kind == "" { // nothing is declared: plain Python with Jupyter
		r.Kind = "python"
		if err := readPython(r); err != nil {
			return err
		}
	}
	for _, also := range []func(*reader) error{readApt, readScripts, (*reader).readIgnore, noteOthers} {
		if err := also(r); err != nil {
			return err
		}
	}
	slices.SortStableFunc(r.Steps, func(a, b Step) int { return slices.Index(stages(), a.Stage) - slices.Index(stages(), b.Stage) })
	return nil
}

func stages() []Stage {
	return []Stage{StageServer, StageSystem, StageEnvironment, StageContent, StagePostBuild}
}

// findDir is repo2docker's rule: when there is binder/ or .binder/, only files
// in it count; both at once are a mistake.
func (r *reader) findDir() error {
	var found []string
	for _, name := range []string{"binder", ".binder"} {
		if info, err := fs.Stat(r.fs, name); err == nil && info.IsDir() {
			found = append(found, name)
		}
	}
	if len(found) > 1 {
		return &binnacle.Error{
			Code: binnacle.CodeBuildFailed, Op: "recipe.read",
			Message: "The repository has both a binder and a .binder directory, so it is not clear which one describes it.",
			Hint:    "Keep one of them.",
		}
	}
	if len(found) == 1 {
		r.Dir = found[0]
	}
	return nil
}

// path is where a declaration is looked for.
func (r *reader) path(name string) string { return path.Join(r.Dir, name) }

// has says whether the declaration is there as a regular file.
func (r *reader) has(name string) bool {
	info, err := fs.Stat(r.fs, r.path(name))
	return err == nil && info.Mode().IsRegular()
}

// file reads a declaration as text, lines ended by \n; ok is false when it is
// not there.
func (r *reader) file(name string) (text string, ok bool, err error) {
	return r.text(r.path(name))
}

func (r *reader) text(name string) (string, bool, error) {
	f, err := r.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", false, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", false, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxFile {
		return "", false, wrong(name, 0, fmt.Sprintf("%s is larger than %d KiB.", name, maxFile>>10), "Keep only what is to be installed in it.")
	}
	text, err := decode(b)
	if err != nil {
		return "", false, wrong(name, 0, name+" is not a text file Binnacle can read: "+err.Error()+".", "Save it as UTF-8.")
	}
	return text, true, nil
}

// decode reads UTF-8, UTF-16 with a byte order mark, and else Latin-1, and
// makes every line end \n. Windows editors write all three.
func decode(b []byte) (string, error) {
	switch {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		b = b[3:]
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		b = utf16Text(b[2:], 0, 1)
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		b = utf16Text(b[2:], 1, 0)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return "", errors.New("it holds a zero byte")
	}
	if !utf8.Valid(b) {
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		b = []byte(string(runes))
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return string(bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))), nil
}

// wrong is a declaration that can't be followed.
func wrong(file string, line int, message, hint string) *binnacle.Error {
	return &binnacle.Error{Code: binnacle.CodeBuildFailed, Op: "recipe.read", File: file, Line: line, Message: message, Hint: hint}
}

func (r *reader) use(file, why string) { r.Files = append(r.Files, File{Path: file, Used: true, Why: why}) }

func (r *reader) pass(file, why string) { r.Files = append(r.Files, File{Path: file, Why: why}) }

func (r *reader) note(file string, line int, message, hint string) {
	r.Notes = append(r.Notes, Note{Location{file, line}, message, hint})
}
