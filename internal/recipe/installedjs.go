package recipe

import (
	"encoding/json"
	"path"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// installedNpm reads the locks of npm, Yarn and pnpm.
func installedNpm(files map[string]string) []Installed {
	v := &inventory{manager: "npm"}
	for _, name := range []string{"package-lock.json", "npm-shrinkwrap.json"} {
		v.packageLock(files[name])
	}
	if lock := "\n" + files["yarn.lock"]; strings.Contains(lock, "\n__metadata:") {
		v.yarnBerry(lock)
	} else {
		v.yarnClassic(lock)
	}
	v.pnpm(files["pnpm-lock.yaml"])
	return v.done()
}

// npmEntry is a package of package-lock.json; the first format nests them.
type npmEntry struct {
	Name, Version, Resolved, Integrity string
	Link                               bool
	Dependencies                       json.RawMessage   // ranges by name; in the first format packages
	Dev                                map[string]string `json:"devDependencies"`
	Optional                           map[string]string `json:"optionalDependencies"`
	Peer                               map[string]string `json:"peerDependencies"`
	Requires                           json.RawMessage
}

// wants are the names of what it needs.
func (e npmEntry) wants() []string {
	var out []string
	for _, raw := range []json.RawMessage{e.Dependencies, e.Requires} {
		var group map[string]json.RawMessage
		if json.Unmarshal(raw, &group) == nil { // the root's "requires" is a truth value
			out = append(out, sortedNames(group)...)
		}
	}
	for _, group := range []map[string]string{e.Dev, e.Optional, e.Peer} {
		out = append(out, sortedNames(group)...)
	}
	return out
}

// npmModules is the directory whose place in a path says whose package it is.
const npmModules = "node_modules/"

// id is the package at a place of the tree; empty for what is no package of a
// registry: the project and its workspaces.
func (e npmEntry) id(at string) string {
	if i := strings.LastIndex(at, npmModules); i >= 0 && e.Name == "" {
		e.Name = at[i+len(npmModules):]
	} else if i < 0 {
		return ""
	}
	return e.Name + "@" + e.Version
}

func (v *inventory) packageLock(text string) {
	var lock struct {
		Packages     map[string]npmEntry
		Dependencies map[string]json.RawMessage
	}
	if json.Unmarshal([]byte(text), &lock) != nil {
		return
	}
	tree := lock.Packages
	if tree == nil {
		tree = map[string]npmEntry{}
		npmNested(tree, "", lock.Dependencies)
	}
	for _, at := range sortedNames(tree) {
		if e := tree[at]; !e.Link && e.Version != "" && e.id(at) != "" {
			name, _, _ := cutVersion(e.id(at))
			v.add(Installed{Name: name, Version: e.Version, ID: e.id(at), Sums: integrity(e.Integrity)})
		}
	}
	for _, at := range sortedNames(tree) {
		for _, name := range tree[at].wants() {
			found, ok := npmFind(tree, at, name)
			switch id := tree[at].id(at); {
			case !ok:
			case id == "":
				v.asked(tree[found].id(found), path.Join(at, "package.json"))
			default:
				v.need(id, tree[found].id(found))
			}
		}
	}
}

// npmNested writes the first format's tree as the second's.
func npmNested(tree map[string]npmEntry, at string, list map[string]json.RawMessage) {
	for name, raw := range list {
		var e npmEntry
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		below := path.Join(at, npmModules, name)
		var inner map[string]json.RawMessage
		if json.Unmarshal(e.Dependencies, &inner) == nil {
			npmNested(tree, below, inner)
		}
		e.Dependencies = nil
		tree[below] = e
	}
}

// npmFind looks for a package as Node.js does: beside who asks, then further out.
func npmFind(tree map[string]npmEntry, from, name string) (string, bool) {
	for {
		at := path.Join(from, npmModules, name)
		if e, ok := tree[at]; ok {
			return at, !e.Link
		}
		if from == "" {
			return "", false
		}
		i := max(0, strings.LastIndex(from, npmModules))
		from = strings.TrimSuffix(from[:i], "/")
	}
}

// cutVersion takes "@scope/name@version" apart.
func cutVersion(text string) (name, version string, ok bool) {
	if text == "" {
		return "", "", false
	}
	name, version, ok = strings.Cut(text[1:], "@")
	return text[:1] + name, version, ok
}

// yarnClassic reads what Yarn 1 writes: packages under the ranges that led there.
func (v *inventory) yarnClassic(text string) {
	field := regexp.MustCompile(`^( +)"?([^"\s]+?)"?:? (?:"([^"]*)"|(\S+))$`)
	ids, wanted := map[string]string{}, map[string][]string{}
	var heads []string
	var p Installed
	end := func() {
		for _, head := range heads {
			ids[head] = p.ID
		}
		if len(heads) > 0 {
			v.add(p)
		}
	}
	for line := range strings.Lines(text + "\nend:\n") {
		line = strings.TrimRight(line, "\r\n")
		if head, ok := strings.CutSuffix(line, ":"); ok && line[0] != ' ' && line[0] != '#' {
			end()
			heads = strings.Split(strings.ReplaceAll(head, `"`, ""), ", ")
			p = Installed{}
			p.Name, _, _ = cutVersion(heads[0])
			continue
		}
		m := field.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		const deep = 4
		switch value := m[3] + m[4]; {
		case len(m[1]) >= deep:
			wanted[p.ID] = append(wanted[p.ID], m[2]+"@"+value)
		case m[2] == "version":
			p.Version, p.ID = value, p.Name+"@"+value
		case m[2] == "integrity":
			p.Sums = integrity(value)
		}
	}
	for _, id := range sortedNames(wanted) {
		for _, want := range wanted[id] {
			v.need(id, ids[want])
		}
	}
}

// yarnBerry reads what Yarn writes since version 2. Its checksums are of archives
// that it makes itself.
func (v *inventory) yarnBerry(text string) {
	var lock map[string]struct {
		Version, Resolution string
		Dependencies        map[string]string
		Peer                map[string]string `yaml:"peerDependencies"`
	}
	if yaml.Unmarshal([]byte(text), &lock) != nil {
		return
	}
	ids, places := map[string]string{}, map[string]string{}
	for _, heads := range sortedNames(lock) {
		e := lock[heads]
		name, from, ok := cutVersion(e.Resolution)
		if !ok {
			continue
		}
		id := name + "@" + e.Version
		if place, ok := strings.CutPrefix(from, "workspace:"); ok {
			places[heads] = path.Join(place, "package.json")
		} else {
			v.add(Installed{Name: name, Version: e.Version, ID: id})
		}
		for head := range strings.SplitSeq(heads, ", ") {
			ids[head] = id
		}
	}
	for _, heads := range sortedNames(lock) {
		e := lock[heads]
		name, _, _ := cutVersion(e.Resolution)
		for _, want := range sortedNames(e.Dependencies) {
			id := ids[want+"@"+e.Dependencies[want]]
			if place := places[heads]; place != "" {
				v.asked(id, place)
			} else {
				v.need(name+"@"+e.Version, id)
			}
		}
	}
}

// pnpmWants are names with versions, or with tables that have one.
type pnpmWants map[string]yaml.Node

type pnpmEntry struct {
	Resolution    struct{ Integrity string }
	Name, Version string
	Dependencies  pnpmWants
	Optional      pnpmWants `yaml:"optionalDependencies"`
	Dev           pnpmWants `yaml:"devDependencies"`
}

func (e pnpmEntry) ids(slashes bool) []string {
	var out []string
	for _, group := range []pnpmWants{e.Dependencies, e.Optional, e.Dev} {
		for _, name := range sortedNames(group) {
			node := group[name]
			version := node.Value
			var table struct{ Version string }
			if node.Kind == yaml.MappingNode && node.Decode(&table) == nil {
				version = table.Version
			}
			out = append(out, pnpmID(name, version, slashes))
		}
	}
	return out
}

// pnpmID is what a name and a version lead to; the version may be a key of the
// lock, because the package has another name there.
func pnpmID(name, version string, slashes bool) string {
	plain, _, _ := strings.Cut(version, "(")
	if slashes && !strings.HasPrefix(plain, "/") {
		plain, _, _ = strings.Cut(plain, "_")
	}
	if strings.HasPrefix(plain, "/") || strings.LastIndex(plain, "@") > 0 {
		return pnpmKey(version, slashes)
	}
	return name + "@" + plain
}

// pnpmKey is a package of the lock, without the peers that it was installed
// beside. The fifth format writes /name/1.0.0_peers, later ones name@1.0.0(peers).
func pnpmKey(key string, slashes bool) string {
	key, _, _ = strings.Cut(strings.TrimPrefix(key, "/"), "(")
	if i := strings.LastIndex(key, "/"); slashes && i > 0 {
		version, _, _ := strings.Cut(key[i+1:], "_")
		return key[:i] + "@" + version
	}
	return key
}

func (v *inventory) pnpm(text string) {
	var lock struct {
		Version   string `yaml:"lockfileVersion"`
		Importers map[string]pnpmEntry
		Packages  map[string]pnpmEntry
		Snapshots map[string]pnpmEntry
		pnpmEntry `yaml:",inline"`
	}
	if text == "" || yaml.Unmarshal([]byte(text), &lock) != nil {
		return
	}
	slashes := strings.HasPrefix(lock.Version, "5")
	for _, key := range sortedNames(lock.Packages) {
		e := lock.Packages[key]
		id := pnpmKey(key, slashes)
		name, version, ok := cutVersion(id)
		if e.Name != "" && e.Version != "" {
			name, version, ok = e.Name, e.Version, true
		}
		if ok {
			v.add(Installed{Name: name, Version: version, ID: id, Sums: integrity(e.Resolution.Integrity)})
		}
	}
	for _, group := range []map[string]pnpmEntry{lock.Packages, lock.Snapshots} {
		for _, key := range sortedNames(group) {
			for _, id := range group[key].ids(slashes) {
				v.need(pnpmKey(key, slashes), id)
			}
		}
	}
	for _, id := range lock.ids(slashes) {
		v.asked(id, "package.json")
	}
	for _, dir := range sortedNames(lock.Importers) {
		for _, id := range lock.Importers[dir].ids(slashes) {
			v.asked(id, path.Join(dir, "package.json"))
		}
	}
}

// denoVersions is Deno's; before the fourth format most of it was under "packages".
type denoVersions struct {
	Specifiers map[string]string
	JSR, NPM   map[string]denoEntry
	Workspace  struct {
		denoMember
		Members map[string]denoMember
	}
}

type denoMember struct {
	Dependencies []string
	PackageJSON  struct{ Dependencies []string } `json:"packageJson"`
}

type denoEntry struct {
	Integrity    string
	Dependencies json.RawMessage // a list, or by name
}

func (e denoEntry) wants() []string {
	var list []string
	if json.Unmarshal(e.Dependencies, &list) == nil {
		return list
	}
	var named map[string]string
	if json.Unmarshal(e.Dependencies, &named) == nil {
		for _, name := range sortedNames(named) {
			list = append(list, named[name])
		}
	}
	return list
}

// installedDeno reads deno.lock. JSR's hashes are of a list of files, not of
// what is downloaded.
func installedDeno(files map[string]string) []Installed {
	var lock struct {
		denoVersions
		Packages denoVersions
	}
	text := files["deno.lock"]
	if text == "" || json.Unmarshal([]byte(text), &lock) != nil {
		return nil
	}
	v := &inventory{manager: "deno"}
	names := map[string]string{} // IDs, by what they may be called
	for _, part := range []denoVersions{lock.denoVersions, lock.Packages} {
		for _, key := range sortedNames(part.NPM) {
			name, version, _ := cutVersion(key)
			version, _, _ = strings.Cut(version, "_") // peers
			names["npm:"+key], names["npm:"+name] = "npm:"+key, "npm:"+key
			v.add(Installed{Name: name, Version: version, ID: "npm:" + key, Sums: integrity(part.NPM[key].Integrity)})
		}
		for _, key := range sortedNames(part.JSR) {
			name, version, _ := cutVersion(key)
			names["jsr:"+key], names["jsr:"+name] = "jsr:"+key, "jsr:"+key
			v.add(Installed{Name: name, Version: version, ID: "jsr:" + key, More: map[string]string{"repository_url": "https://npm.jsr.io"}})
		}
		for spec, version := range part.Specifiers {
			kind, rest, _ := strings.Cut(spec, ":")
			name, _, _ := cutVersion(rest)
			if !strings.Contains(version, ":") {
				version = kind + ":" + name + "@" + version
			}
			names[spec] = version
		}
	}
	for _, part := range []denoVersions{lock.denoVersions, lock.Packages} {
		for _, key := range sortedNames(part.NPM) {
			for _, want := range part.NPM[key].wants() {
				v.need("npm:"+key, names["npm:"+want])
			}
		}
		for _, key := range sortedNames(part.JSR) {
			for _, want := range part.JSR[key].wants() {
				v.need("jsr:"+key, names[want])
			}
		}
	}
	v.denoAsked(names, "", lock.Workspace.denoMember)
	for _, dir := range sortedNames(lock.Workspace.Members) {
		v.denoAsked(names, dir, lock.Workspace.Members[dir])
	}
	return v.done()
}

func (v *inventory) denoAsked(names map[string]string, dir string, m denoMember) {
	for _, spec := range m.Dependencies {
		v.asked(names[spec], path.Join(dir, "deno.json"))
	}
	for _, spec := range m.PackageJSON.Dependencies {
		v.asked(names[spec], path.Join(dir, "package.json"))
	}
}
