package cli_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/kube"
)

const registryPassword = "the-password-of-the-registry"

// gone removes the namespaces of a deployment with the test, if it left them.
func gone(t *testing.T, k *kube.Cluster, name string) {
	t.Helper()
	t.Cleanup(func() {
		const patience = time.Minute
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		for _, ns := range []string{name, name + "-sessions"} {
			if err := k.Client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
}

func small(image string) string {
	return `image: ` + image + `
https: {enabled: false}
values:
  builders: {replicas: 0}
  hub: {drainSeconds: 0, terminationGracePeriodSeconds: 1, persistence: {size: 1Mi}, resources: {requests: {cpu: 1m, memory: 8Mi}}}
`
}

// The commands on a real cluster, with a stand-in for the hub: up, upgrade that
// does not verify and goes back, rollback, sleep, wake, restart, logs, bundle,
// down.
func TestDeployCluster(t *testing.T) {
	k := kube.Shared(t)
	gone(t, k, "deploy-cli")
	access, err := clientcmd.LoadFromFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "binnacle.yaml")
	text := fmt.Sprintf(`name: deploy-cli
target: cluster
cluster: {kubeconfig: %s, context: %s}
registry: {kind: other, host: registry.example.org, username: ada, password_from: env:REGISTRY_PASSWORD}
`, k.Kubeconfig, access.CurrentContext) + small(k.StandIn(t))
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(want int, args ...string) string {
		t.Helper()
		code, out, log := deploy(t, "", []string{"REGISTRY_PASSWORD=" + registryPassword, "USER=ada"}, append(args, "--file", file)...)
		if code != want {
			t.Fatalf("%v: exit %d, not %d\n%s%s", args, code, want, out, log)
		}
		if strings.Contains(out+log, registryPassword) {
			t.Errorf("%v shows the password", args)
		}
		return out + log
	}
	write("")
	do(0, "check")
	if out := do(3, "upgrade", "--yes"); !strings.Contains(out, "No release deploy-cli") {
		t.Errorf("upgrade of nothing: %s", out)
	}
	if out := do(0, "up", "--yes", "--no-verify"); !regexp.MustCompile(`release, url: http://[0-9.]+\n`).MatchString(out) {
		t.Errorf("no address: %s", out)
	}
	if out := do(0, "up", "--no-verify"); !strings.Contains(out, "Nothing to do") {
		t.Errorf("up twice: %s", out)
	}
	write("hub: {launch: {max_sessions: 3}}\n")
	out := do(5, "upgrade", "--yes", "--answer-within", "2s")
	if !strings.Contains(out, "was taken back: revision") || !strings.Contains(out, "does not answer") {
		t.Errorf("an upgrade that can't be verified: %s", out)
	}
	if out := do(0, "plan"); !strings.Contains(out, "config.launch.max_sessions: (none) → 3") {
		t.Errorf("after going back: %s", out)
	}
	do(0, "upgrade", "--yes", "--no-verify")
	do(0, "rollback", "--no-verify")
	if out := do(0, "history"); !strings.Contains(out, "deployed") || !strings.Contains(out, "Rollback to") {
		t.Errorf("history: %s", out)
	}
	do(0, "sleep")
	if out := do(0, "info"); !strings.Contains(out, "pods of hub: 0 of 0 ready") {
		t.Errorf("info while it sleeps: %s", out)
	}
	do(0, "wake")
	do(0, "restart")
	backedUpOnCluster(t, do)
	if out := do(0, "info"); !strings.Contains(out, "pods of hub: 1 of 1 ready") {
		t.Errorf("info: %s", out)
	}
	do(2, "logs", "--component", "nonsense")
	do(0, "logs", "--component", "hub", "--since", "1h")
	if out := do(0, "logs", "--component", "builds", "--since", "1h"); !strings.Contains(out, "launch-1 gh/ada/hello/main | ") || !strings.Contains(out, "asked with --since 1h0m0s") {
		t.Errorf("the logs of builds: %s", out)
	}
	if out := do(0, "logs", "--component", "cloud"); !strings.Contains(out, `"kind":"release"`) {
		t.Errorf("the journal: %s", out)
	}
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	do(0, "support-bundle", "--output", bundle)
	files := unpack(t, bundle)
	for _, name := range []string{"plan.json", "history.json", "events.txt", "binnacle.yaml", "journal", "builds.log", "hub.log"} {
		if files["support-bundle/"+name] == "" && name != "hub.log" {
			t.Errorf("the bundle has no %s", name)
		}
	}
	for name, content := range files {
		if strings.Contains(content, registryPassword) || strings.Contains(content, "PRIVATE KEY") {
			t.Errorf("%s of the bundle has a secret", name)
		}
	}
	if out := do(0, "down", "--confirm", "deploy-cli"); !strings.Contains(out, "nothing of the deployment deploy-cli is left") {
		t.Errorf("down: %s", out)
	}
}

func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for files := tar.NewReader(zip); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(b)
	}
}

// The simulator's AKS hands out a real cluster: one up creates the cloud's
// resources and installs the hub, a second one writes nothing, down removes it.
func TestDeployAzureHub(t *testing.T) {
	k := kube.Shared(t)
	gone(t, k, "my-hub")
	kubeconfig, err := os.ReadFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	s := azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubeconfig})
	file, environ := onAzure(t, s, "dns: {label: my-hub-label}\n", "dns: {label: my-hub-label}\n"+small(k.StandIn(t)))
	do := func(args ...string) string {
		t.Helper()
		code, out, log := deploy(t, "", environ, append(args, "--file", file)...)
		if code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, code, out, log)
		}
		return out
	}
	if out := do("plan"); !strings.Contains(out, "create  release") {
		t.Errorf("plan: %s", out)
	}
	if out := do("up", "--yes", "--no-verify"); !strings.Contains(out, "release, url: http://my-hub-label.westeurope.cloudapp.azure.com") {
		t.Errorf("up: %s", out)
	}
	service, err := k.Client.CoreV1().Services("my-hub").Get(t.Context(), "my-hub-binnacle", metav1.GetOptions{})
	if err != nil || service.Annotations["service.beta.kubernetes.io/azure-pip-name"] != "my-hub" {
		t.Errorf("the hub does not take the address: %v %v", service, err)
	}
	before := len(s.Writes())
	if out := do("up", "--no-verify"); !strings.Contains(out, "Nothing to do") || len(s.Passwords) != 1 || len(s.Writes()) != before {
		t.Errorf("up twice: %s; %d passwords, written: %q", out, len(s.Passwords), s.Writes()[before:])
	}
	for _, ns := range []string{"my-hub", "my-hub-sessions"} {
		secret, err := k.Client.CoreV1().Secrets(ns).Get(t.Context(), "my-hub-registry", metav1.GetOptions{})
		want := base64.StdEncoding.EncodeToString([]byte("binnacle:" + s.Passwords[0]))
		if err != nil || !strings.Contains(string(secret.Data[".dockerconfigjson"]), want) || !strings.Contains(string(secret.Data[".dockerconfigjson"]), "myhubimages.azurecr.io") {
			t.Errorf("the registry's credentials in %s: %v", ns, err)
		}
	}
	do("sleep")
	if code, _, log := deploy(t, "", environ, "info", "--file", file); code != cli.ExitUnavailable || !strings.Contains(log, "it sleeps") {
		t.Errorf("info of a cluster that is stopped: %d %s", code, log)
	}
	do("wake")
	if out := do("info"); !strings.Contains(out, "pods of hub: 1 of 1 ready") {
		t.Errorf("info after waking: %s", out)
	}
	do("sleep")
	// The cluster takes the hub with it, also while it is stopped.
	if out := do("down", "--confirm", "my-hub"); strings.Contains(out, "delete  release") {
		t.Errorf("down: %s", out)
	}
}

// What is in the pod of the hub is written into a file, and back into the pod.
func backedUpOnCluster(t *testing.T, do func(int, ...string) string) {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(secret, []byte("of the backup\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(dir, "first.tar"), filepath.Join(dir, "second.tar")
	do(0, "backup", "--output", first, "--passphrase-from", "file:"+secret)
	do(0, "restore", first, "--confirm", "deploy-cli", "--passphrase-from", "file:"+secret, "--no-verify")
	do(0, "backup", "--output", second, "--without-secrets")
	if out := do(2, "restore", second, "--confirm", "other"); !strings.Contains(out, "A backup of deploy-cli (target cluster)") {
		t.Errorf("restore: %s", out)
	}
}
