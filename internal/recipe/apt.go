package recipe

import (
	"regexp"
	"slices"
	"strings"
)

// aptName is a Debian package as apt-get takes it: a name (Debian Policy
// 5.6.1), optionally an architecture, and a version or a suite. A name that
// ends with a minus would remove a package, so it may not. repo2docker checks
// only how a line begins, which lets "foo; id" through to a root shell.
const aptName = `^[a-z0-9][a-z0-9+.-]*[a-z0-9+](:[a-z0-9-]*[a-z0-9])?(=[A-Za-z0-9.+~:-]+|/[a-z0-9-]+)?$`

// mostPackages keeps the command within what Linux takes.
const mostPackages = 2000

// readApt adds the packages of apt.txt, installed by root in one step. apt
// verifies what it takes from the shared directories by signature and hash.
func readApt(r *reader) error {
	text, ok, err := r.file("apt.txt")
	if err != nil || !ok {
		return err
	}
	file := r.path("apt.txt")
	packages, err := ParseApt(file, text)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		r.pass(file, "it names no package")
		return nil
	}
	r.use(file, "Debian packages")
	names := make([]string, 0, len(packages))
	for _, p := range packages {
		names = append(names, quote(p.Spec))
	}
	slices.Sort(names)
	step := aptStep("apt: "+file, slices.Compact(names))
	step.Packages, step.From = packages, []Location{{File: file}}
	r.add(step)
	return nil
}

// aptStep installs packages, given as apt-get takes them. A name that is no
// package's is an error: apt-get would take one with a dot for a pattern, and
// install all that match (gtk2.0) or, without a word, nothing (python3.10).
func aptStep(name string, quoted []string) Step {
	return Step{
		Name: name, Stage: StageSystem, Root: true,
		Caches: aptCaches(),
		Script: aptBegin + aptInstall + "-o APT::Cmd::Pattern-Only=true " + strings.Join(quoted, " ") + "\n" + aptEnd,
	}
}

// ParseApt reads apt.txt: a package a line, # begins a comment. Returns
// build_failed with the line for anything else.
func ParseApt(file, text string) ([]Package, error) {
	valid := regexp.MustCompile(aptName)
	var out []Package
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if !valid.MatchString(line) {
			hint := "Write one package name on each line, such as graphviz or graphviz=2.42.4-3."
			if strings.ContainsAny(line, " \t,;&|") {
				hint = "Put each package on a line of its own."
			} else if strings.ToLower(line) != line {
				hint = "Debian's package names are lower case."
			}
			return nil, wrong(file, i+1, "This is not the name of a Debian package: "+short(line)+".", hint)
		}
		if len(out) == mostPackages {
			return nil, wrong(file, i+1, "There are more than 2,000 packages.", "Keep only what is needed: each brings along what it depends on.")
		}
		name := line[:len(line)-len(strings.TrimLeft(line, "abcdefghijklmnopqrstuvwxyz0123456789+.-"))]
		out = append(out, Package{Manager: "apt", Name: name, Spec: line, From: Location{file, i + 1}})
	}
	return out, nil
}
