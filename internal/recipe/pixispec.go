package recipe

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// readPixi makes the environment that is chosen: from pixi.lock when that has it
// for this platform, else from what the features ask for.
func readPixi(r *reader) error {
	file := r.pixiFile()
	text, _, err := r.text(file)
	if err != nil {
		return err
	}
	m, err := parsePixi(file, text)
	if err != nil {
		return err
	}
	name, features, err := m.environment()
	if err != nil {
		return err
	}
	want := pixiWanted{m: m, reader: r}
	for _, f := range features {
		if err := want.feature(f); err != nil {
			return err
		}
	}
	if m.Package != nil {
		r.note(file, 0, "[package] describes a conda package, which is not built.", "Name the packages that a session needs below [dependencies].")
	}
	lock, err := r.pixiLock(name)
	if err != nil {
		return err
	}
	if lock != nil {
		r.use(file, "the environment "+name+"; "+lock.file+" has the versions")
		lock.stale(r, want.conda)
		err = r.condaLocked(lock, file, nil)
	} else {
		r.use(file, "the environment "+name)
		err = want.solve()
	}
	if err != nil {
		return err
	}
	want.activate()
	return nil
}

// pixiWanted is what the features of an environment ask for together.
type pixiWanted struct {
	m        *pixiManifest
	reader   *reader
	conda    []Package
	pip      []Package
	options  []Package // lines of requirements.txt that hold for all of pip
	channels []rankedChannel
	priority string
	cuda     string
	env      map[string]string
	envAt    map[string]Location
	scripts  []string
}

type rankedChannel struct {
	condaChannel
	rank int64
}

// feature adds one. Within it, a table for a platform takes the place of the
// general one, name by name; what several features say of a package all holds.
func (w *pixiWanted) feature(name string) error {
	f := w.m.feature(name)
	at := func(target, table, key string) Location {
		return Location{w.m.file, w.m.line(name, target, table, key)}
	}
	conda, pip := map[string]Package{}, map[string]Package{}
	named := map[string]pixiTarget{"": f.pixiTarget}
	for _, t := range append([]string{""}, targets(w.reader.subdir())...) {
		part, ok := f.Target[t]
		if t == "" {
			part, ok = named[""], true
		}
		if !ok {
			continue
		}
		for _, table := range []struct {
			name string
			has  map[string]any
		}{{"build-dependencies", part.Build}, {"host-dependencies", part.Host}, {"dependencies", part.Dependencies}} {
			for key, value := range table.has {
				p, err := pixiConda(key, value, at(t, table.name, key))
				if err != nil {
					return err
				}
				conda[key] = p
			}
		}
		for key, value := range part.PyPIDeps {
			lines, err := pixiPip(key, value, at(t, "pypi-dependencies", key))
			if err != nil {
				return err
			}
			w.options = append(w.options, lines[1:]...)
			pip[key] = lines[0]
		}
		w.activation(part, name, t)
	}
	for _, key := range sortedNames(conda) {
		w.conda = append(w.conda, conda[key])
	}
	for _, key := range sortedNames(pip) {
		w.pip = append(w.pip, pip[key])
	}
	w.pypiOptions(f.PyPI)
	if cuda, ok := f.System["cuda"].(string); ok && regexp.MustCompile(`^\d+(\.\d+)*$`).MatchString(cuda) {
		w.cuda = max(w.cuda, cuda)
	}
	w.priority = cmp.Or(w.priority, f.ChannelPriority)
	return w.addChannels(f.Channels)
}

func (w *pixiWanted) addChannels(list []any) error {
	line := w.m.lines[w.m.prefix()+"workspace.channels"] + w.m.lines[w.m.prefix()+"project.channels"]
	for _, c := range list {
		var channel rankedChannel
		switch v := c.(type) {
		case string:
			channel.name = v
		case map[string]any:
			channel.name, _ = v["channel"].(string)
			channel.rank, _ = v["priority"].(int64)
		}
		if !validChannel(channel.name) {
			return wrong(w.m.file, line, "This is not a conda channel: "+short(channel.name)+".", "Write a name such as conda-forge, or an https:// address without a password.")
		}
		channel.name, channel.line = strings.TrimSuffix(channel.name, "/"), line
		w.channels = append(w.channels, channel)
	}
	return nil
}

func (w *pixiWanted) pypiOptions(o pixiPyPI) {
	add := func(option, value string) {
		if value != "" && !strings.ContainsAny(value, "\n\x00") {
			w.options = append(w.options, Package{Manager: "pip", Spec: option + " " + value, From: Location{File: w.m.file}})
		}
	}
	add("--index-url", o.Index)
	for _, address := range o.Extra {
		add("--extra-index-url", address)
	}
	for _, link := range o.FindLinks {
		if address, ok := link["url"].(string); ok {
			add("--find-links", address)
		}
		if dir, ok := link["path"].(string); ok {
			add("--find-links", dir)
		}
	}
	for _, name := range texts(o.NoBinary) {
		add("--no-binary", name)
	}
	if o.NoBinary == true {
		add("--no-binary", ":all:")
	}
}

// solve makes the environment without a lock.
func (w *pixiWanted) solve() error {
	r, file := w.reader, w.m.file
	if len(w.m.Workspace.Channels) > 0 || len(w.channels) == 0 {
		if err := w.addChannels(w.m.Workspace.Channels); err != nil {
			return err
		}
	}
	if err := r.condaPython(file, w.conda); err != nil {
		return err
	}
	slices.SortStableFunc(w.channels, func(a, b rankedChannel) int { return cmp.Compare(b.rank, a.rank) })
	channels := []condaChannel{{name: "nodefaults"}} // pixi adds none
	for _, c := range w.channels {
		channels = append(channels, c.condaChannel)
	}
	wanted := r.condaWanted(w.conda)
	wanted.Channels = r.condaChannels(file, channels, w.conda)
	wanted.CUDA, wanted.Priority = w.cuda, cmp.Or(w.priority, w.m.Workspace.ChannelPriority, "strict")
	if w.cuda != "" {
		r.note(file, 0, "[system-requirements] asks for CUDA "+w.cuda+": packages for it are chosen, but a session has a GPU only where the operator offers one.", "")
	}
	plan := condaPlan{file: file, from: []Location{{File: file}}, packages: w.conda, wanted: &wanted, r: r.condaBringsR(file, w.conda)}
	if err := r.condaSteps(plan); err != nil {
		return err
	}
	return r.condaPip(pipPart{file: file, dir: r.Dir, lines: append(w.options, w.pip...), dated: true})
}

// activation collects what is to be set when the environment is used.
func (w *pixiWanted) activation(t pixiTarget, feature, target string) {
	w.scripts = append(w.scripts, t.Activation.Scripts...)
	for name, value := range t.Activation.Env {
		if w.env == nil {
			w.env, w.envAt = map[string]string{}, map[string]Location{}
		}
		if _, ok := w.envAt[name]; ok && target == "" {
			continue // the first feature that says it
		}
		w.env[name], w.envAt[name] = fmt.Sprint(value), Location{w.m.file, w.m.line(feature, target, "activation.env", name)}
	}
}

// activate puts the variables into the image. What needs a shell, or would take
// the session's own settings away, is noted.
func (w *pixiWanted) activate() {
	r := w.reader
	known := strings.NewReplacer("${CONDA_PREFIX}", Prefix, "$CONDA_PREFIX", Prefix, "${PIXI_PROJECT_ROOT}", RepoDir, "$PIXI_PROJECT_ROOT", RepoDir)
	for _, name := range sortedNames(w.env) {
		if value, at := known.Replace(w.env[name]), w.envAt[name]; r.variable(name, value, at) {
			r.Env[name] = value
		}
	}
	for _, script := range w.scripts {
		r.note(w.m.file, 0, "The activation script "+short(script)+" is not run.", "Source it in `start`, before exec \"$@\".")
	}
}

// variable says whether a file may set a variable of sessions; else there is a note.
func (r *reader) variable(name, value string, at Location) bool {
	_, ours := r.Env[name]
	switch {
	case ours || slices.Contains([]string{"HOME", "USER", "SHELL", "NB_USER", "NB_UID", "REPO_DIR", "LD_PRELOAD"}, name):
		r.note(at.File, at.Line, "The variable "+name+" is set by Binnacle, and stays as it is.", "Set it in `start`.")
	case !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) || strings.ContainsAny(value, "\x00\n"):
		r.note(at.File, at.Line, "This is no variable that a session can have: "+short(name)+".", "")
	case strings.Contains(value, "$"):
		r.note(at.File, at.Line, "The variable "+name+" depends on others, so it is not set.", "Set it in `start`.")
	default:
		return true
	}
	return false
}

// pixiConda is a conda dependency as a match spec.
func pixiConda(name string, value any, at Location) (Package, error) {
	p := Package{Manager: "conda", Name: strings.ToLower(name), From: at}
	bad := func(message, hint string) (Package, error) { return Package{}, wrong(at.File, at.Line, message, hint) }
	const how = `Write it like numpy = ">=2" or numpy = { version = ">=2", channel = "conda-forge" }.`
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`).MatchString(name) {
		return bad("This is not the name of a conda package: "+short(name)+".", how)
	}
	clean := func(s string) bool { return !strings.ContainsAny(s, "\x00\n\r;&`$'\"[]\\") }
	switch v := value.(type) {
	case string:
		if !clean(v) {
			return bad("This is not a version of conda's: "+short(v)+".", how)
		}
		p.Spec = strings.TrimSpace(name + " " + strings.TrimSpace(v))
		if strings.TrimSpace(v) == "*" {
			p.Spec = name
		}
	case map[string]any:
		for _, source := range []string{"path", "git", "url"} {
			if _, ok := v[source]; ok {
				return bad(name+" is to be built from its source or taken from an address, which Binnacle does not do for conda packages.", "Take it from a channel, or below [pypi-dependencies] if it is a Python package.")
			}
		}
		var parts []string
		for _, key := range []string{"version", "build", "build-number", "channel", "subdir", "md5", "sha256"} {
			if s, ok := v[key].(string); ok && s != "*" {
				if !clean(s) {
					return bad("This is not a "+key+" of conda's: "+short(s)+".", how)
				}
				parts = append(parts, strings.ReplaceAll(key, "-", "_")+`="`+s+`"`)
			}
		}
		p.Spec = name
		if len(parts) > 0 {
			p.Spec += "[" + strings.Join(parts, ",") + "]"
		}
	default:
		return bad("What is asked of "+name+" is neither a version nor a table.", how)
	}
	return p, nil
}

// pixiPip is a dependency on PyPI as a line of requirements.txt, and the lines it
// needs beside it.
func pixiPip(name string, value any, at Location) ([]Package, error) {
	line := func(spec string) Package {
		return Package{Manager: "pip", Name: nameOf(strings.TrimPrefix(spec, "-e ")), Spec: spec, From: at}
	}
	if spec, ok := value.(string); ok && strings.HasPrefix(name, "\x00") {
		return []Package{line(spec)}, nil
	}
	const how = `Write it like requests = ">=2" or mine = { path = ".", editable = true }.`
	if nameOf(name) != name {
		return nil, wrong(at.File, at.Line, "This is not the name of a Python package: "+short(name)+".", how)
	}
	version := func(s string) string {
		s = strings.TrimSpace(s)
		if s == "*" || s == "" {
			return ""
		}
		if strings.ContainsAny(s[:1], "<>=!~") {
			return s
		}
		return "==" + s
	}
	v, ok := value.(map[string]any)
	if s, isText := value.(string); isText {
		v, ok = map[string]any{"version": s}, true
	}
	if !ok {
		return nil, wrong(at.File, at.Line, "What is asked of "+name+" is neither a version nor a table.", how)
	}
	get := func(key string) string { s, _ := v[key].(string); return s }
	for key := range v {
		if strings.ContainsAny(get(key), "\x00\n\r") {
			return nil, wrong(at.File, at.Line, "What is asked of "+name+" holds a line break.", how)
		}
	}
	extras := ""
	if list := texts(v["extras"]); len(list) > 0 {
		extras = "[" + strings.Join(list, ",") + "]"
	}
	switch {
	case get("path") != "":
		path := get("path")
		if !strings.HasPrefix(path, ".") && !strings.HasPrefix(path, "/") {
			path = "./" + path
		}
		if v["editable"] == true {
			return []Package{line("-e " + path + extras)}, nil
		}
		return []Package{line(path + extras)}, nil
	case get("git") != "":
		spec := name + extras + " @ git+" + strings.TrimPrefix(get("git"), "git+")
		if rev := cmp.Or(get("rev"), get("tag"), get("branch")); rev != "" {
			spec += "@" + rev
		}
		if dir := get("subdirectory"); dir != "" {
			spec += "#subdirectory=" + dir
		}
		return []Package{line(spec)}, nil
	case get("url") != "":
		return []Package{line(name + extras + " @ " + get("url"))}, nil
	}
	out := []Package{line(name + extras + version(get("version")))}
	if index := get("index"); index != "" {
		out = append(out, line("--extra-index-url "+index))
	}
	return out, nil
}
