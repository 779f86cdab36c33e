package recipe

import (
	"strings"
)

// readScripts adds postBuild, which runs at the end of the build, and start,
// through which every session is started.
func readScripts(r *reader) error {
	if err := readPostBuild(r); err != nil {
		return err
	}
	text, ok, err := r.file("start")
	if err != nil || !ok {
		return err
	}
	file := r.path("start")
	if _, err := r.script("start", text); err != nil {
		return err
	}
	r.use(file, "starts every session")
	r.Start = file
	if !strings.Contains(text, `"$@"`) {
		r.note(file, 0, `start never runs "$@", which is the Jupyter server: sessions will not come up.`, `End it with exec "$@".`)
	}
	return nil
}

func readPostBuild(r *reader) error {
	text, ok, err := r.file("postBuild")
	if err != nil || !ok {
		return err
	}
	file := r.path("postBuild")
	shell, err := r.script("postBuild", text)
	if err != nil {
		return err
	}
	r.use(file, "runs at the end of the build")
	command := "./" + quote(file)
	if shell {
		command = "bash " + command
	}
	r.Steps = append(r.Steps, Step{
		Name: "postBuild", Stage: StagePostBuild, From: []Location{{File: file}},
		Script: "chmod +x " + quote(file) + "\n" + command + "\nrm -rf /tmp/* \"$HOME/.cache/pip\" \"$HOME/.npm\"",
	})
	return nil
}

// script checks what keeps a script from running at all. It says whether the
// script must be given to a shell because it names none.
func (r *reader) script(name, text string) (shell bool, err error) {
	file := r.path(name)
	first, _, _ := strings.Cut(text, "\n")
	if raw, err := r.firstBytes(file); err != nil {
		return false, err
	} else if line, _, _ := strings.Cut(raw, "\n"); strings.HasPrefix(line, "#!") && strings.HasSuffix(line, "\r") {
		return false, wrong(file, 1, name+" has Windows line ends, so Linux looks for an interpreter whose name ends in a carriage return.",
			"Save it with Unix line ends: run `dos2unix "+file+"`, and add `"+file+" text eol=lf` to .gitattributes.")
	}
	if !strings.HasPrefix(first, "#!") {
		r.note(file, 1, name+" does not say what runs it; bash does.", "Begin it with #!/bin/bash.")
		return true, nil
	}
	return false, nil
}

func (r *reader) firstBytes(file string) (string, error) {
	f, err := r.fs.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 256)
	n, err := f.Read(b)
	if n == 0 && err != nil {
		return "", nil //nolint:nilerr // an empty file
	}
	return string(b[:n]), nil
}

// readIgnore takes the patterns of .dockerignore and .containerignore; both
// count, as in repo2docker.
func (r *reader) readIgnore() error {
	for _, name := range []string{".dockerignore", ".containerignore"} {
		text, ok, err := r.file(name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r.use(r.path(name), "keeps files out of the image")
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				r.Ignore = append(r.Ignore, line)
			}
		}
	}
	return nil
}
