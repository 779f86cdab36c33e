package recipe

import (
	"path"
	"slices"
	"strings"
)

// pylock is a pylock.toml (PEP 751).
type pylock struct {
	LockVersion    string          `toml:"lock-version"`
	RequiresPython string          `toml:"requires-python"`
	Extras         []string        `toml:"extras"`
	Groups         []string        `toml:"dependency-groups"`
	DefaultGroups  []string        `toml:"default-groups"`
	Packages       []pylockPackage `toml:"packages"`
}

type pylockPackage struct {
	Name    string        `toml:"name"`
	Version string        `toml:"version"`
	Marker  string        `toml:"marker"`
	Index   string        `toml:"index"`
	VCS     *pylockSource `toml:"vcs"`
	Dir     *pylockSource `toml:"directory"`
	Archive *pylockSource `toml:"archive"`
	Sdist   *pylockSource `toml:"sdist"`
	Wheels  []pylockSource
}

// pylockSource is a file, a directory or a repository of version control.
type pylockSource struct {
	Type      string            `toml:"type"`
	Name      string            `toml:"name"`
	URL       string            `toml:"url"`
	Path      string            `toml:"path"`
	Commit    string            `toml:"commit-id"`
	Sub       string            `toml:"subdirectory"`
	Editable  bool              `toml:"editable"`
	Hashes    map[string]string `toml:"hashes"`
	Requested string            `toml:"requested-revision"`
}

func (s pylockSource) hashes() []string {
	var out []string
	for _, name := range sortedNames(s.Hashes) {
		out = append(out, name+":"+s.Hashes[name])
	}
	return out
}

func (s pylockSource) base() string {
	if s.Name != "" {
		return s.Name
	}
	return path.Base(s.URL + s.Path)
}

// parsePylock gives what is to be installed: without extras, with the default
// groups and the one for a Binder.
func parsePylock(file, text string) (pylock, []pin, error) {
	var l pylock
	if err := readTOML(file, text, &l); err != nil {
		return l, nil, err
	}
	if !strings.HasPrefix(l.LockVersion, "1.") {
		return l, nil, wrong(file, max(1, keyLine(text, "lock-version", 0)), file+" has the lock-version "+short(l.LockVersion)+", which Binnacle does not know.", "Write it anew with a current tool.")
	}
	lines := nameLines(text)
	chosen := map[string][]string{"extras": nil, "dependency_groups": nil}
	for _, g := range l.DefaultGroups {
		chosen["dependency_groups"] = append(chosen["dependency_groups"], canonical(g))
	}
	for key, names := range map[string][]string{"extras": l.Extras, "dependency_groups": l.Groups} {
		for _, name := range binderGroups() {
			if slices.ContainsFunc(names, func(n string) bool { return canonical(n) == name }) {
				chosen[key] = append(chosen[key], name)
				break
			}
		}
	}
	var pins []pin
	for _, k := range l.Packages {
		at := Location{file, lines[canonical(k.Name)]}
		marker, never, ok := simplified(k.Marker, chosen)
		if !ok {
			return l, nil, wrong(at.File, at.Line, "The marker of "+short(k.Name)+" is none: "+short(k.Marker)+".", "Let the tool that wrote the file write it anew.")
		}
		if never {
			continue
		}
		p := pin{name: k.Name, version: k.Version, marker: marker, index: k.Index, line: at.Line}
		if err := k.source(&p, at); err != nil {
			return l, nil, err
		}
		if err := checkPin(p, p.requirement(""), at); err != nil {
			return l, nil, err
		}
		pins = append(pins, p)
	}
	return l, pins, nil
}

// source says where a package is from.
func (k pylockPackage) source(p *pin, at Location) error {
	switch {
	case k.VCS != nil:
		if k.VCS.Type != "git" {
			return wrong(at.File, at.Line, short(k.Name)+" is from "+short(k.VCS.Type)+"; only git is supported.", "Take it from an index or from git.")
		}
		address := k.VCS.URL
		if address == "" {
			address = k.VCS.Path
		}
		p.target = gitTarget(address, k.VCS.Commit, k.VCS.Sub)
	case k.Dir != nil:
		p.path, p.editable = path.Join(k.Dir.Path, k.Dir.Sub), k.Dir.Editable
	case k.Archive != nil && k.Archive.URL != "":
		p.target, p.hashes = k.Archive.URL, k.Archive.hashes()
		if k.Archive.Sub != "" {
			p.target += "#subdirectory=" + k.Archive.Sub
		}
	case k.Archive != nil:
		p.path = k.Archive.Path
	default:
		files := slices.Clone(k.Wheels)
		if k.Sdist != nil {
			files = append(files, *k.Sdist)
		}
		for _, f := range files {
			p.files = append(p.files, f.base())
			p.hashes = append(p.hashes, f.hashes()...)
			if f.URL == "" && f.Path != "" && p.path == "" && (len(files) == 1 || strings.HasSuffix(f.Path, "-none-any.whl")) {
				p.path = f.Path // a wheel that is committed beside the lock
			}
		}
		slices.Sort(p.hashes)
		p.hashes = slices.Compact(p.hashes)
		if len(p.hashes) == 0 {
			return wrong(at.File, at.Line, short(k.Name)+" has neither a file nor a hash.", "Let the tool that wrote the file write it anew.")
		}
	}
	return nil
}

// readPylock installs a pylock.toml. The files are asked from the index by version
// and hash, so that the hub's mirror serves them.
func readPylock(r *reader, file string) (*lockPlan, error) {
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	l, pins, err := parsePylock(file, text)
	if err != nil {
		return nil, err
	}
	plan := &lockPlan{pins: pins}
	if plan.wishes, err = wishes(file, keyLine(text, "requires-python", 0), l.RequiresPython); err != nil {
		return nil, err
	}
	plan.install = func(r *reader) error {
		q, err := r.pinned(file, pins)
		if err != nil {
			return err
		}
		r.add(r.lockedSteps(file, q)...)
		if slices.ContainsFunc(pins, func(p pin) bool { return path.Join(r.Dir, p.path) == "." && p.path != "" }) {
			return nil // the repository itself is in the lock
		}
		return r.projectStep()
	}
	return plan, nil
}
