package recipe

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// gitless is the version of a package that takes its own from git, which is not in
// the tree. It is the lowest, so nobody takes it for a release.
const gitless = "0.0"

// readGitVersion lets the repository's own package be installed although its version
// would come from git: steps that have the tree say which one it is. Setuptools-scm
// hears it for one package by name, so that others which are built from source in the
// same step keep theirs (its documentation, "Environment variables"); hatch-vcs, which
// calls it without a name, for all.
func readGitVersion(r *reader) error {
	file, name, ok := r.gitVersion()
	if !ok {
		return nil
	}
	variable := "SETUPTOOLS_SCM_PRETEND_VERSION"
	if name != "" {
		variable += "_FOR_" + strings.ToUpper(strings.ReplaceAll(canonical(name), "-", "_"))
	}
	told := false
	for i, s := range r.Steps {
		if s.Stage == StageContent || s.Stage == StagePostBuild {
			r.Steps[i].Script = "export " + variable + "=" + gitless + "\n" + s.Script
			told = true
		}
	}
	if told {
		r.note(file, 0, "The package's version comes from git, whose history is not here: it is installed as "+gitless+".",
			"Write fallback_version below [tool.setuptools_scm], or fallback-version below [tool.hatch.version], for another one.")
	}
	return nil
}

// gitVersion finds a package at the root whose version comes from git and has no other
// to fall back to; name is empty when it can't be told apart.
func (r *reader) gitVersion() (file, name string, ok bool) {
	text := func(file string) string {
		s, _, err := r.text(file)
		if err != nil {
			return "" // who needs the file says what is wrong with it
		}
		return s
	}
	var project map[string]any
	if toml.Unmarshal([]byte(text("pyproject.toml")), &project) != nil {
		return "", "", false // its own step says what is wrong with it
	}
	name, _ = at(project, "project", "name").(string)
	cfg, setup := text("setup.cfg"), text("setup.py")
	if m := regexp.MustCompile(`(?m)^name\s*=\s*([A-Za-z0-9._-]+)\s*$`).FindStringSubmatch(cfg); name == "" && m != nil {
		name = m[1]
	}
	if m := regexp.MustCompile(`\bname\s*=\s*["']([A-Za-z0-9._-]+)["']`).FindStringSubmatch(setup); name == "" && m != nil {
		name = m[1]
	}
	scm := at(project, "tool", "setuptools_scm")
	requires := func(tool string) bool {
		return slices.ContainsFunc(texts(at(project, "build-system", "requires")), func(line string) bool {
			return requiredName(line) == tool
		})
	}
	switch {
	case requires("hatch-vcs") && at(project, "tool", "hatch", "version", "source") == "vcs":
		return "pyproject.toml", "", at(project, "tool", "hatch", "version", "fallback-version") == nil
	case at(scm, "fallback_version") != nil:
		return "", "", false
	case requires("setuptools-scm") && (scm != nil || strings.Contains(setup+cfg, "use_scm_version") || slices.Contains(texts(at(project, "project", "dynamic")), "version")):
		return "pyproject.toml", name, true
	case strings.Contains(setup, "use_scm_version") && !strings.Contains(setup, "fallback_version"):
		return "setup.py", name, true
	}
	return "", "", false
}
