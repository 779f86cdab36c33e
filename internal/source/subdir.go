package source

import (
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// below is what a folder of a tree holds, as if it were the whole tree, as
// repo2docker's --subdir takes it. Returns not_found when there is no such folder.
func below(folder string, list []entry, modules []module) ([]entry, []module, error) {
	i := slices.IndexFunc(list, func(e entry) bool {
		return e.path == folder || e.kind != kindFolder && strings.HasPrefix(folder, e.path+"/")
	})
	if i < 0 || list[i].path != folder || list[i].kind != kindFolder {
		return nil, nil, noFolder(folder, list, i)
	}
	var inside []entry
	for _, e := range list {
		if rest, ok := strings.CutPrefix(e.path, folder+"/"); ok {
			e.path = rest
			inside = append(inside, e)
		}
	}
	var named []module
	for _, m := range modules {
		if rest, ok := strings.CutPrefix(m.path, folder+"/"); ok {
			m.path = rest
			named = append(named, m)
		}
	}
	return inside, named, nil
}

// noFolder says what is there instead: the entry at, if any, or folders.
func noFolder(folder string, list []entry, at int) *binnacle.Error {
	e := &binnacle.Error{Code: binnacle.CodeNotFound, Op: "source.subdir", Message: "The repository has no folder " + quote(folder) + " at this commit."}
	if at >= 0 {
		what := map[entryKind]string{kindFile: "a file", kindLink: "a link", kindModule: "a submodule"}[list[at].kind]
		e.Message = "The folder " + quote(folder) + " cannot be looked into: " + quote(list[at].path) + " is " + what + " of the repository."
		e.Hint = "Name a folder that the repository itself holds."
		if list[at].kind == kindModule {
			e.Hint = "Launch the repository of the submodule instead."
		}
		return e
	}
	const some = 8
	var names []string
	for _, entry := range list {
		if entry.kind != kindFolder {
			continue
		}
		if strings.EqualFold(entry.path, folder) || strings.HasSuffix(entry.path, "/"+folder) {
			e.Hint = "Did you mean " + entry.path + "?"
			return e
		}
		if !strings.Contains(entry.path, "/") && len(names) < some {
			names = append(names, entry.path)
		}
	}
	e.Hint = "The repository has no folders at all: leave the sub-directory out."
	if len(names) > 0 {
		e.Hint = "Among its folders are " + strings.Join(names, ", ") + "."
	}
	return e
}
