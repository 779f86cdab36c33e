package recipe

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
	if r.servers == nil {
		r.servers = map[string]server{}
	}
	r.servers["shiny"] = server{
		Command: []string{p.program("Rscript"), "--no-save", "--no-restore", "-e", `shiny::runApp(".", host = "127.0.0.1", port = {port}, launch.browser = FALSE)`},
		Timeout: startTime, Launcher: launcher{"Shiny", "shiny/"},
	}
}
