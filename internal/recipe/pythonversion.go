package recipe

import (
	"regexp"
	"slices"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"
	"github.com/pelletier/go-toml/v2"
)

// pythonWish is a file that says which Pythons will do.
type pythonWish struct {
	Location
	spec string              // as written
	any  []pep440.Specifiers // one of them must hold
}

func (w pythonWish) accepts(version string) bool {
	return slices.ContainsFunc(w.any, func(s pep440.Specifiers) bool { return accepts(s, version) })
}

// wishes reads alternatives of version specifiers; none when there is nothing to
// read.
func wishes(file string, line int, alternatives ...string) ([]pythonWish, error) {
	w := pythonWish{Location: Location{file, line}, spec: strings.Join(alternatives, " or ")}
	for _, spec := range alternatives {
		if strings.TrimSpace(spec) == "" || spec == "*" {
			return nil, nil
		}
		s, err := pep440.NewSpecifiers(spec)
		if err != nil {
			return nil, wrong(file, line, "This is not a version specifier: "+short(spec)+".", `Write it like ">=3.11".`)
		}
		w.any = append(w.any, s)
	}
	if len(w.any) == 0 {
		return nil, nil
	}
	return []pythonWish{w}, nil
}

// pythonHint takes the version that a tool's file names, when nothing stronger
// does: its minor version, because patch releases have the same packages. A
// version that can't be had is passed over, as the author did not write it for us.
func (r *reader) pythonHint(fixed bool) (Location, error) {
	var chosen Location
	for _, h := range versionFiles() {
		if !r.has(h.name) {
			continue
		}
		file := r.path(h.name)
		text, _, err := r.text(file)
		if err != nil {
			return Location{}, err
		}
		version, line := h.read(text)
		switch {
		case version == "":
			if line > 0 {
				r.pass(file, "it names no CPython")
			}
		case fixed:
			r.pass(file, "runtime.txt decides the version")
		case chosen.File != "":
			r.pass(file, chosen.File+" decides the version")
		case !slices.Contains(r.opt.Pythons, minorOf(version)):
			r.pass(file, "its Python can't be had")
			r.note(file, line, "Python "+version+" can't run today's Jupyter, so "+h.name+" is passed over.", "Choose one of "+strings.Join(r.opt.Pythons, ", ")+"; runtime.txt may ask for one of "+r.pythons()+".")
		default:
			chosen = Location{file, line}
			r.use(file, "Python "+minorOf(version))
			r.Python, r.asks = Choice{minorOf(version), file + " asks for " + version}, chosen
		}
	}
	return chosen, nil
}

type versionFile struct {
	name string
	read func(text string) (version string, line int)
}

func versionFiles() []versionFile {
	return []versionFile{
		{".python-version", parsePythonVersion}, {".tool-versions", parseToolVersions}, {"mise.toml", parseMise}, {".mise.toml", parseMise},
	}
}

// cpython is the version of "3.11", "3.11.4", "cpython@3.11", "python3.11" or
// "cpython-3.11.4-linux-x86_64-gnu"; empty for other implementations and names.
func cpython(word string) string {
	m := regexp.MustCompile(`^(?:cpython[-@]?|python[-@]?|==)?(3\.\d{1,3}(?:\.\d{1,3})?)(?:[-+.][0-9A-Za-z_+.-]*)?$`).FindStringSubmatch(strings.ToLower(word))
	if m == nil {
		return ""
	}
	return m[1]
}

// parsePythonVersion reads uv's and pyenv's .python-version: the first CPython of
// its lines. line is that of the first word, whatever it says.
func parsePythonVersion(text string) (version string, line int) {
	for i, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		for word := range strings.FieldsSeq(l) {
			if v := cpython(word); v != "" {
				return v, i + 1
			}
			if line == 0 {
				line = i + 1
			}
		}
	}
	return "", line
}

// parseToolVersions reads asdf's .tool-versions.
func parseToolVersions(text string) (version string, line int) {
	for i, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		words := strings.Fields(l)
		if len(words) == 0 || words[0] != "python" {
			continue
		}
		for _, word := range words[1:] {
			if v := cpython(word); v != "" {
				return v, i + 1
			}
		}
		return "", i + 1
	}
	return "", 0
}

// parseMise reads mise.toml: python below [tools], as a version, a list or a table.
func parseMise(text string) (version string, line int) {
	var f struct {
		Tools map[string]any `toml:"tools"`
	}
	if toml.Unmarshal([]byte(text), &f) != nil {
		return "", 0 // a file of another tool, which says what is wrong with it
	}
	value, ok := f.Tools["python"]
	if !ok {
		return "", 0
	}
	line = max(1, keyLine(text, "python", 0))
	words := texts(value)
	switch v := value.(type) {
	case string:
		words = []string{v}
	case map[string]any:
		if s, ok := v["version"].(string); ok {
			words = []string{s}
		}
	}
	for _, word := range words {
		if v := cpython(word); v != "" {
			return v, line
		}
	}
	return "", line
}
