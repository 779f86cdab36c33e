package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/forge"
	"github.com/binnacle-hub/binnacle/internal/deploy/pipeline"
)

func (d *deployment) ciCommand() *cobra.Command {
	o := pipeline.Options{Forge: pipeline.GitHub, Branch: "main"}
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use: "ci", Short: "Write a pipeline: the plan on a proposed change, deployed when it is accepted", Args: cobra.NoArgs,
		Long: "Writes a workflow of GitHub, Azure Pipelines or GitLab into this repository, and says what only\n" +
			"a person can do: on Azure no secret is needed, because the forge itself says who the pipeline is.",
		Example: "  binnacle deploy ci --forge github --image registry.example.org/binnacle:1",
		RunE: func(*cobra.Command, []string) error {
			i, err := d.load()
			if err != nil {
				return err
			}
			o.File = filepath.ToSlash(d.file)
			made, err := pipeline.Make(i.Config, o)
			if err != nil {
				return err
			}
			return d.writePipeline(made, filepath.Join(dir, filepath.FromSlash(made.Path)), force)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Forge, "forge", o.Forge, strings.Join(pipeline.Forges(), ", ")+": whose `kind` of pipeline")
	f.StringVar(&o.Image, "image", "", "Binnacle's own `image`, as make image pushes it")
	f.StringVar(&o.Branch, "branch", o.Branch, "the `branch` that is deployed")
	f.StringVarP(&dir, "output", "o", ".", "the root `directory` of the repository")
	f.BoolVar(&force, "force", false, "overwrite a pipeline that is there")
	return cmd
}

// posting are the flags of post.
type posting struct {
	plan, report string
	fine         bool
}

func (d *deployment) postCommand() *cobra.Command {
	var p posting
	cmd := &cobra.Command{
		Use: "post", Short: "Write a plan to the pull or merge request, or a report to an issue: what the pipeline runs", Args: cobra.NoArgs,
		Long: "Which forge, which repository and which request it is, the forge itself says in the environment of its\n" +
			"pipelines. A comment or issue of an earlier run is written anew instead of adding another.",
		RunE: func(cmd *cobra.Command, _ []string) error { return d.post(cmd.Context(), p) },
	}
	f := cmd.Flags()
	f.StringVar(&p.plan, "plan", "", "comment the request with this `file`")
	f.StringVar(&p.report, "report", "", "open an issue with this `file`")
	f.BoolVar(&p.fine, "fine", false, "close the issue: there is nothing to report")
	cmd.MarkFlagsOneRequired("plan", "report", "fine")
	cmd.MarkFlagsMutuallyExclusive("plan", "report", "fine")
	return cmd
}

func (d *deployment) post(ctx context.Context, p posting) error {
	i, err := d.load()
	if p.plan == "" && err != nil {
		return err
	}
	// A plan may be shown that says what is wrong with the file: its name is then not known.
	topic := cmp.Or(i.Config.Name, d.file)
	c, change, err := d.forge()
	if err != nil {
		return err
	}
	if p.fine {
		return c.Issue(ctx, "report of "+topic, "", "")
	}
	text, err := os.ReadFile(cmp.Or(p.plan, p.report))
	if err != nil {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.post", Message: fmt.Sprintf("There is nothing to post: %v.", err), Err: err}
	}
	if p.report != "" {
		title := "The hub " + topic + " is not as its file says"
		return c.Issue(ctx, "report of "+topic, title, "What `binnacle deploy info --check` found:\n\n"+fenced(string(text)))
	}
	if change == 0 {
		return binnacle.Errorf(binnacle.CodeInvalid, "This is no pipeline of a pull or merge request: there is nothing to comment on.")
	}
	return c.Comment(ctx, change, "plan of "+topic, "What this changes in the hub "+topic+" (`binnacle deploy plan`):\n\n"+fenced(string(text)))
}

// fenced shows a text as it is: its fence is longer than any in it.
func fenced(text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "\n" + strings.TrimRight(text, "\n") + "\n" + fence + "\n"
}

// forge is the one whose pipeline this is, and the number of the request, 0 for none.
func (d *deployment) forge() (*forge.Client, int, error) {
	get := func(name string) string { return lookup(d.Environ, name) }
	o := forge.Options{HTTP: new(http.Client)}
	var number, where string
	switch {
	case get("GITHUB_ACTIONS") != "":
		o.Kind, o.Repository, o.API = forge.GitHub, get("GITHUB_SERVER_URL")+"/"+get("GITHUB_REPOSITORY"), get("GITHUB_API_URL")
		where, number = "GITHUB_TOKEN", strings.TrimSuffix(strings.TrimPrefix(get("GITHUB_REF"), "refs/pull/"), "/merge")
	case get("GITLAB_CI") != "":
		o.Kind, o.Repository, o.API = forge.GitLab, get("CI_PROJECT_URL"), get("CI_API_V4_URL")
		where, number = "FORGE_TOKEN", get("CI_MERGE_REQUEST_IID")
	case get("TF_BUILD") != "" && get("BUILD_REPOSITORY_PROVIDER") == "GitHub":
		o.Kind, o.Repository = forge.GitHub, get("BUILD_REPOSITORY_URI")
		where, number = "FORGE_TOKEN", get("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER")
	case get("TF_BUILD") != "":
		o.Kind, o.Repository, o.Job = forge.Azure, get("BUILD_REPOSITORY_URI"), true
		where, number = "SYSTEM_ACCESSTOKEN", get("SYSTEM_PULLREQUEST_PULLREQUESTID")
	default:
		return nil, 0, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "cli.post", Message: "This is no pipeline of GitHub, GitLab or Azure.", Hint: "binnacle deploy ci writes one that runs this.",
		}
	}
	if o.Token = config.Secret(get(where)); o.Token == "" {
		return nil, 0, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "cli.post", Message: "The pipeline has no token to write with: " + where + " is not set.",
			Hint: "binnacle deploy ci says which token that is and where it goes.",
		}
	}
	u, err := url.Parse(o.Repository) // which has a user's name on Azure DevOps
	if err == nil {
		u.User = nil
		o.Repository = u.String()
	}
	c, err := forge.New(o)
	if err != nil {
		return nil, 0, err
	}
	change, err := strconv.Atoi(number)
	if err != nil {
		change = 0
	}
	return c, change, nil
}

func (d *deployment) writePipeline(made pipeline.Made, path string, force bool) error {
	const folder = 0o755
	if err := os.MkdirAll(filepath.Dir(path), folder); err != nil {
		return fmt.Errorf("write the pipeline: %w", err)
	}
	if err := writeNew(path, made.Content, force, "There is a pipeline already: "+path+".", "--force overwrites it; --output writes to another directory, to take over what you need."); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "Wrote %s. What is left to do:\n", path)
	for i, step := range made.Todo {
		fmt.Fprintf(d.Out, "%d. %s\n", i+1, step)
	}
	return nil
}
