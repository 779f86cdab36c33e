package recipe

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// shinyFile is the file that makes a directory an application of R's Shiny; empty
// when it is none.
func (r *reader) shinyFile(dir string) string {
	has := func(name string) bool { return r.hasPath(path.Join(dir, name)) }
	switch {
	case has("app.R"):
		return path.Join(dir, "app.R")
	case has("ui.R") && has("server.R"):
		return path.Join(dir, "server.R")
	}
	return ""
}

// shinyApps are the directories that are applications: the root, which then is the
// only one, or some below it.
func (r *reader) shinyApps() []string {
	if r.shinyFile(".") != "" {
		return []string{"."}
	}
	const deepest, most, looked = 2, 20, 5000
	var out []string
	seen := 0
	// What can't be read has no application.
	_ = fs.WalkDir(r.fs, ".", func(at string, d fs.DirEntry, err error) error {
		seen++
		switch {
		case seen > looked || len(out) == most:
			return fs.SkipAll
		case err != nil:
			return fs.SkipDir
		case at == "." || !d.IsDir():
			return nil
		case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(d.Name()) || strings.Count(at, "/") == deepest:
			return fs.SkipDir
		case r.shinyFile(at) != "":
			out = append(out, at)
			return fs.SkipDir
		}
		return nil
	})
	return out
}

// rShiny offers applications at the paths that repo2docker's Shiny Server has. Shiny
// itself is part of R images that have one; what the author installs comes first.
func (r *reader) rShiny(rscript string, apps []string) {
	for _, dir := range apps {
		file, name := r.shinyFile(dir), path.Join("shiny", dir)
		r.use(file, "an application of Shiny")
		r.Interfaces = append(r.Interfaces, Interface{Name: "shiny", Path: name + "/", Why: file + " is an application of Shiny"})
		if r.servers == nil {
			r.servers = map[string]server{}
		}
		title := "Shiny"
		if dir != "." {
			title += ": " + dir
		}
		r.servers[name] = server{
			Command: []string{rscript, "--no-save", "--no-restore", "-e", `shiny::runApp("` + dir + `", host = "127.0.0.1", port = {port}, launch.browser = FALSE)`},
			Timeout: startTime, Launcher: launcher{title, name + "/"},
		}
	}
}
