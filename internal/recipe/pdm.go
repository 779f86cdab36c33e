package recipe

import (
	"maps"
	"slices"
)

// pdmLock is what of a pdm.lock counts, of the versions 4.
type pdmLock struct {
	Package []struct {
		Name     string       `toml:"name"`
		Version  string       `toml:"version"`
		Extras   []string     `toml:"extras"`
		Files    []lockedHash `toml:"files"`
		Git      string       `toml:"git"`
		Revision string       `toml:"revision"`
		Ref      string       `toml:"ref"`
		Sub      string       `toml:"subdirectory"`
		URL      string       `toml:"url"`
		Path     string       `toml:"path"`
	} `toml:"package"`
	Metadata struct {
		LockVersion string `toml:"lock_version"`
		Targets     []struct {
			RequiresPython string `toml:"requires_python"`
		} `toml:"targets"`
		Files map[string][]lockedHash `toml:"files"` // before 4.4: "name version"
	} `toml:"metadata"`
}

// pdmTool is [tool.pdm].
type pdmTool struct {
	Distribution *bool               `toml:"distribution"`
	Dev          map[string][]string `toml:"dev-dependencies"`
}

func parsePDMLock(file, text string) (pdmLock, []pin, error) {
	var l pdmLock
	if err := readTOML(file, text, &l); err != nil {
		return l, nil, err
	}
	if v := l.Metadata.LockVersion; len(v) < 2 || v[:2] != "4." {
		return l, nil, wrong(file, max(1, keyLine(text, "lock_version", 0)), "pdm.lock is of the version "+short(v)+", which Binnacle does not know.", "Write it anew with PDM 2: `pdm lock`.")
	}
	lines := nameLines(text)
	seen := map[string]int{}
	var pins []pin
	for _, k := range l.Package {
		p := pin{name: k.Name, version: k.Version, line: lines[canonical(k.Name)]}
		files := k.Files
		if len(files) == 0 {
			files = l.Metadata.Files[k.Name+" "+k.Version]
		}
		p.take(files)
		switch {
		case k.Git != "":
			if k.Revision == "" {
				k.Revision = k.Ref
			}
			p.target, p.hashes = gitTarget(k.Git, k.Revision, k.Sub), nil
		case k.URL != "":
			p.target = k.URL
		case k.Path != "":
			p.path, p.hashes = k.Path, nil
		}
		if err := checkPin(p, p.requirement(""), Location{file, p.line}); err != nil {
			return l, nil, err
		}
		// A package with an extra has an entry of its own, of the same version.
		key := canonical(k.Name) + " " + k.Version
		if i, ok := seen[key]; ok {
			pins[i].hashes = slices.Compact(slices.Sorted(slices.Values(slices.Concat(pins[i].hashes, p.hashes))))
			pins[i].files = append(pins[i].files, p.files...)
			continue
		}
		seen[key] = len(pins)
		pins = append(pins, p)
	}
	return l, pins, nil
}

// readPDMLock is like Poetry's: `pdm install` takes the project and all groups for
// development.
func readPDMLock(r *reader, file string) (*lockPlan, error) {
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	l, pins, err := parsePDMLock(file, text)
	if err != nil {
		return nil, err
	}
	p, _, err := r.pyproject()
	if err != nil {
		return nil, err
	}
	plan := &lockPlan{pins: pins}
	var specs []string
	for _, t := range l.Metadata.Targets {
		if t.RequiresPython != "" {
			specs = append(specs, t.RequiresPython)
		}
	}
	if plan.wishes, err = wishes(file, keyLine(text, "requires_python", 0), specs...); err != nil {
		return nil, err
	}
	w := r.wanted(file, pins)
	if p.Project != nil {
		if err := r.projectWants(p, w); err != nil {
			return nil, err
		}
	}
	project := r.path("pyproject.toml")
	source, _, err := r.text(project)
	if err != nil {
		return nil, err
	}
	for _, group := range slices.Sorted(maps.Keys(p.Tool.PDM.Dev)) {
		for _, one := range p.Tool.PDM.Dev[group] {
			at := Location{project, quotedLine(source, one, 0)}
			if option, value := splitOption(one); option == "-e" {
				err = r.requirementOption(w.q, option, value, at)
			} else {
				err = w.pep508(one, at)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if err := r.groupWants(p, w, slices.Sorted(maps.Keys(p.Groups))); err != nil {
		return nil, err
	}
	plan.install = func(r *reader) error {
		if err := w.install(r); err != nil {
			return err
		}
		r.use(project, "names the packages that are installed")
		if no := p.Tool.PDM.Distribution; p.BuildSystem != nil && p.Project != nil && (no == nil || *no) {
			r.itself(project)
		}
		return nil
	}
	return plan, nil
}
