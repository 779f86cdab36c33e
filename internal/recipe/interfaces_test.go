package recipe_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func TestInterfaces(t *testing.T) {
	const notebook, servable = `{"cells": []}`, "import panel as pn\npn.Row('x').servable()\n"
	for name, c := range map[string]struct {
		files map[string]string
		asked string
		want  []string // name, path and why
		added string   // Asked
		note  string
	}{
		"nothing": {},
		"streamlit": {
			files: map[string]string{"requirements.txt": "Streamlit>=1\n", "app.py": "import streamlit as st\n"},
			want:  []string{"streamlit streamlit/ requirements.txt asks for Streamlit; app.py is the app"},
		},
		"a better name wins": {
			files: map[string]string{"requirements.txt": "streamlit\n", "app.py": "import streamlit\n", "streamlit_app.py": "from streamlit import write\n"},
			want:  []string{"streamlit streamlit/ requirements.txt asks for streamlit; streamlit_app.py is the app"},
		},
		"the root wins":      {files: map[string]string{"requirements.txt": "streamlit\n", "pages/app.py": "import streamlit\n", "start.py": "import streamlit\n"}, want: []string{"streamlit streamlit/ requirements.txt asks for streamlit; start.py is the app"}},
		"none of two":        {files: map[string]string{"requirements.txt": "streamlit\n", "a.py": "import streamlit\n", "b.py": "import streamlit\n"}},
		"not imported":       {files: map[string]string{"requirements.txt": "streamlit\n", "app.py": "# import streamlit\nimport streamlit_extras\n"}},
		"not declared":       {files: map[string]string{"app.py": "import streamlit\n"}},
		"apt is no Python":   {files: map[string]string{"apt.txt": "panel\n", "app.py": servable}},
		"asked, no app":      {asked: "streamlit", note: "nothing in the repository"},
		"asked and declared": {files: map[string]string{"requirements.txt": "shiny\n", "app.py": "from shiny.express import ui\n"}, asked: "shiny", want: []string{"shiny shiny/ requirements.txt asks for shiny; app.py is the app"}},
		"asked": {
			files: map[string]string{"app.py": "import streamlit\n"}, asked: "streamlit", added: "streamlit",
			want: []string{"streamlit streamlit/ the link asks for it"},
		},
		"panel":              {files: map[string]string{"requirements.txt": "panel\n", "app.py": servable}, want: []string{"panel panel/ requirements.txt asks for panel; app.py is the app"}},
		"panel in conda":     {files: map[string]string{"environment.yml": "dependencies: [panel]\n", "index.ipynb": `"pn.Row().servable()"`}, want: []string{"panel panel/ environment.yml asks for panel; index.ipynb is the app"}},
		"panel by its own":   {files: map[string]string{"requirements.txt": "jupyter_panel_proxy\n"}, want: []string{"panel panel/ requirements.txt asks for jupyter_panel_proxy"}},
		"voila":              {files: map[string]string{"requirements.txt": "voila\n", "a b.ipynb": notebook}, want: []string{"voila voila/render/a%20b.ipynb requirements.txt asks for voila; a b.ipynb is the notebook to show"}},
		"voila of several":   {files: map[string]string{"requirements.txt": "voila\n", "a.ipynb": notebook, "b.ipynb": notebook}, want: []string{"voila voila/tree requirements.txt asks for voila; there are notebooks"}},
		"voila has an index": {files: map[string]string{"requirements.txt": "voila\n", "a.ipynb": notebook, "index.ipynb": notebook}, want: []string{"voila voila/render/index.ipynb requirements.txt asks for voila; index.ipynb is the notebook to show"}},
		"marimo":             {files: map[string]string{"requirements.txt": "marimo\n", "notebooks/n.py": "import marimo\napp = marimo.App()\n"}, want: []string{"marimo marimo/?file=notebooks/n.py requirements.txt asks for marimo; notebooks/n.py is a notebook of marimo"}},
		"marimo asked":       {asked: "marimo", added: "marimo", want: []string{"marimo marimo/ the link asks for it"}},
		"gradio and dash": {
			files: map[string]string{"requirements.txt": "gradio\ndash\n", "app.py": "import gradio\n", "main.py": "from dash import Dash\n"},
			want:  []string{"gradio gradio/ requirements.txt asks for gradio; app.py is the app", "dash dash/ requirements.txt asks for dash; main.py is the app"},
		},
		"desktop":            {asked: "desktop", added: "desktop", want: []string{"desktop desktop/ the link asks for it"}},
		"desktop by its own": {files: map[string]string{"requirements.txt": "jupyter-remote-desktop-proxy\n"}, asked: "desktop", want: []string{"desktop desktop/ requirements.txt asks for jupyter-remote-desktop-proxy"}},
		"vscode":             {asked: "vscode", added: "vscode", want: []string{"vscode vscode/ the link asks for it"}},
		"Dockerfile":         {files: map[string]string{"Dockerfile": "FROM a\n"}, asked: "vscode", note: "not added to the image of a Dockerfile"},
		"unknown":            {asked: "emacs"},
		"RStudio, no R":      {files: map[string]string{"requirements.txt": "numpy\n"}, asked: "rstudio", note: "nothing in the repository asks for R"},
		"RStudio of conda": {
			files: map[string]string{"environment.yml": "dependencies: [r-base]\n", "app.R": ""}, asked: "rstudio",
			want: []string{"rstudio rstudio/ the link asks for it"},
		},
		"Shiny of conda": {
			files: map[string]string{"environment.yml": "dependencies: [r-shiny]\n", "app.R": ""},
			want:  []string{"rstudio rstudio/ images of R have it where it can be fetched", "shiny shiny/ app.R is an application of Shiny"},
		},
		"Shiny in directories": {
			files: map[string]string{"runtime.txt": "r-2025-06-01", "boats/app.R": "", "a/tides/ui.R": "", "a/tides/server.R": "", "a/b/c/app.R": "", ".x/app.R": "", "d'e/app.R": "", "boats/more/app.R": ""},
			want: []string{
				"rstudio rstudio/ images of R have it where it can be fetched",
				"shiny shiny/a/tides/ a/tides/server.R is an application of Shiny", "shiny shiny/boats/ boats/app.R is an application of Shiny",
			},
		},
		"Shiny in the root": {
			files: map[string]string{"install.R": "", "app.R": "", "boats/app.R": ""},
			want:  []string{"rstudio rstudio/ images of R have it where it can be fetched", "shiny shiny/ app.R is an application of Shiny"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := recipe.Read(repo(c.files), recipe.Options{Interface: c.asked})
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, i := range r.Interfaces {
				have = append(have, i.Name+" "+i.Path+" "+i.Why)
			}
			if diff := cmp.Diff(c.want, have); diff != "" {
				t.Errorf("interfaces (-want +have):\n%s", diff)
			}
			if r.Asked != c.added {
				t.Errorf("asked is %q, want %q", r.Asked, c.added)
			}
			if !strings.Contains(notes(r), c.note) {
				t.Errorf("no note has %q:\n%s", c.note, notes(r))
			}
		})
	}
}

// TestInterfaceServers reads what jupyter-server-proxy is told.
func TestInterfaceServers(t *testing.T) {
	r := read(t, map[string]string{"requirements.txt": "shiny\nstreamlit\n", "-{x}.py": "import streamlit\n", "app.py": "import shiny\n"})
	var config struct {
		ServerProxy struct {
			Servers map[string]struct {
				Command  []string `json:"command"`
				Absolute bool     `json:"absolute_url"`
				Launcher struct {
					Title string `json:"title"`
					Path  string `json:"path_info"`
				} `json:"launcher_entry"`
			} `json:"servers"`
		}
	}
	if err := json.Unmarshal([]byte(input(t, r, "Interfaces: Shiny, Streamlit", "interfaces.json")), &config); err != nil {
		t.Fatal(err)
	}
	lit := config.ServerProxy.Servers["streamlit"]
	if got := strings.Join(lit.Command, " "); !strings.Contains(got, "run ./-{{x}}.py ") || !strings.Contains(got, "--server.baseUrlPath={base_url}streamlit") {
		t.Errorf("streamlit is started by %s", got)
	}
	if !lit.Absolute || lit.Launcher.Title != "Streamlit" || lit.Launcher.Path != "streamlit/" {
		t.Errorf("streamlit is offered as %+v", lit)
	}
	want := []string{"Python and Jupyter", "jupyter-server-proxy", "wheels: requirements.txt", "pip: requirements.txt", "Interfaces: Shiny, Streamlit"}
	if diff := cmp.Diff(want, steps(r)); diff != "" {
		t.Errorf("steps (-want +have):\n%s", diff)
	}
}

func TestInterfaceOf(t *testing.T) {
	for path, want := range map[string]string{
		"": "", "lab": "", "lab/tree/vscode": "", "tree": "", "vscode": "vscode", "/vscode/?folder=/x": "vscode", "vscode?a=b": "vscode", "vscodes": "",
		"desktop/": "desktop", "rstudio/": "rstudio", "voila/render/index.ipynb": "voila", "proxy/8501/": "", "marimo/?file=a.py": "marimo", "streamlit#x": "streamlit",
	} {
		if have := recipe.InterfaceOf(path); have != want {
			t.Errorf("InterfaceOf(%q) = %q, want %q", path, have, want)
		}
	}
}

func TestAskedPackage(t *testing.T) {
	r, err := recipe.Read(repo(map[string]string{"requirements.txt": "numpy\n", "index.ipynb": "{}"}), recipe.Options{Interface: "voila"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Python and Jupyter", "wheels: requirements.txt", "pip: requirements.txt", "Voilà"}, steps(r)); diff != "" {
		t.Errorf("steps (-want +have):\n%s", diff)
	}
	step := r.Steps[len(r.Steps)-1]
	if step.Lock == nil || step.Branch != "python" || len(step.Caches) > 0 {
		t.Errorf("it is installed beside what the repository chose: %+v", step)
	}
}
