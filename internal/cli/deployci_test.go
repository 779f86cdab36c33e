package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/test/forgehost"
	"github.com/binnacle-hub/binnacle/test/kube"
)

// runner runs the scripts of a forge's pipeline as its runner does: in a clone, in a
// shell, with the forge's variables. What stands for docker gives the program the
// variables that it is told of and no others.
type runner struct {
	t     *testing.T
	dir   string // the clone
	bin   string
	forge *forgehost.Host
	env   []string
}

const dockerStandIn = `#!/bin/bash
# docker run OPTIONS IMAGE ARGUMENTS
shift
env=(PATH="$PATH")
while :; do
	case $1 in
	--rm) shift ;;
	--env) case $2 in *=*) env+=("$2") ;; *) [ -z "${!2+x}" ] || env+=("$2=${!2}") ;; esac; shift 2 ;;
	--volume) cd "${2%%:*}"; shift 2 ;;
	--workdir | --user) shift 2 ;;
	*) break ;;
	esac
done
shift
for i in "${!env[@]}"; do env[$i]=${env[$i]/\/repository/$PWD}; done
exec env -i "${env[@]}" binnacle "$@"
`

// A stand-in for the hub can't launch anything: it is not verified, but where the
// test wants it to fail.
const verifying = `#!/bin/bash
case " $* " in
*" upgrade "*) if [ -e VERIFY ]; then set -- "$@" --answer-within 2s; else set -- "$@" --no-verify; fi ;;
esac
exec %s "$@"
`

// run runs the scripts of a job in their order; it returns what they print and
// whether they succeed.
func (r *runner) run(env []string, scripts ...string) (string, bool) {
	r.t.Helper()
	var all strings.Builder
	for _, script := range scripts {
		cmd := exec.CommandContext(r.t.Context(), "bash", "-e", "-c", script)
		cmd.Dir = r.dir
		cmd.Env = append(append([]string{"PATH=" + r.bin + ":" + os.Getenv("PATH"), "HOME=" + r.dir, "KUBECONFIG_TEXT=" + r.kubeconfig(), "REGISTRY_PASSWORD=" + registryPassword}, r.env...), env...)
		out, err := cmd.CombinedOutput()
		all.Write(out)
		if strings.Contains(string(out), registryPassword) || strings.Contains(string(out), forgehost.Token) {
			r.t.Errorf("a secret is shown:\n%s", out)
		}
		if err != nil {
			return all.String(), false
		}
	}
	return all.String(), true
}

func (r *runner) kubeconfig() string {
	b, err := os.ReadFile(kube.Shared(r.t).Kubeconfig)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// pipeline writes and reads the pipeline of a forge.
func (r *runner) pipeline(forge string) map[string]any {
	r.t.Helper()
	// The file's name stands in the pipeline: it is written where the file is.
	cmd := exec.CommandContext(r.t.Context(), filepath.Join(r.bin, "binnacle"), "deploy", "ci", "--forge", forge, "--image", "registry.example.org/binnacle:1", "--force")
	cmd.Dir = r.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v %s", err, out)
	}
	path := map[string]string{"github": ".github/workflows/binnacle.yml", "azure-pipelines": "azure-pipelines.yml", "gitlab": ".gitlab-ci.yml"}[forge]
	b, err := os.ReadFile(filepath.Join(r.dir, path))
	if err != nil {
		r.t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(b, &doc); err != nil {
		r.t.Fatal(err)
	}
	return doc
}

// under follows keys and positions in a document.
func under(t *testing.T, v any, keys ...any) any {
	t.Helper()
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			list, _ := v.([]any)
			if k >= len(list) {
				t.Fatalf("nothing is at %v", keys)
			}
			v = list[k]
		}
	}
	if v == nil {
		t.Fatalf("nothing is at %v", keys)
	}
	return v
}

// shells are the scripts of steps.
func shells(t *testing.T, steps any, key string) (out []string) {
	t.Helper()
	list, _ := steps.([]any)
	for _, s := range list {
		if text, ok := s.(map[string]any)[key].(string); ok {
			out = append(out, text)
		}
	}
	if len(out) == 0 {
		t.Fatal("no scripts")
	}
	return out
}

// The pipelines' own scripts, against a real cluster with a stand-in for the hub and
// a server that speaks the forges' APIs: the plan becomes a comment, which the next
// run writes anew; what is accepted is deployed; what does not work is taken back and
// not deployed again; the weekly report opens an issue and closes it.
func TestDeployPipelines(t *testing.T) {
	k := kube.Shared(t)
	gone(t, k, "deploy-ci")
	access, err := clientcmd.LoadFromFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	forge, err := forgehost.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer forge.Close()
	r := &runner{t: t, dir: t.TempDir(), bin: t.TempDir(), forge: forge}
	program := filepath.Join(t.TempDir(), "binnacle")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "github.com/binnacle-hub/binnacle/cmd/binnacle").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for name, text := range map[string]string{"docker": dockerStandIn, "binnacle": fmt.Sprintf(verifying, program)} {
		if err := os.WriteFile(filepath.Join(r.bin, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("name: deploy-ci\ntarget: cluster\ncluster: {context: %s}\nregistry: {kind: other, host: registry.example.org, username: ada, password_from: env:REGISTRY_PASSWORD}\n",
		access.CurrentContext) + small(k.StandIn(t))
	r.write("binnacle.yaml", text)
	if out, ok := r.run([]string{"KUBECONFIG=" + k.Kubeconfig}, "binnacle deploy up --yes --no-verify"); !ok {
		t.Fatal(out)
	}
	r.gitHub(text)
	r.azurePipelines(text)
	r.gitLab(text)
	if bad := forge.Refused(); len(bad) > 0 {
		t.Errorf("the forge refuses: %q", bad)
	}
	if out, ok := r.run([]string{"KUBECONFIG=" + k.Kubeconfig}, "binnacle deploy down --confirm deploy-ci"); !ok {
		t.Error(out)
	}
}

func (r *runner) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// commented looks at the one comment on change 7 of a forge.
func (r *runner) commented(kind string, wants ...string) {
	r.t.Helper()
	n := 0
	for _, c := range r.forge.Comments() {
		if c.Kind != kind {
			continue
		}
		n++
		for _, want := range wants {
			if !strings.Contains(c.Text, want) || c.Change != 7 || !strings.HasSuffix(c.Repository, "/hub") {
				r.t.Errorf("%q is not in the comment %+v", want, c)
			}
		}
	}
	if n != 1 {
		r.t.Errorf("%d comments at %s", n, kind)
	}
}

func (r *runner) gitHub(text string) {
	t := r.t
	doc := r.pipeline("github")
	r.env = []string{
		"BINNACLE=" + under(t, doc, "env", "BINNACLE").(string), "GITHUB_ACTIONS=true", "GITHUB_SERVER_URL=" + r.forge.URL, "GITHUB_API_URL=" + r.forge.URL + "/api/v3",
		"GITHUB_REPOSITORY=institute/hub", "GITHUB_TOKEN=" + forgehost.Token,
	}
	job := func(name string) []string { return shells(t, under(t, doc, "jobs", name, "steps"), "run") }
	request := []string{"GITHUB_REF=refs/pull/7/merge"}

	r.write("binnacle.yaml", text+"hub: {launch: {max_sessions: many}}\n")
	if out, ok := r.run(request, job("plan")...); ok || !strings.Contains(out, "max_sessions") {
		t.Errorf("a plan of what is wrong: %s", out)
	}
	r.commented("github", "max_sessions")
	r.write("binnacle.yaml", text+"hub: {launch: {max_sessions: 3}}\n")
	if out, ok := r.run(request, job("plan")...); !ok {
		t.Errorf("plan: %s", out)
	}
	r.commented("github", "max_sessions: (none) → 3", "What this changes in the hub deploy-ci")
	sha := func(c string) []string {
		return []string{"GITHUB_REF=refs/heads/main", "GITHUB_SHA=" + strings.Repeat(c, 40)}
	}
	if out, ok := r.run(sha("a"), job("deploy")...); !ok {
		t.Errorf("deploy: %s", out)
	}
	if out, ok := r.run(sha("a"), job("report")...); !ok || len(r.forge.Issues()) > 0 || !strings.Contains(out, "commit aaaaaaaaaaaa: runs since") {
		t.Errorf("nothing to report: %s", out)
	}

	r.write("VERIFY", "")
	r.write("binnacle.yaml", text+"hub: {launch: {max_sessions: 4}}\n")
	if out, ok := r.run(sha("b"), job("deploy")...); ok || !strings.Contains(out, "was taken back") {
		t.Errorf("a commit that does not verify: %s", out)
	}
	if err := os.Remove(filepath.Join(r.dir, "VERIFY")); err != nil {
		t.Fatal(err)
	}
	if out, ok := r.run(sha("b"), job("deploy")...); ok || !strings.Contains(out, "is not tried again") {
		t.Errorf("a commit in quarantine: %s", out)
	}
	for range 2 {
		if out, ok := r.run(sha("b"), job("report")...); ok || !strings.Contains(out, "in quarantine since") {
			t.Errorf("a report of what is wrong: %s", out)
		}
	}
	if list := r.forge.Issues(); len(list) != 1 || !list[0].Open || !strings.Contains(list[0].Text, "max_sessions is 3, the file says 4") || !strings.Contains(list[0].Text, "bbbbbbbbbbbb") {
		t.Errorf("the report's issue: %+v", list)
	}
	if out, ok := r.run(sha("c"), job("deploy")...); !ok {
		t.Errorf("the commit that mends it: %s", out)
	}
	if out, ok := r.run(sha("c"), job("report")...); !ok || r.forge.Issues()[0].Open {
		t.Errorf("the issue stays open: %s", out)
	}
}

func (r *runner) azurePipelines(text string) {
	t := r.t
	doc := r.pipeline("azure-pipelines")
	r.env = []string{
		"BINNACLE=" + under(t, doc, "variables", "BINNACLE").(string), "TF_BUILD=True", "BUILD_REPOSITORY_PROVIDER=TfsGit",
		"BUILD_REPOSITORY_URI=" + strings.Replace(r.forge.URL, "://", "://institute@", 1) + "/institute/group/_git/hub", "SYSTEM_ACCESSTOKEN=" + forgehost.Token,
	}
	r.write("binnacle.yaml", text+"hub: {launch: {max_sessions: 5}}\n")
	for range 2 {
		if out, ok := r.run([]string{"SYSTEM_PULLREQUEST_PULLREQUESTID=7"}, shells(t, under(t, doc, "stages", 0, "jobs", 0, "steps"), "script")...); !ok {
			t.Errorf("plan: %s", out)
		}
	}
	r.commented("azure-devops", "max_sessions: 4 → 5")
	report := shells(t, under(t, doc, "stages", 2, "jobs", 0, "steps"), "script")
	if out, ok := r.run(nil, report...); ok || !strings.Contains(out, "max_sessions is 4, the file says 5") {
		t.Errorf("a report of what is wrong: %s", out)
	}
	steps := under(t, doc, "stages", 1, "jobs", 0, "strategy", "runOnce", "deploy", "steps")
	if out, ok := r.run([]string{"BUILD_SOURCEVERSION=" + strings.Repeat("d", 40)}, shells(t, steps, "script")...); !ok {
		t.Errorf("deploy: %s", out)
	}
	if out, ok := r.run(nil, report...); !ok {
		t.Errorf("nothing to report: %s", out)
	}
}

// gitLab runs the image itself, with a shell for each job.
func (r *runner) gitLab(text string) {
	t := r.t
	doc := r.pipeline("gitlab")
	r.env = []string{"GITLAB_CI=true", "CI_PROJECT_URL=" + r.forge.URL + "/institute/group/hub", "CI_API_V4_URL=" + r.forge.URL + "/api/v4", "FORGE_TOKEN=" + forgehost.Token}
	job := func(name string) string {
		var lines []string
		for _, list := range []any{under(t, doc, "default", "before_script"), under(t, doc, name, "script")} {
			for _, line := range list.([]any) {
				lines = append(lines, strings.ReplaceAll(line.(string), "/tmp", r.bin)) // a machine of its own
			}
		}
		return strings.Join(lines, "\n")
	}
	r.write("binnacle.yaml", text+"hub: {launch: {max_sessions: 6}}\n")
	for range 2 {
		if out, ok := r.run([]string{"CI_MERGE_REQUEST_IID=7"}, job("plan")); !ok {
			t.Errorf("plan: %s", out)
		}
	}
	r.commented("gitlab", "max_sessions: 5 → 6")
	if out, ok := r.run(nil, job("report")); ok {
		t.Errorf("a report of what is wrong: %s", out)
	}
	if out, ok := r.run([]string{"CI_COMMIT_SHA=" + strings.Repeat("e", 40)}, job("deploy")); !ok {
		t.Errorf("deploy: %s", out)
	}
	if out, ok := r.run(nil, job("report")); !ok {
		t.Errorf("nothing to report: %s", out)
	}
	list := r.forge.Issues()
	if last := list[len(list)-1]; len(list) != 2 || last.Kind != "gitlab" || last.Open {
		t.Errorf("the report's issue: %+v", list)
	}
}
