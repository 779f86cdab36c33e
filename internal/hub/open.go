package hub

import (
	"net/url"

	"github.com/binnacle-hub/binnacle"
)

// Opener is a program that a person may choose to open a session with.
type Opener struct {
	Name  string // as the form sends it; empty is JupyterLab
	Title string
	// path opens the session, and a file of it where the program can.
	path func(file string) string
}

// openers in the order of the form. Those beyond Notebook are installed when a
// link asks for them, or belong to the repository.
func openers() []Opener {
	at := func(path string) func(string) string { return func(string) string { return path } }
	with := func(path, before string) func(string) string {
		return func(file string) string {
			if file == "" {
				return path
			}
			return before + escapePath(file)
		}
	}
	return []Opener{
		{"", "JupyterLab", with("", "lab/tree/")},
		{"notebook", "Notebook", with("tree", "tree/")},
		{"vscode", "VS Code", at("vscode/")},
		{"rstudio", "RStudio", at("rstudio/")},
		{"desktop", "Linux desktop", at("desktop/")},
		{"voila", "Voilà", with("voila/", "voila/render/")},
		{"marimo", "marimo", func(file string) string {
			if file == "" {
				return "marimo/"
			}
			return "marimo/?file=" + url.QueryEscape(file)
		}},
		{"streamlit", "Streamlit app", at("streamlit/")},
		{"panel", "Panel app", at("panel/")},
		{"shiny", "Shiny app", at("shiny/")},
		{"gradio", "Gradio app", at("gradio/")},
		{"dash", "Dash app", at("dash/")},
	}
}

// openWith is the path of the session that a chosen program has. Returns invalid
// for one that is not offered.
func openWith(name, file string) (string, error) {
	for _, o := range openers() {
		if o.Name == name {
			return o.path(file), nil
		}
	}
	return "", &binnacle.Error{Code: binnacle.CodeInvalid, Message: "A session can't be opened with " + clip(name, 80) + ".", Hint: "Choose one from the list, or leave it out for JupyterLab."}
}
