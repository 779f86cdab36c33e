// Package button writes the "Deploy to Azure" button: a template of Azure Resource
// Manager, the form that asks for its parameters, and the Markdown to paste.
//
// The template makes an identity with the role Contributor on its resource group,
// and a container that runs `binnacle deploy container` as that identity. A
// deployment script asks the container's page until it says that the hub was
// verified: a container group counts as deployed as soon as it runs, a script only
// when it ends. So the deployment runs as long as the work does, and has the hub's
// address as its output.
package button

import (
	_ "embed"
	"net/url"
	"path"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// The files' names, as Azure's own samples have them.
const (
	TemplateFile = "azuredeploy.json"
	FormFile     = "createUiDefinition.json"
)

// Variable is the variable of the container that holds the deployment's
// description, as JSON.
const Variable = "BINNACLE_DEPLOYMENT"

//go:embed azuredeploy.json
var template string

//go:embed createUiDefinition.json
var form string

// Button is where its files will be, and what it deploys.
type Button struct {
	// Image of Binnacle that Azure can fetch without credentials.
	Image string
	// Base is the address below which both files are served over https, such as
	// the raw files of a repository.
	Base string
}

// Check returns invalid when the button could not work.
func (b Button) Check() error {
	if b.Image == "" || strings.ContainsAny(b.Image, "\"\\ ") {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "button", Message: "The button needs Binnacle's own image, where Azure can fetch it.",
			Hint: "--image registry.example.org/binnacle:1 (make image PUSH=1 makes one)",
		}
	}
	u, err := url.Parse(b.Base)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "button", Message: "The button needs the address at which its two files will be served: Azure's portal fetches them over https.",
			Hint: "--base https://git.example.org/institute/hub/raw/main",
		}
	}
	return nil
}

// Template is azuredeploy.json.
func (b Button) Template() string { return strings.ReplaceAll(template, "@IMAGE@", b.Image) }

// Form is createUiDefinition.json.
func (b Button) Form() string { return form }

// Link opens the form in Azure's portal.
func (b Button) Link() string {
	return "https://portal.azure.com/#create/Microsoft.Template/uri/" + url.QueryEscape(b.file(TemplateFile)) +
		"/createUIDefinitionUri/" + url.QueryEscape(b.file(FormFile))
}

// Markdown is the button to paste.
func (b Button) Markdown() string {
	return "[![Deploy to Azure](https://aka.ms/deploytoazurebutton)](" + b.Link() + ")"
}

// CloudShell is the same without a browser's form.
func (b Button) CloudShell() string {
	return "az group create --name my-hub --location westeurope && az deployment group create --resource-group my-hub --template-uri " +
		b.file(TemplateFile) + " --parameters name=my-hub"
}

func (b Button) file(name string) string {
	scheme, rest, _ := strings.Cut(b.Base, "://")
	return scheme + "://" + path.Join(rest, name)
}
