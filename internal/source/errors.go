package source

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/binnacle-hub/binnacle"
)

// hasControl says whether s holds a character that breaks lines or terminals,
// or is not UTF-8.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, isControl) || strings.ToValidUTF8(s, "") != s
}

func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069)
}

// quote writes untrusted text on one line, short, and without credentials.
func quote(s string) string {
	const limit = 200
	s = mask(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strconv.Quote(s)
}

// mask hides what stands between :// and @ wherever that occurs in s.
func mask(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			return b.String() + s
		}
		b.WriteString(s[:i+3])
		s = s[i+3:]
		end := strings.IndexFunc(s, func(r rune) bool { return r == '/' || r == '?' || r == '#' || r <= ' ' || r == '\'' || r == '"' })
		if end < 0 {
			end = len(s)
		}
		if at := strings.LastIndexByte(s[:end], '@'); at >= 0 && s[:at] != "git" {
			b.WriteString("***")
			s = s[at:]
		}
	}
}

// printable is a line of a program's output fit for a log: control characters
// gone, credentials hidden, not longer than limit bytes.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if isControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	s = mask(strings.TrimSpace(s))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

func invalid(hint, message string) *binnacle.Error {
	return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "source", Message: message, Hint: hint}
}
