package recipe

import (
	"bytes"
	"path"
	"strings"
)

// scriptHead is as much of a script as is looked at, in bytes: a postBuild may
// be any executable.
const scriptHead = 256 << 10

// readScripts adds postBuild, which runs at the end of the build, and start,
// through which every session is started.
func readScripts(r *reader) error {
	if err := readPostBuild(r); err != nil {
		return err
	}
	s, err := r.script("start")
	if err != nil || !s.there {
		return err
	}
	r.use(s.file, "starts every session")
	r.Start = s.file
	if !s.binary && !strings.Contains(s.text, `"$@"`) {
		r.note(s.file, 0, `start never runs "$@", which is the Jupyter server: sessions will not come up.`, `End it with exec "$@".`)
	}
	return nil
}

func readPostBuild(r *reader) error {
	s, err := r.script("postBuild")
	if err != nil || !s.there {
		return err
	}
	r.use(s.file, "runs at the end of the build")
	command := "./" + quote(s.file)
	if s.plain {
		command = "bash " + command
	}
	r.add(Step{
		Name: "postBuild", Stage: StagePostBuild, From: []Location{{File: s.file}},
		Script: "chmod +x " + quote(s.file) + "\n" + command + "\n" + tidy + `rm -rf "$HOME/.npm"` + "\n",
	})
	return nil
}

// tidy removes what installers leave in a layer.
const tidy = `rm -rf "$HOME/.cache"` + "\n"

type script struct {
	file   string
	text   string
	there  bool
	binary bool // an executable that is no script
	plain  bool // it does not say what runs it
}

// script looks at what keeps a script from running at all.
func (r *reader) script(name string) (script, error) {
	s := script{file: r.path(name)}
	head, ok, err := r.bytes(s.file, scriptHead)
	if err != nil || !ok {
		return s, err
	}
	s.there = true
	unix := "Save it with Unix line ends: run `dos2unix " + s.file + "`, and add `" + s.file + " text eol=lf` to .gitattributes."
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(head, []byte(mark)) {
			return s, wrong(s.file, 1, name+" begins with a byte order mark, so Linux can't run it.", "Save it as UTF-8 without a byte order mark.")
		}
	}
	if s.binary = bytes.IndexByte(head, 0) >= 0; s.binary {
		return s, nil
	}
	s.text = string(head)
	first, _, _ := strings.Cut(s.text, "\n")
	s.plain = !strings.HasPrefix(first, "#!")
	if !s.plain && strings.HasSuffix(first, "\r") {
		return s, wrong(s.file, 1, name+" has Windows line ends, so Linux looks for an interpreter whose name ends in a carriage return.", unix)
	}
	if s.plain || shell(first) {
		if i := strings.Index(s.text, "\r\n"); i >= 0 {
			return s, wrong(s.file, 1+strings.Count(s.text[:i], "\n"), name+" has Windows line ends, which a shell takes for part of its commands.", unix)
		}
	}
	if s.plain {
		r.note(s.file, 1, name+" does not say what runs it; bash does.", "Begin it with #!/bin/bash.")
	}
	return s, nil
}

// shell says whether a first line names a shell.
func shell(first string) bool {
	for word := range strings.FieldsSeq(strings.TrimPrefix(first, "#!")) {
		switch path.Base(word) {
		case "sh", "bash", "dash", "zsh", "ksh":
			return true
		case "env", "-S":
		default:
			return false
		}
	}
	return false
}

// readIgnore takes the patterns of .dockerignore and .containerignore; both
// count, as in repo2docker. The scripts that the image needs stay.
func readIgnore(r *reader) error {
	for _, name := range []string{".dockerignore", ".containerignore"} {
		text, ok, err := r.file(name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r.use(r.path(name), "keeps files out of the image")
		patterns, err := parseIgnore(r.path(name), text)
		if err != nil {
			return err
		}
		r.Ignore = append(r.Ignore, patterns...)
	}
	if len(r.Ignore) > 0 {
		for _, name := range []string{"postBuild", "start"} {
			if r.Dockerfile == "" && r.has(name) {
				r.Ignore = append(r.Ignore, "!"+r.path(name))
			}
		}
	}
	return nil
}

// parseIgnore reads the patterns of an ignore file as Docker does: # begins a
// comment line, ! takes back, paths are from the root.
func parseIgnore(file, text string) ([]string, error) {
	var out []string
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		pattern, not := strings.TrimSpace(line), ""
		if rest, ok := strings.CutPrefix(pattern, "!"); ok {
			pattern, not = strings.TrimSpace(rest), "!"
		}
		if pattern == "" {
			continue
		}
		pattern = path.Clean(pattern)
		if len(pattern) > 1 {
			pattern = strings.TrimPrefix(pattern, "/")
		}
		if strings.HasPrefix(pattern, "!") {
			pattern = `\` + pattern // it was no first character before
		}
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || strings.ContainsAny(pattern, "\x00") {
			return nil, wrong(file, i+1, "This is not a pattern: "+short(line)+".", "Brackets must be closed; write a backslash before a character that is meant as it is.")
		}
		out = append(out, not+pattern)
	}
	return out, nil
}
