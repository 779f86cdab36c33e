package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/internal/deploy/backup"
	"github.com/binnacle-hub/binnacle/internal/deploy/button"
	"github.com/binnacle-hub/binnacle/internal/deploy/page"
	"github.com/binnacle-hub/binnacle/test/armtemplate"
	"github.com/binnacle-hub/binnacle/test/azuresim"
)

// onAzure starts the cloud that the cluster of the tests is said to be of. The
// name that it gives to the hub's address is nobody's, so the hub is known by the
// address itself.
func (h *clusterHub) onAzure(t *testing.T) {
	t.Helper()
	kubeconfig, err := os.ReadFile(h.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	h.azure = azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubeconfig, Address: strings.Trim(strings.TrimPrefix(h.url, "http:"), "/")})
}

// described is what differs from what `binnacle deploy` decides.
func (h *clusterHub) described() map[string]any {
	described := map[string]any{
		"registry": map[string]any{"kind": "other", "host": h.Registry},
		"https":    map[string]any{"enabled": false},
		"verify":   map[string]any{"repository": h.example.URL},
		"image":    h.own,
		"values":   h.values, "hub": h.hub,
	}
	if h.azure != nil {
		described["dns"] = map[string]any{"label": h.namespace}
		described["azure"] = map[string]any{"cloud": map[string]any{"prices": h.azure.URL + "/api/retail/prices", "ca_file": h.azure.CAFile}}
	}
	return described
}

// description is the deployment's file: on Azure what the button's container is
// given, on a cluster what a person writes.
func (h *clusterHub) description(t *testing.T) string {
	t.Helper()
	if h.azure != nil {
		for _, e := range h.fromButton(t) {
			if text, ok := strings.CutPrefix(e, button.Variable+"="); ok {
				return text
			}
		}
		t.Fatal("the button's container is not told what to deploy")
	}
	described := h.described()
	described["name"], described["target"] = h.namespace, "cluster"
	described["cluster"] = map[string]any{"kubeconfig": h.Kubeconfig, "context": h.context(t)}
	b, err := yaml.Marshal(described)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fromButton is the environment that the button's template gives to its container,
// when it is told a name and these other settings.
func (h *clusterHub) fromButton(t *testing.T) []string {
	t.Helper()
	template, err := armtemplate.Parse(button.Button{Image: h.own, Base: "https://git.example.org"}.Template())
	if err != nil {
		t.Fatal(err)
	}
	d, err := template.Deploy(armtemplate.Azure{
		Subscription: azuresim.Subscription, Group: "binnacle-" + h.namespace, Location: "westeurope", ResourceManager: h.azure.URL, Authority: h.azure.URL,
		References: map[string]any{
			"Microsoft.ManagedIdentity/userAssignedIdentities/" + h.namespace + "-deploy": map[string]any{"clientId": azuresim.Client, "principalId": "p"},
			"Microsoft.ContainerInstance/containerGroups/" + h.namespace + "-setup":       map[string]any{"ipAddress": map[string]any{"fqdn": "setup.example.org"}},
		},
	}, map[string]any{"name": h.namespace, "settings": h.described()})
	if err != nil {
		t.Fatal(err)
	}
	_, environ, err := d.Environment()
	if err != nil {
		t.Fatal(err)
	}
	return environ
}

func (h *clusterHub) context(t *testing.T) string {
	t.Helper()
	access, err := clientcmd.LoadFromFile(h.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return access.CurrentContext
}

// deploy runs a command of `binnacle deploy`, which must end with a code, and
// returns what it said.
func (h *clusterHub) deploy(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := h.operator(t, args...)
	out, err := cmd.CombinedOutput()
	t.Logf("binnacle deploy %s\n%s", strings.Join(args, " "), out)
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("deploy %s: exit %d, want %d (%v)", args[0], got, code, err)
	}
	if strings.Contains(string(out), azuresim.Secret) {
		t.Errorf("deploy %s shows the secret", args[0])
	}
	return string(out)
}

// operator is a command of `binnacle deploy` that is not started yet.
func (h *clusterHub) operator(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), the.bin, append([]string{"deploy"}, args...)...)
	cmd.Dir = h.dir
	if h.azure != nil { // as the button's identity
		cmd.Env = append(append(os.Environ(), h.azure.Identity()...), "AZURE_CLIENT_ID="+azuresim.Client)
	}
	return cmd
}

// builds: the operator reads what a build says while it goes on, whoever asked for
// it, and leaves nothing in the pod that was asked.
func (h *clusterHub) builds(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	follow := h.operator(t, "logs", "-f", "--component", "builds", "--since", "1m")
	follow.Stdout, follow.Stderr = f, f
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	l, _ := ready(t, h.person, launchOf(h.slow(t)))
	head := l.ID + " " + l.Spec.String() + " | "
	said := func(what string) bool {
		for line := range strings.Lines(read(t, log)) {
			if strings.HasPrefix(line, head) && strings.Contains(line, what) {
				return true
			}
		}
		return false
	}
	eventually(t, "the build is followed to its end", func() bool { return said("== building") && said("== built in ") })
	if err := follow.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = follow.Wait() // it was interrupted
	eventually(t, "the program in the pod ends", func() bool { return !strings.Contains(processes(t), "binnacle build-logs") })
	all := h.deploy(t, 0, "logs", "--component", "builds", "--since", "10m")
	if !strings.Contains(all, head) || strings.Contains(all+read(t, log), l.Session.Token) {
		t.Errorf("the logs of builds lack the launch %s, or have its token", l.ID)
	}
	if last := h.deploy(t, 0, "logs", "--component", "builds", "--tail", "1"); strings.Count(last, "\n") > 2 { // the place is said too
		t.Error("more than the last line")
	}
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

func (h *clusterHub) describe(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "binnacle.yaml"), []byte(h.description(t)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// up brings cloud and hub from nothing to a verified launch, as the button does, and
// then as a person with the file that it leaves.
func (h *clusterHub) up(t *testing.T) {
	t.Helper()
	h.azure.Add("binnacle-"+h.namespace, "Microsoft.Resources/resourceGroups", "binnacle-"+h.namespace, nil)
	h.describe(t)
	if out := h.deploy(t, 0, "check"); !strings.Contains(out, "the registry lets everybody push "+h.Registry+"/"+h.namespace+"/binder-") {
		t.Error("the registry is not tried")
	}
	if out := h.deploy(t, 0, "plan"); !strings.Contains(out, "create  cluster") || !strings.Contains(out, "create  release") {
		t.Error("the plan lacks the cluster or the hub")
	}
	result := h.container(t, h.fromButton(t))
	if result.State != page.Done || result.URL+"/" != h.url {
		t.Fatalf("the button's deployment ends with %+v", result)
	}
	before := len(h.azure.Writes())
	if out := h.deploy(t, 0, "up", "--no-verify"); !strings.Contains(out, "Nothing to do") || len(h.azure.Writes()) != before {
		t.Errorf("up on top of up wrote: %q", h.azure.Writes()[before:])
	}
}

// container runs the button's container until its page says how it ended.
func (h *clusterHub) container(t *testing.T, environ []string) page.Result {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(artefacts(), "container.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(t.Context(), the.bin, "deploy", "container", "--page", address)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), log, log
	cmd.Env = append(append(h.azure.Identity(), environ...), "HOME="+cmd.Dir, "PATH="+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		said := read(t, log.Name())
		t.Logf("binnacle deploy container\n%s", said)
		if strings.Contains(said, azuresim.Secret) {
			t.Error("the container shows the secret")
		}
	}()
	var result page.Result
	const patience = 10 * time.Minute // it builds an environment from nothing
	within(t, patience, "the page says how it ended", func() bool {
		res, err := http.Get("http://" + address + "/result")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&result) == nil && result.State != page.Running
	})
	return result
}

// upgrade brings the hub to what the settings are now.
func (h *clusterHub) upgrade(t *testing.T) {
	t.Helper()
	h.describe(t)
	h.deploy(t, 0, "upgrade", "--yes", "--no-verify")
}

// commits: the hub follows the institute's repository. A commit that breaks it is
// taken back and not tried again.
func (h *clusterHub) commits(t *testing.T) {
	institute, err := h.git.Repo(t.Context(), "institute", "")
	if err != nil {
		t.Fatal(err)
	}
	watch := func(code int) string {
		t.Helper()
		return h.deploy(t, code, "watch", "--once", "--from", institute.URL, "--state", filepath.Join(h.dir, "watch"))
	}
	push := func(sessions any) {
		t.Helper()
		h.hub["launch"].(map[string]any)["max_sessions"] = sessions
		if _, err := institute.Commit(t.Context(), map[string]string{"binnacle.yaml": h.description(t)}); err != nil {
			t.Fatal(err)
		}
	}
	push(20)
	if out := watch(0); !strings.Contains(out, "Verified in ") {
		t.Error("a commit is not verified")
	}
	push("many")
	if out := watch(2); !strings.Contains(out, "max_sessions") {
		t.Error("what is wrong in the commit is not said")
	}
	launches := h.hub["launch"].(map[string]any)
	launches["allowed_specs"] = []string{"^gh/nobody/"}
	push(21)
	if out := watch(2); !strings.Contains(out, "taken back") {
		t.Error("a commit that breaks the hub is not taken back")
	}
	if out := watch(2); !strings.Contains(out, "is not tried again") {
		t.Error("the bad commit is tried again")
	}
	delete(launches, "allowed_specs")
	l, _ := ready(t, h.person, launchOf(h.example.URL)) // as before that commit
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

// backup: one file has what can't be made again, only the passphrase opens it, and it
// holds what the hub knows and what it takes to bring it up elsewhere.
func (h *clusterHub) backup(t *testing.T) {
	file, passphrase := filepath.Join(h.dir, "hub.tar"), filepath.Join(h.dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("of the institute\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.deploy(t, 0, "backup", "--output", file, "--passphrase-from", "file:"+passphrase)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Open(f, info.Size(), func() (string, error) { return "of somebody else", nil }); err == nil {
		t.Error("another passphrase opens it")
	}
	b, err := backup.Open(f, info.Size(), func() (string, error) { return "of the institute", nil })
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"deployment/binnacle.yaml": h.example.URL, "deployment/journal": `"kind":"release"`, "hub/store.jsonl": `"requirements-`, // a session's name
	} {
		if text, err := b.Read(name); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s in the backup has no %s: %v, %d bytes", name, want, err, len(text))
		}
	}
	// On a machine that has nothing but the file and the passphrase.
	again := filepath.Join(t.TempDir(), "binnacle.yaml")
	h.deploy(t, 0, "restore", file, "--file", again, "--passphrase-from", "file:"+passphrase)
	if got, want := read(t, again), read(t, filepath.Join(h.dir, "binnacle.yaml")); got != want {
		t.Errorf("the deployment's file is\n%s\nnot\n%s", got, want)
	}
}

// down removes what was made on the cloud, and nothing that is somebody else's: the
// receipt says so, and so does the cloud.
func (h *clusterHub) down(t *testing.T) {
	group := "binnacle-" + h.namespace
	h.azure.Add(group, "Microsoft.Compute/disks", "somebodys", nil)
	out := h.deploy(t, 0, "down", "--confirm", h.namespace)
	for _, want := range []string{
		"done: delete cluster " + h.namespace + ",",
		" deleted; nothing of the deployment " + h.namespace + " is left.\n",
		"left alone, because it is not ours: resource group " + group + "\n",
		"left alone, because it is not ours: Microsoft.Compute/disks somebodys\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the receipt lacks %q", want)
		}
	}
	want := map[string]string{"Microsoft.Resources/resourceGroups/" + group: "Succeeded", "Microsoft.Compute/disks/somebodys": "Succeeded"}
	if diff := cmp.Diff(want, h.azure.State()); diff != "" {
		t.Errorf("what is left on the cloud (-want +got):\n%s", diff)
	}
	if out := h.deploy(t, 0, "down"); !strings.Contains(out, "0 deleted") {
		t.Error("something was left")
	}
}
