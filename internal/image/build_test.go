package image_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	bknetwork "github.com/moby/buildkit/util/network"
	"github.com/opencontainers/image-spec/identity"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// startBuilder gives a builder whose steps have this machine's network.
func startBuilder(t *testing.T) (*image.Builder, *engine.Engine) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds images")
	}
	dir, err := os.MkdirTemp("/tmp", "bi")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	base := engine.Base{Archive: filepath.Join(os.TempDir(), "binnacle-test-base.tar")} // shared by all tests: it takes half a minute
	e, err := engine.Start(t.Context(), engine.Config{Dir: dir, Base: base, BuildLimits: binnacle.Limits{Memory: 2 << 30, PIDs: 500}, Network: bknetwork.NewHostProvider()}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), removeAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return image.NewBuilder(e.BuildKit(), e.Containerd().ImageService(), e, "test", log), e
}

// removeAll removes a directory of an engine that was just closed. BuildKit
// writes the record of a build a moment after the build, and does not wait for
// that when it is closed.
func removeAll(dir string) error {
	const patience = 10 * time.Second
	deadline := time.After(patience)
	for {
		err := os.RemoveAll(dir)
		if err == nil || !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
		select {
		case <-deadline:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// events collects what a build tells.
type events struct {
	mu  sync.Mutex
	all []binnacle.Event
}

func (e *events) add(ev binnacle.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// steps are the names of the steps that ended, without those from the cache.
func (e *events) steps(cached bool) []string {
	var names []string
	for _, ev := range e.all {
		if ev.Kind == binnacle.EventStep && ev.Cached == cached {
			names = append(names, ev.Step)
		}
	}
	return names
}

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func revision(commit string) binnacle.Revision {
	return binnacle.Revision{
		Spec: binnacle.Spec{Provider: binnacle.GitHub, Repo: "owner/Name", Ref: "main"}, URL: "https://example.org/owner/name", Commit: commit,
	}
}

// look runs f on the image's root file system.
func look(t *testing.T, e *engine.Engine, name string, f func(root string) error) {
	t.Helper()
	ctx := namespaces.WithNamespace(t.Context(), engine.Namespace)
	stored, err := e.Containerd().ImageService().Get(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	diffs, err := client.NewImage(e.Containerd(), stored).RootFS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	snapshots := e.Containerd().SnapshotService(engine.Snapshotter)
	// Without a lease the view is garbage to a collection that runs meanwhile.
	ctx, done, err := e.Containerd().WithLease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := done(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	mounts, err := snapshots.View(ctx, t.Name(), identity.ChainID(diffs).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := snapshots.Remove(context.WithoutCancel(ctx), t.Name()); err != nil {
			t.Error(err)
		}
	}()
	if err := mount.WithTempMount(ctx, mounts, f); err != nil {
		t.Error(err)
	}
}

// TestLock: a step is keyed by what its lock wrote, not by how; branches meet
// in the image.
func TestLock(t *testing.T) {
	b, e := startBuilder(t)
	build := func(commit, lock string) (*events, image.Image) {
		r := recipe.Recipe{Kind: "python", Steps: []recipe.Step{
			{Name: "apt", Stage: recipe.StageSystem, Root: true, Script: "echo apt > /usr/local/share/apt"},
			{
				Name: "wheels", Stage: recipe.StageBinary, Branch: "python", Script: "mkdir /srv/conda/envs/a; cp /run/binnacle/lock/versions /srv/conda/envs/a/; echo w > " + recipe.LockStore + "/w",
				Lock: &recipe.Lock{Name: "versions", Script: lock},
			},
			{Name: "pip", Stage: recipe.StageEnvironment, Branch: "python", Script: "echo pip >> /srv/conda/envs/a/versions"},
			{Name: "r", Stage: recipe.StageEnvironment, Branch: "r", Script: "cp /usr/local/share/apt /srv/rlibs/; echo r > " + recipe.LockStore + "/r"},
		}}
		ev := &events{}
		img, err := b.Build(t.Context(), image.Request{Revision: revision(commit), Recipe: r, Dir: tree(t, map[string]string{"a.ipynb": commit})}, ev.add)
		if err != nil {
			t.Fatal(err)
		}
		return ev, img
	}
	_, img := build("10c1", "date +%s.%N > /tmp/now; echo one > /run/binnacle/out/versions")
	look(t, e, img.Name, func(root string) error {
		for name, want := range map[string]string{
			"srv/conda/envs/a/versions": "one\npip\n", "srv/rlibs/apt": "apt\n", "usr/local/share/apt": "apt\n",
			recipe.LockStore + "/w": "w\n", recipe.LockStore + "/r": "r\n", "home/jovyan/a.ipynb": "10c1",
		} {
			if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		return nil
	})
	files, err := b.Resolved(t.Context(), img.Name)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range files {
		content[f.Name] = f.Content
	}
	if content["w"] != "w\n" || content["r"] != "r\n" || !strings.Contains(content["apt.txt"], "\nbash=") {
		t.Errorf("the image tells its versions as %.300q", content)
	}
	ev, _ := build("10c2", "echo another way; echo one > /run/binnacle/out/versions")
	if ran := ev.steps(false); slices.Contains(ran, "wheels") || slices.Contains(ran, "pip") || !slices.Contains(ran, "versions") {
		t.Errorf("the same versions, worked out in another way, ran %q", ran)
	}
	ev, _ = build("10c3", "echo two > /run/binnacle/out/versions")
	if ran := ev.steps(false); !slices.Contains(ran, "wheels") || !slices.Contains(ran, "pip") || slices.Contains(ran, "apt") {
		t.Errorf("other versions ran %q", ran)
	}
}

// named is a base that an operator chose.
type named string

func (n named) EnsureBase(context.Context, func(string)) (string, error) { return string(n), nil }

// TestChosenBase: the environment of an operator's own base reaches steps and
// sessions, as the images for CUDA need it.
func TestChosenBase(t *testing.T) {
	b, e := startBuilder(t)
	const cuda = "registry.example.org/cuda:13"
	_, err := b.Build(t.Context(), image.Request{
		Revision: revision("cada"), Recipe: recipe.Recipe{Kind: "dockerfile", Dockerfile: "Dockerfile"}, Tag: cuda,
		Dir: tree(t, map[string]string{"Dockerfile": "FROM binnacle.local/base\nENV NVIDIA_VISIBLE_DEVICES=all PATH=/usr/local/cuda/bin:/usr/bin:/bin LANG=C\n"}),
	}, func(binnacle.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	store := e.Containerd().ImageService()
	img, err := image.NewBuilder(e.BuildKit(), store, named(cuda), "test", slog.New(slog.DiscardHandler)).Build(t.Context(), image.Request{
		Revision: revision("cadb"), Dir: tree(t, nil), Recipe: recipe.Recipe{Kind: "python", Env: map[string]string{"PATH": "/srv/npm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Steps: []recipe.Step{
			{Name: "see", Stage: recipe.StageEnvironment, Script: "echo $NVIDIA_VISIBLE_DEVICES $PATH $LANG > /srv/conda/see"},
		}},
	}, func(binnacle.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	want := "all /srv/npm/bin:/usr/local/cuda/bin:/usr/bin:/bin en_US.UTF-8\n"
	look(t, e, img.Name, func(root string) error {
		if got, err := os.ReadFile(filepath.Join(root, "srv/conda/see")); err != nil || string(got) != want {
			t.Errorf("a step saw %q, %v; want %q", got, err, want)
		}
		return nil
	})
	ctx := namespaces.WithNamespace(t.Context(), engine.Namespace)
	stored, err := store.Get(ctx, img.Name)
	if err != nil {
		t.Fatal(err)
	}
	config, err := client.NewImage(e.Containerd(), stored).Spec(ctx)
	if err != nil || !slices.Contains(config.Config.Env, "NVIDIA_VISIBLE_DEVICES=all") {
		t.Errorf("sessions have %q, %v", config.Config.Env, err)
	}
	if _, err := image.NewBuilder(e.BuildKit(), store, named("127.0.0.1:1/none:1"), "test", slog.New(slog.DiscardHandler)).Build(t.Context(), image.Request{
		Revision: revision("cadc"), Dir: tree(t, nil), Recipe: recipe.Recipe{Kind: "python"},
	}, func(binnacle.Event) {}); binnacle.CodeOf(err) != binnacle.CodeUnavailable || !strings.Contains(err.Error(), "base image") {
		t.Errorf("a base that is not there: %v", err)
	}
}

func TestBuild(t *testing.T) {
	b, e := startBuilder(t)
	r := recipe.Recipe{
		Kind: "python",
		Env:  map[string]string{"FROM_RECIPE": "yes"},
		Steps: []recipe.Step{
			{
				Name: "environment", Stage: recipe.StageEnvironment, Inputs: []recipe.Input{{Name: "sub/what.txt", Content: []byte("six\n")}},
				Script: `test "$(id -u)" = 1000; test "$HOME" = /home/jovyan; mkdir -p /srv/conda/envs/notebook; cp /run/binnacle/in/sub/what.txt /srv/conda/envs/notebook/; echo n >> /run/binnacle/cache/c/n; wc -l < /run/binnacle/cache/c/n`,
				Caches: []recipe.Cache{{ID: "test", Path: "/run/binnacle/cache/c"}},
			},
			{Name: "apt", Stage: recipe.StageSystem, Root: true, Script: `test "$(id -u)" = 0; echo one > /usr/local/share/apt`},
			{Name: "post", Stage: recipe.StagePostBuild, Script: `test -f notebook.ipynb; test "$PWD" = /home/jovyan; echo done > built.txt`},
		},
	}
	dir := tree(t, map[string]string{"notebook.ipynb": "one", "data/large.bin": strings.Repeat("x", 2<<20), "ignored.log": "x"})
	r.Ignore = []string{"*.log"}
	var first events
	img, err := b.Build(t.Context(), image.Request{Revision: revision("1111"), Recipe: r, Dir: dir}, first.add)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"environment", "apt", "post"} {
		if !slices.Contains(first.steps(false), want) {
			t.Errorf("step %q was not told of: %q", want, first.steps(false))
		}
	}
	look(t, e, img.Name, func(root string) error {
		for path, want := range map[string]string{
			"home/jovyan/notebook.ipynb": "one", "home/jovyan/built.txt": "done\n", "usr/local/share/apt": "one\n", "srv/conda/envs/notebook/what.txt": "six\n",
		} {
			if have, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(have) != want {
				t.Errorf("%s holds %q, %v; want %q", path, have, err, want)
			}
		}
		for _, path := range []string{"home/jovyan/ignored.log", "run/binnacle/in/sub", "run/binnacle/cache/c", "run/binnacle/ca.crt"} {
			if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
				t.Errorf("%s is in the image", path)
			}
		}
		if info, err := os.Stat(filepath.Join(root, "home/jovyan/data/large.bin")); err != nil || info.Size() != 2<<20 {
			t.Errorf("the large file: %v, %v", info, err)
		}
		return nil
	})
	if have, ok, err := b.Find(t.Context(), revision("1111"), ""); err != nil || !ok || have.Digest != img.Digest {
		t.Errorf("Find = %v, %v, %v; want %v", have, ok, err, img)
	}

	t.Run("again", func(t *testing.T) {
		var ev events
		again, err := b.Build(t.Context(), image.Request{Revision: revision("1111"), Recipe: r, Dir: dir}, ev.add)
		if err != nil || again.Digest != img.Digest {
			t.Errorf("the same again: %v, %v; want %v", again, err, img)
		}
	})
	t.Run("notebook only", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(dir, "notebook.ipynb"), []byte("two"), 0o644); err != nil {
			t.Fatal(err)
		}
		plain := r
		plain.Steps = r.Steps[:2]
		var ev events
		if _, err := b.Build(t.Context(), image.Request{Revision: revision("2222"), Recipe: plain, Dir: dir}, ev.add); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"environment", "apt"} {
			if slices.Contains(ev.steps(false), name) {
				t.Errorf("step %q ran again for a changed notebook", name)
			}
		}
	})
	t.Run("another of the same size", func(t *testing.T) {
		// BuildKit tells files apart by name, size and time.
		for i, text := range []string{"ten", "six"} {
			for name, r := range map[string]recipe.Recipe{"recipe": {Kind: "python"}, "dockerfile": {Kind: "dockerfile", Dockerfile: "Dockerfile"}} {
				dir := tree(t, map[string]string{"a.txt": text, "Dockerfile": "FROM scratch\nCOPY a.txt /home/jovyan/a.txt\n"})
				if err := os.Chtimes(filepath.Join(dir, "a.txt"), time.Time{}, time.Unix(1e9, 0)); err != nil {
					t.Fatal(err)
				}
				rev := revision("66" + strconv.Itoa(i))
				rev.Spec.Repo += "/" + name + text // forks
				img, err := b.Build(t.Context(), image.Request{Revision: rev, Recipe: r, Dir: dir}, func(binnacle.Event) {})
				if err != nil {
					t.Fatal(err)
				}
				look(t, e, img.Name, func(root string) error {
					if got, err := os.ReadFile(filepath.Join(root, "home/jovyan/a.txt")); err != nil || string(got) != text {
						t.Errorf("%s: the image of %q has %q, %v", name, text, got, err)
					}
					return nil
				})
			}
		}
	})
	t.Run("failure", func(t *testing.T) {
		bad := r
		bad.Steps = append(slices.Clone(r.Steps), recipe.Step{Name: "fails", Stage: recipe.StagePostBuild, Script: "echo the reason; false"})
		_, err := b.Build(t.Context(), image.Request{Revision: revision("3333"), Recipe: bad, Dir: dir}, func(binnacle.Event) {})
		if binnacle.CodeOf(err) != binnacle.CodeBuildFailed {
			t.Errorf("a failing step gives %v", err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		slow := r
		slow.Steps = []recipe.Step{{Name: "slow", Stage: recipe.StageEnvironment, Script: "echo started; sleep 600"}}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		_, err := b.Build(ctx, image.Request{Revision: revision("4444"), Recipe: slow, Dir: dir}, func(ev binnacle.Event) {
			if ev.Message == "started" {
				cancel(why)
			}
		})
		if !errors.Is(err, why) {
			t.Errorf("a canceled build gives %v", err)
		}
	})
}

func TestBuildDockerfile(t *testing.T) {
	b, e := startBuilder(t)
	good := "# syntax=attacker.example.org/frontend\nFROM binnacle.local/base\nARG NB_USER\nRUN echo $NB_USER > /who\nCOPY hello /hello\n"
	for name, c := range map[string]struct {
		text string
		line int // 0: it builds
	}{
		"good":          {good, 0},
		"failing step":  {"FROM binnacle.local/base\nRUN true\nRUN echo no; false\n", 3},
		"host network":  {"FROM binnacle.local/base\nRUN --network=host true\n", 2},
		"insecure":      {"FROM binnacle.local/base\nRUN --security=insecure true\n", 2},
		"not a command": {"FROM binnacle.local/base\nRAN true\n", 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"binder/Dockerfile": c.text, "hello": "hi"})
			img, err := b.Build(t.Context(), image.Request{
				Revision: revision("d0" + strings.ReplaceAll(name, " ", "")), Recipe: recipe.Recipe{Kind: "dockerfile", Dockerfile: "binder/Dockerfile"}, Dir: dir,
			}, func(binnacle.Event) {})
			if c.line == 0 {
				if err != nil {
					t.Fatal(err)
				}
				look(t, e, img.Name, func(root string) error {
					if who, err := os.ReadFile(filepath.Join(root, "who")); err != nil || string(who) != "jovyan\n" {
						t.Errorf("NB_USER was %q, %v", who, err)
					}
					return nil
				})
				return
			}
			be, ok := errors.AsType[*binnacle.Error](err)
			if !ok || be.Code != binnacle.CodeBuildFailed || be.File != "binder/Dockerfile" || be.Line != c.line {
				t.Errorf("got %+v, want build_failed at binder/Dockerfile:%d", be, c.line)
			}
			if be != nil && (be.Hint == "" || name == "failing step" && (!strings.Contains(be.Message, "Its last words were: no") || strings.Join(be.Excerpt, "\n") != "no")) {
				t.Errorf("it says %q %q %q", be.Message, be.Hint, be.Excerpt)
			}
			t.Log(err)
		})
	}
}

func TestOutputs(t *testing.T) {
	b, _ := startBuilder(t)
	dir := tree(t, map[string]string{"a": "a"})
	out := filepath.Join(t.TempDir(), "image.tar")
	req := image.Request{Revision: revision("5555"), Recipe: recipe.Recipe{Kind: "python"}, Dir: dir, Output: out, Tag: "registry.example.org/a:b"}
	if _, err := b.Build(t.Context(), req, func(binnacle.Event) {}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(out); err != nil || info.Size() == 0 {
		t.Errorf("the archive: %v, %v", info, err)
	}
}

func TestPrune(t *testing.T) {
	b, e := startBuilder(t)
	ctx := namespaces.WithNamespace(t.Context(), engine.Namespace)
	names := map[string]string{}
	for _, commit := range []string{"aaaa", "bbbb"} {
		dir := tree(t, map[string]string{"data": strings.Repeat(commit, 1<<20)})
		img, err := b.Build(t.Context(), image.Request{Revision: revision(commit), Recipe: recipe.Recipe{Kind: "python"}, Dir: dir}, func(binnacle.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		names[commit] = img.Name
	}
	keep := engine.Keep{InUse: func(name string) bool { return name == names["aaaa"] }, LastUse: func(string) time.Time { return time.Time{} }}
	freed, err := e.Prune(ctx, 0, keep)
	if err != nil || freed < 4<<20 {
		t.Errorf("freed %d bytes, %v", freed, err)
	}
	for commit, want := range map[string]bool{"aaaa": true, "bbbb": false} {
		if _, ok, err := b.Find(ctx, revision(commit), ""); err != nil || ok != want {
			t.Errorf("image of %s is there: %v, %v; want %v", commit, ok, err, want)
		}
	}
	look(t, e, names["aaaa"], func(root string) error {
		_, err := os.Stat(filepath.Join(root, "home/jovyan/data"))
		return err
	})
}
