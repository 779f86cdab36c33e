package cran

// Examples are what the examples of R use: packages of our own making that do as
// much of what real ones of the same name do.
func Examples() []Package {
	const words = `english <- function(x) structure(x, class = "english")
as.character.english <- function(x, ...) c("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")[unclass(x) + 1]`
	const names = "exportPattern(\"^[a-z]\")\nS3method(as.character, english)\n"
	return []Package{
		{Name: "praise", Version: "1.0.0", Code: `praise <- function(template = "") sub("${Exclamation}", "Wow", template, fixed = TRUE)`},
		{Name: "english", Version: "1.2-5", Since: "2020-01-01", Code: words, Files: map[string]string{"NAMESPACE": names}},
		{Name: "english", Version: "1.2-6", Since: "2021-08-01", Code: words, Files: map[string]string{
			"NAMESPACE": names + "useDynLib(english)\n", "src/code.c": "int twice(int n) { return 2 * n; }\n", // something to compile
		}},
	}
}
