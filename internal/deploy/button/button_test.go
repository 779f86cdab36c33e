package button_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
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

//go:generate go test -run TestRulesPage -update .

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

// What the template tells in the end: where the hub is, where its progress was, and
// the file to go on with; no secret.
func TestOutputs(t *testing.T) {
	t.Parallel()
	template := parse(t)
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
}

// filled is the template with values for its parameters.
func filled(t *testing.T, text string) (*armtemplate.Deployment, error) {
	t.Helper()
	template, err := armtemplate.Parse(text)
	if err != nil {
		return nil, err
	}
	return template.Deploy(azure(), map[string]any{"name": "my-hub", "registry": "dockerhub", "dockerHubUsername": "ada", "dockerHubPassword": "the-secret-of-ada"})
}

// Template and form against schemas, the vendor's own models of each resource, and
// the rules of Azure's template test kit.
func TestRules(t *testing.T) {
	t.Parallel()
	d, err := filled(t, made().Template())
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range armtemplate.Check(d, made().Template(), made().Form()) {
		t.Error(problem)
	}
}

var update = flag.Bool("update", false, "write the page of the rules")

// The page says of each rule of the kit how it is held up, or why it does not apply.
func TestRulesPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# The button's files and the rules of Azure's template test kit\n\n<!-- Written by `make generate` from the code; do not edit. -->\n\n" +
		"Azure has a kit of tests for templates and forms. Its program is not run here: it needs PowerShell and lists of all of Azure.\n" +
		"Each of its rules is a check of ours in Go (`test/armtemplate`), which a test shows to fail when the files are spoiled.\n" +
		"A rule that does not apply has a check that it still does not. The kit's rules for files of parameters are not here: there is no such file.\n")
	table(&b, "The template", armtemplate.TemplateRules())
	table(&b, "The form", armtemplate.FormRules())
	const page = "../../../docs/reference/button-rules.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the page is old; run `make generate` (-page +code):\n%s", diff)
	}
}

func table(b *strings.Builder, title string, rules []armtemplate.Rule) {
	fmt.Fprintf(b, "\n## %s\n\n| rule of the kit | what is checked |\n| --- | --- |\n", title)
	for _, r := range rules {
		fmt.Fprintf(b, "| %s | %s |\n", r.Kit, r.Says)
	}
}

// Each check can fail: the same files with one thing spoiled are told, by the check
// that is meant to see it.
func TestSpoiled(t *testing.T) {
	t.Parallel()
	const first = `"resources": [
    {`
	add := func(resource string) []string {
		return []string{first, `"resources": [` + resource + `, {`}
	}
	seen := map[string]bool{}
	const location = `"location": "[parameters('location')]"`
	for _, tt := range []struct {
		rule           string
		template, form []string // text, and what it becomes
	}{
		{"JSONFiles-Should-Be-Valid", []string{`"contentVersion": "1.0.0.0",`, `"contentVersion": "1.0.0.0",,`}, nil},
		{"JSONFiles-Should-Be-Valid", nil, []string{`"version"`, `version`}},
		{"schema", []string{`"contentVersion": "1.0.0.0"`, `"contentVersion": "1"`}, nil},
		{"schema", []string{`"outputs": {`, `"output": {}, "outputs": {`}, nil},
		{"schema", []string{`"type": "int"`, `"type": "integer"`}, nil},
		{"schema", []string{`"defaultValue": 3`, `"defaultValue": "3"`}, nil},
		{"schema", []string{`"metadata": {"description": "Region of everything."}`, `"metadata": {}`}, nil},
		{"schema", []string{`"apiVersion": "2022-04-01"`, `"apiversion": "2022-04-01"`}, nil},
		{"schema", []string{`"dependsOn": ["[resourceId('Microsoft.ManagedIdentity`, `"dependson": ["[resourceId('Microsoft.ManagedIdentity`}, nil},
		{"schema, evaluated", []string{`"osType": "Linux",`, ``}, nil},
		{"schema, evaluated", []string{`"retentionInterval": "PT1H"`, `"retentionInterval": "1h"`}, nil},
		{"schema, evaluated", []string{`"principalType": "ServicePrincipal"`, `"principaltype": "ServicePrincipal"`}, nil},
		{"schema, evaluated", []string{`"cpu": 1, `, ``}, nil},
		{"expressions", []string{`[concat(parameters('name'), '-deploy')]`, `[conct(parameters('name'), '-deploy')]`}, nil},
		{"model", []string{`"restartPolicy": "Never"`, `"restartpolicy": "Never"`}, nil},
		{"model", []string{`"dnsNameLabel"`, `"dnsNamelabel"`}, nil},
		{"model", []string{`"cleanupPreference": "Always"`, `"cleanup": "Always"`}, nil},
		{"model", []string{`"cpu": 1`, `"cpu": "1"`}, nil},
		{"model", []string{`"osType": "Linux",`, `"osType": "Linux", "location": "here",`}, nil},
		{"model", add(`{"type": "Microsoft.Cache/redis", "apiVersion": "2024-11-01", "name": "x", ` + location + `}`), nil},
		{"DeploymentTemplate-Schema-Is-Correct", []string{`2019-04-01/deploymentTemplate`, `2015-01-01/deploymentTemplate`}, nil},
		{"Parameters-Must-Be-Referenced", []string{`"parameters": {`, `"parameters": {"colour": {"type": "string", "defaultValue": "x", "metadata": {"description": "x"}},`}, nil},
		{"Variables-Must-Be-Referenced", []string{`"variables": {`, `"variables": {"colour": "x",`}, nil},
		{"Password-params-must-be-secure", []string{`"type": "securestring"`, `"type": "string"`}, nil},
		{"Secure-String-Parameters-Cannot-Have-Default", []string{"\"securestring\",\n      \"defaultValue\": \"\"", "\"securestring\",\n      \"defaultValue\": \"hunter2\""}, nil},
		{"Min-And-Max-Value-Are-Numbers", []string{`"maxValue": 100`, `"maxValue": "100"`}, nil},
		{"Location-Should-Not-Be-Hardcoded", []string{`[resourceGroup().location]`, `westeurope`}, nil},
		{"Location-Should-Not-Be-Hardcoded", []string{`"region": "[parameters('location')]"`, `"region": "[resourceGroup().location]"`}, nil},
		{"Resources-Should-Have-Location", []string{location + `,`, `"location": "westeurope",`}, nil},
		{"Resources-Should-Not-Be-Ambiguous", []string{`resourceId('Microsoft.ContainerInstance/containerGroups', variables('setup'))`, `resourceId('Microsoft.ContainerInstance/container', variables('setup'))`}, nil},
		{"ResourceIds-should-not-contain", []string{`subscriptionResourceId('Microsoft`, `subscriptionResourceId(subscription().subscriptionId, 'Microsoft`}, nil},
		{"IDs-Should-Be-Derived-From-ResourceIDs", []string{`"[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', variables('contributor'))]"`, `"[concat('/subscriptions/x', variables('contributor'))]"`}, nil},
		{"Template-Should-Not-Contain-Blanks", []string{`"tags": "[variables('tags')]"`, `"tags": {}`}, nil},
		{"DependsOn-Best-Practices", []string{`"dependsOn": ["[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', variables('identity'))]"]`, `"dependsOn": ["[concat('x', variables('identity'))]"]`}, nil},
		{"DependsOn-Must-Not-Be-Conditional", []string{`"dependsOn": ["[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', variables('identity'))]"]`, `"dependsOn": ["[if(variables('onDockerHub'), variables('identity'), 'x')]"]`}, nil},
		{"DeploymentTemplate-Must-Not-Contain-Hardcoded-Uri", []string{`[environment().resourceManager]`, `https://management.azure.com/`}, nil},
		{"URIs-Should-Be-Properly-Constructed", []string{`"outputs": {`, `"outputs": {"hubUrl": {"type": "string", "value": "x", "url": "[concat('http://', 'x')]"},`}, nil},
		{"Dynamic-Variable-References-Should-Not-Use-Concat", []string{`[variables('tags')]`, `[variables(concat('ta', 'gs'))]`}, nil},
		{"Expressions-May-Not-Be-Used-As-Parameter-Or-Variable-Names", []string{`"outputs": {`, `"outputs": {"[parameters('name')]": {"type": "string", "value": "x"},`}, nil},
		{"Outputs-Must-Not-Contain-Secrets", []string{`"outputs": {`, `"outputs": {"login": {"type": "string", "value": "[concat('x', parameters('dockerHubPassword'))]"},`}, nil},
		{"Outputs-Must-Not-Contain-Secrets", []string{`"outputs": {`, `"outputs": {"keys": {"type": "string", "value": "[listKeys('x', '2024-11-30').keys[0]]"},`}, nil},
		{"apiVersions-Should-Be-Recent", []string{`"apiVersion": "2024-11-30"`, `"apiVersion": "2018-11-30"`}, nil},
		{"apiVersions-Should-Be-Recent", []string{`"apiVersion": "2023-05-01"`, `"apiVersion": "2024-05-01-preview"`}, nil},
		{"apiVersions-Should-Be-Recent-In-Reference-Functions", []string{`variables('identity')), '2024-11-30').clientId`, `variables('identity')), '2018-11-30').clientId`}, nil},
		{"Reference-Function-Must-Not-Use-Preview-ApiVersion", []string{`variables('identity')), '2024-11-30').clientId`, `variables('identity')), '2025-01-31-preview').clientId`}, nil},
		{"providers_apiVersions-Is-Not-Permitted", []string{`"apiVersion": "2022-04-01"`, `"apiVersion": "[providers('Microsoft.Authorization', 'roleAssignments').apiVersions[0]]"`}, nil},
		{"Deployment-Resources-Must-Not-Be-Debug", add(`{"type": "Microsoft.Resources/deployments", "apiVersion": "2024-11-01", "name": "x", ` + location + `}`), nil},
		{"Parameter-Types-Should-Be-Consistent", add(`{"type": "Microsoft.Resources/deployments", "apiVersion": "2024-11-01", "name": "x", ` + location + `}`), nil},
		{"Secure-Params-In-Nested-Deployments", add(`{"type": "Microsoft.Resources/deployments", "apiVersion": "2024-11-01", "name": "x", ` + location + `}`), nil},
		{"External-Links-Must-Reference-ArtifactsLocation", []string{`"timeout": "PT2H"`, `"timeout": "PT2H", "primaryScriptUri": "https://git.example.org/x"`}, nil},
		{"artifacts-parameter", []string{`"parameters": {`, `"parameters": {"_artifactsLocation": {"type": "string", "metadata": {"description": "x"}, "defaultValue": "x"},`}, nil},
		{"CommandToExecute-Must-Use-ProtectedSettings-For-Secrets", []string{`"osType": "Linux"`, `"osType": "Linux", "commandToExecute": "x"`}, nil},
		{"ManagedIdentityExtension-must-not-be-used", add(`{"type": "Microsoft.Compute/virtualMachines/extensions", "apiVersion": "2024-11-01", "name": "x", ` + location + `}`), nil},
		{"adminUsername-Should-Not-Be-A-Literal", []string{`"osType": "Linux"`, `"osType": "Linux", "adminUsername": "ada"`}, nil},
		{"adminPassword-Should-Not-Be-A-Literal", []string{`"osType": "Linux"`, `"osType": "Linux", "adminPassword": "x"`}, nil},
		{"VM-Images-Should-Use-Latest-Version", []string{`"osType": "Linux"`, `"osType": "Linux", "imageReference": "x"`}, nil},
		{"VM-Size-Should-Be-A-Parameter", []string{`"osType": "Linux"`, `"osType": "Linux", "vmSize": "x"`}, nil},
		{"Virtual-Machines-Should-Not-Be-Preview", add(`{"type": "Microsoft.Compute/virtualMachines", "apiVersion": "2024-11-01", "name": "x", ` + location + `}`), nil},
		{"schema of the form", nil, []string{`"placeholder": "my-hub",`, `"placeHolder": "my-hub",`}},
		{"schema of the form", nil, []string{`"type": "Microsoft.Common.DropDown"`, `"type": "Microsoft.Common.Dropdown"`}},
		{"schema of the form", nil, []string{`, "confirmPassword": "The access token again"`, ``}},
		{"schema of the form", nil, []string{`"regex": "^[a-z]`, `"regex": "^([a-z]`}},
		{"CreateUIDefinition-Should-Have-Schema", nil, []string{`0.1.2-preview/CreateUIDefinition`, `0.1.1-preview/CreateUIDefinition`}},
		{"Handler-Must-Be-Correct", nil, []string{`Microsoft.Azure.CreateUIDef"`, `Microsoft.Compute.MultiVm"`}},
		{"CreateUIDefinition-Must-Have-Parameters", nil, []string{`"outputs": {`, `"output": {`}},
		{"CreateUIDefinition-Must-Not-Have-Blanks", nil, []string{`"label": "Size"`, `"label": ""`}},
		{"Controls-In-Outputs-Must-Exist", nil, []string{`"[steps('address').email]"`, `"[steps('address').mail]"`}},
		{"Outputs-Must-Be-Present-In-Template-Parameters", nil, []string{`"email": "[steps`, `"mail": "[steps`}},
		{"Outputs-Must-Be-Present-In-Template-Parameters", nil, []string{`"[int(steps('size').people)]"`, `"[steps('size').people]"`}},
		{"Parameters-Without-Default-Must-Exist-In-CreateUIDefinition", nil, []string{`"name": "[basics('name')]",`, ``}},
		{"Location-Should-Be-In-Outputs", nil, []string{`"location": "[location()]",`, ``}},
		{"Allowed-Values-Should-Actually-Be-Allowed", nil, []string{`"value": "dockerhub"`, `"value": "quay"`}},
		{"Allowed-Values-Should-Actually-Be-Allowed", nil, []string{`"label": "About 20", "value": "3"`, `"label": "About 20", "value": "4"`}},
		{"Allowed-Values-Should-Actually-Be-Allowed", nil, []string{`"defaultValue": "About 20"`, `"defaultValue": "About 30"`}},
		{"Password-Textboxes-Must-Be-Used-For-Password-Parameters", []string{`"type": "securestring"`, `"type": "string"`}, nil},
		{"PasswordBoxes-Must-Have-Min-Length", nil, []string{`^.{12,}$`, `^.{8,}$`}},
		{"Credential-Confirmation-Should-Not-Be-Hidden", nil, []string{`"hideConfirmation": false`, `"hideConfirmation": true`}},
		{"Textboxes-Are-Well-Formed", nil, []string{`, "validationMessage": "A mail address."`, ``}},
		{"Validations-Must-Have-Message", nil, []string{`, "validationMessage": "A mail address."`, ``}},
		{"Tooltips-Should-Be-Present", nil, []string{`"toolTip": "A member of the organisation, if you name one."`, `"toolTip": " "`}},
		{"Usernames-Should-Not-Have-A-Default", nil, []string{`"label": "User of Docker Hub"`, `"label": "User of Docker Hub", "defaultValue": "ada"`}},
		{"HideExisting-Must-Be-Correctly-Handled", nil, []string{`"type": "Microsoft.Common.DropDown"`, `"type": "Microsoft.Storage.StorageAccountSelector"`}},
		{"VMSizes-Must-Match-Template", nil, []string{`"type": "Microsoft.Common.DropDown"`, `"type": "Microsoft.Compute.SizeSelector"`}},
		{"Parameters-Property-Must-Exist", []string{`"parameters": {`, `"parameter": {`}, nil},
	} {
		spoil := func(text string, edit []string) string {
			if edit == nil {
				return text
			}
			if !strings.Contains(text, edit[0]) {
				t.Errorf("%s: there is no %s", tt.rule, edit[0])
			}
			return strings.Replace(text, edit[0], edit[1], 1)
		}
		text, form := spoil(made().Template(), tt.template), spoil(made().Form(), tt.form)
		d, err := filled(t, text)
		if err != nil {
			d = &armtemplate.Deployment{Azure: azure()}
		}
		found := armtemplate.Check(d, text, form)
		if !slices.ContainsFunc(found, func(p string) bool { return strings.HasPrefix(p, tt.rule+": ") }) {
			t.Errorf("%s does not see %q %q: %q", tt.rule, tt.template, tt.form, found)
		}
		seen[tt.rule] = true
	}
	for _, r := range slices.Concat(armtemplate.TemplateRules(), armtemplate.FormRules()) {
		if !seen[r.Kit] {
			t.Errorf("nothing is spoiled to see %s fail", r.Kit)
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
