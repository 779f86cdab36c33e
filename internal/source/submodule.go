package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

const (
	maxModuleDepth = 4
	maxModules     = 100
	maxModulesFile = 1 << 20
)

// module is what .gitmodules says about one submodule. Its update and fetch
// settings are not read: some of them are commands.
type module struct {
	path, url string
	line      int // of its path in .gitmodules; 0 when unknown
}

// modules reads .gitmodules of a commit. We parse the output of git config,
// which knows the syntax and, for a blob, follows no include.
func (m *mirror) modules(ctx context.Context, commit string, list []entry) ([]module, error) {
	if !slices.ContainsFunc(list, func(e entry) bool { return e.kind == kindModule }) {
		return nil, nil
	}
	i := slices.IndexFunc(list, func(e entry) bool { return e.path == ".gitmodules" && e.kind == kindFile })
	if i < 0 {
		return nil, nil
	}
	if list[i].size > maxModulesFile {
		return nil, modulesError("is too large", nil)
	}
	var out bytes.Buffer
	err := m.s.git(ctx, command{gitDir: m.dir, args: []string{"config", "-z", "--blob", commit + ":.gitmodules", "--list"}, stdout: &out})
	if _, failed := errors.AsType[*gitError](err); failed {
		return nil, modulesError("cannot be read", err)
	}
	if err != nil {
		return nil, err
	}
	modules, err := parseModules(out.String())
	if err != nil {
		return nil, modulesError("names what cannot be a submodule", err)
	}
	var text bytes.Buffer
	if err := m.s.git(ctx, command{gitDir: m.dir, args: []string{"cat-file", "blob", commit + ":.gitmodules"}, stdout: &text}); err != nil {
		return nil, err
	}
	for i := range modules {
		modules[i].line = moduleLine(text.String(), modules[i].path)
	}
	return modules, nil
}

// moduleLine is where .gitmodules names a path, as it is usually written; else 0.
func moduleLine(text, path string) int {
	n := 0
	for line := range strings.Lines(text) {
		n++
		key, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(key) == "path" && strings.TrimSuffix(strings.Trim(strings.TrimSpace(value), `"`), "/") == path {
			return n
		}
	}
	return 0
}

func modulesError(why string, err error) *binnacle.Error {
	return &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Op: "source.submodule", File: ".gitmodules", Err: err,
		Message: "The file .gitmodules " + why + ".", Hint: "Correct the file and push again.",
	}
}

// parseModules reads "submodule.<name>.<key>\n<value>\0" records.
func parseModules(out string) ([]module, error) {
	var order []string
	byName := map[string]*module{}
	for record := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		key, value, _ := strings.Cut(record, "\n")
		rest, ok := strings.CutPrefix(key, "submodule.")
		dot := strings.LastIndexByte(rest, '.')
		if !ok || dot < 0 {
			continue
		}
		name, setting := rest[:dot], rest[dot+1:]
		if setting != "path" && setting != "url" {
			continue
		}
		m := byName[name]
		if m == nil {
			m = new(module)
			byName[name] = m
			order = append(order, name)
		}
		if strings.HasPrefix(value, "-") || hasControl(value) {
			return nil, fmt.Errorf("submodule %s: %s %s", quote(name), setting, quote(value))
		}
		if setting == "url" {
			m.url = value
			continue
		}
		value = strings.TrimSuffix(value, "/")
		if err := checkPath(value); err != nil {
			return nil, err
		}
		m.path = value
	}
	var list []module
	for _, name := range order {
		if m := byName[name]; m.path != "" && m.url != "" {
			list = append(list, *m)
		}
	}
	return list, nil
}

// submodules fills the folders that submodules take.
func (f *fetching) submodules(ctx context.Context, parent remote, list []entry, known []module, dir, prefix string, depth int) error {
	declared := map[string]module{}
	for _, m := range known {
		declared[m.path] = m
	}
	notes := 0
	for _, e := range list {
		if e.kind != kindModule {
			continue
		}
		full := prefix + e.path
		sub := filepath.Join(dir, filepath.FromSlash(e.path))
		// No link is on the way: a path has one entry, and its parents are folders.
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return fmt.Errorf("make the folder of a submodule: %w", err)
		}
		mod, ok := declared[e.path]
		if !ok {
			if notes++; notes <= maxNotes {
				f.line(Note + ".gitmodules does not say where the submodule " + quote(full) + " comes from; its folder stays empty. Add it with git submodule add, or remove the folder.")
			}
			continue
		}
		if f.modules++; f.modules > maxModules || depth+1 > maxModuleDepth {
			return moduleError(full, place(prefix, mod), &binnacle.Error{Message: fmt.Sprintf("submodules go more than %d deep or there are more than %d.", maxModuleDepth, maxModules)})
		}
		f.line("Fetching submodule " + quote(full))
		r, err := moduleRemote(parent, mod.url)
		if err == nil {
			err = f.repository(ctx, r, e.id, sub, full+"/", depth+1)
		}
		if err != nil {
			return moduleError(full, place(prefix, mod), err)
		}
	}
	return nil
}

// moduleRemote is where a submodule comes from. Local files may only be named
// by a repository that is a local file itself: what came from elsewhere has no
// business there, however far the caller is trusted.
func moduleRemote(parent remote, address string) (remote, error) {
	var r remote
	var err error
	switch {
	case strings.HasPrefix(address, "./"), strings.HasPrefix(address, "../"), address == ".", address == "..":
		r, err = parent.join(address)
	case parent.scheme == "file" && filepath.IsAbs(address):
		r, err = parseRemote((remote{scheme: "file", path: address}).String())
	default:
		r, err = parseRemote(address)
	}
	if err == nil && r.scheme == "file" && parent.scheme != "file" {
		err = &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: "source.submodule",
			Message: "Its address is a file of this machine, which a repository from elsewhere may not name.", Hint: "Use an https:// address in .gitmodules.",
		}
	}
	return r, err
}

// place is the line of a submodule in the .gitmodules that the error names; 0 in
// that of another repository.
func place(prefix string, m module) int {
	if prefix != "" {
		return 0
	}
	return m.line
}

// moduleError says which submodule failed. The code stays when trying again
// or another caller may help; else the repository is at fault.
func moduleError(path string, line int, err error) error {
	cause, ok := errors.AsType[*binnacle.Error](err)
	if !ok {
		return err
	}
	if cause.Op == "source.submodule.nested" {
		return cause // the innermost says it best
	}
	code := cause.Code
	if !code.Retryable() {
		code = binnacle.CodeBuildFailed
	}
	hint := cause.Hint
	if hint == "" {
		hint = "Correct its address in .gitmodules, or remove it."
	}
	return &binnacle.Error{
		Code: code, Op: "source.submodule.nested", File: ".gitmodules", Line: line, Err: err, Hint: hint,
		Message: "The submodule " + quote(path) + " cannot be fetched: " + cause.Message,
	}
}
