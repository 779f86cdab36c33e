package image_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// ops is a graph by digest, with the digest of its last operation.
type ops struct {
	all  map[string]*pb.Op
	last string
}

func load(t *testing.T, r recipe.Recipe, mtime int64) ops {
	t.Helper()
	s, err := image.Graph("base.example.org/base", r, time.Unix(mtime, 0))
	if err != nil {
		t.Fatal(err)
	}
	def, err := image.Marshal(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	g := ops{all: map[string]*pb.Op{}}
	for _, b := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(b); err != nil {
			t.Fatal(err)
		}
		g.last = digest.FromBytes(b).String()
		g.all[g.last] = op
	}
	g.last = g.all[g.last].Inputs[0].Digest // the definition ends with a pointer to its result
	return g
}

// below is everything the operation stands on.
func (g ops) below(d string, into map[string]bool) {
	for _, in := range g.all[d].Inputs {
		if !into[in.Digest] {
			into[in.Digest] = true
			g.below(in.Digest, into)
		}
	}
}

// execs are the commands, by what they stand on: with the tree or without.
func (g ops) execs() (withTree, without map[string]bool) {
	withTree, without = map[string]bool{}, map[string]bool{}
	for d, op := range g.all {
		if op.GetExec() == nil {
			continue
		}
		set := map[string]bool{}
		g.below(d, set)
		into := without
		for b := range set {
			if src := g.all[b].GetSource(); src != nil && (src.Identifier == "local://content" || src.Identifier == "local://large") {
				into = withTree
			}
		}
		into[d] = true
	}
	return withTree, without
}

func sample() recipe.Recipe {
	return recipe.Recipe{Kind: "python", Steps: []recipe.Step{
		{Name: "server", Stage: recipe.StageServer, Script: "server", Tools: []string{"uv"}, Inputs: []recipe.Input{{Name: "server.txt", Content: []byte("a")}}},
		{Name: "apt", Stage: recipe.StageSystem, Script: "apt", Root: true},
		{Name: "pip", Stage: recipe.StageEnvironment, Script: "pip"},
	}}
}

func TestContentStandsApart(t *testing.T) {
	g := load(t, sample(), 1)
	if merge := g.all[g.last].GetMerge(); merge == nil || len(merge.Inputs) != 3 {
		t.Fatalf("the image ends with %v; want a merge of the environment, the large files and the others", g.all[g.last])
	}
	if withTree, without := g.execs(); len(withTree) != 0 || len(without) != 6 { // prepare, the tool, Node, three steps
		t.Errorf("%d commands stand on the tree and %d do not; want 0 and 6", len(withTree), len(without))
	}
}

// TestBranches: what needs nothing of each other stands beside each other.
func TestBranches(t *testing.T) {
	r := sample()
	r.Steps = append(r.Steps,
		recipe.Step{Name: "wheels", Stage: recipe.StageBinary, Branch: "python", Script: "wheels", Lock: &recipe.Lock{Name: "versions", Script: "versions"}},
		recipe.Step{Name: "r", Stage: recipe.StageEnvironment, Branch: "r", Script: "r"},
		recipe.Step{Name: "r2", Stage: recipe.StageEnvironment, Branch: "r", Script: "r2"},
	)
	g := load(t, r, 1)
	standsOn := func(script, other string) bool {
		set := map[string]bool{}
		g.below(g.exec(t, script), set)
		return set[g.exec(t, other)]
	}
	for _, pair := range [][2]string{{"wheels", "apt"}, {"apt", "wheels"}, {"r", "pip"}, {"pip", "r"}, {"versions", "server"}} {
		if standsOn(pair[0], pair[1]) {
			t.Errorf("%s waits for %s", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"apt", "server"}, {"wheels", "server"}, {"wheels", "versions"}, {"pip", "apt"}, {"pip", "wheels"}, {"r", "apt"}, {"r2", "r"}} {
		if !standsOn(pair[0], pair[1]) {
			t.Errorf("%s does not stand on %s", pair[0], pair[1])
		}
	}
	if withTree, _ := g.execs(); len(withTree) > 0 {
		t.Errorf("%d commands stand on the tree", len(withTree))
	}
}

// exec is the command with that script.
func (g ops) exec(t *testing.T, script string) string {
	t.Helper()
	for d, op := range g.all {
		if e := op.GetExec(); e != nil && strings.Contains("\n"+e.Meta.Args[len(e.Meta.Args)-1]+"\n", "\n"+script+"\n") {
			return d
		}
	}
	t.Fatalf("no command runs %q", script)
	return ""
}

func TestStepsOnTheTree(t *testing.T) {
	r := sample()
	r.Steps = append(r.Steps, recipe.Step{Name: "post", Stage: recipe.StagePostBuild, Script: "post"})
	g := load(t, r, 1)
	if withTree, without := g.execs(); len(withTree) != 1 || len(without) != 6 {
		t.Errorf("%d commands stand on the tree and %d do not; want 1 and 6", len(withTree), len(without))
	}
}

// TestOutlineStandsApart: a step that needs only names in the tree stands on the
// environment, in a home of its own.
func TestOutlineStandsApart(t *testing.T) {
	r := sample()
	r.Steps = append(r.Steps, recipe.Step{Name: "own", Stage: recipe.StageOutline, Script: "own"})
	g := load(t, r, 1)
	if withTree, without := g.execs(); len(withTree) != 0 || len(without) != 7 {
		t.Errorf("%d commands stand on the tree and %d do not; want 0 and 7", len(withTree), len(without))
	}
	own := g.all[g.exec(t, "own")].GetExec()
	if own.Meta.Cwd != recipe.RepoDir {
		t.Errorf("it runs in %s", own.Meta.Cwd)
	}
	home := slices.IndexFunc(own.Mounts, func(m *pb.Mount) bool { return m.Dest == recipe.RepoDir })
	if home < 0 || own.Mounts[home].Output != int64(pb.SkipOutput) || own.Mounts[home].Readonly {
		t.Errorf("its home is %+v", own.Mounts)
	}
	set := map[string]bool{}
	if g.below(g.exec(t, "own"), set); !set[g.exec(t, "pip")] {
		t.Error("it does not stand on the environment")
	}
}

func TestEnvironmentIsSharedBetweenCommits(t *testing.T) {
	_, one := load(t, sample(), 1).execs()
	_, other := load(t, sample(), 2).execs()
	for d := range one {
		if !other[d] {
			t.Error("a command of the environment is keyed by the time of the commit")
		}
	}
	changed := sample()
	changed.Steps[0].Inputs[0].Content = []byte("b")
	_, third := load(t, changed, 1).execs()
	same := 0
	for d := range one {
		if third[d] {
			same++
		}
	}
	if same != 3 { // prepare, the tool and Node
		t.Errorf("%d commands are the same after the lock changed; want 3", same)
	}
}

// TestOrderOfLayers: Jupyter first, because everybody has it, then apt, then
// what the repository declares, whatever order the recipe has.
func TestOrderOfLayers(t *testing.T) {
	g := load(t, sample(), 1)
	depth := map[string]int{}
	for _, script := range []string{"server", "apt", "pip"} {
		set := map[string]bool{}
		g.below(g.exec(t, script), set)
		depth[script] = len(set)
	}
	if depth["server"] >= depth["apt"] || depth["apt"] >= depth["pip"] {
		t.Errorf("the layers are in the order %v", depth)
	}
}

func TestSecretsOfTheMachineAreNotInTheGraph(t *testing.T) {
	for _, op := range load(t, sample(), 1).all {
		if e := op.GetExec(); e != nil {
			for _, m := range e.Mounts {
				if m.MountType == pb.MountType_SECRET || m.MountType == pb.MountType_SSH {
					t.Errorf("a step mounts %v", m)
				}
			}
		}
	}
}

func TestUnknownTool(t *testing.T) {
	r := sample()
	r.Steps[0].Tools = []string{"../../etc/passwd"}
	if _, err := image.Graph("base.example.org/base", r, time.Unix(0, 0)); err == nil {
		t.Error("a tool that is not known was taken")
	}
}

// TestSlug has BinderHub's own examples: every byte that is no letter or digit is a dash
// and its number, without zeros before it.
func TestSlug(t *testing.T) {
	for in, want := range map[string]string{
		"binder-examples-octave":           "binder-2dexamples-2doctave-03025a",
		"https://github.com/a/b":           "https-3a-2f-2fgithub-2ecom-2fa-2fb-426415",
		"u-2drepo_":                        "u-2d2drepo-5f-796ea5",
		"binder-2dexamples-2drequirements": "binder-2d2dexamples-2d2drequirements-cd83d7",
		"a directory":                      "a-20directory-8f4122",
		"/tmp/foo-bar":                     "-2ftmp-2ffoo-2dbar-738737",
		"https://github.com/binder-examples/requirements": "https-3a-2f-2fgithub-2ecom-2fbinder-2dexamples-2frequirements-b24a66",
		"é": "-c3-a9-4a9955", "a\nb": "a-ab-7e18f7", "ABC_def": "abc-5fdef-70129b",
	} {
		if got := image.Slug(in, 255); got != want {
			t.Errorf("slug(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestName(t *testing.T) {
	rev := binnacle.Revision{Spec: binnacle.Spec{Provider: binnacle.GitHub, Repo: "Owner/Name_x"}, Commit: "abc"}
	want := "binnacle.local/gh-2fowner-2fname-5fx-"
	if got := image.Name(rev, ""); len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("Name = %q; want it to begin with %q", got, want)
	}
	folder, deeper := rev, rev
	folder.Spec.Subdir, deeper.Spec.Repo = "sub", "Owner/Name_x/sub"
	if a, b, c := image.Name(rev, ""), image.Name(folder, ""), image.Name(deeper, ""); a == b || b == c {
		t.Errorf("a folder has the name of something else: %q, %q, %q", a, b, c)
	}
}
