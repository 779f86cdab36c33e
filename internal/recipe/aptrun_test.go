package recipe_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestAptFailures makes apt-get fail in the ways that apt.txt can, with a repository
// of our own. Nothing can be installed: it has lists only, and dpkg is another program.
func TestAptFailures(t *testing.T) {
	m := newMachine(t)
	if _, err := exec.LookPath("apt-get"); err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("apt-get is not installed")
		}
		t.Skip("apt-get is not installed")
	}
	m.debian(t, "harbour 1.0 Depends: pier (>= 2)", "pier 1.0", "tug 1.0 Depends: winch", "ferry 1.0 Conflicts: pier", "tree 2.1", "lugger 1.0 Provides: boat", "yawl 1.0 Provides: boat")
	for name, c := range map[string]struct {
		line int
		text string
		says []string // in message or hint
	}{
		"no package":      {2, "tree\nnosuch\n", []string{"Debian has no package called nosuch"}},
		"a pattern":       {2, "tree\ntr.e\n", []string{"Debian has no package called tr.e"}},
		"no version":      {2, "pier\ntree=99\n", []string{"version asked for of tree is not in Debian", "Leave the version out"}},
		"no release":      {2, "pier\ntree/sid\n", []string{"release asked for of tree", "Leave the release out"}},
		"only a name":     {2, "pier\nwinch\n", []string{"no package called winch any more", "Search for what replaced it"}},
		"a shared name":   {2, "pier\nboat\n", []string{"Several packages of Debian share the name boat", "such as lugger or yawl"}},
		"conflict":        {3, "tree\npier\nferry\n", []string{"can't be installed together", "It said: ferry : Conflicts: pier but 1.0 is to be installed"}},
		"old dependency":  {2, "tree\nharbour\n", []string{"can't be installed together", "It said: harbour : Depends: pier (>= 2)"}},
		"lost dependency": {2, "tree\ntug\n", []string{"can't be installed together", "It said: tug : Depends: winch but it is not installable", "Leave out one of those that it names, or its version: tug."}},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, map[string]string{"apt.txt": c.text})
			s := stepNamed(t, r, "apt: apt.txt")
			out, err := m.step(t, s)
			if err == nil {
				t.Fatal("nothing failed")
			}
			e := recipe.Explain(r, s.Name, strings.Split(out, "\n"))
			if e.File != "apt.txt" || e.Line != c.line || len(e.Excerpt) == 0 {
				t.Errorf("in %s:%d, want line %d; %q", e.File, e.Line, c.line, e.Excerpt)
			}
			for _, want := range c.says {
				if !strings.Contains(e.Message+"\n"+e.Hint, want) {
					t.Errorf("no %q in %q %q", want, e.Message, e.Hint)
				}
			}
		})
	}
}

// debian is a machine without any package for apt-get, with a repository that lists
// some: name, version, and a relation to others.
func (m *machine) debian(t *testing.T, packages ...string) {
	t.Helper()
	dir := filepath.Join(m.dir, "debian")
	var list strings.Builder
	for _, p := range packages {
		fields := append(strings.SplitN(p, " ", 3), "")
		list.WriteString("Package: " + fields[0] + "\nVersion: " + fields[1] + "\nArchitecture: all\nFilename: ./" + fields[0] + ".deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n" + strings.TrimLeft(fields[2]+"\n", "\n") + "\n")
	}
	for name, text := range map[string]string{
		"repo/Packages": list.String(), "status": "", "lists/partial/x": "", "cache/archives/partial/x": "", "etc/preferences.d/x": "",
		"etc/sources.list": "deb [trusted=yes] file:" + dir + "/repo ./\n",
		"apt.conf": `Dir::Etc "` + dir + `/etc"; Dir::State "` + dir + `"; Dir::State::status "` + dir + `/status"; Dir::Cache "` + dir + `/cache"; Dir::Log "` + dir + `/log";
Dir::Bin::dpkg "/bin/false"; APT::Sandbox::User "root";
`,
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	m.env = append(m.env, "APT_CONFIG="+dir+"/apt.conf", "LC_ALL=C.UTF-8")
}
