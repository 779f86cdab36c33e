package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// rScript is an install.R.
type rScript struct {
	file     string
	text     string
	tree     bool // it may read files of the repository
	packages []Package
}

// readInstall looks at what the script installs, for people, and whether it
// needs the repository's files.
func (r *reader) readInstall(file string) (*rScript, error) {
	text, _, err := r.text(file)
	if err != nil {
		return nil, err
	}
	tokens := rTokens(text)
	s := &rScript{file: file, text: text, packages: rPackages(file, tokens)}
	why := r.readsTree(tokens)
	s.tree = why != ""
	if s.tree {
		r.use(file, "installs packages of R, with the repository's files: "+why)
		r.note(file, 0, "install.R may read files of the repository ("+why+"), so it runs anew for every commit.", "Keep to install.packages(), remotes::install_github() and their like in it.")
	} else {
		r.use(file, "installs packages of R")
	}
	return s, nil
}

// installStep runs the script, before the tree is there when that will do: then
// it is keyed by its own text.
func (p rPlan) installStep() Step {
	stage, at := StageEnvironment, InputDir+"/install.R"
	if p.install.tree {
		stage, at = StageContent, RepoDir+"/"+p.install.file
	}
	s := p.step("R: "+p.install.file, stage, "run "+quote(at)+" install.R")
	if !p.install.tree {
		s.Inputs = append(s.Inputs, Input{Name: "install.R", Content: []byte(p.install.text)})
	}
	s.From, s.Packages = []Location{{File: p.install.file}}, p.install.packages
	return s
}

// rToken is a word of R: a name, a string, or one character.
type rToken struct {
	kind byte // 'n' name, 's' string, 'o' anything else
	text string
	line int
}

// rTokens reads R's words. What it does not know it gives as single characters.
func rTokens(text string) []rToken {
	var out []rToken
	line := 1
	for i := 0; i < len(text); {
		begin, c := i, text[i]
		switch {
		case c == '\n':
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f':
			i++
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '"' || c == '\'' || c == '`':
			value, end := rString(text, i)
			kind := byte('s')
			if c == '`' {
				kind = 'n'
			}
			out = append(out, rToken{kind, value, line})
			line += strings.Count(text[begin:end], "\n")
			i = end
		case rLetter(c):
			for i < len(text) && (rLetter(text[i]) || text[i] >= '0' && text[i] <= '9') {
				i++
			}
			// R has raw strings since 4.0: what they hold can't be told here.
			out = append(out, rToken{'n', text[begin:i], line})
		default:
			out = append(out, rToken{'o', string(c), line})
			i++
		}
	}
	return out
}

func rLetter(c byte) bool {
	return c == '.' || c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// rString reads a quoted word and says where it ends.
func rString(text string, begin int) (string, int) {
	var value strings.Builder
	i := begin + 1
	for i < len(text) && text[i] != text[begin] {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		value.WriteByte(text[i])
		i++
	}
	return value.String(), min(i+1, len(text))
}

// rPackages are the names that install functions, and vectors, spell out.
func rPackages(file string, tokens []rToken) []Package {
	name := regexp.MustCompile(`^(?:[A-Za-z0-9_.-]+/)?([A-Za-z][A-Za-z0-9.]+)(?:@\S+)?$`)
	const most = 500
	var out []Package
	var calls []string
	for i, t := range tokens {
		before := rToken{}
		if i > 0 {
			before = tokens[i-1]
		}
		switch {
		case t.kind == 'o' && t.text == "(":
			calls = append(calls, before.text)
		case t.kind == 'o' && t.text == ")" && len(calls) > 0:
			calls = calls[:len(calls)-1]
		case t.kind == 's' && len(calls) > 0 && before.kind == 'o' && (before.text == "(" || before.text == ",") && len(out) < most:
			call := calls[len(calls)-1]
			if m := name.FindStringSubmatch(t.text); m != nil && (call == "c" || strings.HasPrefix(call, "install")) {
				out = append(out, Package{Manager: "cran", Name: m[1], Spec: t.text, From: Location{file, t.line}})
			}
		}
	}
	return out
}

// rHarmless are functions that read no file of the directory they run in.
func rHarmless() []string {
	return strings.Fields(`install.packages installed.packages available.packages update.packages library require requireNamespace loadNamespace
install_github install_gitlab install_version install_cran install_bioc install_bitbucket install_git install_url install repositories
c list character logical numeric vector rep seq_along seq_len length names rownames colnames nrow unlist lapply sapply vapply mapply Map Filter Reduce invisible
if for while function repeat return switch else in is.null is.na isTRUE isFALSE identical all any is.element setdiff union intersect unique sort rev which
paste paste0 sprintf format nchar nzchar trimws toupper tolower grepl sub gsub startsWith endsWith strsplit as.character as.numeric as.integer as.logical
print cat message warning stop stopifnot quit q suppressWarnings suppressMessages suppressPackageStartupMessages try tryCatch on.exit inherits conditionMessage
options getOption Sys.setenv Sys.getenv Sys.info Sys.time Sys.Date Sys.setlocale set.seed R.Version getRversion packageVersion numeric_version package_version compareVersion
interactive exists missing is.character is.function nargs max min sum round parallel detectCores installspec install_tinytex install_phantomjs use_condaenv
rbind cbind data.frame append head tail do.call identity Negate Recall sessionInfo contrib.url chooseCRANmirror setRepositories
.libPaths dir.create Sys.umask`)
}

// readsTree says why a script may need the repository's files; empty when it
// calls nothing that could read one. It errs on the side of the tree.
func (r *reader) readsTree(tokens []rToken) string {
	harmless := map[string]bool{}
	for _, name := range rHarmless() {
		harmless[name] = true
	}
	for i, t := range tokens { // functions of the script's own
		if i+3 < len(tokens) && t.kind == 'n' && tokens[i+1].text == "<" && tokens[i+2].text == "-" && tokens[i+3].text == "function" ||
			i+2 < len(tokens) && t.kind == 'n' && tokens[i+1].text == "=" && tokens[i+2].text == "function" {
			harmless[t.text] = true
		}
	}
	reads := regexp.MustCompile(`^(source|sys\.source|file|url|gzfile|fifo|pipe|open|load|attach|setwd|getwd|dir|list\.files|list\.dirs|system|system2|shell|eval|parse|evalq|scan|here|Rscript|get|match\.fun|assign|restore|pak|pacman|p_load|read.*|install_local|install_deps|install_dev_deps|install_remote.*|install_svn|unzip|untar|file\..*|.*\.frame|normalizePath|basename|path.*)$`)
	for i, t := range tokens {
		called := i+1 < len(tokens) && tokens[i+1].kind == 'o' && tokens[i+1].text == "("
		switch {
		case t.kind == 'n' && called && !harmless[t.text]:
			return "it calls " + strings.Trim(short(t.text), `"`)
		case t.kind == 'n' && !harmless[t.text] && reads.MatchString(t.text):
			return "it names " + strings.Trim(short(t.text), `"`)
		case t.kind == 's' && (strings.HasPrefix(t.text, ".") || strings.HasPrefix(t.text, "~") || r.isFile(t.text)):
			return "it names " + short(t.text)
		case t.kind == 'n' && t.text == "repos" && i+2 < len(tokens) && tokens[i+1].text == "=" && tokens[i+2].text == "NULL":
			return "it installs files"
		}
	}
	return ""
}

// isFile says whether a text of a script is the path of something there. Only
// what looks like a path is looked up.
func (r *reader) isFile(text string) bool {
	if path.IsAbs(text) {
		return true
	}
	if !slices.Contains([]string{".R", ".r", ".gz", ".zip", ".txt", ".csv", ".lock", ".rds", ".json", ".yml"}, path.Ext(text)) {
		return false
	}
	return !strings.Contains(text, "://")
}
