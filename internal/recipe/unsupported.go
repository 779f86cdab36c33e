package recipe

import "strings"

// hints are files that say something about the environment and decide nothing
// yet; repo2docker does not read them either.
func hints() map[string]string {
	const decides, version = "another file decides", "another file decides the version"
	const dev, r = "other files describe the environment", "the R of environment.yml is meant: name its packages there, as r-…"
	const condaOther, pixiOther = "another file decides; it counts beside environment.yml, or in a binder directory", "another file decides; in a binder directory it would"
	return map[string]string{
		"uv.lock": decides, "poetry.lock": decides, "pdm.lock": decides, "pylock.toml": decides, "pylock.binder.toml": decides, "conda-lock.yml": condaOther, "conda-linux-64.lock": condaOther,
		"pixi.toml": pixiOther, "pixi.lock": pixiOther, "flake.nix": "another file decides",
		"shell.nix": "only default.nix is read; make default.nix import it", "default.nix": "another file decides",
		"renv.lock": r, "install.R": r, "DESCRIPTION": "it describes no package of R", "Manifest.toml": "it needs the Project.toml that it belongs to",
		".python-version": version, ".tool-versions": version,
		"mise.toml": version, "package.json": "it has no lock, so nothing is installed for it",
		".devcontainer/devcontainer.json": dev, ".devcontainer.json": dev,
		"docker-compose.yml": "only a Dockerfile is built", "Containerfile": "only a file called Dockerfile is built",
		"setup.cfg": "a package needs setup.py or pyproject.toml", "requirements3.txt": "only requirements.txt is read",
		"Pipfile": "it is passed over for another file", "Pipfile.lock": "it is passed over for another file",
		"runtime.txt": version, "environment.yml": decides, "environment.yaml": decides,
		// What people write when they mean another name.
		"postbuild": "the name is postBuild", "postBuild.sh": "the name is postBuild", "PostBuild": "the name is postBuild", "postbuild.sh": "the name is postBuild", "Postbuild": "the name is postBuild",
		"install.r": "the name is install.R", "Install.R": "the name is install.R", "Runtime.txt": "the name is runtime.txt", "PipFile": "the name is Pipfile", "pipfile": "the name is Pipfile",
		"Environment.yml": "the name is environment.yml", "environment.YML": "the name is environment.yml", "environments.yml": "the name is environment.yml", "apt-packages.txt": "the name is apt.txt",
		"Requirements.txt": "the name is requirements.txt", "requirement.txt": "the name is requirements.txt",
		"Apt.txt": "the name is apt.txt", "enviroment.yml": "the name is environment.yml", "dockerfile": "the name is Dockerfile",
	}
}

// noteOthers tells of declarations that are there and were not followed.
func noteOthers(r *reader) error {
	seen := map[string]bool{}
	for _, f := range r.Files {
		seen[f.Path] = true
	}
	all := hints()
	if r.Kind == dockerfile {
		all = nil // what else there is may well be used by it
	}
	for _, name := range sortedNames(all) {
		if file := r.path(name); !seen[file] && r.has(name) {
			if name == "setup.cfg" && seen["setup.py"] || name == "setup.cfg" && seen["pyproject.toml"] {
				continue
			}
			r.pass(file, all[name])
			r.note(file, 0, name+" is there, but "+all[name]+".", "")
		}
	}
	if r.Dir == "" {
		return nil
	}
	var passed []string
	for _, name := range append([]string{"Dockerfile", "Project.toml", "default.nix", "DESCRIPTION", "install.R", "renv.lock", "Pipfile"}, ours()...) {
		if r.hasPath(name) {
			r.pass(name, "only files in "+r.Dir+"/ count")
			passed = append(passed, name)
		}
	}
	if len(passed) > 0 {
		r.note(r.Dir, 0, "Only files in "+r.Dir+"/ count; passed over in the root: "+strings.Join(passed, ", ")+".", "")
	}
	return nil
}
