package cli_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/kubesim"
)

// onSim writes a deployment on a stand-in for a cluster and returns its file.
func onSim(t *testing.T, more string) (file string, k *kubesim.Cluster) {
	t.Helper()
	k = &kubesim.Cluster{}
	dir := t.TempDir()
	file = filepath.Join(dir, "binnacle.yaml")
	kubeconfig := filepath.Join(dir, "kubeconfig")
	text := "name: my-hub\ntarget: cluster\ncluster: {kubeconfig: " + kubeconfig + ", context: sim}\nimage: registry.example.org/binnacle:1\nhttps: {enabled: false}\n" + more
	for path, content := range map[string]string{file: text, kubeconfig: string(kubesim.Start(t, k))} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file, k
}

const ownRegistry = "registry: {kind: other, host: registry.example.org, username: ada, password_from: env:REGISTRY_PASSWORD}\n"

// The file that init writes on Azure, as the README has it, is one that comes up.
func TestDeployInitComesUp(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubesim.Start(t, new(kubesim.Cluster))})
	file := filepath.Join(t.TempDir(), "binnacle.yaml")
	if code, _, log := deploy(t, "", nil, "init", "-f", file, "--name", "my-hub", "--target", "azure", "--subscription", "Research", "--region", "westeurope"); code != 0 {
		t.Fatal(log)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "  # sign_in: cli\n", settingsOf(s), 1) // which leads to the simulator
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check"}, {"up", "--yes", "--no-verify"}, {"sleep"}, {"wake"}, {"down", "--confirm", "my-hub"}} {
		if code, out, log := deploy(t, "", []string{"AZURE_SECRET=" + azuresim.Secret}, append(args, "-f", file)...); code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, code, out, log)
		}
	}
	for _, args := range [][]string{{"upgrade", "--yes"}, {"history"}, {"sleep"}} {
		code, _, log := deploy(t, "", []string{"AZURE_SECRET=" + azuresim.Secret}, append(args, "-f", file)...)
		if code != 3 || !strings.Contains(log, "There is no cluster my-hub on Azure.\n  try: binnacle deploy up") {
			t.Errorf("%v of what is removed: exit %d %s", args, code, log)
		}
	}
}

// What the chart would refuse is found before anything is made, the cluster that it
// would be installed on least of all.
func TestDeployCheckSettings(t *testing.T) {
	t.Parallel()
	for more, want := range map[string]string{
		ownRegistry + "values: {replicas: two}\n":       "values: at '/replicas': got string, want integer",
		ownRegistry + "values: {replicas: 2}\n":         "replicas: more than one replica of the hub needs a database they share",
		ownRegistry + "values: {builder: {}}\n":         "additional properties 'builder' not allowed",
		"registry: {kind: none}\n":                      "a hub on Kubernetes needs a registry",
		strings.ReplaceAll(ownRegistry, "_PASS", "_NO"): "registry.password_from: the variable REGISTRY_NOWORD is not set.",
	} {
		file, k := onSim(t, more)
		s := azuresim.Start(t, &azuresim.Azure{})
		azure, environ := onAzure(t, s, "registry: {kind: azure, name: myhubimages}\n", more)
		for _, file := range []string{file, azure} {
			for _, args := range [][]string{{"check"}, {"up", "--yes", "--no-verify"}} {
				code, out, log := deploy(t, "", append(environ, "REGISTRY_PASSWORD="+registryPassword), append(args, "-f", file)...)
				if code != 2 || !strings.Contains(out, want) || !strings.Contains(log, "nothing was created") {
					t.Errorf("%v: exit %d, not %q\n%s%s", args, code, want, out, log)
				}
			}
		}
		if len(s.Writes()) > 0 || len(k.Writes()) > 0 {
			t.Errorf("%s: written: %q %q", more, s.Writes(), k.Writes())
		}
	}
}

// Who only looks, or removes, needs no secret: those that are there are as wanted, and
// what is asked for without one that is needed is told at once.
func TestDeployWithoutSecrets(t *testing.T) {
	t.Parallel()
	const watched = ownRegistry + "watch: {repository: 'https://git.example.org/institute/hub', token_from: 'env:FORGE_TOKEN'}\n"
	file, k := onSim(t, watched)
	secrets := []string{"REGISTRY_PASSWORD=" + registryPassword, "FORGE_TOKEN=a-token-of-the-forge"}
	do := func(want int, environ []string, args ...string) string {
		t.Helper()
		code, out, log := deploy(t, "", environ, append(args, "-f", file)...)
		if code != want {
			t.Fatalf("%v: exit %d, not %d\n%s%s", args, code, want, out, log)
		}
		return out + log
	}
	for _, want := range []string{"REGISTRY_PASSWORD is not set", "the token is not in the cluster"} {
		if out := do(2, nil, "up", "--yes", "--no-verify"); !strings.Contains(out, want) || len(k.Writes()) > 0 {
			t.Errorf("not %q: %s; written: %q", want, out, k.Writes())
		}
	}
	do(0, secrets, "up", "--yes", "--no-verify")
	kept := k.State()
	if out := do(0, nil, "up", "--no-verify"); !strings.Contains(out, "Nothing to do") {
		t.Errorf("up on top of up: %s", out)
	}
	for _, args := range [][]string{{"plan"}, {"info"}, {"history"}, {"restart"}, {"sleep"}, {"wake"}} {
		do(0, nil, args...)
	}
	for _, name := range []string{"my-hub-registry", "my-hub-watch"} {
		if path := "/api/v1/namespaces/my-hub/secrets/" + name; kept[path] == "" || k.State()[path] != kept[path] {
			t.Errorf("%s was %s and is %s", name, kept[path], k.State()[path])
		}
	}
	do(0, nil, "down", "--confirm", "my-hub")
	if _, left := k.State()["/api/v1/namespaces/my-hub"]; left {
		t.Error("the namespace is left")
	}
}

// A cloud says nothing while it makes a cluster: each minute it is said that this goes
// on.
func TestDeployStillAtIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		want := "  still: create cluster my-hub, 1m\n  still: create cluster my-hub, 2m\n"
		if got := cli.Still("create cluster my-hub", 150*time.Second); got != want {
			t.Errorf("%q", got)
		}
	})
}

// Ctrl-C at a question ends the command at once, and nothing is done.
func TestDeployInterruptedAtQuestion(t *testing.T) {
	t.Parallel()
	file, k := onSim(t, ownRegistry)
	for question, args := range map[string][]string{"Do it? Type yes: ": {"up", "-f", file}, "Name of the hub, for example my-hub: ": {"init", "-f", file + "2"}} {
		ctx, cancel := context.WithCancel(t.Context())
		in, typing := io.Pipe() // nobody types
		log := &trigger{text: question, f: cancel}
		code := cli.Run(ctx, cli.Env{
			Args: append([]string{"deploy"}, args...), In: in, Out: io.Discard, Err: log, Terminal: true, Environ: []string{"REGISTRY_PASSWORD=" + registryPassword}, Width: func() int { return 80 },
		})
		_ = typing.Close()
		if code != cli.ExitCanceled || !strings.Contains(log.String(), "binnacle: Interrupted.") || len(k.Writes()) > 0 {
			t.Errorf("%v: exit %d, written: %q\n%s", args, code, k.Writes(), log.String())
		}
	}
}
