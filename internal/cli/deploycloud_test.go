package cli_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

// onAzure writes a deployment on the simulator and returns its file, with the
// environment that signs in.
func onAzure(t *testing.T, s *azuresim.Server, edits ...string) (file string, environ []string) {
	t.Helper()
	text := `name: my-hub
target: azure
azure:
  subscription: Research
  region: westeurope
` + settingsOf(s) + `registry: {kind: azure, name: myhubimages}
dns: {label: my-hub-label}
`
	for i := 0; i < len(edits); i += 2 {
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	file = filepath.Join(t.TempDir(), "binnacle.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, []string{"AZURE_SECRET=" + azuresim.Secret}
}

// settingsOf are what of the section azure leads to the simulator.
func settingsOf(s *azuresim.Server) string {
	return `  sign_in: service_principal
  tenant: ` + azuresim.Tenant + `
  client: ` + azuresim.Client + `
  secret_from: env:AZURE_SECRET
  cloud:
    resource_manager: ` + s.URL + `
    authority: ` + s.URL + `
    prices: ` + s.URL + `/api/retail/prices
    ca_file: ` + s.CAFile + `
`
}

// The whole way against the simulator: check, plan, up, up again, info, down.
func TestDeployStory(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	file, environ := onAzure(t, s)
	var shown strings.Builder
	do := func(want int, args ...string) string {
		t.Helper()
		code, out, log := deploy(t, "", environ, append(args, "--no-hub", "-f", file)...)
		if code != want {
			t.Fatalf("%v: exit %d, not %d\n%s%s", args, code, want, out, log)
		}
		if strings.Contains(out+log, azuresim.Secret) {
			t.Errorf("%v shows the secret", args)
		}
		shown.WriteString("$ binnacle deploy " + strings.Join(args, " ") + "\n" + out + "\n")
		return out + log
	}
	if out := do(0, "check"); !strings.Contains(out, "service principal "+azuresim.Client) {
		t.Errorf("it does not say who it is: %s", out)
	}
	do(0, "plan")
	do(2, "up") // nobody can answer
	if w := s.Writes(); len(w) > 0 {
		t.Fatalf("written before it was allowed: %q", w)
	}
	do(0, "up", "--yes")
	before := s.Writes()
	do(0, "up")
	if diff := cmp.Diff(before, s.Writes()); diff != "" {
		t.Errorf("the second up wrote:\n%s", diff)
	}
	do(0, "info")
	do(2, "down", "--confirm", "other")
	s.Add("binnacle-my-hub", "Microsoft.Compute/disks", "somebodys", nil)
	do(0, "down", "--confirm", "my-hub")
	do(0, "down")
	golden(t, "testdata/deploy_story.golden", shown.String())
	journal, err := os.ReadFile(filepath.Join(filepath.Dir(file), ".binnacle", "my-hub", "journal"))
	if err != nil || len(journal) == 0 || strings.Contains(string(journal), azuresim.Secret) || strings.Contains(string(journal), "a-token-of") {
		t.Errorf("%v: %s", err, journal)
	}
}

// What the place has cost so far, and what ends when, is part of info.
func TestDeployInfo(t *testing.T) {
	t.Parallel()
	created := time.Now().Add(-100 * time.Hour).UTC()
	s := azuresim.Start(t, &azuresim.Azure{Created: created})
	file, environ := onAzure(t, s)
	for _, args := range [][]string{{"up", "--yes", "--no-hub", "-f", file}, {"info", "--no-hub", "-f", file}} {
		code, out, log := deploy(t, "", environ, args...)
		if code != 0 {
			t.Fatalf("%v: %d %s%s", args, code, out, log)
		}
		if args[0] == "up" {
			continue
		}
		idle := regexp.MustCompile(`cost since ` + created.Format(time.DateOnly) + `: between ([0-9.]+) \(idle\) and ([0-9.]+) USD \(full\)`).FindStringSubmatch(out)
		// 0.23 for a machine, 0.005 for the address, 0.007 for the registry; three machines.
		if len(idle) != 3 || idle[1] < "24.1" || idle[1] > "24.3" || idle[2] < "70.1" || idle[2] > "70.3" {
			t.Errorf("%q in\n%s", idle, out)
		}
		if !strings.Contains(out, "the registry's token: does not end") {
			t.Errorf("credentials: %s", out)
		}
	}
}

func TestDeployPlanJSON(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	file, environ := onAzure(t, s)
	code, out, log := deploy(t, "", environ, "plan", "--json", "--no-hub", "-f", file)
	if code != 0 || !json.Valid([]byte(out)) {
		t.Fatalf("exit %d: %s%s", code, out, log)
	}
	golden(t, "testdata/deploy_plan.json.golden", strings.ReplaceAll(out, s.URL, "https://sim.example.org"))
}

func TestDeployCheckFinds(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{CoresFree: 4})
	file, environ := onAzure(t, s)
	for _, command := range [][]string{{"check"}, {"up", "--yes"}} {
		code, out, log := deploy(t, "", environ, append(command, "--no-hub", "-f", file)...)
		if code != 2 || !strings.Contains(out, "has 4 free of 14") || !strings.Contains(out, "set azure.nodes.max to 1") || !strings.Contains(log, "nothing was created") {
			t.Errorf("%v: exit %d: %s%s", command, code, out, log)
		}
	}
	if w := s.Writes(); len(w) > 0 {
		t.Errorf("wrote %q", w)
	}
}

// trigger calls f once when the text has been written; then the next one waits.
type trigger struct {
	strings.Builder
	text string
	f    func()
	next *trigger
}

func (w *trigger) Write(b []byte) (int, error) {
	n, err := w.Builder.Write(b)
	if w.f != nil && strings.Contains(w.String(), w.text) {
		w.f()
		w.f = nil
		if w.next != nil {
			w.text, w.f, w.next = w.next.text, w.next.f, w.next.next
		}
	}
	return n, err
}

// Ctrl-C while the cluster is created: the next run waits for what the first one
// began, and nothing is asked for twice.
func TestDeployInterrupted(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{Looks: 20})
	file, environ := onAzure(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	args := []string{"deploy", "up", "--yes", "--no-hub", "-f", file}
	log := &trigger{text: "create cluster my-hub", f: func() {
		// When the request for the cluster has arrived.
		go func() {
			for ctx.Err() == nil {
				if _, there := s.State()["Microsoft.ContainerService/managedClusters/my-hub"]; there {
					cancel()
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}}
	code := cli.Run(ctx, cli.Env{Args: args, In: strings.NewReader(""), Out: io.Discard, Err: log, Environ: environ, Width: func() int { return 80 }, Registries: registryhost.Nowhere()})
	if code != 130 {
		t.Fatalf("exit %d: %s", code, log.String())
	}
	if state := s.State()["Microsoft.ContainerService/managedClusters/my-hub"]; state == "Succeeded" {
		t.Fatal("the cluster was done before the interruption")
	}
	code, _, again := deploy(t, "", environ, args[1:]...)
	if code != 0 || !strings.Contains(again, "wait cluster my-hub (begun by an earlier run)") {
		t.Errorf("exit %d: %s", code, again)
	}
	seen := map[string]bool{}
	for _, w := range s.Writes() {
		if seen[w] {
			t.Errorf("twice: %s", w)
		}
		seen[w] = true
	}
}

// TestDeployDomain: until the internet finds the hub's own domain, the hub is known
// by the name that the cloud gives, and what is to be entered above is said; then
// the domain comes first, and the other name stays.
func TestDeployDomain(t *testing.T) {
	t.Parallel()
	var delegated atomic.Bool
	resolver := parentZone(t, &delegated)
	s := azuresim.Start(t, &azuresim.Azure{})
	file, environ := onAzure(t, s, "dns: {label: my-hub-label}", "dns: {label: my-hub-label, domain: hub.example.org, resolver: '"+resolver+"'}",
		"name: myhubimages", "name: myhubimages, username: hub, password_from: 'env:REGISTRY'")
	environ = append(environ, "REGISTRY=hidden")
	do := func(args ...string) string {
		t.Helper()
		code, out, log := deploy(t, "", environ, append(args, "-f", file)...)
		if code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, code, out, log)
		}
		return out
	}
	said := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not said:\n%s", w, out)
			}
		}
	}
	const label = "my-hub-label.westeurope.cloudapp.azure.com"
	first := []string{`"https.acme.domain": "` + label + `"`, `"https.acme.also": "[\"hub.example.org\"]"`, `"url": "https://` + label + `"`}
	said(do("plan", "--json"), first...)
	// The zone is there; what comes after it is not yet.
	tags := map[string]string{azure.Tag: "my-hub"}
	s.Add("binnacle-my-hub", "Microsoft.Resources/resourceGroups", "binnacle-my-hub", tags)
	s.Add("binnacle-my-hub", "Microsoft.Network/dnsZones", "hub.example.org", tags)
	props, _ := s.Body("Microsoft.Network/dnsZones", "hub.example.org")["properties"].(map[string]any)
	props["nameServers"] = []any{"ns1-01.azure-dns.example.org.", "ns2-01.azure-dns.example.org."}
	said(do("plan", "--json"), first...)
	said(do("info", "--no-hub"), "example.org does not delegate hub.example.org yet", "hub.example.org. NS ns1-01.azure-dns.example.org.", "reach the hub at "+label)
	delegated.Store(true)
	said(do("plan", "--json"), `"https.acme.domain": "hub.example.org"`, `"https.acme.also": "[\"`+label+`\"]"`, `"url": "https://hub.example.org"`)
	said(do("up", "--yes", "--no-hub"), "hub.example.org is delegated by example.org.")
}

// parentZone is a name server of example.org, which delegates hub.example.org or
// does not, and returns its address.
func parentZone(t *testing.T, delegated *atomic.Bool) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		records := map[string][]string{"example.org.": {"ns.example.org."}}
		if delegated.Load() {
			records["hub.example.org."] = []string{"ns1-01.azure-dns.example.org.", "ns2-01.azure-dns.example.org."}
		}
		for _, server := range records[q.Question[0].Name] {
			if q.Question[0].Qtype == dns.TypeNS {
				m.Answer = append(m.Answer, &dns.NS{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: server})
			}
		}
		_ = w.WriteMsg(m)
	}
	server, started := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(handler)}, make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return pc.LocalAddr().String()
}
