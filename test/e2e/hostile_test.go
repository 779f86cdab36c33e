package e2e_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/githost"
)

// TestHostileAddresses are refused before anything is done, and say why.
func TestHostileAddresses(t *testing.T) {
	for _, address := range []string{
		"--upload-pack=touch /tmp/p", "-u", "ext::sh -c id", "file:///etc", "/etc", "../..", "ssh://-oProxyCommand=id/x",
		"http://169.254.169.254/latest", "http://[fd00:ec2::254]/x", "http://10.0.0.1/x.git", "http://0x0a000001/x.git", "http://192.168.1.1/x",
		"https://user:secret@example.org/x.git", "gh/a/b/--output=x", "gh/a/b/HEAD^{/x}", "gh/a/b/..", "gh/a\nb/c/d", "git/%00/main",
		"dir/%2Fetc", "gh/a/b/" + strings.Repeat("x", 5000),
	} {
		t.Run(strings.ToValidUTF8(address[:min(len(address), 30)], ""), func(t *testing.T) {
			c := the.public()
			l, err := c.Launch(t.Context(), binnacle.LaunchRequest{Repo: address})
			if err == nil {
				l, _ = follow(t, c, l.ID)
				if l.Phase != binnacle.PhaseFailed || l.Error == nil {
					t.Fatalf("was launched: %+v", l)
				}
				err = l.Error
			}
			code := binnacle.CodeOf(err)
			if code != binnacle.CodeInvalid && code != binnacle.CodeForbidden {
				t.Errorf("gives %s: %v", code, err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error repeats a password: %v", err)
			}
		})
	}
}

// TestHostileRepositories each end in a clear error within their limits, and
// the hub serves on.
func TestHostileRepositories(t *testing.T) {
	fortran := map[string]string{
		"requirements.txt": "# the tides\n./tidal\n", "tidal/tidal.f90": "end\n",
		"tidal/pyproject.toml": "[build-system]\nrequires = ['meson-python']\nbuild-backend = 'mesonpy'\n[project]\nname = 'tidal'\nversion = '1'\n",
		"tidal/meson.build":    "project('tidal', 'fortran', version: '1')\nimport('python').find_installation().extension_module('tidal', 'tidal.f90', install: true)\n",
	}
	for name, c := range map[string]struct {
		files   map[string]string
		file    string
		line    int
		says    string
		hint    string
		excerpt string // in a line of it; empty when no tool ran
	}{
		"apt.txt with shell text":           {map[string]string{"apt.txt": "tree\nfoo; id\n"}, "apt.txt", 2, "", "", ""},
		"10 MB requirements.txt":            {map[string]string{"requirements.txt": strings.Repeat("# a long comment line\n", 500_000)}, "requirements.txt", 0, "larger than 1024 KiB", "", ""},
		"postBuild that forks":              {map[string]string{"postBuild": "#!/bin/bash\nf() { f | f & }\nf\nwait\nfor i in $(seq 3000); do sleep 100 & done; wait\nexit 1\n"}, "postBuild", 0, "", "", "fork"},
		"postBuild that takes memory":       {map[string]string{"postBuild": "#!/usr/bin/env python3\nx = []\nwhile True: x.append(bytearray(256 << 20))\n"}, "postBuild", 0, "more memory than it may", "Install fewer packages at once", "Killed"},
		"apt.txt of an old release":         {map[string]string{"apt.txt": "tree\nlibgl1-mesa-glx\n"}, "apt.txt", 2, "no package called libgl1-mesa-glx", "Write libgl1 instead", "libgl1-mesa-glx"},
		"apt.txt that contradicts itself":   {map[string]string{"apt.txt": "tree\npostfix\nexim4-daemon-light\n"}, "apt.txt", 2, "can't be installed together", "exim4-config, exim4-daemon-light, postfix.", "postfix"},
		"postBuild that installs a package": {map[string]string{"postBuild": "#!/bin/bash\nset -e\napt-get install -y jq\n"}, "postBuild", 0, "Only root may install Debian packages", "Name the packages in apt.txt", "Permission denied"},
		"postBuild that writes elsewhere":   {map[string]string{"postBuild": "#!/bin/bash\nset -e\nmkdir /opt/tides\n"}, "postBuild", 0, "/opt/tides may not be written", "Write below $HOME", "Permission denied"},
		"postBuild that needs a library":    {map[string]string{"postBuild": "#!/usr/bin/env python3\nimport ctypes\nctypes.CDLL('libGL.so.1')\n"}, "postBuild", 0, "The library libGL.so.1 is missing", "Write libgl1 into apt.txt.", "OSError: libGL.so.1"},
		"postBuild that fills disk":         {map[string]string{"postBuild": "#!/bin/bash\nfor i in $(seq 20); do fallocate -l 1G big$i; sleep 0.2; done; sleep 60\n"}, "postBuild", 0, "disk of the build is full", "ask the operator of this hub for more room", "wrote more than the 8192 MiB it may"},
		"both binder directories":           {map[string]string{"binder/apt.txt": "tree\n", ".binder/apt.txt": "tree\n"}, "", 0, "binder", "", ""},
		"source that needs gfortran":        {fortran, "requirements.txt", 2, "the tool gfortran is missing", "Write gfortran into apt.txt.", "ERROR: Unknown compiler(s): [['gfortran']"},
		"source that needs pg_config":       {map[string]string{"requirements.txt": "--no-binary psycopg2\npsycopg2==2.9.9\n"}, "requirements.txt", 2, "the tool pg_config is missing", "Write libpq-dev into apt.txt.", "Error: pg_config executable not found."},
	} {
		t.Run(name, func(t *testing.T) {
			repo, err := the.git.Repo(t.Context(), strings.ReplaceAll(name, " ", "-"), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Commit(t.Context(), c.files); err != nil {
				t.Fatal(err)
			}
			l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			if l.Phase != binnacle.PhaseFailed || l.Error == nil {
				t.Fatalf("ended as %s", l.Phase)
			}
			t.Log(logOf(events))
			if l.Error.Code == binnacle.CodeInternal || l.Error.File != c.file || (c.line > 0 && l.Error.Line != c.line) || !strings.Contains(l.Error.Message, c.says) || l.Error.Hint == "" || !strings.Contains(l.Error.Hint, c.hint) {
				t.Errorf("the error is %+v; want one in %s:%d that says %q %q", l.Error, c.file, c.line, c.says, c.hint)
			}
			if text := strings.Join(l.Error.Excerpt, "\n"); !strings.Contains(text, c.excerpt) || (text == "") != (c.excerpt == "") {
				t.Errorf("the excerpt is\n%s\nand has no %q", text, c.excerpt)
			}
			if _, err := the.public().Version(t.Context()); err != nil {
				t.Errorf("the hub does not serve on: %v", err)
			}
		})
	}
}

// TestLimits has a hub with little patience, a postBuild that talks on and on, and
// one that says nothing any more.
func TestLimits(t *testing.T) {
	const begun = "echo begun\n"
	repos := map[string]*githost.Repo{}
	for name, script := range map[string]string{
		"": "true\n", "long": begun + "for i in $(seq 424242); do echo \"still at it, part $i\"; sleep 1; done\n", "silent": begun + "exec sleep 434343\n",
	} {
		repo, err := the.git.Repo(t.Context(), "limits-"+name, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.Commit(t.Context(), map[string]string{"postBuild": "#!/bin/bash\n" + script}); err != nil {
			t.Fatal(err)
		}
		repos[name] = repo
	}
	// The environment is there before the clock runs.
	if l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repos[""].URL, BuildOnly: true}); l.Phase != binnacle.PhaseReady {
		t.Fatalf("ended as %s: %+v\n%s", l.Phase, l.Error, logOf(events))
	}
	restart := func(flags ...string) {
		t.Helper()
		if err := errors.Join(the.stop(), the.start(flags...)); err != nil {
			t.Fatal(err)
		}
	}
	restart("--set", "launch.build_timeout=25s", "--set", "launch.build_silence=12s")
	defer restart()
	long, err := the.operator().Launch(t.Context(), binnacle.LaunchRequest{Repo: repos["long"].URL, BuildOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	silent, err := the.operator().Launch(t.Context(), binnacle.LaunchRequest{Repo: repos["silent"].URL, BuildOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ id, says, hint, excerpt string }{
		{silent.ID, "said nothing for 12 seconds", "waits for something that does not come", "begun"},
		{long.ID, "took longer than 25 seconds", "raise build_timeout", "still at it, part "},
	} {
		l, events := follow(t, the.operator(), c.id)
		e := l.Error
		if e == nil || e.Code != binnacle.CodeTimeout || e.File != "postBuild" || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Message, "It was at the step “postBuild”.") || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("the error is %+v; want one that says %q\n%s", e, c.says, logOf(events))
			continue
		}
		if n := len(e.Excerpt); n == 0 || n > 10 || !strings.HasPrefix(e.Excerpt[n-1], c.excerpt) {
			t.Errorf("the excerpt is %q; want the last words", e.Excerpt)
		}
	}
	if running(t, "sleep 434343") {
		t.Error("the build's step goes on")
	}
}

// TestPostBuildCannotReachThisMachine has a listener on every address of this
// machine and a postBuild that tries them.
func TestPostBuildCannotReachThisMachine(t *testing.T) {
	var cfg net.ListenConfig
	listener, err := cfg.Listen(t.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	repo, err := the.git.Repo(t.Context(), "reaches", "")
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/bash\ngw=$(awk '/nameserver/ {print $2}' /etc/resolv.conf)\nfor a in 127.0.0.1 $gw; do timeout 2 bash -c \"exec 3<>/dev/tcp/$a/" + port + "\" && echo \"reached $a\"; done\ntrue\n"
	if _, err := repo.Commit(t.Context(), map[string]string{"postBuild": script}); err != nil {
		t.Fatal(err)
	}
	l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true})
	if l.Phase != binnacle.PhaseReady {
		t.Errorf("ended as %s: %+v", l.Phase, l.Error)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	<-accepted
	if reached.Load() != 0 || strings.Contains(logOf(events), "\nreached ") {
		t.Errorf("a build reached this machine %d times", reached.Load())
	}
}

// TestFiveHundredClicks is one build, however many ask for it.
func TestFiveHundredClicks(t *testing.T) {
	repo, err := the.git.Repo(t.Context(), "clicked", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{"postBuild": "#!/bin/sh\necho built-once\nsleep 3\n"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const clicks = 50
	ids := make(chan string, clicks)
	for range clicks {
		go func() {
			l, err := the.operator().Launch(ctx, binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true})
			if err != nil {
				t.Error(err)
			}
			ids <- l.ID
		}()
	}
	images := map[string]int{}
	for range clicks {
		l, events := follow(t, the.operator(), <-ids)
		images[l.Image]++
		if n := strings.Count(logOf(events), "\nbuilt-once"); n > 1 {
			t.Errorf("one launch saw %d builds", n)
		}
	}
	if len(images) != 1 {
		t.Errorf("the images are %v; want one", images)
	}
}

// TestSecretsStayOut looks for tokens and passwords in the hub's own log.
func TestSecretsStayOut(t *testing.T) {
	repo := the.example(t, "plain")
	l, s := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL, Env: map[string]string{"PASSWORD": "very-secret-value"}})
	stopAfter(t, l)
	if _, err := s.Get(t.Context(), "api/status?token="+s.Token); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{s.Token, "very-secret-value"} {
		for _, where := range []string{logText(t), processes(t)} {
			if strings.Contains(where, secret) {
				t.Errorf("a secret is in the hub's log or in the process list")
			}
		}
	}
}

func logText(t *testing.T) string {
	t.Helper()
	return read(t, filepath.Join(artefacts(), "hub.log"))
}
