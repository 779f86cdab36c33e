package kubernetes_test

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"sigs.k8s.io/yaml"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

var updateGolden = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // a flag

func golden(t *testing.T, name string, objects ...any) {
	t.Helper()
	var got bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			got.WriteString("---\n")
		}
		b, err := yaml.Marshal(o)
		must(t, err)
		got.Write(b)
	}
	path := filepath.Join("testdata", name)
	if *updateGolden {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (go test -update writes it):\n%s", path, diff)
	}
}

func recipeImage() ocispec.ImageConfig {
	return ocispec.ImageConfig{
		User: "1000:1000", Cmd: []string{"jupyter-lab", "--ip", "0.0.0.0"}, WorkingDir: "/home/jovyan",
		Env: []string{"PATH=/opt/env/bin:/usr/bin", "SHELL=/bin/bash"}, Labels: map[string]string{"dev.binnacle.kind": "python"},
	}
}

func TestPod(t *testing.T) {
	spec := sessiontest.NewSpec("gh-example-repo-abc", "registry.example.org/envs/abc:1")
	spec.Env["PRICE"] = "$(HOME) costs $5"
	spec.Labels[session.LabelRepo], spec.Labels[session.LabelClass] = "gh/example/repo/HEAD", "large"
	full := kubernetes.DefaultConfig()
	full.Resources = map[string]string{"example.org/fpga": "1"}
	full.Env = map[string]string{"COLOUR": "grey", "SITE": "institute"}
	full.Labels = map[string]string{"cost-centre": "teaching", "binnacle.dev/session": "another"}
	full.NodeSelector = map[string]string{"pool": "sessions"}
	full.RuntimeClass, full.PriorityClass, full.UserNamespace, full.CAConfigMap = "gvisor", "sessions", true, "authorities"
	full.ImagePullSecrets = []string{"registry"}
	must(t, text(&full.Tolerations, "pool=sessions:NoSchedule", "spot"))
	must(t, full.Pod.UnmarshalText([]byte(`
metadata:
  name: another
  annotations: {example.org/note: "yes", binnacle.dev/limits: "{}"}
spec:
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: lectures, readOnly: true}
  containers:
  - name: session
    volumeMounts:
    - {name: data, mountPath: /data, readOnly: true}
`)))
	var gpu, other kubernetes.Profile
	must(t, gpu.UnmarshalText([]byte(`
repo: ^gh/example/
class: large
memory: 2Gi
cpu: 1500m
guarantee: {memory: 1, cpu: 0.5, disk: 0}
resources: {nvidia.com/gpu: "1"}
env: {NVIDIA_VISIBLE_DEVICES: all}
node_selector: {accelerator: a100}
tolerations: ["nvidia.com/gpu:NoSchedule"]
runtime_class: nvidia
`)))
	must(t, other.UnmarshalText([]byte("class: small\nmemory: 1Mi\n")))
	profiled := full
	profiled.Profiles = []kubernetes.Profile{gpu, other}
	for name, cfg := range map[string]kubernetes.Config{"default": kubernetes.DefaultConfig(), "full": full, "profile": profiled} {
		t.Run(name, func(t *testing.T) {
			must(t, cfg.Validate())
			pod, err := kubernetes.PodOf(cfg, spec, recipeImage(), noon)
			must(t, err)
			golden(t, "pod-"+name+".yaml", pod)
			if b, err := yaml.Marshal(pod); err != nil || strings.Contains(string(b), spec.Token) {
				t.Errorf("the token is in the pod (%v)", err)
			}
		})
	}
}

func TestPodWithoutContainer(t *testing.T) {
	cfg := kubernetes.DefaultConfig()
	must(t, cfg.Pod.UnmarshalText([]byte("spec:\n  containers:\n  - {name: session, $patch: delete}\n")))
	if _, err := kubernetes.PodOf(cfg, sessiontest.NewSpec("a", "b"), recipeImage(), noon); err == nil {
		t.Error("a pod without the session is accepted")
	}
}

func TestPolicies(t *testing.T) {
	cfg := kubernetes.DefaultConfig()
	cfg.Network.Deny = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	cfg.Network.Allow = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}
	cfg.Network.Ports = []int{80, 443}
	policies := kubernetes.Policies(cfg)
	golden(t, "policies.yaml", policies[0], policies[1])
}
