package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// legacyFile is a config.json as binderhub-deploy's template has it; each pair
// of edits replaces a text.
func legacyFile(t *testing.T, edits ...string) []byte {
	t.Helper()
	text := `{
  "container_registry": "dockerhub",
  "enable_https": false,
  "acr": {"registry_name": null, "sku": "Basic"},
  "azure": {
    "subscription": "Research", "res_grp_name": "my-resources", "location": "West Europe", "node_count": 3, "vm_size": "Standard_D4s_v3",
    "sp_app_id": null, "sp_app_key": null, "sp_tenant_id": null, "log_to_blob_storage": false
  },
  "binderhub": {"name": "My_Hub", "version": "0.2.0-n568.h0a9ab0e", "image_prefix": "binder-dev"},
  "docker": {"username": "ada", "password": "pass/with&all|of'them", "org": null},
  "https": {"certmanager_version": null, "contact_email": null, "domain_name": null, "nginx_version": null}
}`
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("nothing to replace: %s", edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return []byte(text)
}

func imported(t *testing.T, edits ...string) config.Imported {
	t.Helper()
	i, ps := config.Import(legacyFile(t, edits...))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	return i
}

func TestImport(t *testing.T) {
	t.Parallel()
	i := imported(t)
	want := config.Default()
	want.Name, want.Target = "my-hub", config.TargetAzure
	want.Azure.Subscription, want.Azure.ResourceGroup, want.Azure.Region = "Research", "my-resources", "westeurope"
	want.Azure.Nodes.Size, want.Azure.Nodes.Min, want.Azure.Nodes.Max = "Standard_D4s_v3", 3, 3
	want.HTTPS.Enabled = false
	want.Registry = config.Registry{Kind: config.RegistryDockerHub, SKU: "Basic", Username: "ada", PasswordFrom: "env:DOCKERHUB_PASSWORD", Prefix: "binder-dev-"}
	if diff := cmp.Diff(want, i.Config); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestImportEachKeyWrong(t *testing.T) {
	t.Parallel()
	acr := []string{`"dockerhub"`, `"azurecr"`, `"registry_name": null`, `"registry_name": "myimages"`}
	https := []string{`"enable_https": false`, `"enable_https": "true"`}
	for _, tt := range []struct {
		name  string
		edits []string
		want  string
	}{
		{"registry missing", []string{`"dockerhub"`, `""`}, "container_registry: is missing"},
		{"registry", []string{`"dockerhub"`, `"quay"`}, `container_registry: must be dockerhub or azurecr, not "quay"; for example "dockerhub" or "azurecr"`},
		{"https", []string{`"enable_https": false`, `"enable_https": "on"`}, `enable_https: "on" is neither true nor false; for example false`},
		{"https object", []string{`"enable_https": false`, `"enable_https": {}`}, "enable_https: one value is expected here"},
		{"acr name", append(acr[:3:3], `"registry_name": "my-images"`), "acr.registry_name: must be 5 to 50 letters and digits"},
		{"acr sku", append(acr[:4:4], `"Basic"`, `"basic"`), "acr.sku: must be one of Basic"},
		{"subscription", []string{`"Research"`, `""`}, "azure.subscription: is missing"},
		{"group", []string{`"my-resources"`, `"a/b"`}, "azure.res_grp_name: must be at most 90"},
		{"location missing", []string{`"West Europe"`, `null`}, "azure.location: is missing"},
		{"location", []string{`"West Europe"`, `"west-europe"`}, "azure.location: must be the name of a region"},
		{"count text", []string{`"node_count": 3`, `"node_count": "three"`}, `azure.node_count: "three" is not a whole number; for example 3`},
		{"count zero", []string{`"node_count": 3`, `"node_count": 0`}, "azure.node_count: must be 1 to 1000, not 0"},
		{"count missing", []string{`"node_count": 3`, `"node_count": null`}, "azure.node_count: is missing"},
		{"size missing", []string{`"Standard_D4s_v3"`, `""`}, "azure.vm_size: is missing"},
		{"size", []string{`"Standard_D4s_v3"`, `"D4"`}, "azure.vm_size: must be the name of a machine type"},
		{"app id", []string{`"sp_app_key": null`, `"sp_app_key": "k"`, `"sp_app_id": null`, `"sp_app_id": "me"`}, "azure.sp_app_id: must be an id"},
		{"app key missing", []string{`"sp_app_id": null`, `"sp_app_id": "00000000-0000-0000-0000-000000000000"`}, "azure.sp_app_key: is missing"},
		{"tenant", []string{`"sp_tenant_id": null`, `"sp_tenant_id": "my tenant"`}, "azure.sp_tenant_id: must be the id or the domain"},
		{"log", []string{`"log_to_blob_storage": false`, `"log_to_blob_storage": "maybe"`}, `azure.log_to_blob_storage: "maybe" is neither`},
		{"name missing", []string{`"My_Hub"`, `""`}, "binderhub.name: is missing"},
		{"name", []string{`"My_Hub"`, `"---"`}, "binderhub.name: is missing"},
		{"prefix", []string{`"binder-dev"`, `"Binder"`}, "binderhub.image_prefix: must be lower-case"},
		{"user missing", []string{`"ada"`, `null`}, "docker.username: is missing"},
		{"password missing", []string{`"pass/with&all|of'them"`, `"null"`}, "docker.password: is missing"},
		{"org", []string{`"org": null`, `"org": "A B"`}, "docker.org: must be the name"},
		{"email", append(https[:2:2], `"contact_email": null`, `"contact_email": "ada"`), "https.contact_email:"},
		{"domain", append(https[:2:2], `"domain_name": null`, `"domain_name": "https://x"`), "https.domain_name: must be a domain"},
		{"unknown", []string{`"res_grp_name"`, `"resource_group"`}, "azure.resource_group: binderhub-deploy has no such key"},
		{"section", []string{`"acr": {"registry_name": null, "sku": "Basic"}`, `"acr": 3`}, "acr: an object is expected here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, ps := config.Import(legacyFile(t, tt.edits...))
			if len(ps) != 1 || !strings.Contains(ps[0].String(), tt.want) {
				t.Errorf("want one problem %q, got %v", tt.want, ps)
			}
			if strings.Contains(ps.Err("config.json").Error(), "pass/with") {
				t.Error("the message holds a password")
			}
		})
	}
	for text, want := range map[string]string{
		strings.Replace(string(legacyFile(t)), `"ada",`, `"ada"`, 1):                                    "line 10: is not JSON: invalid character",
		strings.Replace(string(legacyFile(t)), `"sku": "Basic"`, `"sku": "Basic", "sku": "Premium"`, 1): `line 4: acr.sku: is set twice; for example "Basic"`,
		strings.Replace(string(legacyFile(t)), `"Research"`, `""`, 1):                                   "line 6: azure.subscription: is missing",
	} {
		if _, ps := config.Import([]byte(text)); len(ps) != 1 || !strings.HasPrefix(ps[0].String(), want) || !config.IsImportable([]byte(text)) {
			t.Errorf("want %q, got %q", want, ps)
		}
	}
	for _, text := range []string{"", "{", "[]", "{}x"} {
		if _, ps := config.Import([]byte(text)); len(ps) == 0 {
			t.Errorf("%q has no problem", text)
		}
	}
}

func TestImportEnviron(t *testing.T) {
	t.Parallel()
	environ := []string{
		"BINDERHUB_CONTAINER_MODE=true", "AKS_NODE_COUNT=3", "AKS_NODE_VM_SIZE=Standard_D4s_v3", "AZURE_SUBSCRIPTION=/subscriptions/00000000-0000-0000-0000-000000000001",
		"BINDERHUB_NAME=hub", "BINDERHUB_VERSION=0.2.0", "CONTAINER_REGISTRY=dockerhub", "DOCKER_IMAGE_PREFIX=binder", "ENABLE_HTTPS=false",
		"RESOURCE_GROUP_LOCATION=westeurope", "RESOURCE_GROUP_NAME=rg", "SP_APP_ID=00000000-0000-0000-0000-000000000002", "SP_APP_KEY=hunter2",
		"SP_TENANT_ID=00000000-0000-0000-0000-000000000003", "DOCKERHUB_USERNAME=ada", "DOCKERHUB_PASSWORD=hunter3", "DOCKERHUB_ORGANISATION=null",
		"CERTMANAGER_VERSION=null", "CONTACT_EMAIL=null", "DOMAIN_NAME=null", "NGINX_VERSION=null", "REGISTRY_NAME=null", "REGISTRY_SKU=Basic",
	}
	i, ps, ok := config.ImportEnviron(environ)
	if !ok || len(ps) > 0 {
		t.Fatal(ok, ps)
	}
	c := i.Config
	if c.Azure.SignIn != "service_principal" || c.Azure.Subscription != "00000000-0000-0000-0000-000000000001" || !c.Azure.Storage || c.Registry.Organisation != "" || c.HTTPS.Enabled {
		t.Errorf("got %+v", c)
	}
	for path, from := range map[string]string{"azure.secret_from": c.Azure.SecretFrom, "registry.password_from": c.Registry.PasswordFrom} {
		s, err := config.Resolve(path, from, environ)
		if err != nil || s != i.Secrets[path] {
			t.Errorf("%s: %v", path, err)
		}
	}
	_, ps, _ = config.ImportEnviron(append(environ, "AKS_NODE_COUNT=x"))
	if len(ps) != 1 || ps[0].Path != "AKS_NODE_COUNT" {
		t.Errorf("got %v", ps)
	}
	if _, _, ok := config.ImportEnviron(environ[1:]); ok {
		t.Error("container mode was not asked for")
	}
}

func TestDefect01FalseIsFalse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{`"false"`: false, `"False"`: false, `false`: false, `null`: false, `""`: false, `"null"`: false, `"true"`: true, `true`: true} {
		i := imported(t, `"enable_https": false`, `"enable_https": `+text)
		if i.Config.HTTPS.Enabled != want {
			t.Errorf("enable_https %s is %v", text, i.Config.HTTPS.Enabled)
		}
		if !want && i.Config.DNS.Domain != "" {
			t.Error("a DNS zone is made without HTTPS")
		}
	}
	c, ps := config.Load([]byte(right + "https: {enabled: 'false'}\n"))
	if c.HTTPS.Enabled || len(ps) > 0 {
		t.Errorf("'false' is true: %v", ps)
	}
}

// The name of an image has a project between registry and image, so that what
// was pushed is found again.
func TestDefect04RegistryHasProject(t *testing.T) {
	t.Parallel()
	i := imported(t, `"dockerhub"`, `"azurecr"`, `"registry_name": null`, `"registry_name": "myimages"`)
	if got, want := i.Config.ImagePrefix("myimages.example.org"), "myimages.example.org/my-hub/binder-dev-"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDefect05OrganisationWithoutHTTPS(t *testing.T) {
	t.Parallel()
	for _, https := range []string{"false", "true"} {
		i := imported(t, `"enable_https": false`, `"enable_https": `+https, `"org": null`, `"org": "my-institute"`)
		if got, want := i.Config.ImagePrefix(""), "docker.io/my-institute/binder-dev-"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Text with the characters that broke sed goes through the file unchanged.
func TestDefect07AnyCharacterInAValue(t *testing.T) {
	t.Parallel()
	i := imported(t, `"ada"`, `"a/&|'b"`)
	b, err := i.Config.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c, ps := config.Load(b)
	if c.Registry.Username != "a/&|'b" || len(ps) > 0 {
		t.Errorf("got %q, %v", c.Registry.Username, ps)
	}
	if got := string(i.Secrets["registry.password_from"]); got != "pass/with&all|of'them" {
		t.Errorf("got %q", got)
	}
}

func TestImportKeepsSecretsOut(t *testing.T) {
	t.Parallel()
	i := imported(t, `"sp_app_key": null`, `"sp_app_key": "hunter2"`, `"sp_app_id": null`, `"sp_app_id": "00000000-0000-0000-0000-000000000000"`)
	b, err := i.Config.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	shown := string(b) + fmt.Sprintf("%v %+v %#v", i, i, i)
	for _, s := range []string{"hunter2", "pass/with"} {
		if strings.Contains(shown, s) {
			t.Errorf("%q is shown:\n%s", s, shown)
		}
	}
}

func TestDefect12RangesDoNotOverlap(t *testing.T) {
	t.Parallel()
	for ranges, want := range map[string]string{
		"pods: 10.128.0.0/10, services: 10.129.0.0/16": "overlaps azure.network.pods", "services: 10.230.0.0/16": "overlaps the range of the nodes",
	} {
		_, ps := config.Load([]byte(right + "  network: {" + ranges + "}\n"))
		if len(ps) != 1 || ps[0].Path != "azure.network.services" || !strings.Contains(ps[0].Message, want) {
			t.Errorf("%s: got %v", ranges, ps)
		}
	}
	if _, ps := config.Load([]byte(right)); len(ps) > 0 {
		t.Errorf("the defaults overlap: %v", ps)
	}
}

// Versions of things that are not installed any more are told, not used.
func TestImportNotes(t *testing.T) {
	t.Parallel()
	i := imported(t, `"enable_https": false`, `"enable_https": true`, `"certmanager_version": null`, `"certmanager_version": "v0.15.1"`, `"nginx_version": null`, `"nginx_version": "1.2"`)
	if len(i.Notes) != 4 { // the name, the version of the chart, and these two
		t.Errorf("notes: %q", i.Notes)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"binderhub":{"name":"a"},"azure":{"node_count":"3"}}`))
	f.Add([]byte("{\"binderhub\":{\"name\":\"a\",\"name\":null}}"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		config.Import(b)
	})
}
