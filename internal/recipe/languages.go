package recipe

import "strings"

// language is one whose kernel joins the Python that every image has.
type language struct {
	name  string
	files []string // which tell of it, for notes
	has   func(r *reader) bool
	read  func(r *reader) error
}

func languages() []language {
	return []language{
		{"JavaScript", []string{"deno.json", "deno.jsonc", "deno.lock", "package.json"}, (*reader).hasJS, readJS},
		{"Go", []string{"go.mod", "go.work"}, (*reader).hasGo, readGo},
		{"Rust", []string{"Cargo.toml"}, (*reader).hasRust, readRust},
	}
}

// readLanguages adds the languages that the repository describes. In the root
// they count only when no other kind does: a package.json beside a
// requirements.txt is most often that of a web page. In a binder directory
// every file is meant.
func readLanguages(r *reader) error {
	chosen := r.Dir != ""
	for _, k := range languageKinds() {
		chosen = chosen || k.name == r.Kind
	}
	for _, l := range languages() {
		if !l.has(r) {
			continue
		}
		if chosen {
			if err := l.read(r); err != nil {
				return err
			}
			continue
		}
		for _, name := range l.files {
			if r.has(name) {
				r.pass(r.path(name), "another file decides: "+l.name+" is not installed")
				r.note(r.path(name), 0, name+" is passed over, because other files describe the environment.", "Put a copy or a link of it into binder/, with the other files that count, if notebooks need "+l.name+".")
				break
			}
		}
	}
	return nil
}

// languageKinds are the kinds that the files of a language alone make.
func languageKinds() []kind { return []kind{denoKind(), goKind(), rustKind()} }

// firstVersion is that of the first package of a lock.
func firstVersion(lock []byte) string {
	line, _, _ := strings.Cut(string(lock), " ")
	_, version, _ := strings.Cut(line, "==")
	return version
}

// debian installs packages of Debian that a language needs in every session.
// The step knows nothing of the repository but who asked.
func debian(name string, from Location, packages ...string) Step {
	return Step{
		Name: name, Stage: StageSystem, Root: true, From: []Location{from}, Packages: implied(from, packages),
		Caches: aptCaches(), Script: aptBegin + aptInstall + strings.Join(packages, " ") + "\n" + aptEnd,
	}
}

// implied are Debian packages that a file implies and does not name.
func implied(from Location, packages []string) []Package {
	out := make([]Package, 0, len(packages))
	for _, p := range packages {
		p = strings.Trim(p, "'")
		out = append(out, Package{Manager: "apt", Name: p, Spec: p, From: from})
	}
	return out
}

// late sets a variable that the environment's own layers need not know.
func (r *reader) late(name, value string) {
	if r.LateEnv == nil {
		r.LateEnv = map[string]string{}
	}
	r.LateEnv[name] = value
}

// latePath adds a directory to PATH, behind those that every image has.
func (r *reader) latePath(dir string) {
	have := r.LateEnv["PATH"]
	if have == "" {
		have = r.Env["PATH"]
	}
	r.late("PATH", strings.Replace(have, "/srv/npm/bin:", "/srv/npm/bin:"+dir+":", 1))
}
