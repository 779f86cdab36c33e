package recipe

import "encoding/json"

// shinyApp is the file that makes the root an application of R's Shiny; empty
// when it is none.
func (r *reader) shinyApp() string {
	switch {
	case r.hasPath("app.R"):
		return "app.R"
	case r.hasPath("ui.R") && r.hasPath("server.R"):
		return "server.R"
	}
	return ""
}

// rShiny offers the application that is in the root. Shiny itself is part of R
// images that have one, as in repo2docker; what the author installs comes first.
func (r *reader) rShiny(p rPlan) {
	app := r.shinyApp()
	if app == "" {
		return
	}
	r.use(app, "an application of Shiny")
	r.Interfaces = append(r.Interfaces, Interface{Name: "shiny", Path: "shiny/", Why: app + " is an application of Shiny"})
	r.rProxy()
	const patience = 90 // seconds
	entry := map[string]any{
		"command": []string{p.program("Rscript"), "--no-save", "--no-restore", "-e", `shiny::runApp(".", host = "127.0.0.1", port = {port}, launch.browser = FALSE)`},
		"timeout": patience, "launcher_entry": map[string]string{"title": "Shiny", "path_info": "shiny/"},
	}
	config, err := json.MarshalIndent(map[string]any{"ServerProxy": map[string]any{"servers": map[string]any{"shiny": entry}}}, "", " ")
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	// Files of jupyter_server_config.d only switch extensions on and off.
	const dir = Prefix + "/etc/jupyter"
	r.add(Step{
		Name: "Shiny in Jupyter", Stage: StageEnvironment, Branch: "r", From: []Location{{File: app}},
		Inputs: []Input{{Name: "shiny.json", Content: append(config, '\n')}},
		Script: "mkdir -p " + dir + "\ncp " + InputDir + "/shiny.json " + dir + "/jupyter_config.json\n",
	})
}
