package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/kube"
	"github.com/binnacle-hub/binnacle/test/machine"
	"github.com/binnacle-hub/binnacle/test/postgres"
	"github.com/binnacle-hub/binnacle/test/workshop"
)

// TestWorkshop is a reader of docs/workshop with a terminal on the machine of the
// hub that all tests share.
func TestWorkshop(t *testing.T) {
	lesson := workshop.Lesson{
		Page: "../../docs/workshop/1-a-repository.md", Dir: t.TempDir(),
		Binnacle: "exec " + the.bin + " --config " + hubShell().config + " \"$@\"\n",
	}
	lesson.Run(t)
}

// TestWorkshopMachine is the lesson on a machine with systemd of its own: the real
// hub is deployed there, verified by a real launch, changed by commits, taken back
// when one is bad, and removed. What is done by hand is done on this machine.
func TestWorkshopMachine(t *testing.T) {
	room(t)
	m := machine.Start(t)
	for from, to := range map[string]string{the.bin: "program", filepath.Join(os.TempDir(), "binnacle-test-base.tar"): "base.tar"} {
		if err := os.Link(from, filepath.Join(m.Srv(), to)); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(m.Srv(), "lesson")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.MkdirTemp("/tmp", "bw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	there := strings.Join(m.Via(), " ") + ` 'cd "$1" && shift && exec "$@"' sh "/srv/lesson${PWD#` + dir + `}" `
	lesson := workshop.Lesson{
		Page: "../../docs/workshop/2-one-machine.md", Dir: dir,
		Binnacle: "case \"$*\" in\n*\"--config hub.yaml\"*) exec " + the.bin + " --data " + data + " \"$@\" ;;\n*) exec " + there + "/srv/program \"$@\" ;;\nesac\n",
		Programs: map[string]string{"systemctl": "exec " + there + "systemctl \"$@\"\n"},
		Replace: map[string]string{
			"127.0.0.1:8585": free(t), "127.0.0.1:8586": free(t), "/srv/by-hand": data, "file:///home/ada/": "file:///srv/lesson/",
			"{repository: gh/binder-examples/requirements}": "{repository: " + the.example(t, "requirements").URL + "}",
			"hub: {launch: {": "hub: {base: {archive: /srv/base.tar}, source: {allow: [127.0.0.0/8]}, launch: {limits: {memory: 1GiB}, ",
		},
	}
	defer func() {
		if t.Failed() {
			out, err := m.Try(context.WithoutCancel(t.Context()), "journalctl --no-pager -o cat -n 200 -u 'binnacle-*'")
			t.Logf("%v\n%s", err, out)
		}
	}()
	lesson.Run(t)
	nothingOf(t, "/srv/binnacle")
	if left := m.Run("ls -d /opt/binnacle* /srv/binnacle/ /run/binnacle* /etc/systemd/system/*binnacle* 2>/dev/null || true"); left != "" {
		t.Errorf("left on the machine: %s", left)
	}
}

func free(t *testing.T) string {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestWorkshopCluster is the lesson on a real cluster, with a stand-in for the hub:
// that is up in seconds, and can't launch anything, so nothing is verified.
func TestWorkshopCluster(t *testing.T) {
	k := kube.Shared(t)
	dir := t.TempDir()
	access, err := clientcmd.LoadFromFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	access.Contexts["my-cluster"] = access.Contexts[access.CurrentContext]
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*access, kubeconfig); err != nil {
		t.Fatal(err)
	}
	lesson := workshop.Lesson{
		Page: "../../docs/workshop/3-a-cluster.md", Dir: dir, Binnacle: withoutVerifying(),
		Env: []string{"KUBECONFIG=" + kubeconfig},
		Replace: map[string]string{
			"registry.example.org/binnacle:1":      k.StandIn(t),
			"--registry-host registry.example.org": "--registry-host 127.0.0.1:9", // where nothing answers, which is a warning
			"hub: {drainSeconds: 1}":               standInValues,
			"https://git.example.org/institute":    "file://" + filepath.Join(dir, "institute"),
		},
	}
	t.Cleanup(func() { h := clusterHub{Cluster: k, namespace: "my-hub"}; h.uninstall(t) })
	lesson.Run(t)
}

// TestKubernetesPage is an operator who follows docs/kubernetes.md with Helm and
// kubectl. The nodes find no image, so pods stay where they are; what is backed up
// is a hub's database.
func TestKubernetesPage(t *testing.T) {
	k := kube.Shared(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "internal"), filepath.Join(dir, "internal")); err != nil {
		t.Fatal(err)
	}
	server := postgres.Start(t)
	database, empty := server.Database(), server.Database()
	known := []byte("to the hub")
	before := openStore(t, database)
	if err := before.PutFile(t.Context(), "known", known); err != nil {
		t.Fatal(err)
	}
	const namespace, sessions = "binnacle", "binnacle-sessions"
	defer func() {
		if err := k.Client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		eventually(t, "nothing is left", func() bool {
			_, err := k.Client.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
			_, sessionsErr := k.Client.CoreV1().Namespaces().Get(t.Context(), sessions, metav1.GetOptions{})
			return apierrors.IsNotFound(err) && apierrors.IsNotFound(sessionsErr)
		})
	}()
	lesson := workshop.Lesson{
		Page: "../../docs/kubernetes.md", Dir: dir, Binnacle: "exec " + the.bin + " \"$@\" --plain-http\n",
		Programs: kubectl(t),
		Env:      []string{"HOME=" + dir, "KUBECONFIG=" + k.Kubeconfig, "PASSWORD=tides-and-knots", "URL=" + database, "EMPTY=" + empty},
		Replace:  map[string]string{"registry.example.org": k.Registry},
	}
	lesson.Run(t)
	if got, _, err := openStore(t, empty).File(t.Context(), "known"); err != nil || !bytes.Equal(got, known) {
		t.Errorf("what the hub knew is not in the restored database: %q %v", got, err)
	}
}

// kubectl are Kubernetes' and Helm's programs.
func kubectl(t *testing.T) map[string]string {
	t.Helper()
	programs, err := filepath.Abs("../../.tools/kube/bin")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"kubectl": "exec " + programs + "/kubernetes kubectl \"$@\"\n",
		"helm":    "case \"$*\" in *oci://*) set -- \"$@\" --plain-http ;; esac\nexec " + programs + "/helm \"$@\"\n",
	}
}

// TestMigrationPage is an operator of a BinderHub who follows
// docs/migrate-from-binderhub.md: the values are those of a release of Helm's, and our
// chart takes what comes out.
func TestMigrationPage(t *testing.T) {
	k := kube.Shared(t)
	dir, programs := t.TempDir(), kubectl(t)
	for name, text := range map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: binderhub\nversion: 1.0.0\n",
		"values.yaml": "config: {BinderHub: {}}\njupyterhub: {cull: {timeout: 3600}}\n",
		"mine.yaml": "config: {BinderHub: {image_prefix: someone/binder-, per_repo_quota: 20}}\n" +
			"registry: {username: someone, password: hunter2}\njupyterhub: {singleuser: {memory: {limit: 2G, guarantee: 1G}}, cull: {timeout: 600}}\n",
		"templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: binder}\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "chart", filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "chart", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	helm := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-c", programs["helm"], "helm"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "KUBECONFIG="+k.Kubeconfig)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("helm %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	namespace := k.Namespace(t)
	helm("install", "binder", "chart", "-n", namespace, "-f", "chart/mine.yaml")
	lesson := workshop.Lesson{
		Page: "../../docs/migrate-from-binderhub.md", Dir: dir, Binnacle: "exec " + the.bin + " \"$@\"\n",
		Programs: programs, Env: []string{"KUBECONFIG=" + k.Kubeconfig},
		Replace: map[string]string{"-n binder": "-n " + namespace},
	}
	lesson.Run(t)
	chart, err := filepath.Abs("../../internal/deploy/chart/binnacle")
	if err != nil {
		t.Fatal(err)
	}
	more := filepath.Join(dir, "more.yaml") // what the importer tells people to set themselves
	if err := os.WriteFile(more, []byte("image: {name: registry.example.org/binnacle}\ndatabase: {existingSecret: theirs}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := helm("template", "hub", chart, "-f", "values.yaml", "-f", more)
	for _, want := range []string{"docker.io/someone/binder-", "per_repository: 20", "idle_timeout: 600s"} {
		if !strings.Contains(made, want) {
			t.Errorf("the chart makes nothing of %q", want)
		}
	}
	if imported := read(t, filepath.Join(dir, "values.yaml")); strings.Contains(imported, "hunter2") {
		t.Errorf("the password went along:\n%s", imported)
	}
}

func openStore(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// page is somebody who types all commands of a page of the documentation: those of the
// deployment in its directory, the others on the hub that all tests share. The session
// NAME of a page is a real one, FILE the newest backup.
func (h *clusterHub) page(t *testing.T, page string) {
	t.Helper()
	example := t.TempDir()
	if err := os.CopyFS(example, os.DirFS("../../examples/requirements")); err != nil {
		t.Fatal(err)
	}
	s := session(t, hubShell().must(t, "launch", example, "--detach", "--json"))
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("of the institute\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lesson := workshop.Lesson{
		Page: page, Dir: h.dir, All: true, Env: append(h.azure.Identity(), "AZURE_CLIENT_ID="+azuresim.Client),
		Binnacle: fmt.Sprintf(`words=()
for word in "$@"; do
	case $word in
	NAME) word=%[3]s ;;
	FILE) word=$(ls -t *.tar | head -n 1) ;;
	file:/root/passphrase) word=file:%[4]s ;;
	.) word=%[5]s ;;
	esac
	words+=("$word")
done
set -- "${words[@]}"
case "$1 $2" in # nobody answers here
"deploy up" | "deploy upgrade") set -- "$@" --yes ;;
"deploy down") set -- "$@" --confirm %[6]s ;;
"deploy restore") set -- "$@" --confirm %[6]s --passphrase-from file:%[4]s ;;
"deploy backup") [[ " $* " == *" --passphrase-from "* ]] || set -- "$@" --passphrase-from file:%[4]s ;;
esac
case $1 in
deploy) exec %[1]s "$@" ;;
doctor) %[1]s --config %[2]s "$@" || true ;; # this machine may lack what a test does not need
*) exec %[1]s --config %[2]s "$@" ;;
esac
`, the.bin, hubShell().config, s.ID, passphrase, example, h.namespace),
	}
	lesson.Run(t)
	hubShell().must(t, "stop", "--all")
	if err := os.Remove(filepath.Join(h.dir, "support-bundle.tar.gz")); err != nil { // as both pages want one
		t.Error(err)
	}
}

// handbook: all of it, on the hub as it is; the last command removes it.
func (h *clusterHub) handbook(t *testing.T) {
	h.hub["launch"].(map[string]any)["max_sessions"] = 40
	h.upgrade(t) // there is something to go back to
	h.page(t, "../../docs/handbook.md")
	h.deploy(t, 0, "up", "--yes", "--no-verify")
}

const standInValues = "builders: {replicas: 0}, hub: {drainSeconds: 0, terminationGracePeriodSeconds: 1, persistence: {size: 1Mi}, resources: {requests: {cpu: 1m, memory: 8Mi}}}"

// withoutVerifying leaves out what a stand-in for the hub can't do.
func withoutVerifying() string {
	return `case "$1 $2" in
"deploy up" | "deploy upgrade" | "deploy rollback" | "deploy watch") exec ` + the.bin + ` "$@" --no-verify ;;
*) exec ` + the.bin + ` "$@" ;;
esac
`
}

// TestWorkshopAzure is the lesson against the simulator, without the hub: the
// lesson's cluster is nobody's.
func TestWorkshopAzure(t *testing.T) {
	s := azuresim.Start(t, &azuresim.Azure{})
	cloud := fmt.Sprintf("  sign_in: service_principal\n  tenant: %s\n  client: %s\n  secret_from: env:AZURE_SECRET\n  cloud: {resource_manager: %q, authority: %q, prices: %q, ca_file: %q}\n",
		azuresim.Tenant, azuresim.Client, s.URL, s.URL, s.URL+"/api/retail/prices", s.CAFile)
	settings := filepath.Join(t.TempDir(), "cloud.yaml")
	if err := os.WriteFile(settings, []byte(cloud), 0o600); err != nil {
		t.Fatal(err)
	}
	lesson := workshop.Lesson{
		Page: "../../docs/workshop/4-azure.md", Dir: t.TempDir(), Env: []string{"AZURE_SECRET=" + azuresim.Secret},
		Binnacle: the.bin + ` "$@" $([ "$2" = init ] || [ "$2" = check ] || echo --no-hub) || exit
[ "$2" != init ] || sed -i "/^azure:/r ` + settings + `" binnacle.yaml
`,
	}
	lesson.Run(t)
	if left := s.Writes(); len(left) == 0 {
		t.Error("nothing was written: the lesson creates nothing")
	}
}
