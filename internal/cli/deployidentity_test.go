package cli_test

import (
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/kubesim"
)

// pod puts what Kubernetes gives a pod where a pod finds it, in namespaces of its own,
// and runs the rest of the line.
const pod = `mount --make-rprivate / && mount -t tmpfs tmpfs /var/run &&
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount && cd /var/run/secrets/kubernetes.io/serviceaccount &&
cp "$1" ca.crt && echo of-the-simulator >token && cd "$2" && shift 2 && exec "$@"`

// follower is the pod that follows the repository of the deployment my-hub, with the
// identity that its account is marked with.
type follower struct {
	t         *testing.T
	kube      *kubesim.Cluster
	azure     *azuresim.Server
	dir       string
	ca        string   // of the API server, a file
	api       []string // its address, as variables
	assertion string   // the file that AKS puts there; empty where nobody does
}

// look is one look at the repository: it must end with a code, and what it said is
// returned.
func (f *follower) look(code int) string {
	f.t.Helper()
	var settings, account struct {
		Metadata struct{ Annotations map[string]string }
		Data     map[string]string
	}
	objects := f.kube.State()
	const at = "/api/v1/namespaces/my-hub/"
	for path, into := range map[string]any{at + "configmaps/my-hub-binnacle-watch": &settings, at + "serviceaccounts/my-hub-binnacle-watch": &account} {
		if err := json.Unmarshal([]byte(objects[path]), into); err != nil {
			f.t.Fatalf("%s: %v", path, err)
		}
	}
	inside := filepath.Join(f.dir, "inside.json")
	if err := os.WriteFile(inside, []byte(settings.Data["inside.json"]), 0o600); err != nil {
		f.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.CommandContext(f.t.Context(), "unshare", "--mount", "sh", "-c", pod, "pod", f.ca, f.dir,
		self, "deploy", "watch", "--inside", inside, "--state", filepath.Join(f.dir, "state"), "--once", "--no-verify")
	cmd.Env = append([]string{asProgram + "=1", "HOME=" + f.dir, "PATH=" + os.Getenv("PATH")}, f.api...)
	if f.assertion != "" { // the webhook of AKS, for pods with this label and account
		deployment := objects["/apis/apps/v1/namespaces/my-hub/deployments/my-hub-binnacle-watch"]
		if !strings.Contains(deployment, `"azure.workload.identity/use":"true"`) {
			f.t.Fatalf("the pod is not marked: %s", deployment)
		}
		cmd.Env = append(cmd.Env, "AZURE_CLIENT_ID="+account.Metadata.Annotations["azure.workload.identity/client-id"], "AZURE_TENANT_ID="+azuresim.Tenant,
			"AZURE_AUTHORITY_HOST="+f.azure.URL, "AZURE_FEDERATED_TOKEN_FILE="+f.assertion)
	}
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		f.t.Fatalf("exit %d, not %d: %v\n%s", got, code, err, out)
	}
	if strings.Contains(string(out), azuresim.Assertion) {
		f.t.Errorf("the assertion is shown:\n%s", out)
	}
	return string(out)
}

// state is what is known of commits.
func (f *follower) state() watch.State {
	f.t.Helper()
	var kept struct{ Data map[string]string }
	if err := json.Unmarshal([]byte(f.kube.State()["/api/v1/namespaces/my-hub/configmaps/my-hub-commits"]), &kept); err != nil {
		f.t.Fatal(err)
	}
	s, err := watch.Read([]byte(kept.Data["state.json"]))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// nodes is how many there are at most, as Azure has it.
func (f *follower) nodes() any {
	props, _ := f.azure.Body("Microsoft.ContainerService/managedClusters", "my-hub")["properties"].(map[string]any)
	pools, _ := props["agentPoolProfiles"].([]any)
	first, _ := pools[0].(map[string]any)
	return first["maxCount"]
}

// With watch.identity the pod that follows the repository changes what is around the
// cluster too: it shows Azure the token that its cluster gave it, and gets one of
// Azure's. Where nobody gave it one, such a change waits for a person.
func TestDeployWatchIdentity(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("we are not root, and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip("a pod's files need a mount namespace, which needs root")
	}
	host, err := githost.New()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	repo, err := host.Repo(t.Context(), "institute", "")
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, kube: new(kubesim.Cluster), dir: t.TempDir()}
	f.azure = azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubesim.Start(t, f.kube)})
	api := httptest.NewTLSServer(f.kube)
	t.Cleanup(api.Close)
	name, port, err := net.SplitHostPort(api.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f.api = []string{"KUBERNETES_SERVICE_HOST=" + name, "KUBERNETES_SERVICE_PORT=" + port}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f.ca = write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})))

	file, environ := onAzure(t, f.azure, "dns: {label: my-hub-label}\n", "dns: {label: my-hub-label}\nhttps: {enabled: false}\n"+
		"watch: {repository: '"+repo.URL+"', identity: "+azuresim.Client+"}\n")
	if code, out, log := deploy(t, "", environ, "up", "--yes", "--no-verify", "-f", file); code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, log)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	push := func(nodes string) string {
		t.Helper()
		text := strings.Replace(string(b), "  region: westeurope\n", "  region: westeurope\n  nodes: {max: "+nodes+"}\n", 1)
		commit, err := repo.Commit(t.Context(), map[string]string{"binnacle.yaml": text})
		if err != nil {
			t.Fatal(err)
		}
		return commit
	}

	commit := push("4")
	if out := f.look(0); !strings.Contains(out, "waits for a person who runs binnacle deploy up: azure.nodes.max \"3\" → \"4\"") || f.nodes() != 3.0 {
		t.Errorf("without a token of the cluster: %v nodes\n%s", f.nodes(), out)
	}
	if s := f.state(); s.Applied != commit || len(s.Waits) != 1 {
		t.Errorf("the commit that waits: %+v", s)
	}

	push("5")
	f.assertion = write("nobody", "a-token-of-somebody-else")
	if out := f.look(4); !strings.Contains(out, "Azure did not accept the sign-in: AADSTS") || f.nodes() != 3.0 {
		t.Errorf("with another token: %v nodes\n%s", f.nodes(), out)
	}
	if s := f.state(); s.Quarantined != "" {
		t.Errorf("the commit is blamed for it: %+v", s)
	}

	f.assertion = write("token", azuresim.Assertion)
	commit = push("6")
	if out := f.look(0); !strings.Contains(out, "Azure, as workload identity "+azuresim.Client) || f.nodes() != 6.0 {
		t.Errorf("with the token: %v nodes\n%s", f.nodes(), out)
	}
	if s := f.state(); s.Applied != commit || len(s.Waits) != 0 {
		t.Errorf("the commit that was applied: %+v", s)
	}
	if out := f.look(0); !strings.Contains(out, "Nothing to do.") {
		t.Errorf("once more: %s", out)
	}
	// A person finds it as the commit says.
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), "  region: westeurope\n", "  region: westeurope\n  nodes: {max: 6}\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, log := deploy(t, "", environ, "plan", "-f", file); code != 0 || !strings.Contains(out, "= keep    cluster") {
		t.Errorf("a person's plan: %d %s%s", code, out, log)
	}
}
