package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/kube"
)

// A real git server and a real cluster, with a stand-in for the hub: the first
// commit is installed, the next one upgrades, one that can't be verified is taken
// back and not tried again, nor is one that is wrong.
func TestDeployWatch(t *testing.T) {
	k := kube.Shared(t)
	gone(t, k, "deploy-watch")
	access, err := clientcmd.LoadFromFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
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
	state := filepath.Join(t.TempDir(), "state")
	text := fmt.Sprintf("name: deploy-watch\ntarget: cluster\ncluster: {kubeconfig: %s, context: %s}\nregistry: {kind: other, host: registry.example.org, username: ada, password_from: env:REGISTRY_PASSWORD}\n",
		k.Kubeconfig, access.CurrentContext) + small(k.StandIn(t))
	look := func(want int, args ...string) string {
		t.Helper()
		args = append([]string{"watch", "--once", "--from", repo.URL, "--state", state}, args...)
		code, out, log := deploy(t, "", []string{"REGISTRY_PASSWORD=" + registryPassword, "USER=ada"}, args...)
		if code != want {
			t.Fatalf("%v: exit %d, not %d\n%s%s", args, code, want, out, log)
		}
		return out + log
	}
	push := func(more string) {
		t.Helper()
		if _, err := repo.Commit(t.Context(), map[string]string{"binnacle.yaml": text + more}); err != nil {
			t.Fatal(err)
		}
	}
	push("")
	look(0, "--no-verify")
	if out := look(0, "--no-verify"); !strings.Contains(out, "Nothing to do") {
		t.Errorf("nothing was pushed: %s", out)
	}
	push("hub: {launch: {max_sessions: 3}}\n")
	look(0, "--no-verify")
	push("hub: {launch: {max_sessions: 4}}\n")
	if out := look(2, "--answer-within", "2s"); !strings.Contains(out, "is not tried again") || !strings.Contains(out, "taken back") {
		t.Errorf("a commit that does not verify: %s", out)
	}
	if out := look(2, "--no-verify"); !strings.Contains(out, "is not tried again") {
		t.Errorf("a commit in quarantine: %s", out)
	}
	shown := func() string {
		t.Helper()
		code, out, log := deploy(t, "", []string{"REGISTRY_PASSWORD=" + registryPassword, "USER=ada"}, "info", "--file", filepath.Join(state, "binnacle.yaml"))
		if code != 0 {
			t.Fatalf("info: %d %s%s", code, out, log)
		}
		return out
	}
	if out := shown(); !strings.Contains(out, ": runs since ") || !strings.Contains(out, "in quarantine since") || !strings.Contains(out, "does not answer") {
		t.Errorf("info does not show what became of the commits: %s", out)
	}
	push("hub: {launch: {max_sessions: many}}\n")
	if out := look(2); !strings.Contains(out, "max_sessions") {
		t.Errorf("a commit that is wrong: %s", out)
	}
	kept := filepath.Join(state, "binnacle.yaml")
	push("hub: {launch: {max_sessions: 3}}\n")
	look(0, "--no-verify")
	if code, out, log := deploy(t, "", []string{"REGISTRY_PASSWORD=" + registryPassword, "USER=ada"}, "down", "--confirm", "deploy-watch", "--file", kept); code != 0 {
		t.Errorf("down: %d %s%s", code, out, log)
	}
}
