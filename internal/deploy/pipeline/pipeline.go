// Package pipeline writes the file with which a forge deploys a hub: the plan is
// shown on a proposed change, and done when the change is accepted.
//
// No file holds a secret. On Azure the forge itself says who the pipeline is
// (workload identity federation); another cluster's kubeconfig and the password
// of a registry are secrets of the forge.
package pipeline

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// The forges.
const (
	GitHub = "github"
	Azure  = "azure-pipelines"
	GitLab = "gitlab"
)

// Forges lists them.
func Forges() []string { return []string{GitHub, Azure, GitLab} }

//go:embed templates
var templates embed.FS

// checkout is the action that fetches the repository, by its commit: a tag can be
// moved by whoever takes the action over.
const checkout = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2"

// Options say what the file cannot know.
type Options struct {
	Forge string
	// Image is Binnacle's own, as `make image` pushes it.
	Image string
	// File describes the deployment, below the root of the repository.
	File string
	// Branch is the one that is deployed.
	Branch string
}

// Made is a file of a pipeline.
type Made struct {
	Path    string // below the root of the repository
	Content []byte
	// Todo are the steps that only a person can do, in their order.
	Todo []string
}

// values are what templates see.
type values struct {
	Options

	Checkout string
	Name     string
	Azure    bool
	Cluster  bool
	// Secrets are the variables of the environment that the file names.
	Secrets []string
	// Flags are for docker run.
	Flags string
	// Plan and Report are scripts, as they stand in the file.
	Plan, Report string
}

// plan shows a plan on the proposed change, also one that can't be carried out.
const plan = `code=0
{ eval "$BINNACLE check" && eval "$BINNACLE plan"; } > plan.txt 2>&1 || code=$?
cat plan.txt
eval "$BINNACLE post --plan plan.txt"
exit $code
`

// report opens an issue while something is wrong, and closes it afterwards.
const report = `code=0
eval "$BINNACLE info --check" > report.txt 2>&1 || code=$?
cat report.txt
if [ $code = 0 ]; then eval "$BINNACLE post --fine"; else eval "$BINNACLE post --report report.txt"; fi
exit $code
`

// indent moves a script to where it stands in the file of a forge.
func indent(text, forge string) string {
	by := map[string]int{GitHub: 10, Azure: 14, GitLab: 6}[forge]
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.Repeat(" ", by) + line)
	}
	return out.String()
}

// Make writes the pipeline of a deployment. Returns invalid for a target that a
// pipeline cannot reach.
func Make(c config.Config, o Options) (Made, error) {
	v := values{Options: o, Checkout: checkout, Name: c.Name, Azure: c.Target == config.TargetAzure, Cluster: c.Target == config.TargetCluster}
	paths := map[string]string{GitHub: ".github/workflows/binnacle.yml", Azure: "azure-pipelines.yml", GitLab: ".gitlab-ci.yml"}
	path, ok := paths[o.Forge]
	if !ok {
		return Made{}, binnacle.Errorf(binnacle.CodeInvalid, "There is no forge %q; choose one of %s.", o.Forge, strings.Join(Forges(), ", "))
	}
	if o.Image == "" || strings.ContainsAny(o.Image, " \t\n'\"$`\\") {
		return Made{}, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "pipeline.image", Message: fmt.Sprintf("%q is not the name of an image.", o.Image),
			Hint: "--image names Binnacle's own, such as registry.example.org/binnacle:1; make image PUSH=1 makes it.",
		}
	}
	for what, name := range map[string]string{"file": o.File, "branch": o.Branch} {
		if name == "" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "/") || strings.Contains(name, "..") || strings.ContainsAny(name, " \t\n'\"$`\\;|&<>(){}*?~#") {
			return Made{}, binnacle.Errorf(binnacle.CodeInvalid, "%q cannot be the name of a %s in a pipeline.", name, what)
		}
	}
	if c.Target == config.TargetHost {
		return Made{}, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "pipeline.target", Message: "A pipeline does not reach the target host: it would need a key to the machine.",
			Hint: "Run binnacle deploy up on the machine, or from your own.",
		}
	}
	if v.Azure {
		want := map[string]string{GitHub: "workload_identity", GitLab: "workload_identity", Azure: "pipelines"}[o.Forge]
		if c.Azure.SignIn != want {
			return Made{}, &binnacle.Error{
				Code: binnacle.CodeInvalid, Op: "pipeline.sign_in", Message: fmt.Sprintf("With azure.sign_in: %s the pipeline would not be signed in.", c.Azure.SignIn),
				Hint: fmt.Sprintf("Set azure.sign_in: %s in %s; on your own machine use a copy of the file that says cli.", want, o.File),
			}
		}
	}
	if name, ok := strings.CutPrefix(c.Registry.PasswordFrom, "env:"); ok {
		v.Secrets = append(v.Secrets, name)
	}
	v.Flags, v.Plan, v.Report = flags(v), indent(plan, o.Forge), indent(report, o.Forge)
	text, err := template.New(o.Forge+".yml").Delims("[[", "]]").ParseFS(templates, "templates/"+o.Forge+".yml")
	if err != nil {
		return Made{}, fmt.Errorf("read the template of the pipeline: %w", err)
	}
	var out bytes.Buffer
	if err := text.Execute(&out, v); err != nil {
		return Made{}, fmt.Errorf("write the pipeline: %w", err)
	}
	return Made{Path: path, Content: out.Bytes(), Todo: todo(v)}, nil
}

// Environment are the variables of a forge by which `deploy post` knows what it
// is to comment on.
func Environment(forge string) []string {
	return map[string][]string{
		GitHub: {"GITHUB_ACTIONS", "GITHUB_SERVER_URL", "GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_REF", "GITHUB_TOKEN"},
		Azure: {
			"TF_BUILD", "BUILD_REPOSITORY_PROVIDER", "BUILD_REPOSITORY_URI", "SYSTEM_PULLREQUEST_PULLREQUESTID",
			"SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_ACCESSTOKEN", "FORGE_TOKEN",
		},
		GitLab: {"GITLAB_CI", "CI_PROJECT_URL", "CI_API_V4_URL", "CI_MERGE_REQUEST_IID", "FORGE_TOKEN"},
	}[forge]
}

// flags hand the container what the steps before it prepared. Values stay in the
// environment: they are never arguments.
func flags(v values) string {
	f := []string{"--rm", "--volume \"$PWD:/repository\"", "--workdir /repository", "--user \"$(id -u):$(id -g)\"", "--env HOME=/tmp"}
	for _, name := range slices.Concat(v.Secrets, Environment(v.Forge)) {
		f = append(f, "--env "+name)
	}
	if v.Cluster {
		f = append(f, "--env KUBECONFIG=/repository/.kubeconfig")
	}
	switch {
	case v.Azure && v.Forge == Azure:
		f = append(f, "--env SYSTEM_OIDCREQUESTURI")
	case v.Azure:
		f = append(f, "--env AZURE_FEDERATED_TOKEN_FILE=/repository/.token")
	}
	return strings.Join(f, " ")
}

// todo are the steps of a person.
func todo(v values) []string {
	var out []string
	where := map[string]string{
		GitHub: "the repository's settings, Secrets and variables, Actions", Azure: "the pipeline's variables, marked secret",
		GitLab: "the project's settings, CI/CD, Variables, masked and protected",
	}[v.Forge]
	if v.Azure {
		out = append(out, map[string]string{
			GitHub: "In Azure, give a user-assigned managed identity the role Contributor on the resource group, and a federated credential for this repository's branch " + v.Branch + " and for its pull requests.",
			GitLab: "In Azure, give a user-assigned managed identity the role Contributor on the resource group, and a federated credential for this project's branch " + v.Branch + " (audience api://AzureADTokenExchange).",
			Azure:  "In Azure DevOps, make a service connection with workload identity federation and the role Contributor on the resource group; write its id into azure.service_connection.",
		}[v.Forge], "Write azure.tenant and azure.client of that identity into "+v.File+"; they are no secrets.")
	}
	secrets := slices.Clone(v.Secrets)
	if v.Cluster {
		secrets = append(secrets, "KUBECONFIG_TEXT (the text of a kubeconfig of an account that may do what `binnacle deploy check` asks for)")
	}
	if len(secrets) > 0 {
		out = append(out, "Put these secrets into "+where+": "+strings.Join(secrets, ", ")+".")
	}
	if v.Forge == GitHub {
		out = append(out, "In the repository's settings make an environment called binnacle, with those who may accept a deployment.")
	}
	if v.Forge == GitLab {
		out = append(out, "Make a project access token with the scope api and the role Reporter, and put it into the same place as FORGE_TOKEN (masked, not protected: merge requests need it): plans become comments, reports an issue. Make a schedule for the report, once a week.")
	}
	if v.Forge == Azure {
		out = append(out, "Where the repository is one of Azure Repos: give the project's build service the right 'Contribute to pull requests', and add the pipeline as a build validation policy of the branch "+v.Branch+". Where it is on GitHub: put a token that may comment there into the pipeline's variables as FORGE_TOKEN, marked secret, and hand it on in the step's env.")
		out = append(out, "In Azure DevOps make an environment called binnacle, with those who may accept a deployment, and a pipeline from azure-pipelines.yml.")
	}
	return append(out, "Commit the file. The plan appears on the next pull or merge request that touches it; accepting it deploys.")
}
