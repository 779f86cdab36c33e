package button_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/button"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/page"
	"github.com/binnacle-hub/binnacle/test/armtemplate"
)

func made() button.Button {
	return button.Button{Image: "registry.example.org/binnacle:1", Base: "https://git.example.org/institute/hub/raw/main/"}
}

func parse(t *testing.T) armtemplate.Template {
	t.Helper()
	template, err := armtemplate.Parse(made().Template())
	if err != nil {
		t.Fatal(err)
	}
	return template
}

func azure() armtemplate.Azure {
	identity := map[string]any{"clientId": "the-client", "principalId": "the-principal"}
	return armtemplate.Azure{
		Subscription: "11111111-1111-1111-1111-111111111111", Group: "my-group", Location: "westeurope",
		ResourceManager: "https://management.example.org", Authority: "https://login.example.org",
		References: map[string]any{
			"Microsoft.ManagedIdentity/userAssignedIdentities/my-hub-deploy": identity,
			"Microsoft.ContainerInstance/containerGroups/my-hub-setup":       map[string]any{"ipAddress": map[string]any{"fqdn": "my-hub-setup.example.org"}},
			"Microsoft.Resources/deploymentScripts/my-hub-wait":              map[string]any{"outputs": map[string]any{"url": "https://hub.example.org"}},
		},
	}
}

// The container's variables describe exactly what was filled in, with the kinds
// that binnacle.yaml has: a number is a number, and a truth is no text.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		values map[string]any
		want   func(c *config.Config)
		secret string
	}{
		"the least": {map[string]any{"name": "my-hub"}, func(*config.Config) {}, ""},
		"everything": {
			map[string]any{
				"name": "my-hub", "location": "northeurope", "machineSize": "Standard_D8s_v5", "maxNodes": 12, "accessFrom": "192.0.2.0/24, 198.51.100.7/32",
				"repositories": "^gh/my-institute/ ^gl/my-institute/", "domain": "hub.example.org", "email": "ada@example.org", "verifyRepository": "gh/my-institute/hello/main",
			},
			func(c *config.Config) {
				c.Azure.Region, c.Azure.Nodes.Size, c.Azure.Nodes.Max = "northeurope", "Standard_D8s_v5", 12
				c.Azure.Tier = "standard" // the free one has 10 nodes at most
				c.Access.From, c.Access.Repositories = []string{"192.0.2.0/24", "198.51.100.7/32"}, []string{"^gh/my-institute/", "^gl/my-institute/"}
				c.DNS.Domain, c.HTTPS.Email, c.Verify.Repository = "hub.example.org", "ada@example.org", "gh/my-institute/hello/main"
			}, "",
		},
		"Docker Hub": {
			map[string]any{"name": "my-hub", "registry": "dockerhub", "dockerHubUsername": "adalovelace", "dockerHubPassword": `a/b&c|"d$`, "dockerHubOrganisation": "institute"},
			func(c *config.Config) {
				c.Registry.Kind, c.Registry.Username, c.Registry.PasswordFrom, c.Registry.Organisation = config.RegistryDockerHub, "adalovelace", "env:REGISTRY_PASSWORD", "institute"
			}, `a/b&c|"d$`,
		},
		"other settings": {
			map[string]any{"name": "my-hub", "settings": map[string]any{"https": map[string]any{"enabled": false}, "hub": map[string]any{"launch": map[string]any{"max_sessions": 20}}}},
			func(c *config.Config) {
				c.HTTPS.Enabled = false
				c.Hub = map[string]any{"launch": map[string]any{"max_sessions": 20}}
			}, "",
		},
	} {
		d, err := parse(t).Deploy(azure(), tt.values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		command, environ, err := d.Environment()
		if err != nil || !slices.Equal(command, []string{"tini", "--", "binnacle", "deploy", "container", "--page", ":8080"}) {
			t.Errorf("%s: %q %v", name, command, err)
			continue
		}
		env := map[string]string{}
		for _, e := range environ {
			key, value, _ := strings.Cut(e, "=")
			env[key] = value
		}
		got, problems := config.Load([]byte(env[button.Variable]))
		want := config.Default()
		want.Name, want.Target, want.Image = "my-hub", config.TargetAzure, "registry.example.org/binnacle:1"
		want.Azure.Subscription, want.Azure.Region, want.Azure.ResourceGroup, want.Azure.SignIn = "11111111-1111-1111-1111-111111111111", "westeurope", "my-group", "managed_identity"
		want.Azure.Cloud = config.Cloud{ResourceManager: "https://management.example.org", Authority: "https://login.example.org"}
		want.Registry.Kind = config.RegistryAzure
		tt.want(&want)
		if diff := cmp.Diff(want, got); diff != "" || len(problems) > 0 {
			t.Errorf("%s: %v (-want +got):\n%s", name, problems, diff)
		}
		if env["AZURE_CLIENT_ID"] != "the-client" || env["REGISTRY_PASSWORD"] != tt.secret || len(env) != 3 || tt.secret != "" && strings.Contains(env[button.Variable], tt.secret) {
			t.Errorf("%s: %q", name, environ)
		}
	}
	for _, values := range []map[string]any{{}, {"name": "x"}, {"name": "my-hub", "maxNodes": 0}, {"name": "my-hub", "maxNodes": "3"}, {"name": "my-hub", "registry": "harbor"}, {"name": "my-hub", "colour": "blue"}} {
		if _, err := parse(t).Deploy(azure(), values); err == nil {
			t.Errorf("%v is taken", values)
		}
	}
}

// The rules of Azure's template test kit that apply here, in our words.
func TestTemplateRules(t *testing.T) {
	t.Parallel()
	text, template := made().Template(), parse(t)
	if template.Schema != "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#" || !strings.Contains(text, `"contentVersion": "1.0.0.0"`) {
		t.Error("schema or version")
	}
	for name, p := range template.Parameters {
		if p.Metadata.Description == "" {
			t.Errorf("the parameter %s is not described", name)
		}
		if secret := strings.EqualFold(p.Type, "secureString"); secret != regexp.MustCompile(`(?i)password|secret|key|token`).MatchString(name) || secret && p.DefaultValue != "" {
			t.Errorf("the parameter %s: a secret is a secureString without default, and nothing else is", name)
		}
	}
	if l := template.Parameters["location"]; l.DefaultValue != "[resourceGroup().location]" {
		t.Errorf("location is %v", l.DefaultValue)
	}
	// The newest stable versions of each kind that we know of, or ones that are not
	// older than two years.
	versions := map[string]string{
		"Microsoft.ManagedIdentity/userAssignedIdentities": "2023-01-31", "Microsoft.Authorization/roleAssignments": "2022-04-01",
		"Microsoft.ContainerInstance/containerGroups": "2023-05-01", "Microsoft.Resources/deploymentScripts": "2023-08-01",
	}
	for _, r := range template.Resources {
		kind := fmt.Sprint(r["type"])
		if r["apiVersion"] != versions[kind] {
			t.Errorf("%s has the version %v", kind, r["apiVersion"])
		}
		if location, ok := r["location"]; ok && location != "[parameters('location')]" {
			t.Errorf("%s is in %v", kind, location)
		}
		if name := fmt.Sprint(r["name"]); !strings.HasPrefix(name, "[") {
			t.Errorf("%s is always named %s", kind, name)
		}
	}
	if found := regexp.MustCompile(`https?://[a-z.]*(azure|windows|microsoft)[a-z.]*`).FindAllString(strings.Replace(text, template.Schema, "", 1), -1); len(found) > 0 {
		t.Errorf("addresses of a cloud belong into environment(): %q", found)
	}
	if strings.Contains(text, "/subscriptions/") || strings.Contains(text, "/providers/") {
		t.Error("ids are written by hand, not by resourceId()")
	}
	d, err := template.Deploy(azure(), map[string]any{"name": "my-hub", "registry": "dockerhub", "dockerHubUsername": "ada", "dockerHubPassword": "the-secret-of-ada"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Environment(); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{}
	for name, o := range template.Outputs {
		v, err := d.Eval(o.Value)
		if err != nil {
			t.Errorf("the output %s: %v", name, err)
		}
		outputs[name] = fmt.Sprint(v)
	}
	if outputs["hub"] != "https://hub.example.org" || outputs["progress"] != "http://my-hub-setup.example.org:8080" || strings.Contains(fmt.Sprint(outputs), "the-secret-of-ada") {
		t.Errorf("outputs: %v", outputs)
	}
	if c, ps := config.Load([]byte(outputs["binnacleYaml"])); len(ps) > 0 || c.Azure.SignIn != "cli" || c.Azure.Region != "westeurope" {
		t.Errorf("the file to go on with: %v %+v", ps, c)
	}
	for name := range template.Parameters {
		if !d.Used["parameters."+name] {
			t.Errorf("the parameter %s is not used", name)
		}
	}
	for name := range template.Variables {
		if !d.Used["variables."+name] {
			t.Errorf("the variable %s is not used", name)
		}
	}
}

type element struct {
	Name, Type  string
	Label       any
	ToolTip     string
	Constraints struct {
		Regex, ValidationMessage string
		AllowedValues            []struct{ Label, Value string }
	}
}

// The form asks for parameters of the template, and each answer that it lets
// through is one that binnacle.yaml takes.
func TestForm(t *testing.T) {
	t.Parallel()
	var form struct {
		Schema     string `json:"$schema"`
		Handler    string
		Parameters struct {
			Basics []element
			Steps  []struct {
				Name, Label string
				Elements    []element
			}
			Outputs map[string]string
		}
	}
	if err := json.Unmarshal([]byte(made().Form()), &form); err != nil {
		t.Fatal(err)
	}
	if form.Handler != "Microsoft.Azure.CreateUIDef" || !strings.HasSuffix(form.Schema, "/CreateUIDefinition.MultiVm.json#") {
		t.Errorf("%s %s", form.Handler, form.Schema)
	}
	known := map[string]element{"location()": {}}
	all := slices.Clone(form.Parameters.Basics)
	for _, e := range form.Parameters.Basics {
		known["basics('"+e.Name+"')"] = e
	}
	for _, s := range form.Parameters.Steps {
		for _, e := range s.Elements {
			known["steps('"+s.Name+"')."+e.Name] = e
			all = append(all, e)
		}
	}
	for _, e := range all {
		if e.ToolTip == "" || e.Label == nil {
			t.Errorf("%s: no label or tip", e.Name)
		}
		if _, err := regexp.Compile(e.Constraints.Regex); err != nil || strings.HasSuffix(e.Type, "Box") && (e.Constraints.Regex == "" || e.Constraints.ValidationMessage == "") {
			t.Errorf("%s is not validated: %v", e.Name, err)
		}
	}
	template := parse(t)
	asked := map[string]bool{}
	source := regexp.MustCompile(`^\[(?:int\()?((?:basics|steps)\('\w+'\)(?:\.\w+)?|location\(\))\)?\]$`)
	for name, from := range form.Parameters.Outputs {
		p, ok := template.Parameters[name]
		if m := source.FindStringSubmatch(from); m != nil {
			from = m[1]
		}
		e, there := known[from]
		if !ok || !there {
			t.Errorf("the output %s: parameter %v, element %q %v", name, ok, from, there)
		}
		asked[from] = true
		if secret := e.Type == "Microsoft.Common.PasswordBox"; secret != strings.EqualFold(p.Type, "secureString") {
			t.Errorf("%s: %s for a %s", name, e.Type, p.Type)
		}
		for _, v := range e.Constraints.AllowedValues {
			if len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, any(v.Value)) {
				t.Errorf("%s: the form offers %s", name, v.Value)
			}
		}
	}
	for from := range known {
		if !asked[from] {
			t.Errorf("%s is asked for nothing", from)
		}
	}
	for name, p := range template.Parameters {
		if _, ok := form.Parameters.Outputs[name]; !ok && p.DefaultValue == nil {
			t.Errorf("%s is neither asked for nor has a default", name)
		}
	}
}

// The script that the deployment waits for, against the page that it asks.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s here", program)
		}
	}
	script := ""
	for _, r := range parse(t).Resources {
		if properties, ok := r["properties"].(map[string]any); ok && properties["scriptContent"] != nil {
			script = fmt.Sprint(properties["scriptContent"])
		}
	}
	for _, end := range []page.Result{{State: page.Done, URL: "https://hub.example.org"}, {State: page.Failed, Message: "There is no quota."}} {
		shown := page.New()
		server := httptest.NewServer(shown)
		out := filepath.Join(t.TempDir(), "out.json")
		cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(script, "sleep 5", "sleep 0.1"))
		cmd.Env = append(os.Environ(), "PAGE="+server.URL, "AZ_SCRIPTS_OUTPUT_PATH="+out)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		shown.End(end)
		err := cmd.Wait()
		server.Close()
		var got page.Result
		if end.State == page.Failed {
			if err == nil || !strings.Contains(said.String(), end.Message) {
				t.Errorf("%v %s", err, said.String())
			}
			continue
		}
		b, readErr := os.ReadFile(out)
		if err != nil || readErr != nil || json.Unmarshal(b, &got) != nil || got != end {
			t.Errorf("%v %v %s", err, readErr, b)
		}
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	const raw = "https%3A%2F%2Fgit.example.org%2Finstitute%2Fhub%2Fraw%2Fmain%2F"
	want := "[![Deploy to Azure](https://aka.ms/deploytoazurebutton)](https://portal.azure.com/#create/Microsoft.Template/uri/" +
		raw + "azuredeploy.json/createUIDefinitionUri/" + raw + "createUiDefinition.json)"
	if got := made().Markdown(); got != want {
		t.Error(got)
	}
	for _, b := range []button.Button{{}, {Image: "a b", Base: "https://x.example.org"}, {Image: "x", Base: "http://x.example.org"}, {Image: "x", Base: "files"}} {
		if err := b.Check(); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("%+v: %v", b, err)
		}
	}
	if err := made().Check(); err != nil {
		t.Error(err)
	}
}
