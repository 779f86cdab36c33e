package recipe

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// poetryLock is what of a poetry.lock counts, of all versions since 1.0.
type poetryLock struct {
	Package []struct {
		Name    string         `toml:"name"`
		Version string         `toml:"version"`
		Files   []lockedHash   `toml:"files"`
		Source  map[string]any `toml:"source"`
	} `toml:"package"`
	Metadata struct {
		LockVersion    string                  `toml:"lock-version"`
		PythonVersions string                  `toml:"python-versions"`
		Files          map[string][]lockedHash `toml:"files"` // until 1.2
	} `toml:"metadata"`
}

// lockedHash is a file of an index.
type lockedHash struct {
	File string `toml:"file"`
	URL  string `toml:"url"`
	Hash string `toml:"hash"`
}

// poetryTool is [tool.poetry].
type poetryTool struct {
	Name         string           `toml:"name"`
	PackageMode  *bool            `toml:"package-mode"`
	Packages     []map[string]any `toml:"packages"`
	Dependencies map[string]any   `toml:"dependencies"`
	Dev          map[string]any   `toml:"dev-dependencies"`
	Extras       map[string]any   `toml:"extras"`
	Group        map[string]struct {
		Optional     bool           `toml:"optional"`
		Dependencies map[string]any `toml:"dependencies"`
	} `toml:"group"`
}

// parsePoetryLock gives the pins of a poetry.lock.
func parsePoetryLock(file, text string) (poetryLock, []pin, error) {
	var l poetryLock
	if err := readTOML(file, text, &l); err != nil {
		return l, nil, err
	}
	if v := l.Metadata.LockVersion; !strings.HasPrefix(v, "1.") && !strings.HasPrefix(v, "2.") {
		return l, nil, wrong(file, max(1, keyLine(text, "lock-version", 0)), "poetry.lock is of the version "+short(v)+", which Binnacle does not know.", "Write it anew with Poetry 1 or 2: `poetry lock`.")
	}
	lines := nameLines(text)
	var pins []pin
	for _, k := range l.Package {
		p := pin{name: k.Name, version: k.Version, line: lines[canonical(k.Name)]}
		files := k.Files
		if len(files) == 0 {
			files = l.Metadata.Files[k.Name]
		}
		p.take(files)
		poetrySource(&p, k.Source)
		if err := checkPin(p, p.requirement(""), Location{file, p.line}); err != nil {
			return l, nil, err
		}
		pins = append(pins, p)
	}
	return l, pins, nil
}

// take adds the files of an index.
func (p *pin) take(files []lockedHash) {
	for _, f := range files {
		if f.Hash != "" {
			p.hashes = append(p.hashes, f.Hash)
		}
		name := f.File
		if name == "" {
			name = f.URL[strings.LastIndexByte(f.URL, '/')+1:]
		}
		p.files = append(p.files, name)
	}
	slices.Sort(p.hashes)
	p.hashes = slices.Compact(p.hashes)
}

func poetrySource(p *pin, source map[string]any) {
	text := func(key string) string { return textOf(source, key) }
	switch text("type") {
	case "git":
		ref := text("resolved_reference")
		if ref == "" {
			ref = text("reference")
		}
		p.target, p.hashes = gitTarget(text("url"), ref, text("subdirectory")), nil
	case "url":
		p.target = text("url")
	case "directory", "file":
		p.path, p.hashes = text("url"), nil
	case "legacy":
		p.index = text("url")
	}
}

// readPoetryLock takes what is wanted from pyproject.toml and the versions from
// the lock, so that uv decides which of them this Python needs.
func readPoetryLock(r *reader, file string) (*lockPlan, error) {
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	l, pins, err := parsePoetryLock(file, text)
	if err != nil {
		return nil, err
	}
	p, _, err := r.pyproject()
	if err != nil {
		return nil, err
	}
	plan := &lockPlan{pins: pins}
	line := keyLine(text, "python-versions", 0)
	if plan.wishes, err = wishes(file, line, poetrySpec(l.Metadata.PythonVersions)...); err != nil {
		return nil, err
	}
	w := r.wanted(file, pins)
	if err := r.poetryWants(p, w); err != nil {
		return nil, err
	}
	plan.install = func(r *reader) error {
		if err := w.install(r); err != nil {
			return err
		}
		return r.poetryItself(p)
	}
	return plan, nil
}

// poetryItself installs the project, as `poetry install` does: unless it says that
// it is no package, or has none.
func (r *reader) poetryItself(p pyproject) error {
	project := r.path("pyproject.toml")
	r.use(project, "names the packages that are installed")
	t := p.Tool.Poetry
	if p.BuildSystem == nil || (t.PackageMode != nil && !*t.PackageMode) {
		return nil
	}
	name := t.Name
	if name == "" && p.Project != nil {
		name = p.Project.Name
	}
	module := strings.ReplaceAll(canonical(name), "-", "_")
	if len(t.Packages) == 0 && !slices.ContainsFunc([]string{module, "src/" + module}, r.hasDir) && !r.has(module+".py") && !r.has("src/"+module+".py") {
		r.note(project, 0, "The repository itself is not installed: it has no package "+short(module)+".", "Write package-mode = false below [tool.poetry], or name the package with `packages`.")
		return nil
	}
	r.itself(project)
	return nil
}

// itself installs the repository, so that edits of its files count. What it needs
// was installed from the lock.
func (r *reader) itself(file string) {
	dir := "."
	if r.Dir != "" {
		dir = "./" + r.Dir
	}
	s := localStep(file, InputDir+"/local.txt", "--no-deps", nil, linesInput("local.txt", []string{"-e " + dir}))
	s.Name, s.Build = "pip: the repository itself", r.buildTools(dir)
	s.Packages = []Package{{Manager: "pip", Name: ".", Spec: ".", From: Location{File: file}}}
	r.add(r.outlined(s, []string{dir}))
}

// poetryWants adds the requirements of the main group, of each that is not
// optional, and of what is for a Binder.
func (r *reader) poetryWants(p pyproject, w *wanted) error {
	t := p.Tool.Poetry
	if p.Project != nil {
		if err := r.projectWants(p, w); err != nil {
			return err
		}
	}
	if p.Project == nil || len(p.Project.Dependencies) == 0 {
		extra := map[string]bool{}
		for _, name := range binderGroups() {
			if names, ok := t.Extras[name]; ok {
				for _, n := range texts(names) {
					extra[canonical(n)] = true
				}
				break
			}
		}
		if err := r.poetrySection(t.Dependencies, "[tool.poetry.dependencies]", extra, w); err != nil {
			return err
		}
	}
	if err := r.poetrySection(t.Dev, "[tool.poetry.dev-dependencies]", nil, w); err != nil {
		return err
	}
	chosen := ""
	for _, name := range binderGroups() {
		if _, ok := t.Group[name]; ok && chosen == "" {
			chosen = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Group)) {
		if g := t.Group[name]; !g.Optional || name == chosen {
			if err := r.poetrySection(g.Dependencies, "[tool.poetry.group."+name+".dependencies]", nil, w); err != nil {
				return err
			}
		}
	}
	return r.groupWants(p, w, slices.Sorted(maps.Keys(p.Groups)))
}

// poetrySection adds a table of Poetry's own notation; what is optional only when
// an extra that counts names it.
func (r *reader) poetrySection(section map[string]any, head string, extra map[string]bool, w *wanted) error {
	file := r.path("pyproject.toml")
	text, _, err := r.text(file)
	if err != nil {
		return err
	}
	after := 0
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.ReplaceAll(strings.TrimSpace(line), `"`, ""), head) {
			after = i + 1
		}
	}
	for _, name := range slices.Sorted(maps.Keys(section)) {
		if strings.EqualFold(name, "python") {
			continue
		}
		at := Location{file, keyLine(text, name, after)}
		specs, ok := section[name].([]any) // several, for different Pythons
		if !ok {
			specs = []any{section[name]}
		}
		for _, spec := range specs {
			if err := w.poetry(name, spec, extra, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// poetry adds one requirement of Poetry's own notation.
func (w *wanted) poetry(name string, spec any, extra map[string]bool, at Location) error {
	table, ok := spec.(map[string]any)
	if version, is := spec.(string); is {
		table, ok = map[string]any{"version": version}, true
	}
	if !ok {
		return wrong(at.File, at.Line, name+" is neither a version nor a table.", `Write it like `+name+` = "^1.2".`)
	}
	if table["optional"] == true && !extra[canonical(name)] {
		return nil
	}
	text := func(key string) string { return textOf(table, key) }
	p := pin{name: name, extras: texts(table["extras"]), line: at.Line, editable: table["develop"] == true}
	var markers []string
	if m := text("markers"); m != "" {
		markers = append(markers, "("+m+")")
	}
	if m := specMarker(poetrySpec(text("python"))); m != "" {
		markers = append(markers, "("+m+")")
	}
	if m := text("platform"); m != "" {
		markers = append(markers, "sys_platform == '"+m+"'")
	}
	p.marker = strings.Join(markers, " and ")
	switch {
	case text("git") != "":
		ref := text("rev") + text("tag") + text("branch")
		p.target = gitTarget(text("git"), ref, text("subdirectory"))
	case text("url") != "":
		p.target = text("url")
	case text("path") != "":
		p.path = text("path")
	case text("file") != "":
		p.path = text("file")
	}
	return w.add(p, poetrySpec(text("version")), at)
}

// poetrySpec turns Poetry's notation of versions into PEP 440's: alternatives of
// what must hold together. Empty allows everything.
func poetrySpec(spec string) []string {
	var out []string
	for one := range strings.SplitSeq(strings.ReplaceAll(spec, "||", "|"), "|") {
		var all []string
		one = regexp.MustCompile(`([<>=!~^])\s+`).ReplaceAllString(strings.ReplaceAll(one, ",", " "), "$1")
		for part := range strings.FieldsSeq(one) {
			if p := poetryPart(part); p != "" {
				all = append(all, p)
			}
		}
		if len(all) == 0 {
			return nil // any version
		}
		out = append(out, strings.Join(all, ","))
	}
	return out
}

func poetryPart(part string) string {
	version := strings.TrimLeft(part, "^~=<>!")
	number := regexp.MustCompile(`^v?(\d+(?:\.\d+)*)`).FindStringSubmatch(version)
	switch {
	case part == "*" || part == "":
		return ""
	case strings.HasPrefix(part, "~=") || strings.ContainsAny(part[:1], "<>!") || strings.HasPrefix(part, "=="):
		return part
	case number == nil:
		return part // no version: said where it is used
	case strings.HasPrefix(part, "^"), strings.HasPrefix(part, "~"):
		return ">=" + version + ",<" + bump(number[1], part[0] == '^')
	case strings.HasPrefix(part, "="):
		return "=" + part
	default:
		return "==" + part
	}
}

// bump is the first version that ^ or ~ does not allow.
func bump(version string, caret bool) string {
	var numbers []int
	for s := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return version
		}
		numbers = append(numbers, n)
	}
	at := min(1, len(numbers)-1) // ~1.2.3 allows 1.2.*, ~1 allows 1.*
	if caret {
		at = 0
		for at < len(numbers)-1 && numbers[at] == 0 {
			at++
		}
	}
	numbers = numbers[:at+1]
	numbers[at]++
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ".")
}

// specMarker writes versions of Python as a marker.
func specMarker(alternatives []string) string {
	var out []string
	for _, one := range alternatives {
		var all []string
		for part := range strings.SplitSeq(one, ",") {
			m := regexp.MustCompile(`^(~=|===?|!=|<=|>=|<|>)\s*([0-9.*]+)$`).FindStringSubmatch(strings.TrimSpace(part))
			if m == nil {
				return ""
			}
			name := "python_full_version"
			if strings.HasSuffix(m[2], "*") || strings.Count(m[2], ".") == 1 && (m[1] == "==" || m[1] == "<=" || m[1] == ">" || m[1] == "!=") {
				name = "python_version"
				m[2] = strings.TrimSuffix(m[2], ".*")
			}
			all = append(all, name+" "+m[1]+" '"+m[2]+"'")
		}
		out = append(out, strings.Join(all, " and "))
	}
	return strings.Join(out, " or ")
}
