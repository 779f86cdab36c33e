package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

//go:generate go test -run TestReference -update .

const right = `name: my-hub
target: azure
azure:
  subscription: Research
  region: West Europe
`

// Each way of being wrong gives one problem, with the path, the line and an
// example.
func TestEachFieldWrong(t *testing.T) {
	t.Parallel()
	// with is the right file without the lines that set the same key.
	with := func(extra string) string { return right + extra }
	replace := func(old, text string) string { return strings.Replace(right, old, text, 1) }
	for _, tt := range []struct{ name, file, want string }{
		{"empty file", "", "the file is empty"},
		{"not yaml", "name: [", "is not YAML"},
		{"a list", "- name", "settings are expected here"},
		{"two documents", right + "---\n{}\n", "one YAML document"},
		{"unknown", with("title: x\n"), "line 6: title: no such setting"},
		{"elsewhere", with("vm_size: x\n"), "line 6: vm_size: no such setting"},
		{"near", with("region: x\n"), "region: no such setting; did you mean azure.region?"},
		{"twice", with("name: other\n"), "line 6: name: is set twice"},
		{"null", replace("name: my-hub", "name:"), "line 1: name: has no value"},
		{"section with a value", with("dns: yes\n"), "dns: settings are expected here"},
		{"name missing", replace("name: my-hub\n", ""), "name: is missing: must be 2 to 40 lower-case letters, digits and hyphens, beginning with a letter; for example my-hub"},
		{"name upper", replace("my-hub", "MyHub"), `line 1: name: must be 2 to 40 lower-case letters, digits and hyphens, beginning with a letter, not "MyHub"; for example my-hub`},
		{"name list", replace("my-hub", "[a]"), "name: one value is expected here"},
		{"name long", replace("my-hub", strings.Repeat("a", 41)), "name: must be 2 to 40"},
		{"target missing", replace("target: azure\n", ""), "target: is missing: must be one of azure, cluster, host; for example azure"},
		{"target wrong", replace("target: azure", "target: google"), `target: must be one of azure, cluster, host, not "google"`},
		{"subscription missing", replace("  subscription: Research\n", ""), "azure.subscription: is missing"},
		{"subscription path", replace("Research", "/subscriptions/a/b"), "azure.subscription: must be the name or the id"},
		{"region missing", replace("  region: West Europe\n", ""), "azure.region: is missing"},
		{"region wrong", replace("West Europe", "west-europe"), `line 5: azure.region: must be the name of a region, letters and digits, not "west-europe"; for example westeurope`},
		{"group", with("  resource_group: a/b\n"), "azure.resource_group: must be at most 90"},
		{"group dot", with("  resource_group: a.\n"), "azure.resource_group: must be at most 90"},
		{"sign in", with("  sign_in: password\n"), `azure.sign_in: must be one of cli, device`},
		{"tenant", with("  tenant: my tenant\n"), "azure.tenant: must be the id or the domain"},
		{"client", with("  client: me\n"), "azure.client: must be an id"},
		{"secret in the file", with("  secret_from: hunter2\n"), "azure.secret_from: must say where the secret is"},
		{"secret missing", with("  sign_in: service_principal\n"), "azure.secret_from: is missing"},
		{"connection missing", with("  sign_in: pipelines\n"), "azure.service_connection: is missing"},
		{"connection", with("  service_connection: x\n"), "azure.service_connection: must be the id"},
		{"kubernetes", with("  kubernetes: latest\n"), "azure.kubernetes: must be a version"},
		{"tier", with("  tier: premium\n"), "azure.tier: must be one of free, standard"},
		{"size", with("  nodes: {size: large}\n"), `line 6: azure.nodes.size: must be the name of a machine type, not "large"; for example Standard_D4s_v5`},
		{"size B series", with("  nodes: {size: Standard_B2s}\n"), "azure.nodes.size: Standard_B2s is of the B series"},
		{"min text", with("  nodes: {min: two}\n"), `azure.nodes.min: "two" is not a whole number; for example 1`},
		{"min zero", with("  nodes: {min: 0}\n"), "azure.nodes.min: must be 1 to 1000, not 0"},
		{"min fraction", with("  nodes: {min: 1.5}\n"), `azure.nodes.min: "1.5" is not a whole number`},
		{"max below min", with("  nodes: {min: 3, max: 2}\n"), "azure.nodes.max: must be at least azure.nodes.min (3), not 2"},
		{"max of the free tier", with("  nodes: {max: 11}\n"), "azure.nodes.max: must be at most 10 with azure.tier free"},
		{"max", with("  tier: standard\n  nodes: {max: 1001}\n"), "azure.nodes.max: must be at most 1000"},
		{"disk", with("  nodes: {disk_gb: 5}\n"), "azure.nodes.disk_gb: must be 30 to 2048, not 5"},
		{"pods", with("  network: {pods: 10.10.0.0}\n"), "azure.network.pods: must be a range of IPv4 addresses"},
		{"pods bits", with("  network: {pods: 10.10.0.1/16}\n"), "azure.network.pods: must be a range of IPv4 addresses"},
		{"pods public", with("  network: {pods: 8.0.0.0/16}\n"), "azure.network.pods: must be a range of private addresses"},
		{"services small", with("  network: {services: 10.1.1.0/29}\n"), "azure.network.services: must have at least 256"},
		{"storage", with("  storage: maybe\n"), `azure.storage: "maybe" is neither true nor false`},
		{"storage number", with("  storage: 1\n"), `azure.storage: "1" is neither true nor false`},
		{"cloud half", with("  cloud: {authority: 'https://login.example.org'}\n"), "azure.cloud.resource_manager: is missing: it and azure.cloud.authority are both needed"},
		{"cloud http", with("  cloud: {prices: 'http://prices.example.org'}\n"), "azure.cloud.prices: must be an https address"},
		{"context missing", "name: my-hub\ntarget: cluster\ndns: {domain: hub.example.org}\n", "cluster.context: is missing: must name a context of the kubeconfig"},
		{"namespace", "name: my-hub\ntarget: cluster\ncluster: {context: a, namespace: A}\ndns: {domain: hub.example.org}\n", "cluster.namespace: must be lower-case"},
		{"host", "name: my-hub\ntarget: host\nhost: {address: 'a; b'}\ndns: {domain: hub.example.org}\n", "host.address: must be a machine"},
		{"host with a wrong port", "name: my-hub\ntarget: host\nhost: {address: 'ada@hub:x'}\ndns: {domain: hub.example.org}\n", "host.address: must end with a port"},
		{"host that is an option", "name: my-hub\ntarget: host\nhost: {address: '-oProxyCommand=id'}\ndns: {domain: hub.example.org}\n", "host.address: must be a machine"},
		{"host's data", "name: my-hub\ntarget: host\nhost: {data: /srv/a/much/too/long/path/for/unix/sockets}\ndns: {domain: hub.example.org}\n", "host.data: must be at most 36"},
		{"host's known hosts", "name: my-hub\ntarget: host\nhost: {known_hosts: '-x'}\ndns: {domain: hub.example.org}\n", "host.known_hosts: must be a file"},
		{"host's registry", "name: my-hub\ntarget: host\nregistry: {kind: other, host: r.example.org}\ndns: {domain: hub.example.org}\n", "registry.kind: must be none"},
		{"host's values", "name: my-hub\ntarget: host\nvalues: {replicas: 2}\ndns: {domain: hub.example.org}\n", "values: are settings of the chart"},
		{"host's range", "name: my-hub\ntarget: host\naccess: {from: [192.0.2.0/24]}\ndns: {domain: hub.example.org}\n", "access.from: needs the target"},
		{"host without a name", "name: my-hub\ntarget: host\n", "dns.domain: is missing: HTTPS needs a name"},
		{"registry kind", with("registry: {kind: quay}\n"), "registry.kind: must be one of azure, dockerhub, other, none"},
		{"registry elsewhere", "name: my-hub\ntarget: host\ndns: {domain: hub.example.org}\nregistry: {kind: azure}\n", "registry.kind: azure needs the target azure"},
		{"registry name", with("registry: {kind: azure, name: my-images}\n"), "registry.name: must be 5 to 50 letters and digits"},
		{"registry sku", with("registry: {kind: azure, sku: basic}\n"), "registry.sku: must be one of Basic, Standard, Premium"},
		{"registry prefix", with("registry: {prefix: Binder}\n"), "registry.prefix: must be lower-case"},
		{"registry user missing", with("registry: {kind: dockerhub, password_from: 'env:X'}\n"), "registry.username: is missing"},
		{"registry password missing", with("registry: {kind: dockerhub, username: ada}\n"), "registry.password_from: is missing"},
		{"registry organisation", with("registry: {organisation: A}\n"), "registry.organisation: must be the name"},
		{"registry host missing", with("registry: {kind: other}\n"), "registry.host: is missing"},
		{"registry host", with("registry: {kind: other, host: 'https://registry.example.org'}\n"), "registry.host: must be the host"},
		{"domain", with("dns: {domain: 'https://hub.example.org'}\n"), "dns.domain: must be a domain, lower-case, without https://"},
		{"label", with("dns: {label: a.b}\n"), "dns.label: must be 3 to 63"},
		{"https", with("https: {enabled: 'on'}\n"), `https.enabled: "on" is neither true nor false`},
		{"staging", with("https: {staging: [true]}\n"), "https.staging: one value is expected here"},
		{"email", with("https: {email: ada}\n"), `https.email: "ada" is not an address of mail; for example ada@example.org`},
		{"from", with("access: {from: [office]}\n"), `access.from: "office" is not a range of addresses; for example [192.0.2.0/24]`},
		{"from text", with("access: {from: 192.0.2.0/24}\n"), "access.from: a list is expected here"},
		{"from null", with("access: {from: [null]}\n"), "access.from: each item of the list must be one value"},
		{"repositories", with("access: {repositories: ['(']}\n"), "access.repositories: \"(\" is not a regular expression"},
		{"hub", with("hub: 3\n"), "hub: settings are expected here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, ps := config.Load([]byte(tt.file))
			n := 0
			for _, p := range ps {
				if strings.Contains(p.String(), tt.want) {
					n++
				}
			}
			// Files that can't be read at all lack everything else too.
			if n != 1 || (strings.HasPrefix(tt.file, "name:") && strings.Contains(tt.file, "target: ") && len(ps) != 1 && !strings.Contains(tt.name, "not yaml")) {
				t.Errorf("got %d problems, of which %d are %q:\n%v", len(ps), n, tt.want, ps)
			}
		})
	}
}

// All problems come at once, in the order of the file.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	_, ps := config.Load([]byte("name: X\ntarget: azure\nazure:\n  region: 1\n  nodes: {min: 0, colour: red}\nregistry: {kind: other}\n"))
	var got []string
	for _, p := range ps {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Path))
	}
	want := []string{"0 azure.subscription", "0 registry.host", "1 name", "4 azure.region", "5 azure.nodes.colour", "5 azure.nodes.min"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	err := ps.Err("binnacle.yaml")
	if e, ok := errors.AsType[*binnacle.Error](err); !ok || e.Code != binnacle.CodeInvalid || strings.Count(e.Message, "\n") != len(want) {
		t.Errorf("got %v", err)
	}
}

// What is written is read back as it was, whatever its values hold.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Name, c.Target = "my-hub", config.TargetAzure
	c.Azure.Subscription, c.Azure.Region, c.Azure.Storage = "0123", "westeurope", true
	c.HTTPS.Enabled = false
	c.Registry = config.Registry{Kind: config.RegistryDockerHub, SKU: "Basic", Username: `a/&|"'b`, PasswordFrom: "file:/x y/&|/$z", Prefix: "binder-"}
	c.Access = config.Access{From: []string{"192.0.2.0/24"}, Repositories: []string{`^gh/a,b/: #{}`}}
	c.Hub = map[string]any{"launch": map[string]any{"max_sessions": 20}, "hub": map[string]any{"title": "a: b # c\nd"}}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, ps := config.Load(b)
	if len(ps) > 0 {
		t.Fatalf("%v\n%s", ps, b)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Errorf("-written +read:\n%s\n%s", diff, b)
	}
}

// Each default that is written as a comment would do as a setting.
func TestExamplesAreRight(t *testing.T) {
	t.Parallel()
	for _, target := range []string{config.TargetAzure, config.TargetCluster, config.TargetHost} {
		var b strings.Builder
		c := config.Default()
		fields := map[string]bool{}
		for _, f := range config.Fields(&c) {
			if f.Comment == "" || f.Example == "" {
				t.Errorf("%s has no comment or no example", f.Path)
			}
			fields[f.Path] = true
		}
		if len(fields) < 40 {
			t.Errorf("only %d settings", len(fields))
		}
		c.Name, c.Target = "my-hub", target
		text, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// "# key: value" is a setting that is off; prose has no such key.
			trimmed := strings.TrimLeft(line, " ")
			key, _, ok := strings.Cut(strings.TrimPrefix(trimmed, "# "), ":")
			if strings.HasPrefix(trimmed, "# ") && ok && isKey(fields, key) {
				line = strings.Replace(line, "# ", "", 1)
			}
			b.WriteString(line)
		}
		_, ps := config.Load([]byte(b.String()))
		for _, p := range ps {
			// Examples of one kind of registry stand beside the default kind.
			t.Errorf("%s: %v", target, p)
		}
	}
}

func isKey(fields map[string]bool, key string) bool {
	for path := range fields {
		if path == key || strings.HasSuffix(path, "."+key) {
			return true
		}
	}
	return false
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(right))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("hub: {a: 1}\nname: [\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ps := config.Load(b)
		if len(ps) > 0 {
			return
		}
		text, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, ps := config.Load(text)
		if len(ps) > 0 {
			t.Fatalf("what is right is wrong when it is written: %v\n%s", ps, text)
		}
		if diff := cmp.Diff(c.Azure, again.Azure); diff != "" {
			t.Error(diff)
		}
	})
}

var updateFlag = flag.Bool("update", false, "write the reference page")

// The page is written from the comments of the settings.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# binnacle.yaml of a deployment\n\n<!-- Written by `make generate` from the code; do not edit. -->\n\n" +
		"`binnacle deploy init` writes this file, `binnacle deploy check` finds every mistake in it.\n" +
		"Dots of a path are nested keys. Unknown settings are errors. It holds no secrets: settings\n" +
		"that end in `_from` say where one is, `env:NAME` or `file:PATH`.\n")
	c, sections := config.Default(), config.Sections()
	section := ""
	for _, f := range config.Fields(&c) {
		s, _, nested := strings.Cut(f.Path, ".")
		if nested && s != section {
			section = s
			fmt.Fprintf(&b, "\n## %s\n\n%s\n", s, sections[s])
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n\nFor example `%s`", f.Path, f.Comment, f.Example)
		if !f.Value.IsZero() {
			fmt.Fprintf(&b, ", default `%v`", f.Value.Interface())
		}
		b.WriteByte('\n')
	}
	const page = "../../../docs/reference/deploy.md"
	if *updateFlag {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the reference page is old; run `make generate` (-page +code):\n%s", diff)
	}
}

// The section watch: what it needs, and what it can't have.
func TestWatch(t *testing.T) {
	const base = "name: my-hub\ntarget: cluster\ncluster: {context: c}\nhttps: {enabled: false}\n"
	for text, want := range map[string]string{
		"watch: {branch: main}": "watch.branch: needs watch.repository",
		"watch: {repository: 'git@git.example.org:institute/hub'}":                                                                       "watch.repository: must be the https address",
		"watch: {repository: 'https://ada:secret@git.example.org/a/b'}":                                                                  "watch.repository: must be the https address",
		"watch: {repository: 'https://git.example.org/a/b', interval: soon}":                                                             "watch.interval: must be a time of at least 10s",
		"watch: {repository: 'https://git.example.org/a/b', interval: 1s}":                                                               "watch.interval: must be a time of at least 10s",
		"watch: {repository: 'https://git.example.org/a/b', path: ../x}":                                                                 "watch.path: must be a path",
		"watch: {repository: 'https://git.example.org/a/b', status: github}":                                                             "watch.token_from: is missing",
		"watch: {repository: 'https://git.example.org/a/b', status: sourceforge, token_from: 'env:A'}":                                   "watch.status: must be one of github, gitlab, gitea, azure-devops",
		"watch: {repository: 'https://git.example.org/a/b', via: hub}":                                                                   "watch.via: must be an address and a port",
		"watch: {repository: 'https://git.example.org/a/b', identity: 00000000-0000-0000-0000-000000000000}":                             "watch.identity: needs the target azure",
		"watch: {repository: 'https://git.example.org/a/b', branch: main, status: gitea, token_from: 'env:A', via: 'hub.my-hub.svc:80'}": "",
	} {
		_, ps := config.Load([]byte(base + text))
		got := ""
		if err := ps.Err("x"); err != nil {
			got = err.Error()
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// What is around the hub waits for a person, and the hub gets the rest.
func TestInside(t *testing.T) {
	const text = "name: my-hub\ntarget: azure\nazure: {subscription: s, region: westeurope}\nwatch: {repository: 'https://git.example.org/a/b'}\n"
	c, ps := config.Load([]byte(text))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	b, err := json.Marshal(c.Follower())
	if err != nil {
		t.Fatal(err)
	}
	in, every, err := config.ReadInside(b)
	if err != nil || every != time.Minute {
		t.Fatal(every, err)
	}
	if moved := in.Moved(c); len(moved) > 0 {
		t.Errorf("nothing was changed: %q", moved)
	}
	next, ps := config.Load([]byte(strings.Replace(text, "region: westeurope", "region: westeurope, storage: true, nodes: {max: 5}", 1) + "hub: {launch: {max_sessions: 3}}\ndns: {domain: hub.example.org}\n"))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if diff := cmp.Diff([]string{`azure.nodes.max "3" → "5"`, `azure.storage "false" → "true"`, `dns.domain "" → "hub.example.org"`}, in.Moved(next)); diff != "" {
		t.Error(diff)
	}
	kept := in.Keep(next)
	if kept.Azure.Nodes.Max != 3 || kept.Azure.Storage || kept.DNS.Domain != "" || kept.Hub == nil {
		t.Errorf("%+v", kept)
	}
	next.Name = "other"
	if err := in.Fits(next); binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Error(err)
	}
	if err := in.Fits(c); err != nil {
		t.Error(err)
	}
}
