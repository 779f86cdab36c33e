package recipe

import (
	"encoding/json"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Base is an image that the repository brings; the environment is put on it.
type Base struct {
	Image      string            `json:"image,omitempty"`      // or
	Dockerfile string            `json:"dockerfile,omitempty"` // its path in the repository
	Context    string            `json:"context,omitempty"`    // the directory it is built with
	Target     string            `json:"target,omitempty"`
	Args       map[string]string `json:"args,omitempty"`
	From       Location          `json:"from,omitzero"` // who asked for it
}

// devcontainerKind is a repository that describes itself for editors. Every
// file that is meant for Binder is stronger.
func devcontainerKind() kind {
	return kind{name: "devcontainer", has: func(r *reader) bool {
		return r.Dir == "" && !slices.ContainsFunc([]string{"apt.txt", "postBuild", "start", "install.R"}, r.has) && r.devcontainerFile() != ""
	}, read: readDevcontainer}
}

// devcontainerFile is the one that counts; empty when there is none.
func (r *reader) devcontainerFile() string {
	for _, name := range []string{".devcontainer/devcontainer.json", ".devcontainer.json"} {
		if r.hasPath(name) {
			return name
		}
	}
	at, err := r.resolve(".devcontainer")
	if err != nil {
		return ""
	}
	if info, err := fs.Stat(r.fs, at); err != nil || !info.IsDir() {
		return ""
	}
	entries, err := fs.ReadDir(r.fs, at)
	if err != nil {
		return ""
	}
	found := ""
	for _, e := range entries {
		name := path.Join(".devcontainer", e.Name(), "devcontainer.json")
		if e.IsDir() && r.hasPath(name) && (found == "" || e.Name() == "binder" || e.Name() == "jupyter") {
			found = name
		}
	}
	return found
}

// devcontainer is what of the file counts, as containers.dev has it.
type devcontainer struct {
	Image        string `json:"image"`
	DockerFile   string `json:"dockerFile"` // the older form of build
	Context      string `json:"context"`
	Build        build  `json:"build"`
	Features     map[string]json.RawMessage
	OnCreate     json.RawMessage    `json:"onCreateCommand"`
	Update       json.RawMessage    `json:"updateContentCommand"`
	PostCreate   json.RawMessage    `json:"postCreateCommand"`
	PostStart    json.RawMessage    `json:"postStartCommand"`
	ContainerEnv map[string]string  `json:"containerEnv"`
	RemoteEnv    map[string]*string `json:"remoteEnv"` // null takes a variable away
	RemoteUser   string             `json:"remoteUser"`
	User         string             `json:"containerUser"`
	Workspace    string             `json:"workspaceFolder"`
}

type build struct {
	Dockerfile string            `json:"dockerfile"`
	Context    string            `json:"context"`
	Target     string            `json:"target"`
	Args       map[string]string `json:"args"`
	Options    []string          `json:"options"`
}

func readDevcontainer(r *reader) error {
	file := r.devcontainerFile()
	text, _, err := r.text(file)
	if err != nil {
		return err
	}
	var d devcontainer
	var all map[string]json.RawMessage
	for _, into := range []any{&d, &all} {
		if err := decodeJSONC(file, text, into); err != nil {
			return err
		}
	}
	r.use(file, "a development container")
	if err := r.choosePython(nil, nil); err != nil {
		return err
	}
	if err := r.devBase(file, d); err != nil {
		return err
	}
	if err := r.devPython(file, d); err != nil {
		return err
	}
	if err := r.pythonServer(); err != nil {
		return err
	}
	for _, part := range []func(string, devcontainer) error{r.devFeatures, r.devEnv, r.devWorkspace, r.devCommands} {
		if err := part(file, d); err != nil {
			return err
		}
	}
	r.devNotes(file, d, all)
	return nil
}

// devBase decides what the environment stands on.
func (r *reader) devBase(file string, d devcontainer) error {
	if d.Build.Dockerfile == "" && d.DockerFile != "" {
		d.Build.Dockerfile, d.Build.Context = d.DockerFile, d.Context
	}
	dir := path.Dir(file)
	switch {
	case d.Build.Dockerfile != "":
		name, ok := inTree(dir, r.devText(d.Build.Dockerfile))
		if !ok || !r.hasPath(name) {
			return wrong(file, r.lineOf(file, "dockerfile"), "The Dockerfile that devcontainer.json names is not in the repository: "+short(d.Build.Dockerfile)+".", "Its path begins where devcontainer.json is.")
		}
		context, ok := inTree(dir, r.devText(d.Build.Context))
		if !ok {
			return wrong(file, r.lineOf(file, "context"), "The build context of devcontainer.json is not in the repository: "+short(d.Build.Context)+".", "Its path begins where devcontainer.json is.")
		}
		args := map[string]string{}
		for name, value := range d.Build.Args {
			args[name] = r.devText(value)
		}
		r.use(name, "builds the image under the environment")
		r.Base = &Base{Dockerfile: name, Context: context, Target: d.Build.Target, Args: args, From: Location{file, r.lineOf(file, "dockerfile")}}
	case d.Image != "":
		image := r.devText(d.Image)
		if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`).MatchString(image) {
			return wrong(file, r.lineOf(file, "image"), "This is not the name of an image: "+short(image)+".", "Write it like debian:13.")
		}
		r.Base = &Base{Image: image, From: Location{file, r.lineOf(file, "image")}}
	}
	return nil
}

// devText replaces the variables of containers.dev that mean something here.
// What is only on the author's machine becomes its default.
func (r *reader) devText(s string) string {
	return regexp.MustCompile(`\$\{(\w+)(?::([^:}]*))?(?::([^}]*))?\}`).ReplaceAllStringFunc(s, func(m string) string {
		parts := strings.SplitN(strings.Trim(m, "${}"), ":", 3)
		switch parts[0] {
		case "localWorkspaceFolder", "containerWorkspaceFolder":
			return RepoDir
		case "localWorkspaceFolderBasename", "containerWorkspaceFolderBasename":
			return path.Base(RepoDir)
		case "devcontainerId":
			return "binnacle"
		case "containerEnv":
			if len(parts) > 1 {
				if v := r.LateEnv[parts[1]]; v != "" {
					return v
				}
				if v := r.Env[parts[1]]; v != "" {
					return v
				}
			}
		case "localEnv", "env":
		default:
			return m
		}
		if len(parts) == 3 {
			return parts[2]
		}
		return ""
	})
}

// devEnv gives steps and sessions the variables of the file.
func (r *reader) devEnv(file string, d devcontainer) error {
	all := map[string]string{}
	maps.Copy(all, d.ContainerEnv)
	for name, value := range d.RemoteEnv {
		if value == nil {
			delete(all, name)
		} else {
			all[name] = *value
		}
	}
	for _, name := range sortedNames(all) {
		if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) {
			return wrong(file, r.lineOf(file, name), "This is not the name of a variable: "+short(name)+".", "Names have letters, digits and underscores.")
		}
		value := r.devText(all[name])
		if strings.ContainsAny(value, "\x00\n") {
			return wrong(file, r.lineOf(file, name), "The value of "+name+" goes over lines.", "Write it on one line.")
		}
		switch name {
		case "HOME", "USER", "SHELL", "REPO_DIR", "NB_USER", "NB_UID", "R2D_ENTRYPOINT", "VIRTUAL_ENV":
			r.note(file, r.lineOf(file, name), "The variable "+name+" is not set: every session has its own.", "")
		case "PATH":
			have := r.LateEnv["PATH"]
			if have == "" {
				have = r.Env["PATH"]
			}
			front := strings.TrimSuffix(have, systemTail)
			r.late("PATH", front+strings.TrimPrefix(strings.TrimPrefix(value, front), strings.TrimSuffix(r.Env["PATH"], systemTail)))
		default:
			if strings.Contains(all[name], "${localEnv:") {
				r.note(file, r.lineOf(file, name), name+" comes from the machine of the author, so it is "+short(value)+" here.", "Give it a default: ${localEnv:NAME:default}.")
			}
			r.late(name, value)
		}
	}
	return nil
}

// systemTail is where the PATH of every image ends.
const systemTail = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// devWorkspace lets the folder that scripts name lead to the repository.
func (r *reader) devWorkspace(file string, d devcontainer) error {
	at := r.devText(d.Workspace)
	if at == "" || path.Clean(at) == RepoDir {
		return nil
	}
	if !path.IsAbs(at) || path.Clean(at) == "/" || strings.ContainsAny(at, "\x00\n") {
		return wrong(file, r.lineOf(file, "workspaceFolder"), "workspaceFolder is not the path of a directory: "+short(at)+".", "Write it like /workspace.")
	}
	at = path.Clean(at)
	r.add(Step{
		Name: "workspaceFolder", Stage: StageSystem, Root: true, From: []Location{{file, r.lineOf(file, "workspaceFolder")}},
		Script: "mkdir -p " + quote(path.Dir(at)) + "\n[ -e " + quote(at) + " ] || ln -s " + RepoDir + " " + quote(at) + "\n",
	})
	return nil
}

// devCommands runs what creates the container at the end of the build, and what
// starts it before every session.
func (r *reader) devCommands(file string, d devcontainer) error {
	for _, c := range []struct {
		name string
		raw  json.RawMessage
	}{{"onCreateCommand", d.OnCreate}, {"updateContentCommand", d.Update}, {"postCreateCommand", d.PostCreate}} {
		script, err := r.devCommand(file, c.name, c.raw)
		if err != nil {
			return err
		}
		if script == "" {
			continue
		}
		r.add(Step{
			Name: c.name, Stage: StagePostBuild, From: []Location{{file, r.lineOf(file, c.name)}},
			Inputs: []Input{{Name: "command.sh", Content: []byte(script)}},
			Script: "bash -e " + InputDir + "/command.sh\n" + tidy + `rm -rf "$HOME/.npm"` + "\n",
		})
	}
	script, err := r.devCommand(file, "postStartCommand", d.PostStart)
	if err != nil || script == "" {
		return err
	}
	const start = "/usr/local/share/binnacle/start"
	r.add(Step{
		Name: "postStartCommand", Stage: StageBinary, Branch: "start", From: []Location{{file, r.lineOf(file, "postStartCommand")}},
		Inputs: []Input{{Name: "start", Content: []byte("#!/bin/bash\n# The session begins whatever becomes of this.\n(\nset -e\n" + script + ") || echo \"postStartCommand failed\" >&2\nexec \"$@\"\n")}},
		Script: "cp " + InputDir + "/start " + start + "\nchmod 0755 " + start + "\n",
	})
	r.late("R2D_ENTRYPOINT", start)
	return nil
}

// devCommand is a script for a command in one of its three forms: a line for a
// shell, a program with its arguments, or several of either by name.
func (r *reader) devCommand(file, name string, raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var line string
	if json.Unmarshal(raw, &line) == nil {
		if strings.TrimSpace(line) == "" {
			return "", nil
		}
		return r.devText(line) + "\n", nil
	}
	var words []string
	if json.Unmarshal(raw, &words) == nil {
		for i, w := range words {
			words[i] = quote(r.devText(w))
		}
		return strings.Join(words, " ") + "\n", nil
	}
	var several map[string]json.RawMessage
	if err := json.Unmarshal(raw, &several); err != nil {
		return "", wrong(file, r.lineOf(file, name), name+" is neither a line, nor a list of words, nor several of them by name.", `Write it like "pip install -r requirements.txt".`)
	}
	var all strings.Builder
	for _, key := range sortedNames(several) {
		if trimmed := strings.TrimSpace(string(several[key])); strings.HasPrefix(trimmed, "{") {
			return "", wrong(file, r.lineOf(file, name), name+" has commands within commands.", "Give every command its own name.")
		}
		script, err := r.devCommand(file, name, several[key])
		if err != nil {
			return "", err
		}
		all.WriteString(script)
	}
	return all.String(), nil
}

// devNotes says what can't be honoured.
func (r *reader) devNotes(file string, d devcontainer, all map[string]json.RawMessage) {
	const editor = "no editor is attached"
	for _, n := range []struct{ name, why string }{
		{"dockerComposeFile", "there is one container for a session, and its image is ours"},
		{"mounts", "sessions have no volumes"},
		{"workspaceMount", "the repository is part of the image"},
		{"runArgs", "sessions are not started by Docker"},
		{"privileged", "sessions have no privileges"},
		{"capAdd", "sessions have no privileges"},
		{"securityOpt", "sessions have no privileges"},
		{"hostRequirements", "the hub sets what a session may use"},
		{"secrets", "sessions get no secrets of the author's"},
		{"initializeCommand", "there is no machine of the author's"},
		{"postAttachCommand", editor},
		{"forwardPorts", "what listens in a session is reached through the Jupyter server"},
		{"appPort", "what listens in a session is reached through the Jupyter server"},
		{"customizations", editor},
		{"extensions", editor},
		{"settings", editor},
	} {
		if raw, ok := all[n.name]; ok && string(raw) != "false" && string(raw) != "[]" && string(raw) != "{}" && string(raw) != "null" {
			r.note(file, r.lineOf(file, n.name), n.name+" is passed over: "+n.why+".", "")
		}
	}
	if len(d.Build.Options) > 0 {
		r.note(file, r.lineOf(file, "options"), "The options of build are passed over: images are not built by Docker.", "")
	}
	for _, user := range []struct{ key, name string }{{"remoteUser", d.RemoteUser}, {"containerUser", d.User}} {
		if user.name == "root" {
			r.note(file, r.lineOf(file, user.key), "Commands and sessions run as jovyan with the number 1000, not as root.", "Install what needs root in the Dockerfile, or with a feature.")
			return
		}
	}
}
