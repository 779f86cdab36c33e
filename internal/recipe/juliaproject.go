package recipe

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// juliaProject is what of a Project.toml counts here.
type juliaProject struct {
	file     string
	text     string
	packages []Package // [deps], with the line of each
	uuids    map[string]string
	compat   map[string]string // by package
	julia    string            // [compat] julia
	isModule bool              // the project is a package itself
	local    []Location
}

// readJuliaProject reads a Project.toml.
func readJuliaProject(file, text string) (juliaProject, error) {
	p := juliaProject{file: file, text: text, uuids: map[string]string{}, compat: map[string]string{}}
	var raw struct {
		Name, UUID string
		Deps       map[string]any
		Compat     map[string]any
		Sources    map[string]map[string]any
		Workspace  map[string]any
	}
	if err := toml.Unmarshal([]byte(text), &raw); err != nil {
		return p, wrong(file, tomlLine(err), path.Base(file)+" can't be read: "+tomlSays(err)+".", "Correct this line.")
	}
	lines := tableLines(text)
	for _, name := range sortedNames(raw.Deps) {
		line := lines["deps."+name]
		uuid, ok := raw.Deps[name].(string)
		if !ok || !regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`).MatchString(uuid) {
			return p, wrong(file, line, "The package "+short(name)+" has no valid identifier.", "Let Julia write the line: ]add "+name+".")
		}
		spec := name
		if compat, ok := raw.Compat[name].(string); ok {
			spec += " " + compat
			p.compat[name] = compat
		}
		p.uuids[name] = strings.ToLower(uuid)
		p.packages = append(p.packages, Package{Manager: "julia", Name: name, Spec: spec, From: Location{file, line}})
	}
	if compat, there := raw.Compat["julia"]; there {
		var ok bool
		if p.julia, ok = compat.(string); !ok {
			return p, wrong(file, lines["compat.julia"], "[compat] julia is no text.", `Write it like julia = "1.10".`)
		}
	}
	for _, name := range sortedNames(raw.Sources) {
		if _, ok := raw.Sources[name]["path"]; ok {
			p.local = append(p.local, Location{file, lines["sources."+name]})
		}
	}
	if raw.Workspace != nil {
		p.local = append(p.local, Location{file, lines["workspace"]})
	}
	p.isModule = raw.Name != "" && raw.UUID != ""
	return p, nil
}

func tomlSays(err error) string { return strings.TrimPrefix(err.Error(), "toml: ") }

// tableLines is the line of every "table.key" and of every table; TOML's reader
// does not tell. The first of a name counts.
func tableLines(text string) map[string]int {
	out := map[string]int{}
	put := func(name string, line int) {
		if out[name] == 0 {
			out[name] = line
		}
	}
	head := regexp.MustCompile(`^\s*\[{1,2}\s*([^\[\]]+?)\s*\]{1,2}`)
	key := regexp.MustCompile(`^\s*["']?([^\s"'=#]+)["']?\s*=`)
	table := ""
	for i, line := range strings.Split(text, "\n") {
		if m := head.FindStringSubmatch(line); m != nil {
			table = strings.NewReplacer(`"`, "", "'", "", " ", "").Replace(m[1])
			put(table, i+1)
		} else if m := key.FindStringSubmatch(line); m != nil {
			put(strings.TrimPrefix(table+"."+m[1], "."), i+1)
		}
	}
	return out
}

// juliaManifest is what of a Manifest.toml counts here.
type juliaManifest struct {
	file    string
	version string // julia_version; empty in the first format
	line    int
	uuids   map[string][]string // by name
	has     map[string]string   // the version of each, by name
	paths   []Location          // entries that are directories
	outside []Location          // of these, those that leave the repository
}

// readJuliaManifest reads either format: in the first, packages are at the top.
func readJuliaManifest(file, text string) (juliaManifest, error) {
	m := juliaManifest{file: file, uuids: map[string][]string{}, has: map[string]string{}}
	var raw map[string]any
	if err := toml.Unmarshal([]byte(text), &raw); err != nil {
		return m, wrong(file, tomlLine(err), path.Base(file)+" can't be read: "+tomlSays(err)+".", "Let Julia write it: ]resolve.")
	}
	lines := tableLines(text)
	m.version, _ = raw["julia_version"].(string)
	m.line = lines["julia_version"]
	entries, prefix := raw, ""
	if deps, ok := raw["deps"].(map[string]any); ok && raw["manifest_format"] != nil {
		entries, prefix = deps, "deps."
	}
	for _, name := range sortedNames(entries) {
		list, ok := entries[name].([]any)
		if !ok {
			continue
		}
		for _, e := range list {
			entry, ok := e.(map[string]any)
			if !ok {
				continue
			}
			if uuid, ok := entry["uuid"].(string); ok {
				m.uuids[name] = append(m.uuids[name], strings.ToLower(uuid))
			}
			m.has[name], _ = entry["version"].(string)
			if at, ok := entry["path"].(string); ok {
				where := Location{file, lines[prefix+name]}
				m.paths = append(m.paths, where)
				if _, in := inTree(path.Dir(file), at); !in {
					m.outside = append(m.outside, where)
				}
			}
		}
	}
	return m, nil
}

// missing is the first package of the project that the manifest does not have.
func (m juliaManifest) missing(p juliaProject) (Package, bool) {
	for _, want := range p.packages {
		if !slices.Contains(m.uuids[want.Name], p.uuids[want.Name]) {
			return want, true
		}
	}
	return Package{}, false
}

// noteStale tells of versions that the project does not allow any more; Julia
// installs them all the same.
func (r *reader) noteStale(p juliaProject, m juliaManifest) {
	for _, want := range p.packages {
		v, _, ok := juliaExact(m.has[want.Name])
		ranges, problem := juliaRanges(p.compat[want.Name])
		if ok && p.compat[want.Name] != "" && problem == "" && !within(ranges, v) {
			r.note(m.file, 0, path.Base(m.file)+" has "+want.Name+" "+v.String()+", which [compat] of "+p.file+" does not allow; that version is installed.", "Run ]resolve in Julia and commit the manifest.")
		}
	}
}

// juliaManifests are those that are there, the one Julia would take first.
// From 1.11 on (and 1.10.8) it prefers Manifest-v1.11.toml to Manifest.toml.
func (r *reader) juliaManifests() ([]juliaManifest, error) {
	var out []juliaManifest
	const oldest, newest = 8, 60 // minor versions that such a name may have
	var names []string
	for minor := newest; minor >= oldest; minor-- {
		names = append(names, fmt.Sprintf("JuliaManifest-v1.%d.toml", minor), fmt.Sprintf("Manifest-v1.%d.toml", minor))
	}
	for _, name := range append(names, "JuliaManifest.toml", "Manifest.toml") {
		text, ok, err := r.julia(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		m, err := readJuliaManifest(r.path(name), text)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// julia reads a file of Julia's; a manifest may be larger than other declarations.
func (r *reader) julia(name string) (string, bool, error) {
	const largest = 8 << 20
	b, ok, err := r.bytes(r.path(name), largest+1)
	if err != nil || !ok {
		return "", false, err
	}
	if len(b) > largest {
		return "", false, wrong(r.path(name), 0, name+" is larger than 8 MiB.", "Let Julia write it: ]resolve.")
	}
	text, err := decode(b)
	if err != nil {
		return "", false, wrong(r.path(name), 0, name+" is no text file: "+err.Error()+".", "Save it as UTF-8.")
	}
	return text, true, nil
}
