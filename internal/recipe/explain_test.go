package recipe_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestExplain has the words of the real tools.
func TestExplain(t *testing.T) {
	r := read(t, map[string]string{
		"requirements.txt": "# c\nhumanize==4.12.3\nnumpy<1.20\nthis-package-does-not-exist-anywhere\npandas==2.2.3\nrequests[socks]==2.99\npycrypto==2.6.1\njupyterlab>=99\n",
		"apt.txt":          "tree=99\nnonexistent-pkg-foo\n",
		"postBuild":        "#!/bin/bash\nset -e\nfoo\n",
	})
	old := read(t, map[string]string{"runtime.txt": "python-3.10"})
	conda := read(t, map[string]string{"environment.yml": "dependencies:\n- numpy=99\n- nosuch\n"})
	mail := read(t, map[string]string{"apt.txt": "tree\npostfix\nexim4-daemon-light\n"})
	const pip, apt = "pip: requirements.txt", "apt: apt.txt"
	for name, c := range map[string]struct {
		recipe recipe.Recipe
		step   string
		log    string
		file   string
		line   int
		says   []string // in message or hint
		code   binnacle.Code
	}{
		"no package": {
			r, pip, "Using Python 3.13.0 environment at: env313\n\x1b[31merror\x1b[39m: No solution found when resolving dependencies\n  cause: Because this-package-does-not-exist-anywhere was not found in the package registry and you require this-package-does-not-exist-anywhere, we can conclude that your requirements are unsatisfiable.\n",
			"requirements.txt", 4,
			[]string{"no package called this-package-does-not-exist-anywhere", "spelling", "unsatisfiable."},
			"",
		},
		"broken over lines": {
			r, pip, "  × No solution found when resolving dependencies:\n  ╰─▶ Because this-package-does-not-exist-anywhere was not found in the\n      package registry and you require\n      this-package-does-not-exist-anywhere, we can conclude that your\n      requirements are unsatisfiable.\n",
			"requirements.txt", 4,
			[]string{"no package called this-package", "requirements are unsatisfiable."},
			"",
		},
		"no version":   {r, pip, "error: No solution found when resolving dependencies\n  cause: Because there is no version of requests[socks]==2.99 and you require requests[socks]==2.99, we can conclude that your requirements are unsatisfiable.", "requirements.txt", 6, []string{"version asked for of requests"}, ""},
		"too new":      {r, pip, "error: No solution found when resolving dependencies\n  cause: Because only jupyterlab<=4.7.0a2 is available and you require jupyterlab>=99, we can conclude that your requirements are unsatisfiable.", "requirements.txt", 8, []string{"No version of jupyterlab"}, ""},
		"conflict":     {r, pip, "error: No solution found when resolving dependencies\n  cause: Because pandas==2.2.3 depends on numpy>=1.26.0 and you require pandas==2.2.3, we can conclude that you require numpy>=1.26.0.\n         And because you require numpy<1.20, we can conclude that your requirements are unsatisfiable.", "requirements.txt", 5, []string{"together", "numpy<1.20"}, ""},
		"twice":        {r, pip, "error: No solution found when resolving dependencies\n  cause: Because you require humanize==4.12.3 and humanize==4.11, we can conclude that your requirements are unsatisfiable.", "requirements.txt", 2, []string{"exclude each other"}, ""},
		"no wheel":     {r, pip, "error: No solution found when resolving dependencies\n  cause: Because numpy==1.10.0 has no wheels with a matching Python ABI tag (e.g., `cp313`) and you require numpy==1.10.0, we can conclude that your requirements are unsatisfiable.\n\nhint: You require CPython 3.13 (`cp313`), but we only found wheels", "requirements.txt", 3, []string{"no build for this version of Python", "runtime.txt"}, ""},
		"needs Python": {r, pip, "error: No solution found when resolving dependencies\n  cause: Because the requested Python version (>=3.9) does not satisfy Python>=3.12 and pandas==2.2.3 depends on Python>=3.12, we can conclude", "requirements.txt", 5, []string{"another version of Python"}, ""},
		"header":       {r, pip, "error: Failed to build `pycrypto==2.6.1`\n  cause: The build backend returned an error\n    src/_fastmath.c:33:10: fatal error: longintrepr.h: No such file or directory\n   33 | #include <longintrepr.h>\n  compilation terminated.\nhint: This error likely indicates", "requirements.txt", 7, []string{"longintrepr.h", "apt.txt"}, ""},
		"compiler":     {r, pip, "error: Failed to build `pycrypto==2.6.1`\n  error: command 'gcc' failed: No such file or directory\n", "requirements.txt", 7, []string{"gcc", "build-essential"}, ""},
		"away":         {r, pip, "error: Request failed after 3 retries in 6.7s\n  cause: Failed to fetch: https://example.org/simple/humanize/\n  cause: tcp connect error\n  cause: Connection refused (os error 111)", "requirements.txt", 2, []string{"could not be reached"}, binnacle.CodeUnavailable},
		"git":          {r, pip, "error: Git operation failed\n  cause: failed to clone into: /tmp/x\n  fatal: unable to access 'https://example.org/x.git/': Could not resolve host: example.org", "requirements.txt", 0, []string{"git repository"}, ""},
		"no Python":    {old, "Python and Jupyter", "error: Request failed after 3 retries in 8.0s\n  cause: error sending request for url (https://example.org/python-build-standalone/releases/cpython-3.10.tar.gz)\n  cause: client error (Connect)\n  cause: dns error", "runtime.txt", 1, []string{"Python that is asked for could not be downloaded"}, binnacle.CodeUnavailable},
		"memory":       {r, pip, "Building numpy\nKilled: out of memory (exit code 137)", "requirements.txt", 0, []string{"more memory"}, ""},
		"disk":         {r, pip, "error: failed to copy file: No space left on device (os error 28)", "requirements.txt", 0, []string{"disk"}, ""},
		"apt name":     {r, apt, "Reading package lists...\nE: Unable to locate package nonexistent-pkg-foo", "apt.txt", 2, []string{"no package called nonexistent-pkg-foo"}, ""},
		"apt version":  {r, apt, "E: Version '99' for 'tree' was not found", "apt.txt", 1, []string{"version asked for of tree"}, ""},
		"apt away":     {r, apt, "Err:1 http://deb.example.org trixie InRelease\n  Temporary failure resolving 'deb.example.org'\nE: Unable to locate package tree", "apt.txt", 1, []string{"could not be reached"}, binnacle.CodeUnavailable},
		"command":      {r, "postBuild", "hello\n./postBuild: line 3: foo: command not found", "postBuild", 3, []string{"postBuild failed.", "command foo"}, ""},
		"script":       {r, "postBuild", "about to fail\ncat: /no/such/file: No such file or directory", "postBuild", 0, []string{"postBuild failed.", "It said: cat: /no/such/file"}, ""},
		"Python":       {r, "postBuild", "Traceback (most recent call last):\n  File \"x\", line 1, in <module>\nModuleNotFoundError: No module named 'scipy'", "postBuild", 0, []string{"module scipy"}, ""},
		"no cgroup":    {r, "postBuild", "runc run failed: unable to start container process: unable to apply cgroup configuration: mkdir /sys/fs/cgroup/cpuset/x: permission denied", "postBuild", 0, []string{"not the repository's fault", "operator"}, binnacle.CodeUnavailable},
		"denied":       {r, "postBuild", "mkdir: cannot create directory '/opt/x': Permission denied", "postBuild", 0, []string{"not as root"}, ""},
		"own network":  {r, "postBuild", "curl: (6) Could not resolve host: data.example.org", "postBuild", 0, []string{"Could not resolve host"}, ""},
		"carriage":     {r, "postBuild", "/usr/bin/env: 'bash\\r': No such file or directory\n./postBuild: bad interpreter", "postBuild", 0, []string{"Windows"}, ""},
		"parted":       {r, "postBuild", "get.sh: 1: date\n: not found", "postBuild", 0, []string{"Windows line ends", "dos2unix get.sh"}, ""},
		"old bash":     {r, "postBuild", "./postBuild: ./get.sh: /usr/bin/python2: bad interpreter: No such file or directory", "postBuild", 0, []string{"./get.sh names in its first line"}, ""},
		"Python 2":     {r, "postBuild", "env: ‘python2’: No such file or directory", "postBuild", 0, []string{"program python2", "environment.yml"}, ""},
		"no program":   {r, "postBuild", "./postBuild: 3: ./get.sh: Permission denied", "postBuild", 0, []string{"./get.sh is not executable"}, ""},
		"unmet":        {mail, apt, "The following packages have unmet dependencies:\n exim4-config : Conflicts: postfix but 3.10.13-0+deb13u1 is to be installed\n exim4-daemon-light : Conflicts: mail-transport-agent\n postfix : Conflicts: mail-transport-agent\nE: Unable to correct problems, you have held broken packages.\nE: The following information from --solver 3.0 may provide additional context:\n   Unable to satisfy dependencies. Reached two conflicting decisions:\n   1. postfix:amd64 is not selected for install because:\n      1. exim4-daemon-light:amd64=4.98.2-1+deb13u6 is selected for install\n      2. postfix:amd64 Conflicts mail-transport-agent\n", "apt.txt", 2, []string{"together", "exim4-config : Conflicts: postfix", "exim4-config, exim4-daemon-light, postfix."}, ""},
		"elsewhere":    {r, "postBuild", "mkdir: cannot create directory ‘/opt/tides’: Permission denied", "postBuild", 0, []string{"/opt/tides may not be written", "$HOME"}, ""},
		"by Python":    {r, "postBuild", "PermissionError: [Errno 13] Permission denied: '/opt/tides'", "postBuild", 0, []string{"/opt/tides may not be written"}, ""},
		"by a shell":   {r, "postBuild", "./postBuild: line 3: /etc/tides: Permission denied", "postBuild", 3, []string{"/etc/tides may not be written"}, ""},
		"as root":      {r, "postBuild", "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?", "postBuild", 0, []string{"Only root", "apt.txt"}, ""},
		"no words":     {r, "postBuild", "", "postBuild", 0, []string{"postBuild failed."}, ""},
		"conda name":   {conda, "conda: environment.yml", "conda: Cannot solve the request because of: No candidates were found for nosuch *.", "environment.yml", 3, []string{"package nosuch"}, ""},
		"conda solver": {conda, "conda: environment.yml", "conda: Cannot solve the request because of: something new\n", "environment.yml", 0, []string{"together", "something new"}, ""},
		"unknown step": {r, "Base image", "boom", "", 0, []string{"boom"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := recipe.Explain(c.recipe, c.step, strings.Split(c.log, "\n"))
			code := c.code
			if code == "" {
				code = binnacle.CodeBuildFailed
			}
			if e.File != c.file || e.Line != c.line || e.Code != code || e.Hint == "" {
				t.Errorf("%s:%d %s; want %s:%d %s", e.File, e.Line, e.Code, c.file, c.line, code)
			}
			for _, want := range c.says {
				if !strings.Contains(e.Message+"\n"+e.Hint, want) {
					t.Errorf("no %q in %q", want, e.Message)
				}
			}
			if strings.Contains(e.Message, "\x1b") || len(e.Message) > 900 {
				t.Errorf("not for people: %q", e.Message)
			}
		})
	}
}

// TestSuggestions: what may be meant is named.
func TestSuggestions(t *testing.T) {
	r := read(t, map[string]string{"requirements.txt": "a\n", "apt.txt": "tree\n", "postBuild": "#!/bin/bash\nfoo\n"})
	missing := func(name string) string {
		return "error: No solution found when resolving dependencies\n  cause: Because " + name + " was not found in the package registry and you require " + name + ", we can conclude"
	}
	const pip, apt = "pip: requirements.txt", "apt: apt.txt"
	for name, c := range map[string]struct{ step, log, want, not string }{
		"swapped letters": {pip, missing("pandsa"), "Did you mean pandas?", ""},
		"one letter":      {pip, missing("numppy"), "Did you mean numpy?", ""},
		"underscores":     {pip, missing("scikit-imag"), "Did you mean scikit-image?", ""},
		"joined":          {pip, missing("scikitlearn"), "Did you mean scikit-learn?", ""},
		"to import":       {pip, missing("cv2"), "Did you mean opencv-python?", ""},
		"prefix":          {pip, missing("python-requests"), "Did you mean requests?", ""},
		"short":           {pip, missing("dsk"), "Check the spelling", "Did you mean"},
		"like nothing":    {pip, missing("my-own-package"), "Check the spelling", "Did you mean"},
		"versions":        {pip, "  cause: Because there is no version of requests[socks]==2.99 and you require it\nbinnacle: versions of requests: 2.34.2, 2.34.1, 2.33.0, 2.32.5, 2.32.4, 2.32.3, 2.32.2, 2.32.1, 2.32.0, 2.31.0", "There are 2.34.2, 2.34.1, 2.33.0, 2.32.5, 2.32.4, 2.32.3, 2.32.2, 2.32.1, …: choose", ""},
		"header":          {pip, "  src/x.c:1:10: fatal error: GL/gl.h: No such file or directory", "Write libgl-dev into apt.txt.", ""},
		"header below":    {pip, "  src/x.c:1:10: fatal error: spatialindex/capi/sidx_api.h: No such file or directory", "Write libspatialindex-dev into apt.txt.", ""},
		"unknown header":  {pip, "  src/x.c:1:10: fatal error: harbour.h: No such file or directory", "its name usually ends in -dev", ""},
		"compiler":        {pip, "error: command 'gfortran' failed: No such file or directory", "Write gfortran into apt.txt.", ""},
		"deprecated name": {pip, "error: Failed to build `sklearn==0.0.post12`", "Did you mean scikit-learn?", ""},
		"platform":        {pip, "error: No solution found when resolving dependencies\n  cause: Because pywin32==306 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`) and you require pywin32==306", "for Windows or macOS only", "Python"},
		"old apt name":    {apt, "E: Unable to locate package libgl1-mesa-glx", "Write libgl1 instead", ""},
		"library":         {"postBuild", "ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "Write libgl1 into apt.txt.", ""},
		"module":          {"postBuild", "ModuleNotFoundError: No module named 'yaml'", "Add pyyaml to requirements.txt", ""},
		"command":         {"postBuild", "./postBuild: line 2: pdflatex: command not found", "texlive-latex-recommended", ""},
		"conda":           {"postBuild", "./postBuild: line 2: conda: command not found", "Name what it installs in environment.yml", "apt.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			e := recipe.Explain(r, c.step, strings.Split(c.log, "\n"))
			if !strings.Contains(e.Hint, c.want) || (c.not != "" && strings.Contains(e.Hint, c.not)) {
				t.Errorf("%q, want %q in it and not %q", e.Hint, c.want, c.not)
			}
		})
	}
}

// TestNotebookWithoutKernel: who opens it should not find out there.
func TestNotebookWithoutKernel(t *testing.T) {
	notebook := func(language string) string {
		return `{"cells": [], "metadata": {"kernelspec": {"name": "x", "language": "` + language + `"}}, "nbformat": 4}`
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"R in Python":     {map[string]string{"requirements.txt": "a\n", "index.ipynb": notebook("R")}, "a notebook of R, for which the environment has no kernel"},
		"Julia in Python": {map[string]string{"index.ipynb": notebook("julia")}, "a notebook of Julia"},
		"R in R":          {map[string]string{"install.R": "", "index.ipynb": notebook("R")}, ""},
		"Julia in Julia":  {map[string]string{"Project.toml": "", "index.ipynb": notebook("julia")}, ""},
		"Python":          {map[string]string{"index.ipynb": notebook("python")}, ""},
		"bash":            {map[string]string{"requirements.txt": "bash_kernel\n", "index.ipynb": notebook("bash")}, ""},
		"postBuild":       {map[string]string{"postBuild": "#!/bin/sh\n", "index.ipynb": notebook("R")}, ""},
		"Dockerfile":      {map[string]string{"Dockerfile": "FROM x\n", "index.ipynb": notebook("R")}, ""},
		"broken":          {map[string]string{"index.ipynb": "{"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			have := notes(r)
			for _, n := range r.Notes {
				if strings.Contains(n.Message, "no kernel") && n.Hint == "" {
					t.Error("the note does not say what to do")
				}
			}
			if strings.Contains(have, "no kernel") != (c.want != "") || !strings.Contains(have, c.want) {
				t.Errorf("notes %q, want %q", have, c.want)
			}
		})
	}
}

// TestExplainNix has Nix's words; it shows where it came from first.
func TestExplainNix(t *testing.T) {
	r := read(t, map[string]string{"binder/default.nix": "{ pkgs ? import <nixpkgs> { } }:\npkgs.mkShell {\n  packages = [ pkgs.nosuch ];\n}\n"})
	late := read(t, map[string]string{"default.nix": "import ./nix/shell.nix\n"})
	for name, c := range map[string]struct {
		recipe    recipe.Recipe
		step, log string
		file      string
		line      int
		says      string
	}{
		"attribute": {r, "Nix packages: binder/default.nix", "error:\n       … while calling the 'derivationStrict' builtin\n         at <nix/derivation-internal.nix>:34:12:\n       … while evaluating attribute 'nativeBuildInputs' of derivation 'nix-shell'\n         at /nix/var/nixpkgs/pkgs/stdenv/generic/make-derivation.nix:383:7:\n\n       error: attribute 'nosuch' missing\n       at /run/binnacle/in/nix/default.nix:3:16:\n            2| pkgs.mkShell {\n            3|   packages = [ pkgs.nosuch ];\n", "binder/default.nix", 3, "no attribute nosuch"},
		"variable":  {late, "Nix packages: default.nix", "error: undefined variable 'stdenv'\n       at /home/jovyan/nix/shell.nix:7:3:\n            6| in\n", "nix/shell.nix", 7, "knows no stdenv"},
		"syntax":    {r, "Nix packages: binder/default.nix", "error: syntax error, unexpected end of file\n       at /run/binnacle/in/nix/default.nix:4:1:\n", "binder/default.nix", 4, "syntax error"},
		"build":     {late, "Nix packages: default.nix", "building '/nix/store/4c0rhjkdz1mjdsx4vvgz1vy3bp8c1rxa-knots-1.0.drv'...\nerror: builder for '/nix/store/4c0rhjkdz1mjdsx4vvgz1vy3bp8c1rxa-knots-1.0.drv' failed with exit code 1;\n       last 1 log lines:\n       > no\n", "default.nix", 0, "could not build knots-1.0"},
		"away":      {r, "Version of nixpkgs", "curl: (6) Could not resolve host: channels.example.org\n", "binder/default.nix", 0, "could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			e := recipe.Explain(c.recipe, c.step, strings.Split(c.log, "\n"))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) || e.Hint == "" {
				t.Errorf("%s:%d %s %s; want %s:%d …%s…", e.File, e.Line, e.Message, e.Hint, c.file, c.line, c.says)
			}
		})
	}
}
