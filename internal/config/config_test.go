package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
)

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "binnacle.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOrder(t *testing.T) {
	path := write(t, "listen: 127.0.0.1:1\ndata: /srv/a\nproxy:\n  start_wait: 1s\nlaunch:\n  limits: {memory: 1GiB}\nnetwork:\n  deny: [192.0.2.0/24]\n")
	c, err := config.Load(config.Sources{
		Path:    path,
		Environ: []string{"BINNACLE_LISTEN=127.0.0.1:2", "BINNACLE_PROXY_START_WAIT=2s", "BINNACLE_TEST_REQUIRE=all", "HTTPS_PROXY=http://proxy.example.org:3128"},
		Set:     map[string]string{"proxy.start_wait": "3s", "source.hosts": "gh=https://git.example.org,gl=https://gl.example.org,gist=https://gist.example.org"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Data, c.Listen, c.Proxy.StartWait, c.Launch.Limits.Memory, c.Launch.Limits.CPU, c.Network.Deny, c.Source.Dir, c.Source.Hosts["gh"], c.Source.Proxy}
	want := []any{
		"/srv/a", "127.0.0.1:2", 3 * time.Second, int64(1 << 30), config.Default().Launch.Limits.CPU,
		[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		"/srv/a/git", "https://git.example.org", "http://proxy.example.org:3128",
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLoadReportsEverything(t *testing.T) {
	path := write(t, "lisen: x\nlisten: nowhere\nproxy:\n  start_wiat: 1s\n  idle_timeout: soon\nmax_builds: 1\nsource:\n  dir: /x\ndata: relative\ndata: /y\n")
	_, err := config.Load(config.Sources{Path: path, Environ: []string{"BINNACLE_LISTENN=1"}, Set: map[string]string{"log.format": "xml", "nope": "1"}})
	if binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"line 1: lisen: no such setting", "line 4: proxy.start_wiat: no such", `line 5: proxy.idle_timeout: "soon" is not a duration`,
		"did you mean launch.max_builds", "source.dir: follows from data", "line 10: data: is set twice", "BINNACLE_LISTENN: no setting", "nope: no such setting",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	_, err = config.Load(config.Sources{Path: write(t, "listen: nowhere\ndata: relative\nlog: {format: xml}\ntls: {cert: a, acme: {domain: \"*.example.org\", also: [192.0.2.1]}}\nproxy: {start_wait: 0s}\n")})
	for _, want := range []string{"listen: ", "data: must be an absolute", "log.format: ", "tls.cert, tls.key", `tls.acme.domain: "*.example.org" is not a name`, `tls.acme.also: "192.0.2.1" is not a name`, "proxy.start_wait: must be more than 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no mapping": "- a\n", "two documents": "data: /a\n---\ndata: /b\n", "not YAML": "a: [", "list expected": "network:\n  deny: x\n",
		"value expected": "listen: [a]\n", "section expected": "proxy: 3\n", "size": "launch: {disk_budget: 3 bananas}\n",
	} {
		if _, err := config.Load(config.Sources{Path: write(t, text)}); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := config.Load(config.Sources{Path: "/does/not/exist"}); err == nil {
		t.Error("a named file that is missing is an error")
	}
	if _, err := config.Load(config.Sources{Path: write(t, "# nothing\n")}); err != nil {
		t.Error(err)
	}
}

func TestPrintIsReadBackAndHidesSecrets(t *testing.T) {
	set := map[string]string{
		"outbound_proxy.https": "http://me:hunter2@proxy.example.org:3128", "mirrors.pypi": "https://me:hunter2@pypi.example.org/simple",
		"build.env": "TOKEN=hunter2", "mirrors.registries": "docker.io=mirror.example.org other.example.org",
	}
	c, err := config.Load(config.Sources{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hunter2") || strings.Contains(fmt.Sprintf("%v", c.Build.Env), "hunter2") {
		t.Errorf("a secret shows:\n%s", b.String())
	}
	var l bytes.Buffer
	slog.New(slog.NewTextHandler(&l, nil)).Info("x", "proxy", c.OutboundProxy.HTTPS)
	if strings.Contains(l.String(), "hunter2") || !strings.Contains(l.String(), "proxy.example.org") {
		t.Errorf("logged as %s", l.String())
	}
	if got := config.Secrets(c); !slices.Equal(got, []string{"hunter2", "hunter2", "hunter2"}) {
		t.Errorf("what is to be taken out of texts: %q", got)
	}
	again, err := config.Load(config.Sources{Path: write(t, b.String())})
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	var second bytes.Buffer
	if err := again.Print(&second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), second.String()); diff != "" {
		t.Errorf("-first +again:\n%s", diff)
	}
}

// What is YAML itself may be written as such, and is printed so that it is read back.
func TestTreesAsValues(t *testing.T) {
	const file = `
kubernetes:
  enabled: true
  session:
    resources: {nvidia.com/gpu: "1"}
    tolerations: ["pool=sessions:NoSchedule", spot]
    pod:
      spec:
        hostname: here
    profiles:
    - repo: ^gh/example/
      memory: 4Gi
      tolerations: ["nvidia.com/gpu:NoSchedule"]
      pod:
        spec: {hostname: there}
    - "class: small\nmemory: 1Gi\n"
`
	c, err := config.Load(config.Sources{Path: write(t, file)})
	if err != nil {
		t.Fatal(err)
	}
	k := c.Kubernetes.Session
	got := []any{len(k.Tolerations), k.Tolerations[0].Value, k.Resources["nvidia.com/gpu"], len(k.Profiles), k.Profiles[0].Memory.Value(), k.Profiles[0].Repo, k.Profiles[1].Class, c.Launch.Classes}
	want := []any{2, "sessions", "1", 2, int64(4 << 30), "^gh/example/", "small", []string{"small"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(string(k.Pod), "hostname: here") || !strings.Contains(string(k.Profiles[0].Pod), "there") {
		t.Errorf("patches: %q, %q", k.Pod, k.Profiles[0].Pod)
	}
	var first, second bytes.Buffer
	if err := c.Print(&first); err != nil {
		t.Fatal(err)
	}
	again, err := config.Load(config.Sources{Path: write(t, first.String())})
	if err != nil {
		t.Fatalf("%v\n%s", err, first.String())
	}
	if err := again.Print(&second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.String(), second.String()); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"pod: {containers: []}", "profiles: [{memory: 1Gi}]", "profiles: [{repo: a, colour: red}]", "tolerations: [[a]]", "namespace: {a: b}"} {
		if _, err := config.Load(config.Sources{Path: write(t, "kubernetes: {session: {"+bad+"}}\n")}); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "512": 512, "1k": 1 << 10, "2GiB": 2 << 30, "1.5 GB": 1_500_000_000, "10Mi": 10 << 20, "-1": -1,
		"1": 1, "1.0": 1, "1K": 1 << 10, "1M": 1 << 20, "1G": 1 << 30, "1T": 1 << 40, // repo2docker's, which refuses "1m"
		"1m": 1 << 20,
	} {
		if got, err := config.ParseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "1.5", "1PB", "NaN", "9999999999TiB", "GiB", "1 2", "NK"} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("%q gave %d", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 1023: "1023", 2 << 30: "2GiB", 1<<20 + 1<<19: "1.5MiB"} {
		if got := config.FormatSize(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
}

// No two settings share a variable, and every default can be loaded again.
func TestVariablesAreUnique(t *testing.T) {
	seen := map[string]string{}
	c := config.Default()
	for _, f := range config.Fields(&c) {
		if other, ok := seen[f.Env]; ok {
			t.Errorf("%s and %s are both %s", f.Path, other, f.Env)
		}
		seen[f.Env] = f.Path
	}
	if len(seen) < 40 {
		t.Errorf("only %d settings", len(seen))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("data: /a\nproxy: {start_wait: 1s}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [x]\n: y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := config.Default()
		if err := config.Decode(&c, b); err == nil {
			_ = c.Validate()
		}
	})
}
