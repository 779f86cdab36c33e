package session_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/binnacle-hub/binnacle/internal/session"
)

func TestCommand(t *testing.T) {
	ours := map[string]string{"dev.binnacle.kind": "python"}
	for name, c := range map[string]struct {
		image ocispec.ImageConfig
		want  []string // what it begins with
	}{
		"recipe": {ocispec.ImageConfig{Cmd: []string{"jupyter-lab", "--x"}, Labels: ours}, []string{"jupyter-lab", "--x", "--no-browser"}},
		"address": {
			ocispec.ImageConfig{Cmd: []string{"jupyter", "lab", "--ip", "0.0.0.0", "--port=9999", "--NotebookApp.token=''", "--ServerApp.password", "", "--debug"}},
			[]string{"jupyter", "lab", "--debug", "--no-browser"},
		},
		"nothing":     {ocispec.ImageConfig{}, []string{"jupyter", "lab", "--no-browser"}},
		"shell":       {ocispec.ImageConfig{Cmd: []string{"/bin/bash"}}, []string{"jupyter", "lab", "--no-browser"}},
		"path":        {ocispec.ImageConfig{Cmd: []string{"/opt/bin/jupyter", "notebook"}}, []string{"/opt/bin/jupyter", "notebook", "--no-browser"}},
		"hub":         {ocispec.ImageConfig{Cmd: []string{"jupyterhub-singleuser"}}, []string{"jupyter", "lab", "--no-browser"}},
		"stacks":      {ocispec.ImageConfig{Entrypoint: []string{"tini", "--"}, Cmd: []string{"start-notebook.py"}}, []string{"tini", "--", "start-notebook.py", "--no-browser"}},
		"entry point": {ocispec.ImageConfig{Entrypoint: []string{"/start"}, Cmd: []string{"sh"}}, []string{"/start", "jupyter", "lab", "--no-browser"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := session.Spec{BaseURL: "/user/x/", Token: "secret", AllowOrigin: "https://hub.example.org"}
			got := session.Command(c.image, spec, session.Address{Socket: "/run/binnacle/jupyter.sock"})
			if diff := cmp.Diff(c.want, got[:len(c.want)]); diff != "" {
				t.Error(diff)
			}
			all := strings.Join(got, " ")
			for _, want := range []string{"--ServerApp.sock=/run/binnacle/jupyter.sock", "--ServerApp.base_url=/user/x/", "--ServerApp.allow_origin=https://hub.example.org"} {
				if !slices.Contains(got, want) {
					t.Errorf("%s is missing: %s", want, all)
				}
			}
			if strings.Contains(all, "secret") {
				t.Error("the token is on the command line")
			}
			if classic := strings.Contains(all, "--NotebookApp."); classic == (name == "recipe") {
				t.Errorf("flags of the classic server: %t", classic)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	image := ocispec.ImageConfig{Env: []string{"PATH=/opt/bin", "A=image", "JUPYTER_TOKEN=image"}}
	spec := session.Spec{Token: "ours", Env: map[string]string{"A": "person", "JUPYTER_TOKEN": "person"}}
	got := session.Environment(image, spec, true)
	for name, want := range map[string]string{"PATH": "/opt/bin", "A": "person", "JUPYTER_TOKEN": "ours", "HOME": "/home/jovyan", "SSL_CERT_FILE": "/etc/binnacle/ca.pem"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if got, ok := session.Environment(image, spec, false)["SSL_CERT_FILE"]; ok {
		t.Errorf("certificates of nobody: %s", got)
	}
}

func TestCommandOnPort(t *testing.T) {
	image := ocispec.ImageConfig{Cmd: []string{"jupyter-lab", "--ip", "0.0.0.0"}, Labels: map[string]string{"dev.binnacle.kind": "python"}}
	got := session.Command(image, session.Spec{BaseURL: "/user/x/"}, session.Address{Port: 8888})
	want := []string{
		"jupyter-lab", "--no-browser", "--ServerApp.ip=*", "--ServerApp.port=8888", "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/x/",
		"--ServerApp.allow_remote_access=True", "--ServerApp.trust_xheaders=True", "--ServerApp.default_url=/lab", "--LabApp.news_url=None",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGroup(t *testing.T) {
	for user, want := range map[string]uint32{"": 1000, "root": 1000, "0:0": 1000, "1000:100": 100, "me:users": 1000, "1:-5": 1000} {
		if got := session.Group(ocispec.ImageConfig{User: user}); got != want {
			t.Errorf("%q: %d, want %d", user, got, want)
		}
	}
}

func TestExit(t *testing.T) {
	for got, want := range map[string]string{
		session.ExitByCode(0): "Its server ended.", session.ExitByCode(3): "Its server ended with code 3.", session.ExitByCode(137): "It was stopped by force.",
		session.ExitByMemory(128 << 20): "It used more than 128 MiB of memory and was stopped.", session.ExitByMemory(0): "It used more memory than there was and was stopped.",
		session.ExitByDisk(2 << 30): "It wrote more than 2 GiB to disk and was stopped.",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
