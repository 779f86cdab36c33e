package e2e_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/juliaserver"
)

// smallNixpkgs is an archive of nixpkgs with one package: what the example has.
func smallNixpkgs(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../../examples/nix/default.nix")
	if err != nil {
		t.Error(err)
	}
	head, _, ok := strings.Cut(string(b), "\nin\n")
	if !ok {
		t.Error("the example has changed")
	}
	archive, err := juliaserver.Tarball("nixos-24.05.1.0123abcd", map[string]string{
		".git-revision": "0123abcd", "default.nix": "{ ... }:\n" + head + `
in {
  inherit knots;
  mkShell = { packages }: derivation {
    inherit system stdenv;
    name = "shell"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; buildInputs = packages;
  };
}`,
	}, time.Unix(0, 0))
	if err != nil {
		t.Error(err)
	}
	return archive
}

// TestNix launches the examples that need no nixpkgs, which has a host of its own.
func TestNix(t *testing.T) {
	for _, name := range []string{"nix", "nix-flake"} {
		t.Run(name, func(t *testing.T) {
			repo := the.example(t, name)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
				t.Error(err)
			}
			cell(t, server, `print(open("/usr/local/share/binnacle/lock/nix.txt").read().count("/nix/store/") > 1)`, "True")
		})
	}
	t.Run("cache", cachedNix)
	t.Run("nixpkgs", func(t *testing.T) {
		channel := make(chan string, 2)
		the.late.mux.HandleFunc("/channels/{name}/nixexprs.tar.xz", func(w http.ResponseWriter, req *http.Request) {
			select {
			case channel <- req.PathValue("name"):
			default: // asked again
			}
			_, _ = w.Write(smallNixpkgs(t))
		})
		dir := t.TempDir()
		for name, text := range map[string]string{
			"default.nix": "{ pkgs ? import <nixpkgs> { } }:\npkgs.mkShell { packages = [ pkgs.knots ]; }\n",
			"apt.txt":     "tree\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		repo, err := the.git.Repo(t.Context(), "nixpkgs", dir)
		if err != nil {
			t.Fatal(err)
		}
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		if name := <-channel; !regexp.MustCompile(`^nixos-\d\d\.(05|11)$`).MatchString(name) {
			t.Errorf("took the channel %s", name)
		}
		cell(t, server, `
import shutil, subprocess
print(subprocess.run(["knots", "10"], capture_output=True, text=True).stdout.strip(), bool(shutil.which("tree")), open("/usr/local/share/binnacle/lock/nixpkgs.txt").readline().strip())`, "8.7 True nixpkgs 0123abcd")
	})
	t.Run("failing-nix", func(t *testing.T) {
		repo := the.example(t, "failing-nix")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "default.nix" || l.Error.Line != 5 || !strings.Contains(l.Error.Message, "knotts") || !strings.Contains(l.Error.Hint, "search.nixos.org") || len(l.Error.Excerpt) == 0 {
			t.Errorf("ended as %s with %+v", l.Phase, l.Error)
		}
	})
}

// cachedNix builds a package in a session, where a file lets it, and puts it into a
// cache. A second repository, whose build has no such file, gets it from there.
func cachedNix(t *testing.T) {
	const with = `  harbour = derivation {
    inherit system;
    name = "harbour-6";
    builder = "/bin/sh";
    PATH = "/bin:/usr/bin";
    args = [ "-c" "test -e /home/jovyan/allowed && mkdir -p $out/bin && printf '#!/bin/sh\necho six fathoms\n' > $out/bin/harbour && chmod +x $out/bin/harbour" ];
  };
in
`
	example, err := os.ReadFile("../../examples/nix/default.nix")
	if err != nil {
		t.Fatal(err)
	}
	head, shell, ok := strings.Cut(string(example), "in\nderivation")
	if !ok {
		t.Fatal("the example has changed")
	}
	repo := the.exampleWith(t, "nix", map[string]string{"harbour.nix": head + with + "harbour\n"})
	l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
	stopAfter(t, l)
	cell(t, server, `
import os, subprocess
os.chdir("/home/jovyan")
open("allowed", "w").close()
open("/tmp/key", "w").write("`+nixKey(nixSecret())+`")
def run(*args): return subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip()
path = run("nix-build", "--no-out-link", "harbour.nix")
run("nix", "copy", "--to", "file:///tmp/cache?secret-key=/tmp/key", path)
run("tar", "-cf", "cache.tar", "-C", "/tmp/cache", ".")
print(os.path.basename(path)[33:])`, "harbour-6")
	cache, err := server.Get(t.Context(), "files/cache.tar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	untar := exec.CommandContext(t.Context(), "tar", "-xf", "-", "-C", dir)
	untar.Stdin = bytes.NewReader(cache)
	if out, err := untar.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	the.late.mux.Handle("/nix-cache/", http.StripPrefix("/nix-cache", http.FileServer(http.Dir(dir))))
	t.Run("second", func(t *testing.T) {
		repo := the.exampleWith(t, "nix", map[string]string{"default.nix": head + with + "derivation" + strings.Replace(shell, "[ knots ]", "[ knots harbour ]", 1)})
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		cell(t, server, `import subprocess; print(subprocess.run(["harbour"], capture_output=True, text=True).stdout.strip())`, "six fathoms")
	})
}
