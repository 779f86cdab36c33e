package config_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// any text of the right kind will do for a field.
var anyText []any

// mistakes are values of the right kind that each setting must refuse. Every setting
// has to be here.
func mistakes() map[string][]any {
	long := strings.Repeat("a", 100)
	const multi = "/a\n/b"
	where := []any{"hunter2", "env:", "env:A B", "file:", "vault:x", "env:9"}
	address := []any{"http://cloud.example.org", "cloud.example.org", "https://", "https://ada:secret@cloud.example.org"}
	id := []any{"me", "0000", long}
	return map[string][]any{
		"name": {"", "a", "MyHub", "my_hub", "-hub", "1hub", "my hub", long}, "target": {"", "google", "Azure", "kubernetes"},
		"azure.subscription": {"", "/subscriptions/a/b", "50%", long}, "azure.region": {"", "west-europe", "West_Europe", "1"},
		"azure.resource_group": {"a/b", "a.", long, "my group"}, "azure.sign_in": {"", "password", "CLI", "service-principal"},
		"azure.tenant": {"my tenant", "x"}, "azure.client": id, "azure.secret_from": where, "azure.service_connection": {"my connection", "1"},
		"azure.kubernetes": {"latest", "1", "v1.34", "1.34.", "1.3"}, "azure.tier": {"", "premium", "Free", "paid"},
		"azure.nodes.size": {"", "large", "D4s_v5", "Standard_B2s", "Standard D4s v5"}, "azure.nodes.min": {0, -1, 1001}, "azure.nodes.max": {0, -3, 11, 1001},
		"azure.nodes.disk_gb": {0, 29, 2049, -1}, "azure.storage": anyText,
		"azure.pools.builds.size": {"large", "D4s_v5", "Standard D4s v5"}, "azure.pools.builds.min": {-1, 1001}, "azure.pools.builds.max": {0, -3, 1001}, "azure.pools.builds.disk_gb": {0, 29, 2049},
		"azure.pools.sessions.size": {"large", "D4s_v5", "Standard D4s v5"}, "azure.pools.sessions.min": {-1, 1001}, "azure.pools.sessions.max": {0, -3, 1001}, "azure.pools.sessions.disk_gb": {0, 29, 2049},
		"azure.network.pods":           {"", "10.10.0.0", "10.10.0.1/16", "8.0.0.0/16", "10.1.1.0/29", "fd00::/16", "10.230.0.0/16", "10.0.0.0/8"},
		"azure.network.services":       {"", "10.10.0.0/33", "10.10.0.1/16", "8.0.0.0/16", "10.1.1.0/29", "10.244.0.0/16"},
		"azure.cloud.resource_manager": address, "azure.cloud.authority": address, "azure.cloud.audience": address, "azure.cloud.prices": address, "azure.cloud.ca_file": {multi, "-x"},
		"cluster.kubeconfig": {multi, "-x"}, "cluster.context": {"", "a b"}, "cluster.namespace": {"A", "a_b", "-a", long},
		"host.address": {"a; b", "-oProxyCommand=id", "ada@hub:x", "ada@", "ssh://hub", "Ada Lovelace@hub"}, "host.identity": {multi, "-x"}, "host.known_hosts": {multi, "-x"},
		"host.sudo": anyText, "host.packages": anyText, "host.data": {"data", "/srv/a b", "/", "~/hub", "/srv/a/much/too/long/path/for/unix/sockets"},
		"host.listen":   {"443", "hub.example.org:443", "0.0.0.0", "0.0.0.0:https", ":70000", "0.0.0.0:-1"},
		"registry.kind": {"", "quay", "Azure", "acr"}, "registry.name": {"my-images", "img", long}, "registry.sku": {"", "basic", "Free"},
		"registry.host": {"", "https://registry.example.org", "registry.example.org/project", "registry:port", "a b"}, "registry.organisation": {"A", "my institute", "abc"},
		"registry.username": {"", "ada lovelace"}, "registry.password_from": append([]any{""}, where...), "registry.prefix": {"Binder", "-binder", "a b", "_"},
		"dns.domain":   {"https://hub.example.org", "hub", "Hub.example.org", "hub.example.org/", "hub example.org", "*.example.org"},
		"dns.resolver": {"ns.example.org", "https://1.1.1.1", "1.1.1.1 8.8.8.8"}, "dns.label": {"a.b", "ab", "My-Hub", "-hub", "1hub", long},
		"https.enabled": anyText, "https.email": {"ada", "Ada <ada@example.org>", "ada@", "@example.org"}, "https.staging": anyText,
		"access.from": {[]any{"office"}, []any{"192.0.2.1"}, []any{"192.0.2.0/33"}, []any{"192.0.2.0/24", ""}}, "access.repositories": {[]any{"("}, []any{"^gh/", "*"}},
		"verify.repository": {"requirements", "gh/a b", "/", "a/"}, "image": {"binnacle 1", "https://registry.example.org/binnacle", "binnacle:", "binnacle@sha256:12"},
		"watch.repository": {"git@git.example.org:hub", "git.example.org/hub", "https://ada:secret@git.example.org/hub"}, "watch.branch": {"my branch", "-x", "a..b~1"},
		"watch.path": {"", "/binnacle.yaml", "../binnacle.yaml", "a/../../b"}, "watch.interval": {"", "5s", "often", "1"}, "watch.token_from": where,
		"watch.status": {"bitbucket", "GitHub"}, "watch.api": {"git.example.org", "https://ada:secret@git.example.org", "https://ada:secret@"}, "watch.via": {"hub", "hub:port"}, "watch.identity": id,
		"values": anyText, "hub": anyText, // the chart's schema and the hub's own configuration look at what is in them
	}
}

// wrongKinds are values that no setting of a kind takes.
func wrongKinds(k reflect.Kind) []any {
	nested := map[string]any{"a": "b"}
	switch k {
	case reflect.Int:
		return []any{nil, "two", "", 1.5, "1e3", "99999999999999999999", []any{1}, nested, true}
	case reflect.Bool:
		return []any{nil, "maybe", "", 1, 0, "yes", "on", "t", []any{true}, nested}
	case reflect.Slice:
		return []any{nil, "text", 3, nested, []any{nil}, []any{[]any{"a"}}, []any{nested}}
	case reflect.Map:
		return []any{nil, "text", 3, true, []any{"a"}}
	default:
		return []any{nil, []any{"a"}, nested}
	}
}

// around are settings that a setting needs beside it to count.
func around(path string) map[string]any {
	out := map[string]any{"name": "my-hub", "target": "azure", "azure.subscription": "Research", "azure.region": "westeurope"}
	azure, docker := map[string]any{"registry.kind": "azure"}, map[string]any{"registry.kind": "dockerhub", "registry.username": "ada", "registry.password_from": "env:X"}
	more := map[string]map[string]any{
		"azure.cloud.resource_manager": {"azure.cloud.authority": "https://login.example.org"}, "azure.cloud.authority": {"azure.cloud.resource_manager": "https://management.example.org"},
		"azure.secret_from": {"azure.sign_in": "service_principal"}, "registry.name": azure, "registry.sku": azure,
		"registry.host": {"registry.kind": "other"}, "registry.organisation": docker, "registry.username": docker, "registry.password_from": docker,
		"azure.service_connection": {"azure.sign_in": "pipelines"},
		"watch.status":             {"watch.token_from": "env:X"},
	}
	section, _, _ := strings.Cut(path, ".")
	switch section {
	case "cluster":
		out = map[string]any{"name": "my-hub", "target": "cluster", "cluster.context": "c", "dns.domain": "hub.example.org"}
	case "host":
		out = map[string]any{"name": "my-hub", "target": "host", "dns.domain": "hub.example.org"}
	}
	if section == "watch" {
		out["watch.repository"] = "https://git.example.org/institute/hub"
	}
	maps.Copy(out, more[path])
	return out
}

// written is a file with settings, by their paths; each is on a line of its own.
func written(t *testing.T, settings map[string]any) []byte {
	t.Helper()
	doc := map[string]any{}
	for path, value := range settings {
		at := doc
		keys := strings.Split(path, ".")
		for _, key := range keys[:len(keys)-1] {
			inner, ok := at[key].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[key] = inner
			}
			at = inner
		}
		at[keys[len(keys)-1]] = value
	}
	b, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every setting with every mistake: one problem, with its path, its line, what is
// wrong and an example. A new setting without mistakes fails here.
func TestEverySettingWrong(t *testing.T) {
	t.Parallel()
	c := config.Default()
	fields, known := config.Fields(&c), mistakes()
	tried := 0
	for _, f := range fields {
		values, ok := known[f.Path]
		if !ok {
			t.Errorf("no mistakes of %s are tried", f.Path)
		}
		delete(known, f.Path)
		for _, value := range slices.Concat(values, wrongKinds(f.Value.Kind())) {
			settings := around(f.Path)
			if _, ps := config.Load(written(t, settings)); len(ps) > 0 && settings[f.Path] != nil {
				t.Errorf("around %s it is wrong already: %v", f.Path, ps)
			}
			settings[f.Path] = value
			text := written(t, settings)
			_, ps := config.Load(text)
			if len(ps) != 1 || ps[0].Path != f.Path || ps[0].Line == 0 || len(ps[0].Message) < 8 || ps[0].Example != f.Example || f.Example == "" {
				t.Errorf("%s: %v: %q of\n%s", f.Path, value, ps, text)
			}
			if shown := fmt.Sprint(ps); strings.Contains(shown, "hunter2") || strings.Contains(shown, "secret@") {
				t.Errorf("%s: a secret is shown: %s", f.Path, shown)
			}
			tried++
		}
	}
	if len(known) > 0 {
		t.Errorf("there are no settings %q", slices.Sorted(maps.Keys(known)))
	}
	t.Logf("%d mistakes in %d settings", tried, len(fields))
}

// All settings of a target wrong in one file: all are told at once.
func TestEverySettingWrongAtOnce(t *testing.T) {
	t.Parallel()
	c := config.Default()
	for _, section := range []string{"azure", "cluster", "host"} {
		settings := map[string]any{"target": section}
		for _, f := range config.Fields(&c) {
			first, _, nested := strings.Cut(f.Path, ".")
			if f.Path == "target" || nested && slices.Contains([]string{"azure", "cluster", "host"}, first) && first != section {
				continue
			}
			settings[f.Path] = map[string]any{"a": "b"}
			if k := f.Value.Kind(); k == reflect.Map || k == reflect.Slice {
				settings[f.Path] = 3
			}
		}
		_, ps := config.Load(written(t, settings))
		told := map[string]int{}
		for _, p := range ps {
			told[p.Path]++
		}
		for path := range settings {
			if told[path] != 1 && path != "target" {
				t.Errorf("%s: %s is told %d times", section, path, told[path])
			}
		}
	}
}

// legacyMistakes are values that each key of config.json must refuse; of the keys
// that are only told about, nothing is used.
func legacyMistakes() map[string][]any {
	truth := []any{"on", "yes please", 3, "maybe"}
	return map[string][]any{
		"container_registry": {"", nil, "quay", "DockerHub", 1, true}, "enable_https": truth, "azure.log_to_blob_storage": truth,
		"acr.registry_name": {"my-images", "img", true}, "acr.sku": {"basic", "Free", 3},
		"azure.subscription": {"", nil, "null", "a/b"}, "azure.res_grp_name": {"a/b", "a.", "my group"}, "azure.location": {"", nil, "west-europe", 3},
		"azure.node_count": {"", nil, "three", 0, -1, 1.5, 1001, "1,5", true}, "azure.vm_size": {"", nil, "D4", "Standard_B2s", 4},
		"azure.sp_app_id": {"me", 3}, "azure.sp_app_key": {"", nil}, "azure.sp_tenant_id": {"my tenant", 3},
		"binderhub.name": {"", nil, "---", "7"}, "binderhub.image_prefix": {"Binder", "a b"},
		"docker.username": {"", nil, "ada lovelace"}, "docker.password": {"", nil, "null"}, "docker.org": {"A B", "abc"},
		"https.contact_email": {"ada", 3}, "https.domain_name": {"https://hub.example.org", "hub", 3},
		"binderhub.version": anyText, "https.certmanager_version": anyText, "https.nginx_version": anyText,
	}
}

func TestEveryKeyOfConfigJSONWrong(t *testing.T) {
	t.Parallel()
	known := legacyMistakes()
	tried := 0
	for path, counts := range config.LegacyKeys() {
		values, ok := known[path]
		if !ok || counts != (len(values) > 0) {
			t.Errorf("no mistakes of %s are tried", path)
		}
		delete(known, path)
		for _, value := range slices.Concat(values, []any{map[string]any{}, []any{"a"}}) {
			var doc map[string]any
			if err := json.Unmarshal(legacyFile(t), &doc); err != nil {
				t.Fatal(err)
			}
			set := func(path string, value any) {
				section, key, nested := strings.Cut(path, ".")
				if !nested {
					doc[section] = value
				} else if m, ok := doc[section].(map[string]any); ok {
					m[key] = value
				}
			}
			const id = "00000000-0000-0000-0000-000000000000"
			switch {
			case strings.HasPrefix(path, "acr."):
				set("container_registry", "azurecr")
			case strings.HasPrefix(path, "https."):
				set("enable_https", "true")
			case strings.HasPrefix(path, "azure.sp_"):
				set("azure.sp_app_id", id)
				set("azure.sp_app_key", "hunter2")
				set("azure.sp_tenant_id", id)
			}
			set(path, value)
			b, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			_, ps := config.Import(b)
			if len(ps) != 1 || ps[0].Path != path || len(ps[0].Message) < 8 || ps[0].Example == "" {
				t.Errorf("%s: %v: %q", path, value, ps)
			}
			if shown := fmt.Sprint(ps); strings.Contains(shown, "hunter2") || strings.Contains(shown, "pass/with") {
				t.Errorf("%s: a secret is shown: %s", path, shown)
			}
			tried++
		}
	}
	if len(known) > 0 {
		t.Errorf("there are no keys %q", slices.Sorted(maps.Keys(known)))
	}
	t.Logf("%d mistakes", tried)
}
