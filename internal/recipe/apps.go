package recipe

import (
	"cmp"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// pythonApps are the programs that come with a package of Python. Each listens
// on a port of the session's own loopback, which nobody else reaches.
func pythonApps() []program {
	return []program{
		{
			name: "streamlit", title: "Streamlit", packages: []string{"streamlit"}, theirs: []string{"jupyter-streamlit-proxy"},
			find: appImporting("streamlit", "streamlit_app.py", "app.py", "main.py", "Home.py", "home.py", "dashboard.py"),
			serve: func(a app) server {
				return server{Command: []string{
					"streamlit", "run", literal(a.file), "--server.address=127.0.0.1", "--server.port={port}", "--server.baseUrlPath={base_url}streamlit",
					"--server.headless=true", "--server.enableCORS=false", "--server.enableXsrfProtection=false", "--browser.gatherUsageStats=false",
				}, Timeout: startTime, Absolute: true}
			},
		},
		{
			name: "panel", title: "Panel", packages: []string{"panel"}, theirs: []string{"jupyter-panel-proxy"},
			find: findPanel,
			serve: func(a app) server {
				return server{Command: []string{
					"panel", "serve", literal(a.file), "--address", "127.0.0.1", "--port", "{port}", "--prefix", "{base_url}panel", "--allow-websocket-origin", "*",
				}, Timeout: startTime, Absolute: true}
			},
		},
		{name: "voila", title: "Voilà", packages: []string{"voila"}, find: findVoila},
		{
			name: "marimo", title: "marimo", packages: []string{"marimo"}, theirs: []string{"jupyter-marimo-proxy", "marimo-jupyter-extension"},
			find: findMarimo,
			serve: func(app) server {
				return server{Command: []string{
					"marimo", "edit", "--headless", "--no-token", "--skip-update-check", "--host", "127.0.0.1", "--port", "{port}", "--base-url", "{base_url}marimo",
					"--allow-origins", "*",
				}, Timeout: startTime, Absolute: true}
			},
		},
		{
			name: "shiny", title: "Shiny", packages: []string{"shiny"}, theirs: []string{"jupyter-shiny-proxy"},
			find: appImporting("shiny", "app.py", "main.py"),
			serve: func(a app) server {
				return server{Command: []string{"shiny", "run", literal(a.file), "--host", "127.0.0.1", "--port", "{port}"}, Timeout: startTime}
			},
		},
		{
			name: "gradio", title: "Gradio", packages: []string{"gradio"},
			find: appImporting("gradio", "app.py", "demo.py", "main.py"),
			serve: func(a app) server {
				return server{Command: []string{"python", literal(a.file)}, Timeout: startTime, Environment: map[string]string{
					"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": "{port}", "GRADIO_ROOT_PATH": "{base_url}gradio", "GRADIO_ANALYTICS_ENABLED": "False",
				}}
			},
		},
		{
			name: "dash", title: "Dash", packages: []string{"dash"},
			find: appImporting("dash", "app.py", "main.py", "index.py"),
			serve: func(a app) server {
				return server{Command: []string{"python", literal(a.file)}, Timeout: startTime, Environment: map[string]string{
					"HOST": "127.0.0.1", "PORT": "{port}", "DASH_REQUESTS_PATHNAME_PREFIX": "{base_url}dash/",
				}}
			},
		},
	}
}

// literal keeps the braces of a file's name from being taken for a template.
func literal(s string) string {
	if strings.HasPrefix(s, "-") {
		s = "./" + s
	}
	return strings.NewReplacer("{", "{{", "}", "}}").Replace(s)
}

// appImporting finds the file that imports a package: the first with one of the
// names, the root before directories, else the only one.
func appImporting(name string, names ...string) func(*reader) app {
	imports := regexp.MustCompile(`(?m)^\s*(import|from)\s+` + name + `\b`)
	return func(r *reader) app {
		found := r.sources(".py", imports.MatchString)
		return chosenApp(found, name, names)
	}
}

func chosenApp(found []string, name string, names []string) app {
	rank := func(file string) int {
		if i := slices.Index(names, path.Base(file)); i >= 0 {
			return i
		}
		return len(names)
	}
	slices.SortStableFunc(found, func(a, b string) int {
		return cmp.Or(strings.Count(a, "/")-strings.Count(b, "/"), rank(a)-rank(b), strings.Compare(a, b))
	})
	switch {
	case len(found) == 0:
		return app{why: "Add a file called " + names[0] + " that imports " + name + "."}
	case rank(found[0]) < len(names), len(found) == 1, strings.Contains(found[1], "/") && !strings.Contains(found[0], "/"):
		return app{file: found[0], why: found[0] + " is the app"}
	default:
		return app{why: "Several files import " + name + ": call the one to open " + names[0] + "."}
	}
}

// findPanel takes a script or notebook that marks something as servable.
func findPanel(r *reader) app {
	servable := func(text string) bool { return strings.Contains(text, ".servable(") }
	found := append(r.sources(".py", servable), r.sources(".ipynb", servable)...)
	return chosenApp(found, "panel", []string{"app.py", "dashboard.py", "main.py", "index.ipynb", "app.ipynb", "dashboard.ipynb"})
}

// findVoila takes the notebook that is alone or called index; of several, people
// choose in Voilà's own list.
func findVoila(r *reader) app {
	found := r.sources(".ipynb", func(string) bool { return true })
	i := slices.Index(found, "index.ipynb")
	switch {
	case len(found) == 0:
		return app{why: "Add a notebook."}
	case i < 0 && len(found) > 1:
		return app{file: found[0], path: "voila/tree", why: "there are notebooks"}
	}
	file := found[max(i, 0)]
	return app{file: file, path: "voila/render/" + escaped(file), why: file + " is the notebook to show"}
}

// findMarimo knows marimo's notebooks by what every one of them holds.
func findMarimo(r *reader) app {
	found := r.sources(".py", func(text string) bool { return strings.Contains(text, "marimo.App(") })
	switch len(found) {
	case 0:
		if r.opt.Interface == "marimo" {
			return app{file: ".", why: "marimo opens without a notebook"}
		}
		return app{}
	case 1:
		return app{file: found[0], path: "marimo/?file=" + escaped(found[0]), why: found[0] + " is a notebook of marimo"}
	default:
		return app{file: found[0], why: found[0] + " and others are notebooks of marimo"}
	}
}

// What is looked at to find an app.
const (
	mostSources  = 300
	sourceHead   = 512 << 10 // bytes of each: notebooks with pictures are large
	mostSourceMB = 32 << 20
)

// sources are the files of the root and of the directories in it that end so
// and hold what is looked for, in order. What can't be read is not the app.
func (r *reader) sources(end string, is func(text string) bool) []string {
	var found []string
	looked, read := 0, 0
	var walk func(dir string, deep int)
	walk = func(dir string, deep int) {
		entries, err := fs.ReadDir(r.fs, dir)
		if err != nil {
			return
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case strings.HasPrefix(e.Name(), ".") || slices.Contains([]string{"node_modules", "tests", "test", "docs", "__pycache__"}, e.Name()):
			case e.IsDir() && deep > 0:
				walk(name, deep-1)
			case e.Type().IsRegular() && strings.HasSuffix(e.Name(), end) && looked < mostSources && read < mostSourceMB:
				b, ok, err := r.bytes(name, sourceHead)
				looked, read = looked+1, read+len(b)
				if err == nil && ok && is(string(b)) {
					found = append(found, name)
				}
			}
		}
	}
	walk(".", 1)
	return found
}

// escaped writes a path of the repository as one of a URL.
func escaped(name string) string { return strings.ReplaceAll(url.PathEscape(name), "%2F", "/") }
