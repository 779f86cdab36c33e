package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// Locked is what a file of LockStore says about one package.
type Locked struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	By      []string `json:"by,omitempty"`     // packages that need it; a declaration is not among them
	Direct  bool     `json:"direct,omitempty"` // a declaration asks for it
	Sums    []string `json:"sums,omitempty"`   // of its files, as "sha256:" and hexadecimal digits
}

// ParseLocked reads requirements.txt of LockStore, as uv writes it: a package on
// each line that begins one, and below it, after "# via", who needs it.
func ParseLocked(text string) []Locked {
	pin := regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)`)
	wheel := regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*) @ \S+/[^/-]+-([^/-]+)-[^/]+\.whl`)
	hash := regexp.MustCompile(`--hash=([a-z0-9]+:[0-9a-f]+)`)
	var out []Locked
	for line := range strings.Lines(text) {
		m := pin.FindStringSubmatch(line)
		if m == nil {
			m = wheel.FindStringSubmatch(line)
		}
		if m != nil {
			out = append(out, Locked{Name: canonical(m[1]), Version: m[2]})
		}
		if len(out) == 0 {
			continue
		}
		last := &out[len(out)-1]
		for _, sum := range hash.FindAllStringSubmatch(line, -1) {
			last.Sums = append(last.Sums, sum[1])
		}
		note, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if m != nil || !ok {
			continue
		}
		by := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(note), "via"))
		switch {
		case by == "":
		case strings.HasPrefix(by, "-r ") || strings.HasPrefix(by, "-c "):
			last.Direct = last.Direct || by[1] == 'r'
		default:
			last.By = append(last.By, canonical(by))
		}
	}
	return out
}

// Frozen is a file to commit, so that the repository names exact versions.
type Frozen struct {
	Path    string `json:"path"` // in the repository
	Content string `json:"content,omitempty"`
	// Keep is where the loose file that stands at Path goes; empty replaces it.
	Keep string `json:"keep,omitempty"`
	Why  string `json:"why"`
}

// Freeze turns what an image resolved (its LockStore by name) into lock files
// that this and other tools read. The second result is what can't be frozen, and
// why. Files that already pin are left alone.
func Freeze(r Recipe, files map[string]string) ([]Frozen, []Note) {
	var out []Frozen
	var notes []Note
	for _, name := range sortedNames(files) {
		at := name
		if r.Dir != "" {
			at = r.Dir + "/" + name
		}
		switch f, how := (Frozen{Path: at, Content: files[name]}), freezing()[name]; {
		case name == lockedFile && r.pythonLock() != "":
			notes = append(notes, Note{Location: Location{File: r.pythonLock()}, Message: r.pythonLock() + " has exact versions already: it stays as it is."})
		case r.beside(name) != "":
			notes = append(notes, Note{Location: Location{File: name}, Message: r.beside(name)})
		case name == lockedFile && files["conda.txt"] != "" && !r.kernelApart():
			notes = append(notes, Note{Location: Location{File: name}, Message: "Packages of pip are not frozen beside conda's, which decide: pin them below `pip:`. Their versions are in requirements.txt of the image."})
		case name == condaPip && !slices.ContainsFunc(r.Files, func(f File) bool { return f.Used && inLock(f.Path) }):
			notes = append(notes, Note{Location: Location{File: name}, Message: "Packages of pip are not frozen beside conda's, which decide: pin them below `pip:`. Their versions are in conda-pip.txt of the image."})
		case name == lockedFile:
			if r.uses(at) {
				f.Keep = strings.TrimSuffix(at, ".txt") + ".in"
			}
			f.Why = "exact Python packages with their hashes"
			if r.kernelApart() {
				f.Why = "exact Python packages"
			}
			if strings.Contains(f.Content, " @ git+") { // pip takes hashes of all or of none
				f.Why = "exact Python packages, without hashes, which those from git can't have"
				f.Content = regexp.MustCompile(` \\\n\s+--hash=\S+`).ReplaceAllString(f.Content, "")
			}
			f.Content = frozenHead + f.Content
			out = append(out, f)
		case name == "conda.txt" && strings.Contains(f.Content, "@EXPLICIT"):
			subdir := "linux-64"
			if strings.Contains(f.Content, "/linux-aarch64/") {
				subdir = "linux-aarch64"
			}
			f.Path, f.Why = strings.TrimSuffix(at, name)+"conda-"+subdir+".lock", "exact conda packages"
			out = append(out, f)
		case how.note != "":
			notes = append(notes, Note{Location: Location{File: name}, Message: how.note})
		case how.why != "":
			f.Why = how.why
			out = append(out, f)
		}
	}
	return out, notes
}

// beside says why a frozen file would be passed over, because of the file that
// decides; empty when it would not.
func (r Recipe) beside(name string) string {
	switch {
	case r.Kind == "pipenv" && name == lockedFile:
		return "A requirements.txt is passed over beside a Pipfile: run `pipenv lock` and commit Pipfile.lock. What was installed is in requirements.txt of the image."
	case name == condaList && r.condaList() != "":
		return r.condaList() + " has exact versions already: it stays as it is."
	case name == "conda.txt" && r.kernelApart():
		return "Python " + r.Python.Value + " and its kernel come from conda and are not frozen: a list of conda's would decide instead of the files that there are. Their versions are in conda.txt of the image."
	case r.Kind == "pixi" && r.uses(path.Join(r.Dir, "pixi.lock")) && name == "conda.txt":
		return "pixi.lock has exact versions already: it stays as it is."
	case r.Kind == "pixi" && name == "conda.txt":
		return "A list of conda's is passed over beside pixi's own file: run `pixi lock` and commit pixi.lock. What was installed is in conda.txt of the image."
	default:
		return ""
	}
}

// condaList is the author's own list of conda's that was followed; empty when there
// is none.
func (r Recipe) condaList() string {
	for _, name := range []string{"conda-lock.yml", "conda-linux-64.lock", "conda-linux-aarch64.lock"} {
		if file := path.Join(r.Dir, name); r.uses(file) {
			return file
		}
	}
	return ""
}

// frozenHead tells whoever opens the file where it comes from.
const frozenHead = "# Written by `binnacle freeze`: what was installed. To renew it, put the loose\n# requirements (requirements.in) back here and freeze again.\n"

// frozenAs says what a file of LockStore becomes.
type frozenAs struct{ why, note string }

func freezing() map[string]frozenAs {
	return map[string]frozenAs{
		"renv.lock":         {why: "exact R packages"},
		"Manifest.toml":     {why: "exact Julia packages"},
		"package-lock.json": {why: "exact JavaScript packages"},
		"deno.lock":         {why: "exact JavaScript packages"},
		"Cargo.lock":        {why: "exact Rust crates"},
		"go.sum":            {why: "hashes of Go modules"},
		"go.work.sum":       {why: "hashes of Go modules"},
		"apt.txt":           {note: "Debian packages are not frozen: a mirror keeps only the newest of each release. Their versions are in apt.txt of the image, for the record."},
	}
}

// pythonLock is the author's own lock of Python packages that was followed; empty
// when there is none.
func (r Recipe) pythonLock() string {
	names := []string{"Pipfile.lock"}
	for _, l := range lockNames() {
		names = append(names, l.name)
	}
	for _, name := range names {
		if file := path.Join(r.Dir, name); r.uses(file) {
			return file
		}
	}
	return ""
}

// uses says whether a file of that path was followed.
func (r Recipe) uses(file string) bool {
	return slices.ContainsFunc(r.Files, func(f File) bool { return f.Used && f.Path == file })
}
