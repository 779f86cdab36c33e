package recipe

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// pipfileKind is pipenv's Pipfile and Pipfile.lock; the lock wins. As in
// repo2docker it comes before requirements.txt and setup.py, unless runtime.txt
// asks for another language.
func pipfileKind() kind {
	return kind{name: "pipenv", has: func(r *reader) bool { return r.has("Pipfile.lock") || r.has("Pipfile") }, read: readPipfile}
}

// pipfile is what both files say, in the words of Pipfile.
type pipfile struct {
	file     string
	text     string
	sources  []pipSource
	python   string // as written
	packages []pipPackage
}

type pipSource struct{ name, url string }

type pipPackage struct {
	name string
	spec any // a version, or a table
	dev  bool
	line int
}

func readPipfile(r *reader) error {
	loose, err := r.pipfile("Pipfile", parsePipfile)
	if err != nil {
		return err
	}
	lock, err := r.pipfile("Pipfile.lock", parsePipfileLock)
	if err != nil {
		return err
	}
	p := lock
	if p.file == "" {
		p = loose
	}
	if err := r.pipfilePython(lock, loose); err != nil {
		return err
	}
	if err := r.pythonServer(); err != nil {
		return err
	}
	r.pipfilePassed()
	if err := r.serverRequirements(); err != nil {
		return err
	}
	if lock.file == "" {
		r.use(p.file, "Python packages")
		r.note(p.file, 0, "There is no Pipfile.lock, so the versions are those of the commit's day.", "Run `pipenv lock` and commit Pipfile.lock.")
		return r.loosePipfile(p)
	}
	r.use(lock.file, "Python packages, in exact versions")
	if loose.file != "" {
		r.use(loose.file, "Pipfile.lock has its packages in exact versions")
		r.pipfileStale(lock, loose)
	}
	var pins []pin
	for _, dep := range lock.packages {
		one, err := lock.pin(dep)
		if err != nil {
			return err
		}
		pins = append(pins, one)
	}
	q, err := r.pinned(lock.file, onePin(pins))
	if err != nil {
		return err
	}
	if err := q.defaultOf(lock); err != nil {
		return err
	}
	if r.old {
		r.add(r.oldLockedSteps(lock.file, q)...)
		return nil
	}
	r.add(r.lockedSteps(lock.file, q)...)
	return nil
}

// onePin keeps one of a package that both default and develop name.
func onePin(pins []pin) []pin {
	seen := map[string]bool{}
	return slices.DeleteFunc(pins, func(p pin) bool {
		key := canonical(p.name)
		was := seen[key]
		seen[key] = true
		return was
	})
}

func (r *reader) pipfile(name string, parse func(file, text string) (pipfile, error)) (pipfile, error) {
	if !r.has(name) {
		return pipfile{}, nil
	}
	file := r.path(name)
	text, err := r.lockText(file)
	if err != nil {
		return pipfile{}, err
	}
	return parse(file, text)
}

// pipfilePassed tells of the Python files beside a Pipfile, which repo2docker
// passes over, too.
func (r *reader) pipfilePassed() {
	for _, name := range []string{"requirements.txt", "requirements3.txt", "setup.py", "pyproject.toml", "runtime.txt"} {
		if !r.has(name) || (r.old && name == "requirements3.txt") || (r.Dir != "" && (name == "setup.py" || name == "pyproject.toml")) {
			continue
		}
		hint := "Move its packages into the Pipfile and run `pipenv lock`."
		switch name {
		case "setup.py", "pyproject.toml":
			hint = `Write name = {path = ".", editable = true} below [packages] of the Pipfile if the package is to be installed.`
		case "runtime.txt":
			hint = "Write python_version below [requires] of the Pipfile."
		}
		r.pass(r.path(name), "the Pipfile decides")
		r.note(r.path(name), 0, name+" is passed over, because there is a Pipfile.", hint)
	}
}

// pipfilePython is repo2docker's rule: the lock's _meta.requires, then the
// Pipfile's [requires]; runtime.txt does not count.
func (r *reader) pipfilePython(files ...pipfile) error {
	r.defaultPython()
	for _, p := range files {
		version := regexp.MustCompile(`^\d+(\.\d+)*`).FindString(strings.TrimSpace(p.python))
		if version == "" || version == "3" {
			continue
		}
		line := max(keyLine(p.text, "python_full_version", 0), keyLine(p.text, "python_version", 0))
		if version == "2" {
			version = "2.7"
		}
		if r.isOld(version) {
			r.chooseOld(Choice{minorOf(version), p.file + " requires " + version}, Location{p.file, line})
			return nil
		}
		if !slices.Contains(r.opt.Pythons, minorOf(version)) {
			return wrong(p.file, line, "Python "+version+" can't run today's Jupyter.", "Choose one of "+r.pythons()+".")
		}
		r.Python, r.asks = Choice{minorOf(version), p.file + " requires " + version}, Location{p.file, line}
		return nil
	}
	return nil
}

// pipfileStale tells what the lock does not have.
func (r *reader) pipfileStale(lock, loose pipfile) {
	has := map[string]bool{}
	for _, p := range lock.packages {
		has[canonical(p.name)] = true
	}
	for _, p := range loose.packages {
		if table, ok := p.spec.(map[string]any); ok && (table["path"] != nil || table["file"] != nil) {
			continue // the lock may have it by another name
		}
		if !has[canonical(p.name)] {
			r.note(loose.file, p.line, p.name+" is not in Pipfile.lock, so it is not installed.", "Run `pipenv lock` and commit Pipfile.lock.")
		}
	}
}

// loosePipfile installs a Pipfile without its lock: as requirements.
func (r *reader) loosePipfile(p pipfile) error {
	q := &requirements{sources: map[string]bool{}, files: []string{p.file}}
	if err := q.defaultOf(p); err != nil {
		return err
	}
	for _, dep := range p.packages {
		at := Location{p.file, dep.line}
		one, err := p.pin(dep)
		if err != nil {
			return err
		}
		if err := q.index(one.index, at); err != nil {
			return err
		}
		text := one.requirement(r.Dir)
		if err := checkLine(one, text, at); err != nil {
			return err
		}
		if one.path == "" && one.target == "" {
			text = strings.Replace(text, "==", "", 1)
		}
		if option, value := splitOption(text); option == "-e" {
			err = r.requirementOption(q, option, value, at)
		} else {
			err = q.requirement(text, at)
		}
		if err != nil {
			return err
		}
	}
	if len(q.packages) == 0 {
		r.note(p.file, 0, p.file+" names no package.", "")
		return nil
	}
	if q.local {
		r.note(p.file, 0, "The Pipfile names directories of the repository, so its packages are installed anew for every commit.", "Run `pipenv lock` and commit Pipfile.lock.")
		r.add(r.pipStep(q, "pip: "+p.file, StageContent, ""))
		return nil
	}
	r.add(r.pipSteps(p.file, q)...)
	return nil
}

// defaultOf makes the first source the index, as pipenv does.
func (q *requirements) defaultOf(p pipfile) error {
	if len(p.sources) == 0 || isDefaultIndex(p.sources[0].url) {
		return nil
	}
	at := Location{p.file, keyLine(p.text, "url", 0)}
	if err := q.index(p.sources[0].url, at); err != nil {
		return err
	}
	option := "--extra-index-url " + p.sources[0].url
	q.lines = slices.DeleteFunc(q.lines, func(line string) bool { return line == option })
	q.lines = append([]string{"--index-url " + p.sources[0].url}, q.lines...)
	return nil
}

// pin reads what the file says of a package. Without a lock its version is a
// specifier such as ">=1", or empty.
func (p pipfile) pin(dep pipPackage) (pin, error) {
	out := pin{name: dep.name, line: dep.line}
	no := func(what string) error {
		return wrong(p.file, dep.line, dep.name+": "+what+".", "Write it like "+dep.name+` = "*", or let pipenv write the file.`)
	}
	table, ok := dep.spec.(map[string]any)
	if !ok {
		version, ok := dep.spec.(string)
		if !ok {
			return out, no("this is neither a version nor a table")
		}
		table = map[string]any{"version": version}
	}
	text := func(key string) string { return textOf(table, key) }
	out.extras, out.hashes = texts(table["extras"]), texts(table["hashes"])
	slices.Sort(out.hashes)
	out.marker = pipfileMarker(table)
	out.editable = table["editable"] == true
	for _, kind := range []string{"git", "hg", "svn", "bzr"} {
		if address := text(kind); address != "" {
			if kind != "git" {
				return out, no("only git is supported here, not " + kind)
			}
			out.target, out.editable, out.hashes = gitTarget(address, text("ref"), text("subdirectory")), false, nil
			return out, nil
		}
	}
	if address := text("file"); strings.Contains(address, "://") && !strings.HasPrefix(address, "file:") {
		out.target = address
		return out, nil
	}
	for _, key := range []string{"path", "file"} {
		if s := text(key); s != "" {
			out.path, out.hashes = strings.TrimPrefix(strings.TrimPrefix(s, "file://"), "./"), nil
			if out.path == "" {
				out.path = "."
			}
			return out, nil
		}
	}
	version := strings.TrimSpace(text("version"))
	if out.version = strings.TrimPrefix(version, "=="); strings.HasSuffix(p.file, "Pipfile") {
		if out.version = version; version == "*" {
			out.version = ""
		}
	} else if !strings.HasPrefix(version, "==") {
		return out, no("the lock names no version of it")
	}
	if index := text("index"); index != "" {
		i := slices.IndexFunc(p.sources, func(s pipSource) bool { return s.name == index })
		if i < 0 {
			return out, no("there is no source called " + short(index))
		}
		if i > 0 {
			out.index = p.sources[i].url
		}
	}
	return out, nil
}

// gitTarget is pip's address of a repository at a commit, branch or tag.
func gitTarget(address, ref, subdirectory string) string {
	target := strings.TrimPrefix(address, "git+")
	if user, rest, ok := strings.Cut(target, "@"); ok && !strings.Contains(user, "/") && !strings.Contains(target, "://") {
		target = "ssh://" + user + "@" + strings.Replace(rest, ":", "/", 1) // git@host:path
	}
	target = "git+" + target
	if ref != "" {
		target += "@" + ref
	}
	if subdirectory != "" {
		target += "#subdirectory=" + subdirectory
	}
	return target
}

// pipfileMarker joins `markers` and the keys that are markers themselves, whose
// values begin with an operator.
func pipfileMarker(table map[string]any) string {
	var all []string
	if s, ok := table["markers"].(string); ok && strings.TrimSpace(s) != "" {
		all = append(all, strings.TrimSpace(s))
	}
	for _, key := range []string{"implementation_name", "implementation_version", "os_name", "platform_machine", "platform_python_implementation", "platform_release", "platform_system", "python_full_version", "python_version", "sys_platform"} {
		if s, ok := table[key].(string); ok && strings.TrimSpace(s) != "" {
			all = append(all, key+" "+strings.TrimSpace(s))
		}
	}
	if len(all) > 1 {
		for i := range all {
			all[i] = "(" + all[i] + ")"
		}
	}
	return strings.Join(all, " and ")
}

// textOf is the text that a table has for a key; empty when it has none.
func textOf(table map[string]any, key string) string {
	s, ok := table[key].(string)
	if !ok {
		return ""
	}
	return s
}

func texts(v any) []string {
	var out []string
	list, ok := v.([]any)
	if !ok {
		return nil
	}
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// parsePipfile reads a Pipfile, which is TOML.
func parsePipfile(file, text string) (pipfile, error) {
	var f struct {
		Source []struct {
			Name string `toml:"name"`
			URL  string `toml:"url"`
		} `toml:"source"`
		Requires map[string]any `toml:"requires"`
		Packages map[string]any `toml:"packages"`
		Dev      map[string]any `toml:"dev-packages"`
	}
	if err := toml.Unmarshal([]byte(text), &f); err != nil {
		return pipfile{}, wrong(file, tomlLine(err), file+" can't be read: "+tomlSays(err)+".", "Correct this line.")
	}
	p := pipfile{file: file, text: text, python: pipRequires(f.Requires)}
	for _, s := range f.Source {
		p.sources = append(p.sources, pipSource{s.Name, s.URL})
	}
	p.add(f.Packages, "[packages]", false)
	p.add(f.Dev, "[dev-packages]", true)
	return p, p.check()
}

// parsePipfileLock reads a Pipfile.lock, which is JSON.
func parsePipfileLock(file, text string) (pipfile, error) {
	var f struct {
		Meta struct {
			Requires map[string]any `json:"requires"`
			Sources  []struct {
				Name string `json:"name"`
				URL  string `json:"url"`
			} `json:"sources"`
		} `json:"_meta"`
		Default map[string]any `json:"default"`
		Develop map[string]any `json:"develop"`
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return pipfile{}, wrong(file, max(1, jsonLine(text, err)), file+" is not the JSON that pipenv writes.", "Run `pipenv lock` and commit it.")
	}
	p := pipfile{file: file, text: text, python: pipRequires(f.Meta.Requires)}
	for _, s := range f.Meta.Sources {
		p.sources = append(p.sources, pipSource{s.Name, s.URL})
	}
	p.add(f.Default, `"default"`, false)
	p.add(f.Develop, `"develop"`, true)
	return p, p.check()
}

// check refuses addresses that only the author's machine can complete.
func (p pipfile) check() error {
	for _, s := range p.sources {
		if strings.ContainsAny(s.url, "$") {
			return wrong(p.file, keyLine(p.text, "url", 0), "The source "+short(s.name)+" has its password in the environment of somebody's machine.",
				"Name an index that needs none.")
		}
	}
	return nil
}

func pipRequires(table map[string]any) string {
	for _, key := range []string{"python_full_version", "python_version"} {
		if s, ok := table[key].(string); ok {
			return s
		}
	}
	return ""
}

// add takes a section, in the order of names: that of tables is not kept.
func (p *pipfile) add(section map[string]any, head string, dev bool) {
	after := 0
	for i, line := range strings.Split(p.text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), head) {
			after = i + 1
			break
		}
	}
	lines := keyLines(p.text, after)
	for _, name := range slices.Sorted(maps.Keys(section)) {
		p.packages = append(p.packages, pipPackage{name, section[name], dev, lines[name]})
	}
}
