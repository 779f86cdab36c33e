package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

const pixiToml = "pixi.toml"

// pixiKind is a workspace of pixi: a pixi.toml, or [tool.pixi] in pyproject.toml,
// which also says what to do with the package that file may describe. Next to
// requirements.txt, setup.py and runtime.txt, which repo2docker reads, pixi is
// passed over, as is a pixi.toml beside a pyproject.toml with a package.
func pixiKind() kind {
	return kind{name: "pixi", has: func(r *reader) bool {
		file := r.pixiFile()
		return file != "" && !r.declaresPython(file == r.path(pixiToml))
	}, read: readPixi}
}

// pixiFile is where the workspace is described; empty when there is none.
func (r *reader) pixiFile() string {
	if r.has(pixiToml) {
		return r.path(pixiToml)
	}
	if !r.has("pyproject.toml") {
		return ""
	}
	text, _, err := r.file("pyproject.toml")
	if err != nil || !regexp.MustCompile(`(?m)^\s*\[+\s*tool\s*\.\s*pixi\b`).MatchString(text) {
		return "" // whoever reads it says what is wrong with it
	}
	return r.path("pyproject.toml")
}

// pixiManifest is what of a pixi.toml counts.
type pixiManifest struct {
	Workspace    *pixiWorkspace         `toml:"workspace"`
	Project      *pixiWorkspace         `toml:"project"` // the name it had before
	Feature      map[string]pixiFeature `toml:"feature"`
	Environments map[string]any         `toml:"environments"`
	Package      map[string]any         `toml:"package"`

	// Default is the feature that the tables of the file itself are.
	Default pixiFeature `toml:"-"`
	file    string
	lines   map[string]int
}

type pixiWorkspace struct {
	Channels        []any  `toml:"channels"`
	ChannelPriority string `toml:"channel-priority"`
}

// pixiFeature is a set of dependencies with a name.
type pixiFeature struct {
	pixiTarget
	Channels        []any                 `toml:"channels"`
	ChannelPriority string                `toml:"channel-priority"`
	System          map[string]any        `toml:"system-requirements"`
	PyPI            pixiPyPI              `toml:"pypi-options"`
	Target          map[string]pixiTarget `toml:"target"`
}

// pixiTarget is what may differ between platforms.
type pixiTarget struct {
	Dependencies map[string]any `toml:"dependencies"`
	Host         map[string]any `toml:"host-dependencies"`
	Build        map[string]any `toml:"build-dependencies"`
	PyPIDeps     map[string]any `toml:"pypi-dependencies"`
	Activation   struct {
		Scripts []string       `toml:"scripts"`
		Env     map[string]any `toml:"env"`
	} `toml:"activation"`
}

type pixiPyPI struct {
	Index     string           `toml:"index-url"`
	Extra     []string         `toml:"extra-index-urls"`
	FindLinks []map[string]any `toml:"find-links"`
	NoBinary  any              `toml:"no-binary"`
}

// pixiProject is the part of a pyproject.toml that pixi takes for its own.
type pixiProject struct {
	Project struct {
		RequiresPython string              `toml:"requires-python"`
		Dependencies   []string            `toml:"dependencies"`
		Optional       map[string][]string `toml:"optional-dependencies"`
	} `toml:"project"`
	Groups map[string][]any `toml:"dependency-groups"`
}

// parsePixi reads a pixi.toml, or the tables of a pyproject.toml that mean the same.
func parsePixi(file, text string) (*pixiManifest, error) {
	m := &pixiManifest{file: file, lines: tomlLines(text)}
	var err error
	if strings.HasSuffix(file, pixiToml) {
		if err = toml.Unmarshal([]byte(text), m); err == nil {
			err = toml.Unmarshal([]byte(text), &m.Default)
		}
	} else {
		var whole struct {
			Tool struct {
				Pixi pixiManifest `toml:"pixi"`
			} `toml:"tool"`
		}
		var feature struct {
			Tool struct {
				Pixi pixiFeature `toml:"pixi"`
			} `toml:"tool"`
		}
		if err = toml.Unmarshal([]byte(text), &whole); err == nil {
			err = toml.Unmarshal([]byte(text), &feature)
		}
		file, lines := m.file, m.lines
		*m = whole.Tool.Pixi
		m.file, m.lines, m.Default = file, lines, feature.Tool.Pixi
		if err == nil {
			err = m.project(text)
		}
	}
	if err != nil {
		return nil, wrong(file, tomlLine(err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "toml: ")+".", "Correct this line.")
	}
	if m.Workspace == nil {
		m.Workspace = m.Project
	}
	if m.Workspace == nil {
		return nil, wrong(file, 0, file+" describes no workspace of pixi.", "Begin with [workspace] and channels = [\"conda-forge\"].")
	}
	return m, nil
}

// project adds what pixi takes from the other tables of pyproject.toml: the Python
// and the dependencies of the package, and its extras and groups as features.
func (m *pixiManifest) project(text string) error {
	var p pixiProject
	if err := toml.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	if p.Project.RequiresPython != "" {
		if _, ok := m.Default.Dependencies["python"]; !ok {
			m.Default.Dependencies = with(m.Default.Dependencies, "python", strings.ReplaceAll(p.Project.RequiresPython, " ", ""))
			m.lines["tool.pixi.dependencies.python"] = m.lines["project.requires-python"]
		}
	}
	plain := func(key string, list []string) map[string]any {
		out := map[string]any{}
		for i, spec := range list {
			out[fmt.Sprintf("\x00%s.%04d", key, i)] = spec // not by name: it may be asked for twice
		}
		return out
	}
	for name, spec := range plain("project.dependencies", p.Project.Dependencies) {
		m.Default.PyPIDeps = with(m.Default.PyPIDeps, name, spec)
	}
	add := func(feature string, list map[string]any) {
		if m.Feature == nil {
			m.Feature = map[string]pixiFeature{}
		}
		f := m.Feature[feature]
		for name, spec := range list {
			f.PyPIDeps = with(f.PyPIDeps, name, spec)
		}
		m.Feature[feature] = f
	}
	for name, list := range p.Project.Optional {
		add(name, plain("project.optional-dependencies."+name, list))
	}
	for name := range p.Groups {
		add(name, plain("dependency-groups."+name, groupOf(p.Groups, name, nil)))
	}
	return nil
}

// groupOf is a dependency group with those it includes (PEP 735); a circle ends
// where it closes.
func groupOf(groups map[string][]any, name string, above []string) []string {
	if slices.Contains(above, name) {
		return nil
	}
	var out []string
	for _, entry := range groups[name] {
		switch e := entry.(type) {
		case string:
			out = append(out, e)
		case map[string]any:
			if other, ok := e["include-group"].(string); ok {
				out = append(out, groupOf(groups, other, append(slices.Clone(above), name))...)
			}
		}
	}
	return out
}

func with(m map[string]any, name string, value any) map[string]any {
	if m == nil {
		m = map[string]any{}
	}
	m[name] = value
	return m
}

// tomlLines finds the line of each key that is written below a table's heading.
func tomlLines(text string) map[string]int {
	table := regexp.MustCompile(`^\s*\[+\s*([^\]]+?)\s*\]+\s*(?:#.*)?$`)
	key := regexp.MustCompile(`^\s*("[^"]+"|'[^']+'|[A-Za-z0-9_.-]+)\s*=`)
	out, at := map[string]int{}, ""
	for i, line := range strings.Split(text, "\n") {
		if m := table.FindStringSubmatch(line); m != nil {
			at = strings.ReplaceAll(m[1], " ", "")
			continue
		}
		if m := key.FindStringSubmatch(line); m != nil {
			name := strings.TrimPrefix(at+"."+strings.Trim(m[1], `"'`), ".")
			if out[name] == 0 {
				out[name] = i + 1
			}
		}
	}
	return out
}

// line is where a key of a feature's table is, which may be in the default
// feature's or a target's.
func (m *pixiManifest) line(feature, target, table, key string) int {
	at := table + "." + key
	if target != "" {
		at = "target." + target + "." + at
	}
	if feature != defaultFeature {
		at = "feature." + feature + "." + at
	}
	return m.lines[m.prefix()+at]
}

const defaultFeature = "default"

// environment chooses one and gives its features, the first one first: binder,
// else notebook or jupyter, else default.
func (m *pixiManifest) environment() (string, []string, error) {
	name := defaultFeature
	for _, n := range []string{"binder", "notebook", "jupyter"} {
		if _, ok := m.Environments[n]; ok {
			name = n
			break
		}
	}
	var features []string
	whole := true
	switch e := m.Environments[name].(type) {
	case []any:
		features = texts(e)
	case map[string]any:
		features = texts(e["features"])
		whole = e["no-default-feature"] != true
	}
	for _, f := range features {
		if _, ok := m.Feature[f]; !ok && f != defaultFeature {
			return "", nil, wrong(m.file, m.lines[m.prefix()+"environments."+name], "The environment "+short(name)+" names a feature that is not there: "+short(f)+".", "Add [feature."+f+".dependencies], or correct the name.")
		}
	}
	if whole && !slices.Contains(features, defaultFeature) {
		features = append(features, defaultFeature)
	}
	return name, features, nil
}

func (m *pixiManifest) prefix() string {
	if strings.HasSuffix(m.file, pixiToml) {
		return ""
	}
	return "tool.pixi."
}

func (m *pixiManifest) feature(name string) pixiFeature {
	if name == defaultFeature {
		return m.Default
	}
	return m.Feature[name]
}

// targets are the names of the tables that hold for a platform, the most general first.
func targets(subdir string) []string { return []string{"unix", "linux", subdir} }
