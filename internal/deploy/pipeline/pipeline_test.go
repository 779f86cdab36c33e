package pipeline_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag

func on(target, signIn string) config.Config {
	c := config.Default()
	c.Name, c.Target = "my-hub", target
	c.Azure.SignIn = signIn
	c.Registry.Kind, c.Registry.PasswordFrom = config.RegistryDockerHub, "env:DOCKERHUB_PASSWORD"
	return c
}

func options(forge string) pipeline.Options {
	return pipeline.Options{Forge: forge, Image: "registry.example.org/binnacle:1", File: "binnacle.yaml", Branch: "main"}
}

// TestGolden: each file is as reviewed, is YAML, and its scripts are shell.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, forge := range pipeline.Forges() {
		for _, target := range []string{config.TargetAzure, config.TargetCluster} {
			t.Run(forge+"-"+target, func(t *testing.T) {
				t.Parallel()
				signIn := "workload_identity"
				if forge == pipeline.Azure {
					signIn = "pipelines"
				}
				made, err := pipeline.Make(on(target, signIn), options(forge))
				if err != nil {
					t.Fatal(err)
				}
				got := string(made.Content) + "\n# " + strings.Join(made.Todo, "\n# ") + "\n"
				path := filepath.Join("testdata", forge+"-"+target+".golden.yml")
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Error(diff)
				}
				var doc map[string]any
				if err := yaml.Unmarshal(made.Content, &doc); err != nil {
					t.Fatalf("%v\n%s", err, made.Content)
				}
				n := 0
				scripts(doc, func(text string) {
					n++
					checkScript(t, forge, text)
				})
				if n < 3 {
					t.Errorf("%d scripts were found", n)
				}
			})
		}
	}
}

// scripts finds what a shell runs.
func scripts(v any, f func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			switch value := value.(type) {
			case string:
				if key == "run" || key == "script" {
					f(value)
				}
			case []any:
				if key == "script" || key == "before_script" {
					for _, line := range value {
						if s, ok := line.(string); ok {
							f(s)
						}
					}
				} else {
					scripts(value, f)
				}
			default:
				scripts(value, f)
			}
		}
	case []any:
		for _, item := range v {
			scripts(item, f)
		}
	}
}

// checkScript: bash reads it, and nothing that strangers write (the words of a
// pull request) is put into it before bash does.
func checkScript(t *testing.T, forge, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-n")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v %s\n%s", err, out, text)
	}
	if forge == pipeline.GitHub && strings.Contains(text, "${{") {
		t.Errorf("an expression is in a script: %s", text)
	}
	if forge == pipeline.Azure && regexp.MustCompile(`\$\([A-Z][A-Za-z._]*\)`).MatchString(text) {
		t.Errorf("a variable of the pipeline is in a script: %s", text)
	}
}

// TestRefused: what cannot work is said before a file is written.
func TestRefused(t *testing.T) {
	t.Parallel()
	change := func(f func(*pipeline.Options)) pipeline.Options {
		o := options(pipeline.GitHub)
		f(&o)
		return o
	}
	for name, c := range map[string]struct {
		config  config.Config
		options pipeline.Options
		want    string
	}{
		"forge":          {on(config.TargetCluster, ""), options("sourceforge"), "github, azure-pipelines, gitlab"},
		"host":           {on(config.TargetHost, ""), options(pipeline.GitHub), "does not reach"},
		"sign in":        {on(config.TargetAzure, "cli"), options(pipeline.GitHub), "would not be signed in"},
		"no image":       {on(config.TargetCluster, ""), change(func(o *pipeline.Options) { o.Image = "" }), "not the name of an image"},
		"image of shell": {on(config.TargetCluster, ""), change(func(o *pipeline.Options) { o.Image = "x;$(id)" }), "not the name of an image"},
		"file outside":   {on(config.TargetCluster, ""), change(func(o *pipeline.Options) { o.File = "../binnacle.yaml" }), "cannot be the name of a file"},
		"branch":         {on(config.TargetCluster, ""), change(func(o *pipeline.Options) { o.Branch = "a b" }), "cannot be the name of a branch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pipeline.Make(c.config, c.options)
			if binnacle.CodeOf(err) != binnacle.CodeInvalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
