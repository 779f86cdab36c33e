package azure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
	"github.com/binnacle-hub/binnacle/internal/deploy/cloudtest"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/test/azuresim"
)

// settings are those of a deployment that uses everything.
func settings(s *azuresim.Server) config.Config {
	c := config.Default()
	c.Name, c.Target = "my-hub", config.TargetAzure
	c.Azure.Subscription, c.Azure.Region, c.Azure.SignIn, c.Azure.Storage = azuresim.SubscriptionName, "westeurope", "service_principal", true
	c.Azure.Tenant, c.Azure.Client, c.Azure.SecretFrom = azuresim.Tenant, azuresim.Client, "env:SECRET"
	c.Azure.Cloud = config.Cloud{ResourceManager: s.URL, Authority: s.URL, Prices: s.URL + "/api/retail/prices", CAFile: s.CAFile}
	c.Registry.Kind = config.RegistryAzure
	c.DNS.Domain = "hub.example.org"
	return c
}

func open(t *testing.T, c config.Config, transport *http.Client) (*azure.Cloud, error) {
	t.Helper()
	cred, identity, err := azure.SignIn{Config: c, Secret: azuresim.Secret, Transport: transport}.Credential()
	if err != nil {
		t.Fatal(err)
	}
	return azure.New(t.Context(), azure.Options{Config: c, Credential: cred, Identity: identity, Transport: transport, Poll: time.Millisecond, RetryDelay: time.Millisecond})
}

func mustOpen(t *testing.T, c config.Config, s *azuresim.Server) *azure.Cloud {
	t.Helper()
	cloud, err := open(t, c, s.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	return cloud
}

// run opens the cloud and the journal in dir as a new process would.
func run(t *testing.T, dir string, c config.Config, transport *http.Client, f func(context.Context, *deploy.Engine) error) error {
	t.Helper()
	cloud, err := open(t, c, transport)
	if err != nil {
		return err
	}
	j, err := deploy.OpenJournal(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	return f(t.Context(), &deploy.Engine{Cloud: cloud, Journal: j, Poll: time.Millisecond})
}

func up(ctx context.Context, e *deploy.Engine) error {
	_, err := e.Up(ctx)
	return err
}

func down(ctx context.Context, e *deploy.Engine) error {
	_, err := e.Down(ctx)
	return err
}

func TestConformance(t *testing.T) {
	t.Parallel()
	cloudtest.Run(t, func(t *testing.T) deploy.Cloud {
		t.Helper()
		s := azuresim.Start(t, &azuresim.Azure{})
		return mustOpen(t, settings(s), s)
	})
}

func TestUpTwiceThenDown(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	dir, c := t.TempDir(), settings(s)
	if err := run(t, dir, c, s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	first := s.Writes()
	if len(first) != 7 {
		t.Errorf("%d writes: %q", len(first), first)
	}
	if err := run(t, dir, c, s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, s.Writes()); diff != "" {
		t.Errorf("the second run wrote:\n%s", diff)
	}
	if err := run(t, dir, c, s.HTTP, down); err != nil {
		t.Fatal(err)
	}
	if left := s.State(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSequences(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		azure *azuresim.Azure
		want  string // in the error of the first run; "" is none
		code  binnacle.Code
	}{
		{"throttled", &azuresim.Azure{Throttle: 3}, "", ""},
		{"provider not registered", &azuresim.Azure{Unregistered: map[string]bool{"Microsoft.ContainerService": true}}, "", ""},
		{"created, then failed", &azuresim.Azure{FailCreate: map[string]string{"Microsoft.ContainerRegistry/registries": "InternalError"}}, "InternalError", binnacle.CodeUnavailable},
		{"quota after 201", &azuresim.Azure{CoresFree: 3}, "QuotaExceeded", binnacle.CodeLimited},
		{"name taken", &azuresim.Azure{Taken: map[string]string{"label": "my-hub-label"}}, "DnsRecordInUse", binnacle.CodeInvalid},
		{"disabled", &azuresim.Azure{Disabled: true}, "ReadOnlyDisabledSubscription", binnacle.CodeConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := azuresim.Start(t, tt.azure)
			c, dir := settings(s), t.TempDir()
			c.DNS.Label = "my-hub-label"
			err := run(t, dir, c, s.HTTP, up)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) || binnacle.CodeOf(err) != tt.code {
				t.Fatalf("want %q (%s), got %v (%s)", tt.want, tt.code, err, binnacle.CodeOf(err))
			}
			// Mended, it goes on where it was.
			s.Taken, s.CoresFree, s.Disabled = nil, 100, false
			if err := run(t, dir, c, s.HTTP, up); err != nil {
				t.Fatal(err)
			}
			for _, st := range s.State() {
				if st != "Succeeded" {
					t.Errorf("got %v", s.State())
				}
			}
		})
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	dir, c := t.TempDir(), settings(s)
	if err := run(t, dir, c, s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	before := len(s.Writes())
	// What others did to the cluster stays.
	const clusters = "Microsoft.ContainerService/managedClusters"
	s.Edit(clusters, "my-hub", func(r *azuresim.Resource) {
		r.Tags["cost-centre"] = "42"
		props, _ := r.Body["properties"].(map[string]any)
		props["addonProfiles"] = map[string]any{"azurepolicy": map[string]any{"enabled": true}}
	})
	defer s.Edit(clusters, "my-hub", func(r *azuresim.Resource) {
		props, _ := r.Body["properties"].(map[string]any)
		if r.Tags["cost-centre"] != "42" || r.Tags[azure.Tag] != "my-hub" || props["addonProfiles"] == nil {
			t.Errorf("the change lost what others set: %v", r)
		}
	})
	c.Azure.Nodes.Max, c.Azure.Storage = 5, false
	if err := run(t, dir, c, s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	got := s.Writes()[before:]
	if len(got) != 2 || got[0] != "PUT Microsoft.ContainerService/managedClusters/my-hub" || !strings.HasPrefix(got[1], "DELETE Microsoft.Storage/storageAccounts/myhub") {
		t.Errorf("wrote %q", got)
	}
	c.Azure.Nodes.Size = "Standard_D8s_v5"
	if err := run(t, dir, c, s.HTTP, up); binnacle.CodeOf(err) != binnacle.CodeConflict || !strings.Contains(err.Error(), "cluster my-hub has size Standard_D4s_v5, which can't be changed to Standard_D8s_v5") {
		t.Errorf("got %v", err)
	}
}

func TestDefect13DownLeavesForeignThings(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]func(*azuresim.Azure){
		"group that was there": func(a *azuresim.Azure) {
			a.Add("binnacle-my-hub", "Microsoft.Resources/resourceGroups", "binnacle-my-hub", nil)
		},
		"disk in a group that was there": func(a *azuresim.Azure) {
			a.Add("binnacle-my-hub", "Microsoft.Resources/resourceGroups", "binnacle-my-hub", map[string]string{"owner": "ada"})
			a.Add("binnacle-my-hub", "Microsoft.Compute/disks", "d", nil)
			a.Add("binnacle-my-hub", "Microsoft.ContainerService/managedClusters", "other", map[string]string{azure.Tag: "other-hub"})
		},
		"network watcher": func(a *azuresim.Azure) {
			a.Add("NetworkWatcherRG", "Microsoft.Resources/resourceGroups", "NetworkWatcherRG", nil)
			a.Add("NetworkWatcherRG", "Microsoft.Network/networkWatchers", "w", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := azuresim.Start(t, &azuresim.Azure{})
			add(s.Azure)
			before, dir, c := s.State(), t.TempDir(), settings(s)
			for _, f := range []func(context.Context, *deploy.Engine) error{up, down, down} {
				if err := run(t, dir, c, s.HTTP, f); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(before, s.State()); diff != "" {
				t.Errorf("-before +after:\n%s", diff)
			}
		})
	}
}

// A foreign disk appears in the group that we made: all of ours goes, the group
// stays with it.
func TestDefect13GroupWithForeignThingsStays(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	dir, c := t.TempDir(), settings(s)
	if err := run(t, dir, c, s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	s.Add("binnacle-my-hub", "Microsoft.Compute/disks", "d", nil)
	if err := run(t, dir, c, s.HTTP, down); err != nil {
		t.Fatal(err)
	}
	want := []string{"Microsoft.Compute/disks/d", "Microsoft.Resources/resourceGroups/binnacle-my-hub"}
	if got := slices.Sorted(maps.Keys(s.State())); !slices.Equal(got, want) {
		t.Errorf("left %q", got)
	}
}

// The A record is part of the plan and points at the address, without a step to
// be run by hand.
func TestDefect03RecordFollowsTheAddress(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	if err := run(t, t.TempDir(), settings(s), s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s.Body("Microsoft.Network/dnsZones/A", "hub.example.org/@"))
	if err != nil || !strings.Contains(string(b), "/publicIPAddresses/my-hub") {
		t.Errorf("%v: %s", err, b)
	}
}

// No service principal is made, and none runs the cluster.
func TestDefect09And11ManagedIdentity(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	if err := run(t, t.TempDir(), settings(s), s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	body := s.Body("Microsoft.ContainerService/managedClusters", "my-hub")
	b, _ := json.Marshal(body)
	if !strings.Contains(string(b), `"identity":{"type":"SystemAssigned"}`) || strings.Contains(string(b), "servicePrincipal") {
		t.Errorf("%s", b)
	}
	for _, w := range s.Writes() {
		if strings.Contains(w, "Authorization") || strings.Contains(w, "Graph") {
			t.Errorf("asked for %s", w)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		azure  *azuresim.Azure
		change func(*config.Config)
		want   []string // of what is wrong
	}{
		{"all is well", &azuresim.Azure{}, nil, nil},
		{"quota", &azuresim.Azure{CoresFree: 8}, nil, []string{
			"3 nodes of Standard_D4s_v5 need 12 vCPUs; Total Regional vCPUs has 8 free of 18.", "3 nodes of Standard_D4s_v5 need 12 vCPUs; Standard DSv5 Family vCPUs has 8 free of 18.",
		}},
		{"small", &azuresim.Azure{}, func(c *config.Config) { c.Azure.Nodes.Size = "Standard_D2s_v5" }, []string{"Standard_D2s_v5 has 2 vCPUs and 8 GB; system nodes of AKS need 4 and 4."}},
		{"no such size", &azuresim.Azure{}, func(c *config.Config) { c.Azure.Nodes.Size = "Standard_X1" }, []string{"There is no Standard_X1 in westeurope."}},
		{"restricted", &azuresim.Azure{}, func(c *config.Config) { c.Azure.Nodes.Size = "Standard_E4s_v5" }, []string{"Standard_E4s_v5 can't be used in westeurope by this subscription (NotAvailableForSubscription)."}},
		{"rights", &azuresim.Azure{Denied: []string{"Microsoft.ContainerService/*", "*/dnsZones/write"}}, func(c *config.Config) { c.Azure.ResourceGroup = "theirs" }, []string{
			"you may not create Microsoft.Network/dnsZones, Microsoft.ContainerService/managedClusters in theirs.",
		}},
		{"version", &azuresim.Azure{}, func(c *config.Config) { c.Azure.Kubernetes = "1.36" }, []string{"Kubernetes 1.36 is not offered in westeurope."}},
		{"patch", &azuresim.Azure{}, func(c *config.Config) { c.Azure.Kubernetes = "1.34.2" }, nil},
		{"disabled", &azuresim.Azure{Disabled: true}, nil, []string{"The subscription Research is Disabled."}},
		{
			"names", &azuresim.Azure{Taken: map[string]string{"label": "mine", "Microsoft.ContainerRegistry/registries": "myimages"}},
			func(c *config.Config) { c.DNS.Label, c.Registry.Name = "mine", "myimages" },
			[]string{"registry can't have the name myimages: The name is already in use.", "public address can't have the name mine: it is taken."},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := azuresim.Start(t, tt.azure)
			s.Add("theirs", "Microsoft.Resources/resourceGroups", "theirs", nil)
			c := settings(s)
			if tt.change != nil {
				tt.change(&c)
			}
			found, err := mustOpen(t, c, s).Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				if !f.OK {
					got = append(got, f.Message)
					if f.Hint == "" {
						t.Errorf("no hint: %s", f.Message)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if w := s.Writes(); len(w) > 0 {
				t.Errorf("the check wrote %q", w)
			}
		})
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	c := settings(s)
	c.Azure.Tier = "standard"
	cloud := mustOpen(t, c, s)
	rs, err := cloud.Wanted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	prices, err := cloud.Prices(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for key, p := range prices {
		kind, _, _ := strings.Cut(key, "/")
		got[kind] = fmt.Sprintf("%s %.4f %.4f", p.Currency, p.Idle, p.Full)
	}
	want := map[string]string{"cluster": "USD 0.3300 0.7900", "registry": "USD 0.0069 0.0069", "public address": "USD 0.0050 0.0050"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSignInIsRefused(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	c := settings(s)
	cred, _, err := azure.SignIn{Config: c, Secret: "wrong-secret", Transport: s.HTTP}.Credential()
	if err != nil {
		t.Fatal(err)
	}
	_, err = azure.New(t.Context(), azure.Options{Config: c, Credential: cred, Transport: s.HTTP})
	if e, ok := errors.AsType[*binnacle.Error](err); !ok || e.Code != binnacle.CodeUnauthorized || strings.Contains(e.Message, "wrong-secret") || !strings.Contains(e.Message, "AADSTS7000215: Invalid client secret provided.") {
		t.Errorf("got %v", err)
	}
	for _, way := range config.SignIns() {
		c.Azure.SignIn, c.Azure.Tenant, c.Azure.Client = way, "", ""
		_, identity, err := azure.SignIn{Config: c, Transport: s.HTTP}.Credential()
		if (err == nil) != slices.Contains([]string{"cli", "device", "managed_identity"}, way) || err != nil && binnacle.CodeOf(err) != binnacle.CodeInvalid || err == nil && identity == "" {
			t.Errorf("%s without anything: %q, %v", way, identity, err)
		}
	}
}

// Every way to sign in gets a token of its own kind, and says who it is.
func TestSignIn(t *testing.T) {
	s := azuresim.Start(t, &azuresim.Azure{})
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// az as it is installed, signed in.
	write("az", "#!/bin/sh\necho \"$*\" >> "+dir+"/asked\necho '{\"accessToken\": \"a-token-of-the-simulator\", \"expires_on\": 4102444800, \"tokenType\": \"Bearer\"}'\n", 0o700)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, e := range s.Identity() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", write("federated", azuresim.Assertion, 0o600))
	t.Setenv("SYSTEM_OIDCREQUESTURI", s.URL+"/pipelines/oidc")
	for way, want := range map[string]string{
		"cli": "whom az is signed in as", "device": "you, by device code", "service_principal": "service principal " + azuresim.Client,
		"managed_identity": "managed identity " + azuresim.Client, "workload_identity": "workload identity " + azuresim.Client,
		"pipelines": "service connection 44444444-4444-4444-4444-444444444444",
	} {
		c := settings(s)
		c.Azure.SignIn, c.Azure.ServiceConnection = way, "44444444-4444-4444-4444-444444444444"
		if way != "service_principal" {
			c.Azure.SecretFrom = ""
		}
		if ps := c.Validate(); len(ps) > 0 {
			t.Errorf("%s: the file is wrong: %v", way, ps)
		}
		prompted := ""
		cred, identity, err := azure.SignIn{
			Config: c, Secret: azuresim.Secret, Transport: s.HTTP, Environ: []string{"SYSTEM_ACCESSTOKEN=" + azuresim.Secret}, Prompt: func(m string) { prompted = m },
		}.Credential()
		if err != nil || identity != want {
			t.Errorf("%s: %q, %v", way, identity, err)
			continue
		}
		cloud, err := azure.New(t.Context(), azure.Options{Config: c, Credential: cred, Identity: identity, Transport: s.HTTP})
		if err != nil {
			t.Errorf("%s: %v: %v", way, err, errors.Unwrap(err))
			continue
		}
		if who, err := cloud.Who(t.Context()); err != nil || who != want+", subscription "+azuresim.Subscription {
			t.Errorf("%s: who: %q %v", way, who, err)
		}
		if (way == "device") != strings.Contains(prompted, "ABCD-EFGH") {
			t.Errorf("%s: asked the person %q", way, prompted)
		}
	}
	if asked, err := os.ReadFile(filepath.Join(dir, "asked")); err != nil || strings.Count(string(asked), "account get-access-token") != 1 {
		t.Errorf("az was asked %q: %v", asked, err)
	}
	if len(config.SignIns()) != 6 {
		t.Errorf("there are %d ways, and six are tried", len(config.SignIns()))
	}
}

func TestNoSuchSubscription(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{})
	c := settings(s)
	c.Azure.Subscription = "Other"
	_, err := open(t, c, s.HTTP)
	if e, ok := errors.AsType[*binnacle.Error](err); !ok || e.Code != binnacle.CodeNotFound || !strings.Contains(e.Hint, azuresim.SubscriptionName) {
		t.Errorf("got %v", err)
	}
}
