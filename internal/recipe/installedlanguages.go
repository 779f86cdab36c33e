package recipe

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/mod/semver"
)

const (
	// goGraph is what `go mod graph` says: go.sum does not tell who needs what.
	goGraph = "go-graph.txt"
	// installedFile and serverFile are what is in the environments, as image lists it:
	// serverFile when Jupyter has one of its own.
	installedFile = "python.txt"
	serverFile    = "jupyter.txt"
)

// installedPip is what is in the environments, with what the lock knows of it. The
// lock alone counts where there is no list.
func installedPip(files map[string]string) []Installed {
	v := &inventory{manager: "pip"}
	locked, names := map[string]Locked{}, map[string]bool{}
	list := files[installedFile]
	if list == "" {
		list = files[lockedFile]
	}
	present := ParseLocked(list)
	for _, l := range ParseLocked(files[lockedFile]) {
		locked[l.Name+" "+l.Version], names[l.Name] = l, true
	}
	beside := ParseLocked(files[condaPip])
	for _, l := range beside {
		locked[l.Name+" "+l.Version] = l
	}
	for _, have := range present {
		names[have.Name] = names[have.Name] || len(beside) > 0 // conda's packages may need it, too
	}
	for _, have := range present {
		p := Installed{Name: have.Name, Version: have.Version, ID: have.Name, Sums: have.Sums}
		if l, ok := locked[have.Name+" "+have.Version]; ok {
			if len(p.Sums) == 0 {
				p.Sums = l.Sums
			}
			p.By, p.Asked = l.askers(names)
		}
		v.add(p)
	}
	for _, have := range ParseLocked(files[serverFile]) {
		v.add(Installed{Name: have.Name, Version: have.Version, ID: serverFile + " " + have.Name, Sums: have.Sums})
	}
	return v.done()
}

// askers are the packages of a lock that need one, and the file that asks for it:
// what needs it and is not in the lock is a project of the repository.
func (l Locked) askers(locked map[string]bool) (by, asked []string) {
	for _, name := range l.By {
		if locked[name] {
			by = append(by, name)
		}
	}
	if l.Direct || len(by) < len(l.By) {
		asked = []string{""}
	}
	return by, asked
}

// installedGo reads go.sum: of each module that was downloaded, the newest is in
// use. Its hash is Go's own, the SHA-256 of a list of files with their SHA-256.
func installedGo(files map[string]string) []Installed {
	v := &inventory{manager: "go"}
	newest, sums := map[string]string{}, map[string]string{}
	for line := range strings.Lines(files["go.sum"] + "\n" + files["go.work.sum"]) {
		words := strings.Fields(line)
		const fields = 3 // module, version, hash
		if len(words) != fields || strings.HasSuffix(words[1], "/go.mod") {
			continue
		}
		if semver.Compare(words[1], newest[words[0]]) >= 0 {
			newest[words[0]], sums[words[0]] = words[1], words[2]
		}
	}
	for _, name := range sortedNames(newest) {
		p := Installed{Name: name, Version: newest[name], ID: name}
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sums[name], "h1:")); err == nil && len(raw) > 0 {
			p.Sums = []string{"sha256:" + hex.EncodeToString(raw)}
		}
		v.add(p)
	}
	v.goNeeds(edges(files[goGraph]))
	return v.list
}

// goNeeds takes what go mod graph says. A module names all that it needs, also what
// only others need: that counts when nobody else does.
func (v *inventory) goNeeds(graph [][2]string) {
	var named []string
	for _, e := range graph {
		by, version, ok := strings.Cut(e[0], "@")
		name, _, _ := strings.Cut(e[1], "@")
		switch i, have := v.at[by]; {
		case !ok: // a module of the repository
			named = append(named, name)
		case have && v.list[i].Version == version:
			v.need(by, name)
		}
	}
	v.done()
	for _, name := range named {
		if i, ok := v.at[name]; ok && len(v.list[i].By) == 0 {
			v.asked(name, "")
		}
	}
}

// installedCargo reads Cargo.lock. Packages without a source are the repository's.
func installedCargo(files map[string]string) []Installed {
	var lock struct {
		Package []struct {
			Name, Version, Source, Checksum string
			Dependencies                    []string
		}
	}
	if toml.Unmarshal([]byte(files["Cargo.lock"]), &lock) != nil {
		return nil
	}
	v := &inventory{manager: "cargo"}
	only := map[string]string{} // by name, where there is one version
	for _, p := range lock.Package {
		id := p.Name + " " + p.Version
		only[p.Name] = id
		if p.Source == "" {
			continue
		}
		in := Installed{Name: p.Name, Version: p.Version, ID: id}
		if p.Checksum != "" {
			in.Sums = []string{"sha256:" + p.Checksum}
		}
		if at, ok := strings.CutPrefix(p.Source, "git+"); ok {
			address, commit, _ := strings.Cut(at, "#")
			address, _, _ = strings.Cut(address, "?")
			in.More = map[string]string{"vcs_url": "git+" + address + "@" + commit}
		}
		v.add(in)
	}
	for _, p := range lock.Package {
		for _, want := range p.Dependencies {
			words := strings.Fields(want) // a name; with its version where there are several
			if len(words) == 0 {
				continue
			}
			id := only[words[0]]
			if len(words) > 1 {
				id = words[0] + " " + words[1]
			}
			if p.Source == "" {
				v.asked(id, "")
			} else {
				v.need(p.Name+" "+p.Version, id)
			}
		}
	}
	return v.done()
}

// installedJulia reads Manifest.toml in either format. Packages without a version
// are Julia's own.
func installedJulia(files map[string]string) []Installed {
	var raw map[string]any
	if toml.Unmarshal([]byte(files["Manifest.toml"]), &raw) != nil {
		return nil
	}
	if deps, ok := raw["deps"].(map[string]any); ok && raw["manifest_format"] != nil {
		raw = deps
	}
	v := &inventory{manager: "julia"}
	uuids, wants := map[string]string{}, map[string]any{}
	for _, name := range sortedNames(raw) {
		list, _ := raw[name].([]any)
		for _, e := range list {
			entry, _ := e.(map[string]any)
			uuid, _ := entry["uuid"].(string)
			version, _ := entry["version"].(string)
			p := Installed{Name: name, Version: version, ID: uuid, More: map[string]string{"uuid": uuid}}
			if tree, ok := entry["git-tree-sha1"].(string); ok {
				p.Sums = []string{"tree:" + tree}
			}
			if _, own := entry["path"]; uuid == "" || own {
				continue // a directory of the repository
			}
			uuids[name], wants[uuid] = uuid, entry["deps"]
			v.add(p)
		}
	}
	for _, uuid := range sortedNames(wants) {
		switch list := wants[uuid].(type) {
		case []any:
			for _, name := range list {
				if name, ok := name.(string); ok {
					v.need(uuid, uuids[name])
				}
			}
		case map[string]any:
			for _, name := range sortedNames(list) {
				if other, ok := list[name].(string); ok {
					v.need(uuid, other)
				}
			}
		}
	}
	return v.done()
}

// installedR reads renv.lock: ours, which is of what is installed.
func installedR(files map[string]string) []Installed {
	type entry struct {
		renvEntry
		SHA256                                    string
		Requirements, Depends, Imports, LinkingTo json.RawMessage // lists, or text
	}
	var lock struct{ Packages map[string]entry }
	if json.Unmarshal([]byte(files["renv.lock"]), &lock) != nil {
		return nil
	}
	v := &inventory{manager: "cran"}
	for _, name := range sortedNames(lock.Packages) {
		e := lock.Packages[name]
		p := Installed{Name: e.Package, Version: e.Version, ID: name}
		if e.SHA256 != "" {
			p.Sums = []string{"sha256:" + e.SHA256}
		}
		host := map[string]string{"GitHub": "github.com", "GitLab": "gitlab.com"}[e.Source]
		if host != "" && e.RemoteUsername != "" && e.RemoteRepo != "" {
			if strings.Contains(e.RemoteHost, host) || e.Source == "GitHub" || e.RemoteHost == "" {
				p.More = map[string]string{"vcs_url": "git+https://" + host + "/" + e.RemoteUsername + "/" + e.RemoteRepo + "@" + e.RemoteSha}
			}
		}
		v.add(p)
		word := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]*`)
		for _, raw := range []json.RawMessage{e.Requirements, e.Depends, e.Imports, e.LinkingTo} {
			var list []string
			if json.Unmarshal(raw, &list) != nil {
				continue
			}
			for _, want := range list {
				v.need(name, word.FindString(want))
			}
		}
	}
	return v.done()
}
