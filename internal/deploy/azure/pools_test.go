package azure_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/test/azuresim"
)

const poolType = "Microsoft.ContainerService/managedClusters/agentPools"

// Builds and sessions have machines of their own when the file says so; they grow, and
// go when it says so no more.
func TestPools(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	dir, c := t.TempDir(), settings(s)
	c.Azure.Pools.Builds.Size, c.Azure.Pools.Sessions.Size = "Standard_D8s_v5", "Standard_D4s_v5"
	if err := run(t, dir, c, s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, name := range []string{"builds", "sessions"} {
		s.Edit(poolType, "my-hub/"+name, func(r *azuresim.Resource) {
			p, _ := r.Body["properties"].(map[string]any)
			tags, _ := p["tags"].(map[string]any)
			got[name] = []any{p["vmSize"], p["mode"], p["minCount"], p["maxCount"], p["osDiskSizeGB"], p["nodeLabels"], p["nodeTaints"], tags[azure.Tag]}
			p["kubeletConfig"] = map[string]any{"podMaxPids": 4096.0} // somebody's, who may
		})
	}
	label := func(name string) map[string]any { return map[string]any{"binnacle-pool": name} }
	want := map[string]any{
		"builds":   []any{"Standard_D8s_v5", "User", 1.0, 2.0, 256.0, label("builds"), []any{"binnacle-pool=builds:NoSchedule"}, "my-hub"},
		"sessions": []any{"Standard_D4s_v5", "User", 1.0, 5.0, 128.0, label("sessions"), []any{"binnacle-pool=sessions:NoSchedule"}, "my-hub"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wrote := func(what string, change func(), want ...string) {
		t.Helper()
		before := len(s.Writes())
		change()
		if err := run(t, dir, c, s.HTTP, up); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, s.Writes()[before:]); diff != "" {
			t.Errorf("%s wrote:\n%s", what, diff)
		}
	}
	wrote("the same again", func() {}, []string{}...)
	wrote("a larger one", func() { c.Azure.Pools.Sessions.Max = 4; c.Azure.Pools.Sessions.Min = 0 }, "PUT "+poolType+"/my-hub/sessions")
	s.Edit(poolType, "my-hub/sessions", func(r *azuresim.Resource) {
		if p, _ := r.Body["properties"].(map[string]any); p["kubeletConfig"] == nil || p["maxCount"] != 4.0 {
			t.Errorf("the change left %v", p)
		}
	})
	sessions := c.Azure.Pools.Sessions
	wrote("one less", func() { c.Azure.Pools.Sessions.Size = "" }, "DELETE "+poolType+"/my-hub/sessions")
	c.Azure.Pools.Sessions = sessions
	c.Azure.Pools.Builds.Size = "Standard_D4s_v5"
	if err := run(t, dir, c, s.HTTP, up); binnacle.CodeOf(err) != binnacle.CodeConflict || !strings.Contains(err.Error(), "node pool builds has size Standard_D8s_v5") {
		t.Errorf("another size: %v", err)
	}
	if err := run(t, dir, c, s.HTTP, down); err != nil {
		t.Fatal(err)
	}
	if left := s.State(); len(left) > 0 {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(left)))
	}
}

// What is reckoned has the machines of all pools.
func TestPoolsAreReckoned(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{CoresFree: 30})
	c := settings(s)
	c.Azure.Pools.Builds.Size, c.Azure.Pools.Sessions.Size = "Standard_D4s_v3", "Standard_D4s_v5"
	cloud := mustOpen(t, c, s)
	rs, err := cloud.Wanted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	prices, err := cloud.Prices(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	if p := prices["node pool/sessions"]; p.Full < 1.149 || p.Full > 1.151 { // 5 of 0.23
		t.Errorf("sessions cost %+v", p)
	}
	findings, err := cloud.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, f := range findings {
		if f.Name == "quota" {
			said = append(said, f.Message+" "+f.Hint)
		}
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{
		"3 nodes of Standard_D4s_v5 and 2 nodes of Standard_D4s_v3 and 5 nodes of Standard_D4s_v5 need 40 vCPUs; Total Regional vCPUs has 30 free",
		"Ask for 10 vCPUs more in the portal under Quotas, or lower azure.nodes.max and those of azure.pools.",
		"3 nodes of Standard_D4s_v5 and 5 nodes of Standard_D4s_v5 need 32 vCPUs; Standard DSv5 Family vCPUs has 30 free",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	c.Azure.Pools.Builds.Size = "Standard_Z9"
	if findings, err = mustOpen(t, c, s).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(findings, func(f deploy.Finding) bool { return strings.Contains(f.Hint, "another azure.pools.builds.size") }) {
		t.Errorf("a size that is none: %+v", findings)
	}
}

// The hub's parts go where their machines are.
func TestChartValues(t *testing.T) {
	t.Parallel()
	c := config.Default()
	if v := azure.ChartValues(c); len(v) > 0 {
		t.Errorf("without pools: %v", v)
	}
	c.Azure.Pools.Sessions.Size = "Standard_D4s_v5"
	want := map[string]any{"sessions": map[string]any{
		"nodeSelector": map[string]any{"binnacle-pool": "sessions"},
		"tolerations":  []any{map[string]any{"key": "binnacle-pool", "operator": "Equal", "value": "sessions", "effect": "NoSchedule"}},
	}}
	if diff := cmp.Diff(want, azure.ChartValues(c)); diff != "" {
		t.Error(diff)
	}
	c.Azure.Pools.Builds.Size = "Standard_D8s_v5"
	v := azure.ChartValues(c)
	v["registry"] = map[string]any{"imagePrefix": "registry.example.org/binder"}
	if err := chart.Refused("my-hub", "my-hub", v); err != nil {
		t.Errorf("the chart refuses them: %v", err)
	}
}
