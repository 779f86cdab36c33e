package cli_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

// deploy runs `binnacle deploy` with the arguments. It reaches no registry.
func deploy(t *testing.T, in string, environ []string, args ...string) (code int, out, log string) {
	t.Helper()
	return deployOn(t, registryhost.Nowhere(), in, environ, args...)
}

func deployOn(t *testing.T, registries http.RoundTripper, in string, environ []string, args ...string) (code int, out, log string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(t.Context(), cli.Env{
		Args: append([]string{"deploy"}, args...), In: strings.NewReader(in), Out: &o, Err: &e,
		Environ: environ, Terminal: in != "", Width: func() int { return 80 }, Registries: registries,
	})
	return code, o.String(), e.String()
}

func TestDeployInit(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "binnacle.yaml")
	flags := []string{"init", "-f", file, "--name", "my-hub", "--target", "azure", "--subscription", "Research", "--region", "West Europe", "--max-nodes", "4"}
	if code, _, log := deploy(t, "", nil, flags...); code != 0 {
		t.Fatal(log)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/deploy_init.golden", string(b))
	if code, _, log := deploy(t, "", nil, flags...); code != 3 || !strings.Contains(log, "is there already") {
		t.Errorf("an existing file: exit %d, %s", code, log)
	}
	if code, _, log := deploy(t, "", nil, "init", "-f", file+"2"); code != 2 || !strings.Contains(log, "name: is missing") || !strings.Contains(log, "target: is missing") {
		t.Errorf("nothing said: exit %d, %s", code, log)
	}
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("a wrong file was written")
	}
}

// Questions are asked for what no flag says and the target needs.
func TestDeployInitAsks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "binnacle.yaml")
	answers := "k8s\ncluster\nmy-context\nhttps://registry.example.org\nregistry.example.org\nada\nhub.example.org\n"
	code, _, log := deploy(t, answers, nil, "init", "-f", file, "--name", "my-hub")
	if code != 0 || strings.Contains(log, "Azure") {
		t.Fatal(log)
	}
	// What can't be right is told at once, and asked again.
	for _, want := range []string{`must be one of azure, cluster, host, not "k8s".`, `must be the host of a registry, not "https://registry.example.org".`} {
		if strings.Count(log, want) != 1 {
			t.Errorf("%q is not said: %s", want, log)
		}
	}
	b, err := os.ReadFile(file)
	for _, want := range []string{"  context: my-context\n", "  kind: other\n", "  host: registry.example.org\n", "  username: ada\n", "  password_from: env:REGISTRY_PASSWORD\n", "  domain: hub.example.org\n"} {
		if err != nil || !strings.Contains(string(b), "\n"+want) {
			t.Errorf("%v, no %s in\n%s", err, want, b)
		}
	}
	if code, _, log := deploy(t, "azure\n\n", nil, "init", "-f", file+"2", "--name", "my-hub"); code != 2 || !strings.Contains(log, "azure.region: is missing") {
		t.Errorf("nobody answers any more: %d %s", code, log)
	}
}

func TestDeployCheckReportsAll(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "binnacle.yaml")
	text := "name: my-hub\ntarget: cluster\nregistry: {kind: quay}\ndns: {domain: hub.example.org}\nhub: {launch: {max_builds: -1, colour: red}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, log := deploy(t, "", nil, "check", "-f", file)
	for _, want := range []string{"cluster.context: is missing", "line 3: registry.kind: must be one of", "hub.launch.colour: no such setting"} {
		if code != 2 || !strings.Contains(log, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, log)
		}
	}
}

func TestDeployImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	legacy, file := filepath.Join(dir, "config.json"), filepath.Join(dir, "binnacle.yaml")
	text := `{"container_registry": "dockerhub", "enable_https": "false", "azure": {"subscription": "Research", "res_grp_name": "rg",
		"location": "West Europe", "node_count": "3", "vm_size": "Standard_D4s_v3"}, "binderhub": {"name": "my-hub", "version": "0.2.0", "image_prefix": "b"},
		"docker": {"username": "ada", "password": "hunter2"}}`
	if err := os.WriteFile(legacy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// As it is, and as what it becomes.
	if code, _, log := deploy(t, "", nil, "check", "--offline", "-f", legacy); code != 0 {
		t.Error(log)
	}
	code, out, log := deploy(t, "", nil, "import", legacy, "-o", file)
	if code != 0 || !strings.Contains(log, "DOCKERHUB_PASSWORD") || strings.Contains(out+log, "hunter2") {
		t.Errorf("exit %d: %s%s", code, out, log)
	}
	if code, _, log := deploy(t, "", nil, "check", "--offline", "-f", file); code != 0 {
		t.Error(log)
	}
	if b, _ := os.ReadFile(file); bytes.Contains(b, []byte("hunter2")) || !bytes.Contains(b, []byte("  enabled: false\n")) {
		t.Errorf("%s", b)
	}
	if code, _, log := deploy(t, "", nil, "import"); code != 2 || !strings.Contains(log, "BINDERHUB_CONTAINER_MODE") {
		t.Errorf("exit %d: %s", code, log)
	}
}
