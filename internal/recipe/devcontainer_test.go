package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func TestDevcontainerKind(t *testing.T) {
	const image = `{"image": "debian:13"}`
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
		notes []string
	}{
		"in its folder":       {map[string]string{".devcontainer/devcontainer.json": image, "package.json": "{}", "package-lock.json": emptyLock}, "devcontainer", []string{"package.json is passed over"}},
		"in the root":         {map[string]string{".devcontainer.json": "{ // mine\n\"image\": \"debian:13\", }"}, "devcontainer", nil},
		"one folder deeper":   {map[string]string{".devcontainer/cpu/devcontainer.json": image, ".devcontainer/gpu/devcontainer.json": "{"}, "devcontainer", nil},
		"binder among others": {map[string]string{".devcontainer/cpu/devcontainer.json": "{", ".devcontainer/jupyter/devcontainer.json": image}, "devcontainer", nil},
		"requirements.txt":    {map[string]string{".devcontainer.json": image, "requirements.txt": "a"}, "python", []string{".devcontainer.json is there, but other files"}},
		"apt.txt":             {map[string]string{".devcontainer/devcontainer.json": image, "apt.txt": "git"}, "python", []string{"devcontainer.json is there, but other files"}},
		"postBuild":           {map[string]string{".devcontainer.json": image, "postBuild": "#!/bin/sh\n"}, "python", nil},
		"binder directory":    {map[string]string{".devcontainer.json": image, "binder/apt.txt": "git"}, "python", nil},
		"Dockerfile":          {map[string]string{".devcontainer.json": image, "Dockerfile": "FROM a\n"}, "dockerfile", nil},
		"compose": {
			map[string]string{".devcontainer.json": `{"dockerComposeFile": "c.yml", "mounts": ["a"], "runArgs": ["-v"], "privileged": true, "forwardPorts": [1], "customizations": {"vscode": {}}, "remoteUser": "root", "features": {"ghcr.io/devcontainers/features/docker-in-docker:2": {}}}`},
			"devcontainer",
			[]string{"dockerComposeFile is passed over", "mounts is", "runArgs is", "privileged is", "forwardPorts is", "customizations is", "not as root", "docker-in-docker:2\" is passed over"},
		},
		"empty lists": {map[string]string{".devcontainer.json": `{"mounts": [], "privileged": false, "customizations": {}, "name": "x", "shutdownAction": "none"}`}, "devcontainer", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if r.Kind != c.kind {
				t.Errorf("kind %s, want %s", r.Kind, c.kind)
			}
			for _, want := range c.notes {
				if !strings.Contains(notes(r), want) {
					t.Errorf("no note has %q:\n%s", want, notes(r))
				}
			}
			if c.kind == "devcontainer" && len(c.notes) == 0 && len(r.Notes) > 0 {
				t.Errorf("notes:\n%s", notes(r))
			}
		})
	}
}

func TestDevcontainerBase(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  *recipe.Base
	}{
		"image":      {map[string]string{".devcontainer.json": "{\n\"image\": \"example.org/a/b:1.2-x\"}"}, &recipe.Base{Image: "example.org/a/b:1.2-x", From: recipe.Location{File: ".devcontainer.json", Line: 2}}},
		"Dockerfile": {map[string]string{".devcontainer/devcontainer.json": `{"build": {"dockerfile": "Dockerfile", "context": "..", "target": "dev", "args": {"A": "${localEnv:B:c}"}}}`, ".devcontainer/Dockerfile": "FROM a"}, &recipe.Base{Dockerfile: ".devcontainer/Dockerfile", Context: ".", Target: "dev", Args: map[string]string{"A": "c"}, From: recipe.Location{File: ".devcontainer/devcontainer.json"}}},
		"older form": {map[string]string{".devcontainer.json": `{"dockerFile": "docker/Dev", "context": "docker"}`, "docker/Dev": "FROM a"}, &recipe.Base{Dockerfile: "docker/Dev", Context: "docker", Args: map[string]string{}, From: recipe.Location{File: ".devcontainer.json"}}},
		"neither":    {map[string]string{".devcontainer.json": `{"features": {}}`}, nil},
	} {
		if diff := cmp.Diff(c.want, read(t, c.files).Base); diff != "" {
			t.Errorf("%s (-want +have):\n%s", name, diff)
		}
	}
	a, b := read(t, map[string]string{".devcontainer.json": `{"image": "a"}`}), read(t, map[string]string{".devcontainer.json": `{"image": "b"}`})
	if a.Environment() == b.Environment() || a.Environment() != read(t, map[string]string{".devcontainer/devcontainer.json": "\n{\"image\": \"a\"}"}).Environment() {
		t.Error("the image decides the environment, and where it is named does not")
	}
}

func TestDevcontainerContent(t *testing.T) {
	r := read(t, map[string]string{".devcontainer.json": `{
		"image": "a", "workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}",
		"features": {
			"ghcr.io/devcontainers/features/common-utils:2": {"installZsh": true},
			"ghcr.io/devcontainers/features/git-lfs:1": {},
			"ghcr.io/devcontainers/features/go:1": "1.23",
			"ghcr.io/devcontainers/features/node@sha256:00": {"version": "20"},
			"ghcr.io/devcontainers/features/python:1": {"version": "3.12"},
			"ghcr.io/rocker-org/devcontainer-features/apt-packages:1": {"packages": "jq,tree"},
			"ghcr.io/rocker-org/devcontainer-features/r-apt:latest": {"packages": "r-cran-ggplot2"},
			"ghcr.io/devcontainers/features/rust:1": {"version": "latest"},
		},
		"containerEnv": {"DATA": "${containerWorkspaceFolder}/data", "HOME": "/root", "TOKEN": "${localEnv:TOKEN}"},
		"remoteEnv": {"PATH": "${containerEnv:PATH}:/opt/bin", "DATA2": "x", "GONE": null},
		"onCreateCommand": "pip install a && echo 'b'", "updateContentCommand": ["echo", "it's", "${localWorkspaceFolder}"],
		"postCreateCommand": {"one": "echo 1", "two": ["echo", "2"]}, "postStartCommand": "date > /tmp/started",
	}`})
	want := []string{
		"Python and Jupyter", "Node 20.18.0", "apt: Git LFS", "apt: Go", "apt: Rust", "apt: apt-packages", "apt: r-apt", "workspaceFolder",
		"Go kernel", "Rust kernel", "postStartCommand", "R kernel", "onCreateCommand", "updateContentCommand", "postCreateCommand",
	}
	if diff := cmp.Diff(want, steps(r)); diff != "" {
		t.Errorf("steps (-want +have):\n%s", diff)
	}
	for step, want := range map[string]string{
		"onCreateCommand": "pip install a && echo 'b'\n", "updateContentCommand": `'echo' 'it'\''s' '/home/jovyan'` + "\n", "postCreateCommand": "echo 1\n'echo' '2'\n",
	} {
		if have := input(t, r, step, "command.sh"); have != want {
			t.Errorf("%s: %q, want %q", step, have, want)
		}
	}
	if s := input(t, r, "postStartCommand", "start"); !strings.Contains(s, "date > /tmp/started\n") || !strings.HasSuffix(s, "exec \"$@\"\n") {
		t.Error(s)
	}
	if r.Python.Value != "3.12" || r.Versions["node"].Value != "20.18.0" || r.Versions["go"].Value == "" {
		t.Errorf("%+v %+v", r.Python, r.Versions)
	}
	if r.LateEnv["DATA"] != "/home/jovyan/data" || r.LateEnv["DATA2"] != "x" || r.LateEnv["TOKEN"] != "" || r.LateEnv["HOME"] != "" || !strings.HasPrefix(r.LateEnv["PATH"], "/home/jovyan/.local/bin:/srv/conda/envs/notebook/bin:") || !strings.HasSuffix(r.LateEnv["PATH"], ":/opt/bin") {
		t.Errorf("%v", r.LateEnv)
	}
	for _, want := range []string{"TOKEN comes from the machine of the author", "HOME is not set"} {
		if !strings.Contains(notes(r), want) {
			t.Errorf("no note has %q:\n%s", want, notes(r))
		}
	}
}

func TestDevcontainerRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		line int
		says string
	}{
		"not JSON":       {"{\n \"image\": }", 2, "can't be read"},
		"odd image":      {"{\n\"image\": \"a\\nRUN injected\"}", 2, "not the name of an image"},
		"no Dockerfile":  {"{\"build\": {\n\"dockerfile\": \"Dockerfile\"}}", 2, "not in the repository"},
		"outside":        {"{\"build\": {\n\"dockerfile\": \"../../Dockerfile\"}}", 2, "not in the repository"},
		"odd variable":   {"{\"containerEnv\": {\n\"A B\": \"1\"}}", 2, "name of a variable"},
		"odd command":    {"{\n\"postCreateCommand\": 3}", 2, "neither a line"},
		"nested command": {"{\n\"postCreateCommand\": {\"a\": {\"b\": \"c\"}}}", 2, "within commands"},
		"old Python":     {"{\"features\": {\n\"ghcr.io/devcontainers/features/python:1\": {\"version\": \"2.7\"}}}", 2, "can't run"},
		"new Rust":       {"{\"features\": {\n\"ghcr.io/devcontainers/features/rust:1\": {\"version\": \"1.99\"}}}", 2, "Debian has"},
		"odd packages":   {"{\"features\": {\n\"ghcr.io/rocker-org/devcontainer-features/apt-packages:1\": {\"packages\": \"a;injected\"}}}", 2, "not a list"},
		"odd workspace":  {"{\n\"workspaceFolder\": \"a\"}", 2, "not the path"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(map[string]string{".devcontainer.json": c.text}))
			if e.File != ".devcontainer.json" || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want line %d …%s…", e.File, e.Line, e.Message, c.line, c.says)
			}
		})
	}
}

func FuzzDevcontainer(f *testing.F) {
	for _, s := range []string{
		`{"image": "a", "features": {"x/go:1": {"version": "injected"}, "x/node": "injected", "x/apt-packages": {"packages": "injected'"}}, "postStartCommand": {"a": ["injected'"]}}`,
		`{"build": {"dockerfile": "injected", "args": {"injected": "'"}}, "workspaceFolder": "/injected'", "containerEnv": {"A": "${containerEnv:PATH}injected"}}`,
		`{"remoteEnv": {"PATH": "${localEnv:injected:x}", "B": null}, "onCreateCommand": "injected"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { check(t, map[string]string{".devcontainer.json": text}) })
}
