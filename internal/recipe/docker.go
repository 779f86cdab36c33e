package recipe

import (
	"strings"
)

// dockerfileKind is a repository that builds its image itself: everything else
// it declares is passed over, as in repo2docker.
func dockerfileKind() kind {
	return kind{name: "dockerfile", has: func(r *reader) bool { return r.has("Dockerfile") }, read: readDockerfile}
}

func readDockerfile(r *reader) error {
	file := r.path("Dockerfile")
	text, _, err := r.file("Dockerfile")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(text, "\n") {
		name, image, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.EqualFold(name, "from") {
			continue
		}
		if image, _, _ = strings.Cut(image, "#"); strings.Contains(strings.ToLower(image), "andrewosh/binder-base") {
			return wrong(file, 0, "This Dockerfile is for the Binder of 2017, which is gone.", "Replace it by a requirements.txt or environment.yml.")
		}
		break
	}
	r.use(file, "builds the whole image")
	r.Dockerfile = file
	for _, name := range []string{
		"apt.txt", "environment.yml", "environment.yaml", "requirements.txt", "runtime.txt", "postBuild", "start",
		"Pipfile", "Pipfile.lock", "Project.toml", "install.R", "default.nix",
	} {
		if r.has(name) {
			r.pass(r.path(name), "the Dockerfile decides")
		}
	}
	return nil
}
