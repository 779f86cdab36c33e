package source

import (
	"strings"
	"unicode"

	"github.com/binnacle-hub/binnacle"
)

const (
	maxRef   = 250
	minShort = 7
)

// isHex says whether s is all lower-case hex digits.
func isHex(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// isCommit says whether s is a full object name: SHA-1 or SHA-256.
func isCommit(s string) bool { return (len(s) == 40 || len(s) == 64) && isHex(s) }

// checkRef refuses what no ref may be: what git itself forbids (see
// git-check-ref-format), what could be an option, and characters that only
// look like others.
func checkRef(ref string) error {
	bad := func(why string) error {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "source.ref",
			Message: "The ref " + quote(ref) + " " + why + ".",
			Hint:    "Give a branch, a tag or a commit, for example main.",
		}
	}
	switch {
	case ref == "":
		return bad("is empty")
	case len(ref) > maxRef:
		return bad("is too long")
	case strings.HasPrefix(ref, "-"):
		return bad("begins with a hyphen")
	case strings.Contains(ref, ".."), strings.Contains(ref, "@{"), strings.Contains(ref, "//"), ref == "@",
		strings.HasPrefix(ref, "/"), strings.HasSuffix(ref, "/"), strings.HasSuffix(ref, "."), strings.HasSuffix(ref, ".lock"),
		strings.HasPrefix(ref, "."), strings.Contains(ref, "/."), strings.ContainsAny(ref, "~^:?*[\\"):
		return bad("is not the name of a branch, a tag or a commit")
	}
	if strings.ContainsFunc(ref, func(r rune) bool { return !refRune(r) }) {
		return bad("holds a character that does not belong there")
	}
	return nil
}

// refRune allows ASCII that is printed and, of the rest, letters, digits and
// pictures; not the full-width forms, dashes and spaces that pass for ASCII.
func refRune(r rune) bool {
	if r <= 0x7f {
		return r > 0x20 && r < 0x7f
	}
	if r == unicode.ReplacementChar || (r >= 0xff00 && r <= 0xffef) {
		return false
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.So)
}
