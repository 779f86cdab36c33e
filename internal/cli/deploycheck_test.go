package cli_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/kubesim"
	"github.com/binnacle-hub/binnacle/test/registryhost"
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

// The login is tried before anything is made, and what is wrong with it stops up; a
// registry that is not reached from here does not.
func TestDeployCheckLogin(t *testing.T) {
	t.Parallel()
	const wrong, acr = "a-wrong-password", "otherimages.azurecr.io"
	people := func(prefix string) map[string]registryhost.Person {
		return map[string]registryhost.Person{"ada": {Password: registryPassword, Push: []string{prefix}}, "bob": {Password: registryPassword}}
	}
	n := registryhost.Start(t, map[string]registryhost.Registry{
		"registry.example.org": {People: people("my-hub/binder-")}, "harbor.example.org": {Realm: "https://harbor.example.org/service/token", Denied: true, People: people("my-hub/")},
		"index.docker.io": registryhost.DockerHub(people("institute/binder-")), acr: registryhost.Azure(acr, people("my-hub/binder-")), "open.example.org": {},
	})
	login := func(kind, user string) string {
		return "registry: {" + kind + ", username: " + user + ", password_from: env:REGISTRY_PASSWORD}\n"
	}
	const hub, ours = "kind: dockerhub, organisation: institute", "kind: other, host: registry.example.org"
	for _, tt := range []struct {
		more, password, want string
		code                 int
	}{
		{login(ours, "ada"), registryPassword, "ok    login         the registry accepts ada, who may push registry.example.org/my-hub/binder-…\n", 0},
		{login(ours, "ada"), wrong, "wrong login         The registry registry.example.org does not accept the user and the password.\n        try: Put a valid password or token of registry.username (ada) into env:REGISTRY_PASSWORD", 2},
		{login(ours, "bob"), registryPassword, "wrong login         The registry registry.example.org accepts the login, and does not let it push to registry.example.org/my-hub/binder-binnacle-check.\n        try: Give the account", 2},
		{login("kind: other, host: harbor.example.org", "bob"), registryPassword, "does not let it push to harbor.example.org/my-hub/binder-binnacle-check.\n", 2},
		{login(hub, "ada"), registryPassword, "ok    login         the registry accepts ada, who may push docker.io/institute/binder-…\n", 0},
		{login(hub, "ada"), wrong, "wrong login         The registry index.docker.io does not accept the user and the password.\n", 2},
		{login(hub, "bob"), registryPassword, "wrong login         The registry index.docker.io accepts the login, and does not let it push to index.docker.io/institute/binder-binnacle-check.\n", 2},
		{login("kind: other, host: "+acr, "ada"), registryPassword, "ok    login         the registry accepts ada, who may push " + acr + "/my-hub/binder-…\n", 0},
		{login("kind: other, host: "+acr, "ada"), wrong, "does not accept the user and the password.\n", 2},
		{login("kind: other, host: elsewhere.example.org", "ada"), registryPassword, "warn  login         The registry elsewhere.example.org can't be reached from here: its name has no address.\n        try: The cluster may reach", 0},
		{"registry: {kind: other, host: open.example.org}\n", "", "ok    login         the registry lets everybody push open.example.org/my-hub/binder-…\n", 0},
		{"registry: {kind: other, host: registry.example.org}\n", "", "wrong login         The registry registry.example.org wants a login, and there is none for it.\n        try: Set registry.username", 2},
		{"registry: {kind: other, host: 123456789012.dkr.ecr.eu-west-1.amazonaws.com}\n", "", "ok    login         the hub signs in to the registry with the identity of its pod, which is not here: not tried\n", 0},
		{"registry: {kind: other, host: registry.example.org}\nvalues: {registry: {existingSecret: theirs}}\n", "", "warn  login         the registry's login is to be in the Secret theirs of the namespace my-hub, which is not there\n", 0},
	} {
		file, k := onSim(t, tt.more)
		s := azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubesim.Start(t, new(kubesim.Cluster))})
		azure, environ := onAzure(t, s, "registry: {kind: azure, name: myhubimages}\n", tt.more)
		for _, file := range []string{file, azure} {
			for _, args := range [][]string{{"check"}, {"up", "--yes", "--no-verify"}} {
				if args[0] == "up" && tt.code == 0 {
					continue
				}
				code, out, log := deployOn(t, n, "", append(environ, "REGISTRY_PASSWORD="+tt.password), append(args, "-f", file)...)
				if code != tt.code || !strings.Contains(out, tt.want) || strings.Contains(out+log, registryPassword) || strings.Contains(out+log, wrong) {
					t.Errorf("%v %s: exit %d, not %d, or not %q, or a secret shows\n%s%s", args, tt.more, code, tt.code, tt.want, out, log)
				}
			}
		}
		if len(s.Writes()) > 0 || len(k.Writes()) > 0 {
			t.Errorf("%s: written: %q %q", tt.more, s.Writes(), k.Writes())
		}
	}
	if asked := n.Asked(); !slices.Contains(asked, "DELETE index.docker.io/institute/binder-binnacle-check") {
		t.Errorf("what was begun is not taken back: %q", asked)
	}
}

// A registry that up makes can't be tried before; afterwards it is, with the login that
// the cluster keeps.
func TestDeployCheckLoginOfCluster(t *testing.T) {
	t.Parallel()
	const host = "myhubimages.azurecr.io"
	person := registryhost.Person{Password: "a-password-of-the-registry-1", Push: []string{"my-hub/"}}
	n := registryhost.Start(t, map[string]registryhost.Registry{host: registryhost.Azure(host, map[string]registryhost.Person{"binnacle": person})})
	revoked := registryhost.Start(t, map[string]registryhost.Registry{host: registryhost.Azure(host, map[string]registryhost.Person{"grace": person})})
	s := azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubesim.Start(t, new(kubesim.Cluster))})
	file, environ := onAzure(t, s, "dns: {label: my-hub-label}\n", "dns: {label: my-hub-label}\n"+small("registry.example.org/binnacle:1"))
	do := func(want int, n *registryhost.Network, says string, args ...string) {
		t.Helper()
		code, out, log := deployOn(t, n, "", environ, append(args, "-f", file)...)
		if code != want || !strings.Contains(out, says) || strings.Contains(out+log, person.Password) {
			t.Errorf("%v: exit %d, not %d, or not %q\n%s%s", args, code, want, says, out, log)
		}
	}
	do(0, n, "ok    login         up makes the registry's login: there is nothing to try yet\n", "check")
	do(0, n, "everything is as wanted", "up", "--yes", "--no-verify")
	if len(n.Asked()) > 0 {
		t.Errorf("asked before there was a login: %q", n.Asked())
	}
	do(0, n, "ok    login         the registry accepts binnacle, who may push "+host+"/my-hub/binder-…\n", "check")
	do(2, revoked, "try: Delete the Secret my-hub-registry in both namespaces and run binnacle deploy up, which makes a new login.", "check")
	do(0, n, "The hub sleeps", "sleep")
	do(0, n, "warn  login         the registry's login is in the cluster, which does not give it: not tried.", "check")
}

// Who has no password can look all the same, when the cluster keeps the login that
// another has put there; without either it is told.
func TestDeployCheckWithoutPassword(t *testing.T) {
	t.Parallel()
	const host, settings = "registry.example.org", "registry: {kind: azure, name: myhubimages}\n"
	person := registryhost.Person{Password: registryPassword, Push: []string{"my-hub/"}}
	n := registryhost.Start(t, map[string]registryhost.Registry{host: {People: map[string]registryhost.Person{"ada": person}}})
	s := azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubesim.Start(t, new(kubesim.Cluster))})
	file, without := onAzure(t, s, settings, "registry: {kind: other, host: "+host+", username: ada, password_from: env:REGISTRY_PASSWORD}\n"+small(host+"/binnacle:1"))
	with := append(slices.Clip(without), "REGISTRY_PASSWORD="+registryPassword)
	do := func(want int, environ []string, says string, args ...string) {
		t.Helper()
		code, out, log := deployOn(t, n, "", environ, append(args, "-f", file)...)
		if code != want || !strings.Contains(out, says) || strings.Contains(out+log, registryPassword) {
			t.Errorf("%v: exit %d, not %d, or not %q\n%s%s", args, code, want, says, out, log)
		}
	}
	const missing = "wrong registry      registry.password_from: the variable REGISTRY_PASSWORD is not set.\n"
	do(2, without, missing, "check")
	do(0, with, "everything is as wanted", "up", "--yes", "--no-verify")
	do(0, without, "ok    login         the registry accepts ada, who may push "+host+"/my-hub/binder-…\n", "check")
	do(0, with, "The hub sleeps", "sleep")
	do(2, without, missing, "check")
}
