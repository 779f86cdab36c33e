package source_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/source"
)

// FuzzLeaves compares with the kernel: of the links that are kept, none may
// lead out of the directory. The input is a list of paths and targets.
func FuzzLeaves(f *testing.F) {
	f.Add("a\nb/c\nb/c\n../..\nd\nb/c/..")
	f.Add("a\nb\nb\na")
	f.Add("x/y/z\n../../..\nq\nx/y/z/../q")
	f.Fuzz(func(t *testing.T, input string) {
		words := strings.Split(input, "\n")
		links := map[string]string{}
		for i := 0; i+1 < len(words) && i < 12; i += 2 {
			if source.CheckPath(words[i]) == nil && !strings.Contains(words[i+1], "\x00") && len(words[i]+words[i+1]) < 200 {
				links[words[i]] = words[i+1]
			}
		}
		for p := range links {
			for dir := filepath.Dir(p); dir != "."; dir = filepath.Dir(dir) {
				if _, ok := links[dir]; ok {
					delete(links, p) // below a link: a tree has one entry of a name
				}
			}
		}
		out := source.Leaves(links)
		root := filepath.Join(t.TempDir(), "a", "b")
		if err := os.MkdirAll(root, 0o700); err != nil {
			t.Fatal(err)
		}
		for p, target := range links {
			if slices.Contains(out, p) || target == "" {
				continue
			}
			full := filepath.Join(root, p)
			if os.MkdirAll(filepath.Dir(full), 0o700) == nil {
				_ = os.Symlink(target, full)
			}
		}
		for p := range links {
			where, err := filepath.EvalSymlinks(filepath.Join(root, p))
			if err == nil && where != root && !strings.HasPrefix(where, root+"/") && !slices.Contains(out, p) {
				t.Errorf("%v: %s leads to %s", links, p, where)
			}
		}
	})
}

// TestLinkBomb: many long links through each other take no time.
func TestLinkBomb(t *testing.T) {
	t.Parallel()
	links := map[string]string{}
	for i := range 20000 {
		links[fmt.Sprintf("l%d", i)] = strings.Repeat("a/../", 600) + fmt.Sprintf("l%d", i+1)
	}
	start := time.Now()
	source.Leaves(links)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
