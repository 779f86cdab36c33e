package image_test

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestGraphsOfExamples: for every example, what each step waits for is the kept list,
// and a commit that only adds a notebook leaves all commands of the environment as
// they are.
func TestGraphsOfExamples(t *testing.T) {
	dirs, err := filepath.Glob("../../examples/*")
	if err != nil || len(dirs) < 40 {
		t.Fatalf("%d examples, %v", len(dirs), err)
	}
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	read := func(fsys fs.FS) recipe.Recipe {
		r, err := recipe.Read(fsys, recipe.Options{Arch: "amd64", Date: day})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var text strings.Builder
	for _, dir := range dirs {
		if filepath.Ext(dir) != "" {
			continue // their README
		}
		r := read(os.DirFS(dir))
		if len(r.Steps) == 0 {
			continue // a Dockerfile's graph is its own
		}
		g := load(t, r, 1)
		fmt.Fprintf(&text, "%s\n%s", filepath.Base(dir), g.waits(t, r))
		onTree, apart := g.execs()
		wanted := 0
		for _, s := range r.Steps {
			if s.Stage == recipe.StageContent || s.Stage == recipe.StagePostBuild {
				wanted++
			}
		}
		if len(onTree) != wanted {
			t.Errorf("%s: %d commands stand on the tree; want %d", dir, len(onTree), wanted)
		}
		next := copied(t, dir)
		next["added.md"] = &fstest.MapFile{Data: []byte("Read this.\n"), Mode: 0o644}
		_, after := load(t, read(next), 2).execs()
		if !maps.Equal(apart, after) {
			t.Errorf("%s: a commit that adds a page changes the environment's commands", dir)
		}
	}
	const file = "testdata/graphs.txt"
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("the graphs have changed (-want +got); -update writes them:\n%s", diff)
	}
}

// waits lists the steps, each with those that it waits for and no other of them does.
func (g ops) waits(t *testing.T, r recipe.Recipe) string {
	t.Helper()
	names := map[string]string{} // by digest
	var order []string
	add := func(script, name string) {
		d := g.command(t, strings.TrimSuffix(script, "\n"), name, names)
		if names[d] == "" {
			order = append(order, d)
		}
		names[d] = name
	}
	for _, s := range r.Steps {
		if s.Lock != nil {
			add(s.Lock.Script, "versions for "+s.Name)
		}
		add(s.Script, s.Name)
	}
	below := map[string]map[string]bool{}
	for _, d := range order {
		below[d] = map[string]bool{}
		g.below(d, below[d])
	}
	var text strings.Builder
	for _, d := range order {
		var before []string
		for _, other := range order {
			if below[d][other] && !slices.ContainsFunc(order, func(between string) bool { return below[d][between] && below[between][other] }) {
				before = append(before, names[other])
			}
		}
		fmt.Fprintf(&text, "  %s", names[d])
		if len(before) > 0 {
			fmt.Fprintf(&text, " ← %s", strings.Join(before, "; "))
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// command is the one with that script that no other step has: the shortest, and of
// equal ones the one that waits for least. Steps may share what finds their versions.
func (g ops) command(t *testing.T, script, name string, taken map[string]string) string {
	t.Helper()
	var found []string
	rank := map[string][2]int{}
	for d, op := range g.all {
		e := op.GetExec()
		if e == nil || taken[d] != "" && taken[d] != name && !strings.HasPrefix(name, "versions for ") {
			continue
		}
		if text := e.Meta.Args[len(e.Meta.Args)-1]; strings.Contains("\n"+text+"\n", "\n"+script+"\n") {
			below := map[string]bool{}
			g.below(d, below)
			found, rank[d] = append(found, d), [2]int{len(text), len(below)}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no command of its own runs %s", name)
	}
	return slices.MinFunc(found, func(a, b string) int {
		return cmp.Or(rank[a][0]-rank[b][0], rank[a][1]-rank[b][1])
	})
}

// copied is a folder in memory.
func copied(t *testing.T, dir string) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := fs.ReadFile(root, path)
		out[path] = &fstest.MapFile{Data: content, Mode: info.Mode()}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
