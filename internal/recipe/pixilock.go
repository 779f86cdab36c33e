package recipe

import (
	"path"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// pixiLock is what pixi.lock has of an environment for this platform; nil when
// there is none.
func (r *reader) pixiLock(environment string) (*condaLocked, error) {
	if !r.has("pixi.lock") {
		return nil, nil
	}
	file := r.path("pixi.lock")
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	lock, err := parsePixiLock(file, text, environment, r.subdir())
	if err != nil {
		return nil, err
	}
	if lock == nil {
		r.pass(file, "it has no environment "+environment+" for "+r.subdir())
		r.note(file, 0, "pixi.lock has no environment "+environment+" for "+r.subdir()+", so the versions are worked out anew.", `Add "`+r.subdir()+`" to platforms, and run pixi lock.`)
	}
	return lock, nil
}

// pixiEntry is a package of a pixi.lock. Versions 4 and 5 name the kind and the
// address in fields of their own.
type pixiEntry struct {
	Conda    string `yaml:"conda"`
	PyPI     string `yaml:"pypi"`
	Kind     string `yaml:"kind"`
	URL      string `yaml:"url"`
	Path     string `yaml:"path"`
	Name     string `yaml:"name"`
	Version  string `yaml:"version"`
	SHA256   string `yaml:"sha256"`
	MD5      string `yaml:"md5"`
	Editable bool   `yaml:"editable"`
}

func (e pixiEntry) address() string {
	for _, a := range []string{e.Conda, e.PyPI, e.URL, e.Path} {
		if a != "" {
			return a
		}
	}
	return ""
}

func (e pixiEntry) isPyPI() bool { return e.PyPI != "" || e.Kind == "pypi" }

// parsePixiLock gives nil when the lock does not have the environment for the platform.
func parsePixiLock(file, text, environment, subdir string) (*condaLocked, error) {
	const again = "Run pixi lock."
	var all struct {
		Version   int `yaml:"version"`
		Platforms []struct {
			Name   string `yaml:"name"`
			Subdir string `yaml:"subdir"`
		} `yaml:"platforms"`
		Environments map[string]struct {
			Packages map[string][]pixiEntry `yaml:"packages"`
		} `yaml:"environments"`
		Packages []yaml.Node `yaml:"packages"`
	}
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		return nil, wrong(file, yamlLine(err), file+" is not a lock of pixi: "+strings.TrimPrefix(firstLine(err.Error()), "yaml: ")+".", again)
	}
	const oldest, newest = 4, 7
	if all.Version < oldest || all.Version > newest {
		return nil, wrong(file, 0, file+" is a lock of version "+strconv.Itoa(all.Version)+", and Binnacle reads 4 to 7.", again)
	}
	wanted := all.Environments[environment].Packages[subdir]
	for _, p := range all.Platforms { // names of one's own, from version 7
		if wanted == nil && p.Subdir == subdir {
			wanted = all.Environments[environment].Packages[p.Name]
		}
	}
	if wanted == nil {
		return nil, nil
	}
	lock := &condaLocked{file: file}
	known := map[string]lockedPackage{}
	for _, n := range all.Packages {
		var e pixiEntry
		if err := n.Decode(&e); err != nil {
			return nil, wrong(file, n.Line, "This package of the lock can't be read.", again)
		}
		p := lockedPackage{name: e.Name, version: e.Version, url: e.address(), editable: e.Editable, line: n.Line}
		switch {
		case e.SHA256 != "":
			p.hash = "sha256:" + e.SHA256
		case e.MD5 != "":
			p.hash = "md5:" + e.MD5
		}
		known[e.address()] = p
	}
	for _, e := range wanted {
		p, ok := known[e.address()]
		if !ok {
			return nil, wrong(file, 0, file+" names a package that it does not describe: "+short(e.address())+".", again)
		}
		if err := lock.add(p, e.isPyPI()); err != nil {
			return nil, err
		}
	}
	return lock, nil
}

func (l *condaLocked) add(p lockedPackage, pypi bool) error {
	if pypi {
		if p.name == "" { // a directory of the repository
			p.name = directoryName(p.url)
		}
		l.pip = append(l.pip, p)
		return p.checkPip(l.file)
	}
	if !strings.Contains(p.url, "://") {
		return wrong(l.file, p.line, short(p.url)+" is to be built from its source, which Binnacle does not do for conda packages.", "Take it from a channel.")
	}
	err := p.checkConda(l.file)
	l.conda = append(l.conda, p)
	return err
}

// directoryName is a name for a directory that has none.
func directoryName(dir string) string {
	if name := nameOf(path.Base(dir)); name != "" {
		return name
	}
	return "repository"
}
