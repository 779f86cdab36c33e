package e2e_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/nixcache"
	"github.com/binnacle-hub/binnacle/test/targz"
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
	archive, err := targz.Pack("nixos-24.05.1.0123abcd", map[string]string{
		".git-revision": "0123abcd", "default.nix": "{ ... }:\n" + head + `
in {
  inherit knots;
  mkShell = { packages }: derivation {
    inherit system stdenv;
    name = "shell"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; buildInputs = packages;
  };
}`,
	})
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
			"default.nix": `{ pkgs ? import <nixpkgs> { } }:
let
  voyage = derivation {
    name = "voyage-2.0"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/bin:/usr/bin"; inherit (pkgs) knots;
    args = [ "-c" "mkdir -p $out/bin; printf '#!/bin/sh\nexec %s/bin/knots 10\n' $knots > $out/bin/voyage; chmod +x $out/bin/voyage" ];
  };
in pkgs.mkShell { packages = [ voyage ]; }
`,
			"apt.txt": "tree\n",
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
print(subprocess.run(["voyage"], capture_output=True, text=True).stdout.strip(), bool(shutil.which("tree")), open("/usr/local/share/binnacle/lock/nixpkgs.txt").readline().strip())`, "8.7 True nixpkgs 0123abcd")
		if p, by := resolved(t, l, "nix", "knots"), resolved(t, l, "nix", "voyage"); !slices.Contains(p.By, by.ID) || len(by.By) > 0 {
			t.Errorf("%+v is needed by %+v", p, by)
		}
	})
	t.Run("cache", nixFromCache)
	t.Run("failing-nix", func(t *testing.T) {
		repo := the.example(t, "failing-nix")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "default.nix" || l.Error.Line != 5 || !strings.Contains(l.Error.Message, "knotts") || !strings.Contains(l.Error.Hint, "search.nixos.org") || len(l.Error.Excerpt) == 0 {
			t.Errorf("ended as %s with %+v", l.Phase, l.Error)
		}
	})
}

// nixFromCache builds two packages where what they need is there, puts one into the
// hub's cache with a signature that it trusts and the other with a stranger's, and
// asks for each where neither can be built.
func nixFromCache(t *testing.T) {
	repo := func(name, packages, apt string) string {
		t.Helper()
		example := read(t, "../../examples/nix/default.nix")
		head, _, ok := strings.Cut(example, "\n  # The program of this repository.\n")
		if !ok {
			t.Fatal("the example has changed")
		}
		r, err := the.git.Repo(t.Context(), name, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Commit(t.Context(), map[string]string{"apt.txt": apt, "default.nix": head + `
  knots = version: derivation {
    inherit system;
    name = "knots-${version}";
    builder = "/bin/sh";
    PATH = "/bin:/usr/bin";
    args = [ "-c" "tree --version >&2 && mkdir -p $out/bin && printf '#!/bin/sh\necho knots ${version}\n' > $out/bin/knots && chmod +x $out/bin/knots" ];
  };
in
derivation {
  inherit system stdenv;
  name = "shell";
  builder = "/bin/sh";
  args = [ "-c" "echo > $out" ];
  buildInputs = [ ` + packages + ` ];
}
`}); err != nil {
			t.Fatal(err)
		}
		return r.URL
	}
	stranger, err := nixcache.NewKey("stranger-1")
	if err != nil {
		t.Fatal(err)
	}
	l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo("nix-cache-source", `(knots "1.0") (knots "2.0")`, "tree\n")})
	stopAfter(t, l)
	cell(t, server, `
import glob, subprocess
for version, key in ("1.0", "`+the.key.Secret()+`"), ("2.0", "`+stranger.Secret()+`"):
    open("/tmp/key", "w").write(key)
    [path] = glob.glob("/nix/store/*-knots-" + version)
    subprocess.run(["nix", "copy", "--to", "file:///tmp/cache?secret-key=/tmp/key", path], check=True)
subprocess.run(["tar", "-cf", "cache.tar", "-C", "/tmp/cache", "."], check=True)
print("copied")`, "copied")
	archive, err := server.Get(t.Context(), "files/cache.tar")
	if err = errors.Join(err, the.nix.Add(archive)); err != nil {
		t.Fatal(err)
	}

	l, server = ready(t, the.public(), binnacle.LaunchRequest{Repo: repo("nix-cache-ours", `(knots "1.0")`, "")})
	stopAfter(t, l)
	cell(t, server, `import subprocess; print(subprocess.run(["knots"], capture_output=True, text=True).stdout.strip())`, "knots 1.0")
	if asked := strings.Join(the.nix.Asked(), "\n"); !strings.Contains(asked, "/nar/") {
		t.Errorf("the cache was asked for %s", asked)
	}

	l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo("nix-cache-stranger", `(knots "2.0")`, ""), BuildOnly: true})
	if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || !strings.Contains(logOf(events), "not signed by any of the keys") {
		t.Errorf("ended as %s with %+v\n%s", l.Phase, l.Error, logOf(events))
	}
}
