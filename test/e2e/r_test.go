package e2e_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/cran"
)

// TestR launches repositories with R from Debian and packages from a CRAN of our
// own, and runs their notebooks through R's kernel.
func TestR(t *testing.T) {
	bioconductor := cran.New(cran.Package{Name: "Fathoms", Version: "1.36.0", Code: "depth <- function() 6"})
	the.late.mux.Handle("/bioconductor/", http.StripPrefix("/bioconductor", bioconductor))
	for name, files := range map[string]map[string]string{
		"r-install": nil, "r-description": nil, "r-course": nil,
		"r-renv": {"renv.lock": withBioconductor(t, "Fathoms", "1.36.0")},
	} {
		t.Run(name, func(t *testing.T) {
			repo := the.exampleWith(t, name, files)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
				t.Error(err)
			}
			if name == "r-renv" {
				cell(t, server, `import subprocess; print(subprocess.run(["Rscript", "-e", "cat(Fathoms::depth())"], capture_output=True, text=True).stdout)`, "6")
				if asked := strings.Join(bioconductor.Asked(), "\n"); !strings.Contains(asked, "/3.21/bioc/src/contrib/Fathoms_1.36.0.tar.gz") {
					t.Errorf("Bioconductor's mirror was asked for %q", asked)
				}
			}
		})
	}
	t.Run("r-shiny", func(t *testing.T) {
		repo := the.example(t, "r-shiny")
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
		page, err := server.Get(t.Context(), "shiny/")
		if err != nil || !strings.Contains(string(page), "shiny.min.js") || !strings.Contains(string(page), `id="height"`) {
			t.Errorf("%v: %.400s", err, page)
		}
	})
	t.Run("rstudio", func(t *testing.T) {
		// The program is a stand-in; its installation, its settings and its proxy are not.
		repo := the.example(t, "r-install")
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL, Path: "rstudio/"})
		stopAfter(t, l)
		page, err := server.Get(t.Context(), "rstudio/")
		if want := "stand-in of RStudio for jovyan at /user/" + l.Session.ID + "/rstudio/: R version 4.5"; err != nil || !strings.Contains(string(page), want) {
			t.Errorf("%v: %.400s; want %s", err, page, want)
		}
	})
	t.Run("as in repo2docker", rAsInRepo2docker)
	t.Run("failing-r", func(t *testing.T) {
		repo := the.example(t, "failing-r")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "install.R" || l.Error.Line != 4 || !strings.Contains(l.Error.Message, "englich") || !strings.Contains(l.Error.Hint, "runtime.txt chooses it") || len(l.Error.Excerpt) == 0 {
			t.Fatalf("ended as %s with %+v", l.Phase, l.Error)
		}
		t.Log(l.Error.Message, l.Error.Hint)
	})
}

// rAsInRepo2docker has what scripts for its images of R count on: packages that are
// compiled already, remotes and devtools, and applications of Shiny in directories.
func rAsInRepo2docker(t *testing.T) {
	compiled, err := cran.Compiled(t.Context(), cran.Package{Name: "stone", Version: "1.0", Code: "weight <- function() 12", Files: map[string]string{
		"configure": "#!/bin/sh\n[ -n \"$COMPILED_HERE\" ] || { echo 'there is no quarry here'; exit 1; }\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	the.cran.Add(compiled...)
	for _, name := range []string{"gravel", "sand"} {
		source, err := cran.Package{Name: name, Version: "1.0", Code: "grain <- function() \"" + name + "\""}.Tarball()
		if err != nil {
			t.Fatal(err)
		}
		the.late.mux.HandleFunc("/"+name+"_1.0.tar.gz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(source) })
	}
	repo, err := the.git.Repo(t.Context(), "r-as-in-repo2docker", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{
		"install.R":   "install.packages(\"stone\")\nremotes::install_url(\"" + the.late.URL + "/gravel_1.0.tar.gz\")\n",
		"postBuild":   "#!/bin/bash\nset -e\nRscript -e 'devtools::install_url(\"" + the.late.URL + "/sand_1.0.tar.gz\")'\n",
		"boats/app.R": read(t, "../../examples/r-shiny/app.R"),
	}); err != nil {
		t.Fatal(err)
	}
	l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
	stopAfter(t, l)
	cell(t, server, `import subprocess; print(subprocess.run(["Rscript", "-e", "cat(stone::weight(), gravel::grain(), sand::grain())"], capture_output=True, text=True).stdout)`, "12 gravel sand")
	page, err := server.Get(t.Context(), "shiny/boats/")
	if err != nil || !strings.Contains(string(page), "shiny.min.js") {
		t.Errorf("%v: %.400s", err, page)
	}
}

// withBioconductor is the example's lock with one more package.
func withBioconductor(t *testing.T, name, version string) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/r-renv/renv.lock")
	var lock map[string]any
	if err = errors.Join(err, json.Unmarshal(text, &lock)); err != nil {
		t.Fatal(err)
	}
	lock["Bioconductor"] = map[string]string{"Version": "3.21"}
	lock["Packages"].(map[string]any)[name] = map[string]string{"Package": name, "Version": version, "Source": "Bioconductor"}
	if text, err = json.Marshal(lock); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
