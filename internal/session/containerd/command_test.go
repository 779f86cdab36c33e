package containerd_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/containerd"
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
			got := containerd.Command(c.image, session.Spec{BaseURL: "/user/x/", Token: "secret", AllowOrigin: "https://hub.example.org"})
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
	got := containerd.Environment(image, spec, true)
	for _, want := range []string{"PATH=/opt/bin", "A=person", "JUPYTER_TOKEN=ours", "HOME=/home/jovyan", "SSL_CERT_FILE=/etc/binnacle/ca.pem"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing: %v", want, got)
		}
	}
	if got := containerd.Environment(image, spec, false); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "SSL_CERT_FILE=") }) {
		t.Errorf("certificates of nobody: %v", got)
	}
}

func TestValidate(t *testing.T) {
	for _, cfg := range []containerd.Config{{}, {Dir: "x"}, {Dir: "/" + strings.Repeat("x", 60)}, {Dir: "/x", Grace: -1}} {
		if cfg.Validate() == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
