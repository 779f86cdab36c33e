package e2e_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/cran"
)

// rPackages are what our CRAN has: packages of our own making that do as much of
// what real ones of the same name do as the examples use.
func rPackages() []cran.Package {
	const words = `english <- function(x) structure(x, class = "english")
as.character.english <- function(x, ...) c("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")[unclass(x) + 1]`
	const names = "exportPattern(\"^[a-z]\")\nS3method(as.character, english)\n"
	return []cran.Package{
		{Name: "praise", Version: "1.0.0", Code: `praise <- function(template = "") sub("${Exclamation}", "Wow", template, fixed = TRUE)`},
		{Name: "english", Version: "1.2-5", Since: "2020-01-01", Code: words, Files: map[string]string{"NAMESPACE": names}},
		{Name: "english", Version: "1.2-6", Since: "2021-08-01", Code: words, Files: map[string]string{
			"NAMESPACE": names + "useDynLib(english)\n", "src/code.c": "int twice(int n) { return 2 * n; }\n", // something to compile
		}},
	}
}

// TestR launches repositories with R from Debian and packages from a CRAN of our
// own, and runs their notebooks through R's kernel.
func TestR(t *testing.T) {
	for _, name := range []string{"r-install", "r-description", "r-renv", "r-course"} {
		t.Run(name, func(t *testing.T) {
			repo := the.example(t, name)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
				t.Error(err)
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
	t.Run("failing-r", func(t *testing.T) {
		repo := the.example(t, "failing-r")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "install.R" || l.Error.Line != 4 || !strings.Contains(l.Error.Message, "englich") || !strings.Contains(l.Error.Hint, "runtime.txt chooses it") || len(l.Error.Excerpt) == 0 {
			t.Fatalf("ended as %s with %+v", l.Phase, l.Error)
		}
		t.Log(l.Error.Message, l.Error.Hint)
	})
}
