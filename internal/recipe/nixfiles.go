package recipe

import (
	"io/fs"
	"regexp"
	"strings"
)

// nixCode is an expression without its comments and without the text of its
// strings; what is inserted into a string is code again.
func nixCode(text string) string {
	var out strings.Builder
	var inside []string // what ends each string or insertion we are in, the innermost last
	for i := 0; i < len(text); {
		rest, end := text[i:], ""
		if len(inside) > 0 {
			end = inside[len(inside)-1]
		}
		skip, write := 1, ""
		switch {
		case end == `"` || end == "''": // in a string
			skip, inside = nixString(rest, inside)
			write = " "
		case strings.HasPrefix(rest, "#"):
			skip = len(rest[:lineEnd(rest)])
		case strings.HasPrefix(rest, "/*"):
			skip = len(rest)
			if n := strings.Index(rest[2:], "*/"); n >= 0 {
				skip = n + len("/**/")
			}
		case strings.HasPrefix(rest, "''"):
			skip, inside, write = 2, append(inside, "''"), " "
		case rest[0] == '"':
			inside, write = append(inside, `"`), " "
		case rest[0] == '{':
			inside, write = append(inside, "}"), "{"
		case rest[0] == '}':
			if end == "}" {
				inside = inside[:len(inside)-1]
			}
			write = "}"
		default:
			write = rest[:1]
		}
		out.WriteString(write)
		i += skip
	}
	return out.String()
}

func lineEnd(text string) int {
	if n := strings.IndexByte(text, '\n'); n >= 0 {
		return n
	}
	return len(text)
}

// nixString goes on in a string: how many bytes are done, and where we are then.
func nixString(rest string, inside []string) (int, []string) {
	end := inside[len(inside)-1]
	switch {
	case end == `"` && strings.HasPrefix(rest, `\`), strings.HasPrefix(rest, "$$"):
		return min(2, len(rest)), inside
	case end == "''" && (strings.HasPrefix(rest, "''$") || strings.HasPrefix(rest, "'''")):
		return 3, inside
	case end == "''" && strings.HasPrefix(rest, `''\`):
		return min(4, len(rest)), inside
	case strings.HasPrefix(rest, "${"):
		return 2, append(inside, "}")
	case strings.HasPrefix(rest, end):
		return len(end), inside[:len(inside)-1]
	}
	return 1, inside
}

// nixNamesFiles says whether an expression reads, or may read, other files of the
// repository: it has a path, asks for the environment, or is a flake that uses
// itself. To say so wrongly costs time only.
func nixNamesFiles(text string) bool {
	code := nixCode(text)
	code = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9/._-]*>|\b[a-z][a-z0-9+.-]*://\S*`).ReplaceAllString(code, " ")
	return regexp.MustCompile(`[A-Za-z0-9._+~-]*/[A-Za-z0-9._+$]|\bgetEnv\b`).MatchString(code) || len(regexp.MustCompile(`\bself\b`).FindAllString(code, 2)) > 1
}

// usesNixpkgs says whether any expression of the repository asks for <nixpkgs>.
func (r *reader) usesNixpkgs() (bool, error) {
	const most = 200 // expressions that are looked at
	found, seen := false, 0
	err := fs.WalkDir(r.fs, ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil || (d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(at, ".nix") {
			return nil
		}
		b, ok, err := r.bytes(at, maxFile)
		if seen++; seen > most || (ok && err == nil && strings.Contains(string(b), "<nixpkgs")) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}
