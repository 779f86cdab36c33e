package source_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// module records a submodule the way git does, without asking its address.
func (r *repo) module(path, url, commit string) {
	r.t.Helper()
	r.git("config", "-f", ".gitmodules", "submodule."+path+".path", path)
	r.git("config", "-f", ".gitmodules", "submodule."+path+".url", url)
	r.git("add", ".gitmodules")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
}

func TestSubmodules(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	leaf := srv.repo(t, "team/leaf.git")
	old := leaf.write("leaf", "old").commit("old")
	leaf.write("leaf", "new").commit("new")
	middle := srv.repo(t, "team/middle.git")
	middle.write("middle", "m").git("add", "-A")
	middle.module("vendor/leaf", "../leaf.git", old)
	middle.git("commit", "-q", "-m", "one")
	top := srv.repo(t, "top")
	top.write("top", "t").git("add", "-A")
	top.module("lib/middle", srv.URL+"/team/middle.git", middle.git("rev-parse", "HEAD"))
	top.git("commit", "-q", "-m", "one")

	got, _, err := fetch(t, newSource(t, nil), srv.spec("top", "main"), source.Policy{})
	for _, name := range []string{".gitmodules", "lib/middle/.gitmodules"} {
		delete(got, name)
	}
	want := map[string]string{"top": "t", "lib/middle/middle": "m", "lib/middle/vendor/leaf/leaf": "old"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestSubmoduleOfItself ends at the depth limit.
func TestSubmoduleOfItself(t *testing.T) {
	t.Parallel()
	slow(t)
	srv := serve(t, nil)
	commit := srv.repo(t, "r0").write("a", "0").commit("zero")
	for i := 1; i <= 6; i++ {
		r := srv.repo(t, "r"+string(rune('0'+i)))
		r.module("sub", "../r"+string(rune('0'+i-1)), commit)
		r.git("commit", "-q", "-m", "one")
		commit = r.git("rev-parse", "HEAD")
	}
	s := newSource(t, nil)
	if got, _, err := fetch(t, s, srv.spec("r4", "main"), source.Policy{}); err != nil || got["sub/sub/sub/sub/a"] != "0" {
		t.Errorf("four deep: %v %v", got, err)
	}
	if _, _, err := fetch(t, s, srv.spec("r6", "main"), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeBuildFailed {
		t.Errorf("six deep: %v", err)
	}
}

// TestSubmoduleAway: the error says which submodule, where it is declared, what is
// wrong and what to do.
func TestSubmoduleAway(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	there := srv.repo(t, "there.git")
	commit := there.write("a", "1").commit("one")
	for name, c := range map[string]struct {
		address, commit string
		code            binnacle.Code
		message, hint   string
	}{
		"no repository": {srv.URL + "/gone.git", commit, binnacle.CodeBuildFailed, `The submodule "lib/charts" cannot be fetched: `, "has to be made public"},
		"no commit":     {srv.URL + "/there.git", strings.Repeat("7", 40), binnacle.CodeBuildFailed, `The submodule "lib/charts" cannot be fetched: `, "forced push"},
		"no server":     {"http://127.0.0.1:9/x.git", commit, binnacle.CodeUnavailable, `The submodule "lib/charts" cannot be fetched: `, "Try again"},
		"ssh":           {"git@127.0.0.1:team/x.git", commit, binnacle.CodeBuildFailed, `The submodule "lib/charts" cannot be fetched: `, "https://"},
	} {
		r := srv.repo(t, strings.ReplaceAll(name, " ", "-"))
		r.write("a", "1").git("add", "-A")
		r.module("lib/charts", c.address, c.commit)
		r.git("commit", "-q", "-m", "one")
		_, _, err := fetch(t, newSource(t, nil), srv.spec(strings.ReplaceAll(name, " ", "-"), "main"), source.Policy{})
		e := binnacle.Public(err)
		if e.Code != c.code || e.File != ".gitmodules" || e.Line != 2 || !strings.Contains(e.Message, c.message) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %s %s:%d %q %q", name, e.Code, e.File, e.Line, e.Message, e.Hint)
		}
	}
}

// TestHostileSubmodules: each ends with an error that names it, and neither a
// connection nor a command comes of it (A5).
func TestHostileSubmodules(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	secret := newRepo(t, filepath.Join(t.TempDir(), "secret"))
	commit := secret.write("secret", "s").commit("one")
	trap := listen(t, "127.0.0.2:0")
	marker := filepath.Join(t.TempDir(), "marker")
	allow := newSource(t, func(c *source.Config) {
		c.Allow = nil
		c.Allow = append(c.Allow, loopback[0])
		c.Deny = append(c.Deny, netipPrefix("127.0.0.2/32"))
	})
	_, port, err := net.SplitHostPort(trap.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{
		"file": "file://" + secret.dir, "path": secret.dir, "relative": "../../../../../../../.." + secret.dir, "option": "--upload-pack=touch " + marker,
		"ext": "ext::touch " + marker, "ssh": "ssh://-oProxyCommand=touch " + marker + "/x", "metadata": "http://169.254.169.254/latest",
		"loopback": "http://" + trap.Addr().String() + "/x", "decimal": "http://2130706434:" + port + "/x", "mapped": "http://[::ffff:127.0.0.2]:" + port + "/x",
		"git": "git://" + trap.Addr().String() + "/x", "scp": "git@127.0.0.2:x", "credentials": "https://me:hunter2@git.example.org/x", "newline": "https://git.example.org/\nx",
	} {
		r := srv.repo(t, "hostile-"+name)
		r.module("sub", address, commit)
		r.git("commit", "-q", "-m", "one")
		_, l, err := fetch(t, allow, srv.spec("hostile-"+name, "main"), source.Policy{})
		if e := binnacle.Public(err); e.Code != binnacle.CodeBuildFailed || e.File != ".gitmodules" || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error()+strings.Join(l.list, ""), "hunter2") {
			t.Errorf("%s: the error holds the password: %v", name, err)
		}
	}
	// A trusted caller launches what others wrote: files stay closed to it.
	_, _, err = fetch(t, allow, srv.spec("hostile-file", "main"), source.Policy{Local: true})
	if binnacle.CodeOf(err) != binnacle.CodeBuildFailed {
		t.Errorf("file for a trusted caller: %v", err)
	}
	if n := trap.connections(); n > 0 {
		t.Errorf("%d connections to an address that is closed", n)
	}
	if m, _ := filepath.Glob(marker); len(m) > 0 {
		t.Error("a command ran")
	}
}

// TestModulePath: a path that leaves, or that goes through a link, is refused.
func TestModulePath(t *testing.T) {
	t.Parallel()
	for _, out := range []string{
		"submodule.a.path\n../x\x00submodule.a.url\nhttps://git.example.org/x\x00", "submodule.a.path\n/x\x00", "submodule.a.path\n-x\x00", "submodule.a.path\n.git/x\x00",
		"submodule.a.path\na/.git/hooks\x00", "submodule.a.path\nx\x00submodule.a.url\n--upload-pack=id\x00", "submodule.a.path\na\nb\x00", "submodule.a.url\na\rb\x00",
	} {
		if list, err := source.ParseModules(out); err == nil {
			t.Errorf("ParseModules(%q) = %v, want an error", out, list)
		}
	}
	got, err := source.ParseModules("core.x\ny\x00submodule.a.b.path\nx/y/\x00submodule.a.b.url\n../z\x00submodule.a.b.update\n!id\x00submodule.c.path\nd\x00")
	if diff := cmp.Diff([]source.Module{{Path: "x/y", URL: "../z"}}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestModuleRemote(t *testing.T) {
	t.Parallel()
	const parent = "https://git.example.org/a/b/top.git"
	for in, want := range map[string]string{
		"../x.git": "https://git.example.org/a/b/x.git", "./x": "https://git.example.org/a/b/top.git/x", "../../x": "https://git.example.org/a/x",
		"../../../../../x": "https://git.example.org/x", "https://h.example.org/x": "https://h.example.org/x", "git@h.example.org:x": "ssh://git@h.example.org/x",
		"../../../..": "", "file:///x": "", "/x": "", "x": "", "../-x": "https://git.example.org/a/b/-x", "--x": "", "": "",
	} {
		got, err := source.ModuleRemote(parent, in)
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q = %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzParseModules(f *testing.F) {
	f.Add("submodule.a.path\nx\x00submodule.a.url\n../y\x00")
	f.Add("submodule..path\nx\x00submodule..url\n\x00")
	f.Fuzz(func(t *testing.T, out string) {
		list, err := source.ParseModules(out)
		for _, m := range list {
			if err != nil || source.CheckPath(m.Path) != nil || strings.HasPrefix(m.URL, "-") || m.URL == "" {
				t.Errorf("%+v, %v", m, err)
			}
		}
	})
}

func FuzzParseRefs(f *testing.F) {
	f.Add([]byte("ref: refs/heads/main\tHEAD\n" + sha + "\tHEAD\n" + sha + "\trefs/tags/v1\n" + sha + "\trefs/tags/v1^{}\n"))
	f.Add([]byte("ref: \t\n\n\t\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		commits, head, err := source.ParseRefs(out)
		if err != nil {
			return
		}
		for name, commit := range commits {
			if source.CheckRef(name) != nil || len(commit) != 40 && len(commit) != 64 {
				t.Errorf("%q %q", name, commit)
			}
		}
		if head != "" && source.CheckRef(head) != nil {
			t.Errorf("head %q", head)
		}
	})
}
