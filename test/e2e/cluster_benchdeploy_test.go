package e2e_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestBenchDeploy is `make bench-deploy`: how long `plan` takes, and `up` on a
// cluster that is there, with the image and the environment of the verification on
// its nodes, each step by itself. It asserts no figure.
func TestBenchDeploy(t *testing.T) {
	out := os.Getenv("BINNACLE_BENCH_DEPLOY")
	if out == "" {
		t.Skip("a benchmark: make bench-deploy")
	}
	first := installHub(t)
	b := figures{t: t}
	for range 5 {
		began := time.Now()
		first.deploy(t, 0, "plan")
		b.add("plan, target azure (simulated)", "s", "everything is there, nothing to do", time.Since(began).Seconds())
	}
	prefix := first.Registry + "/" + first.namespace + "/binder"
	for range 3 {
		h := &clusterHub{Cluster: first.Cluster, dir: t.TempDir(), example: first.example, git: first.git}
		h.namespace = h.Namespace(t)
		h.sessions = h.namespace + "-sessions"
		h.authorities(t)
		h.settings(200)
		h.values["registry"].(map[string]any)["imagePrefix"] = prefix
		h.values["replicas"] = 1
		delete(h.values, "database")
		h.describe(t)
		began := time.Now()
		h.deploy(t, 0, "plan")
		b.add("plan, target cluster", "s", "nothing is there", time.Since(began).Seconds())
		began = time.Now()
		said := h.deploy(t, 0, "up", "--yes")
		b.add("up, target cluster, to a verified launch", "s", "one replica, two builders; image and environment on the nodes", time.Since(began).Seconds())
		for _, step := range steps(said) {
			b.add("of it "+step.name, "s", "", step.seconds)
		}
		began = time.Now()
		h.deploy(t, 0, "down", "--confirm", h.namespace)
		b.add("down, target cluster", "s", "until nothing is left", time.Since(began).Seconds())
	}
	b.write(out)
	first.deploy(t, 0, "down", "--confirm", first.namespace)
	first.uninstall(t)
}

type step struct {
	name    string
	seconds float64
}

// steps are the lines that say what is done, and how long it took.
func steps(said string) []step {
	var out []step
	for _, m := range regexp.MustCompile(`(?m)^ +done: (.+), ([0-9a-zµ.]+)$`).FindAllStringSubmatch(said, -1) {
		if took, err := time.ParseDuration(m[2]); err == nil {
			out = append(out, step{withoutName(m[1]), took.Seconds()})
		}
	}
	return out
}

// withoutName takes the name of a namespace of tests off a step.
func withoutName(step string) string {
	words := strings.Fields(step)
	for i, w := range words {
		if strings.HasPrefix(w, "test-") {
			words[i] = "…"
		}
	}
	return strings.Join(words, " ")
}
