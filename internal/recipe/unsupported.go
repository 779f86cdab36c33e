package recipe

import "strings"

// unsupportedKind stops at the kinds repo2docker would choose and this release
// can't: a session without the packages its author declared would be worse than
// none.
func unsupportedKind() kind {
	return kind{name: "unsupported", has: func(r *reader) bool { return r.unsupported() != "" }, read: func(r *reader) error {
		file := r.unsupported()
		return wrong(file, 0, "This repository needs "+needs(file)+", which Binnacle does not install yet.",
			"Add a Dockerfile in the same directory, or describe it with environment.yml.")
	}}
}

func needs(file string) string {
	switch {
	case strings.HasSuffix(file, "Project.toml"), strings.HasSuffix(file, "REQUIRE"):
		return "Julia (" + file + ")"
	case strings.HasSuffix(file, "default.nix"):
		return "Nix (" + file + ")"
	case strings.HasSuffix(file, "runtime.txt"), strings.HasSuffix(file, "DESCRIPTION"):
		return "R (" + file + ")"
	default:
		return "pipenv (" + file + ")"
	}
}

// unsupported is the file that would decide the kind; the order is repo2docker's.
func (r *reader) unsupported() string {
	for _, name := range []string{"Project.toml", "JuliaProject.toml", "REQUIRE", "default.nix"} {
		if r.has(name) {
			return r.path(name)
		}
	}
	text, ok, err := r.file("runtime.txt")
	if err != nil {
		r.err = err
		return ""
	}
	if ok && strings.HasPrefix(strings.TrimSpace(text), "r-") {
		return r.path("runtime.txt")
	}
	if r.Dir == "" && r.has("DESCRIPTION") {
		return "DESCRIPTION"
	}
	if r.has("environment.yml") || r.has("environment.yaml") {
		return ""
	}
	for _, name := range []string{"Pipfile", "Pipfile.lock"} {
		if r.has(name) {
			return r.path(name)
		}
	}
	return ""
}

// noteOthers tells of declarations that are there and were not followed.
func noteOthers(r *reader) error {
	seen := map[string]bool{}
	for _, f := range r.Files {
		seen[f.Path] = true
	}
	hints := map[string]string{
		"uv.lock": "its versions are not used yet", "poetry.lock": "its versions are not used yet", "pdm.lock": "its versions are not used yet",
		"pylock.toml": "its versions are not used yet", "pixi.toml": "pixi is not supported yet", "pixi.lock": "pixi is not supported yet",
		"conda-lock.yml": "its versions are not used yet", "renv.lock": "R is not supported yet", "install.R": "R is not supported yet",
		".python-version": "it does not choose the Python yet", "package.json": "JavaScript is not supported yet",
		".devcontainer/devcontainer.json": "dev containers are not supported yet", ".devcontainer.json": "dev containers are not supported yet",
	}
	for _, name := range sortedNames(hints) {
		if path := r.path(name); r.has(name) && !seen[path] {
			r.pass(path, hints[name])
			r.note(path, 0, name+" is there, but "+hints[name]+".", "")
		}
	}
	if r.Dir == "" {
		return nil
	}
	root := reader{fs: r.fs}
	for _, name := range []string{"Dockerfile", "apt.txt", "environment.yml", "environment.yaml", "requirements.txt", "runtime.txt", "postBuild", "start", "setup.py", "pyproject.toml"} {
		if root.has(name) {
			r.pass(name, "only files in "+r.Dir+"/ count")
		}
	}
	return nil
}
