package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// dockerfile is the name of the kind that has no steps of ours.
const dockerfile = "dockerfile"

// dockerfileKind is a repository that builds its image itself: everything else
// it declares is passed over, as in repo2docker.
func dockerfileKind() kind {
	return kind{name: dockerfile, has: func(r *reader) bool { return r.has("Dockerfile") }, read: readDockerfile}
}

func readDockerfile(r *reader) error {
	file := r.path("Dockerfile")
	text, _, err := r.file("Dockerfile")
	if err != nil {
		return err
	}
	if strings.TrimSpace(text) == "" {
		return wrong(file, 1, "The Dockerfile is empty.", "Begin it with FROM, or remove it.")
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.ToLower(strings.TrimSpace(line))
		if directive, frontend, ok := strings.Cut(strings.TrimPrefix(line, "#"), "="); ok && line[0] == '#' && strings.TrimSpace(directive) == "syntax" {
			if !strings.HasPrefix(strings.TrimSpace(frontend), "docker/dockerfile:1") {
				r.note(file, i+1, "The syntax line is passed over: Binnacle reads Dockerfiles itself.", "Remove it, unless the Dockerfile is built elsewhere too.")
			}
			continue
		}
		word, image, _ := strings.Cut(line, " ")
		if word != "from" {
			continue
		}
		if image, _, _ = strings.Cut(image, "#"); strings.Contains(image, "andrewosh/binder-base") {
			return wrong(file, i+1, "This Dockerfile is for the Binder of 2017, which is gone.", "Replace it by a requirements.txt or environment.yml.")
		}
		break
	}
	r.use(file, "builds the whole image")
	r.Dockerfile = file
	sum := sha256.Sum256([]byte(text))
	r.DockerfileSum = hex.EncodeToString(sum[:])
	var passed []string
	for _, name := range ours() {
		if r.has(name) {
			r.pass(r.path(name), "the Dockerfile decides")
			passed = append(passed, r.path(name))
		}
	}
	if len(passed) > 0 {
		r.note(file, 0, "The Dockerfile decides everything; passed over: "+strings.Join(passed, ", ")+".", "Let the Dockerfile install what they name, or remove it.")
	}
	return nil
}

// ours are the declarations that this release follows, beside the Dockerfile.
func ours() []string {
	return []string{"environment.yml", "environment.yaml", "requirements.txt", "setup.py", "pyproject.toml", "runtime.txt", "apt.txt", "postBuild", "start"}
}
