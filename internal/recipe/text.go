package recipe

import (
	"strings"
	"unicode/utf16"
)

// utf16Text reads UTF-16 whose low byte is at lo of each pair.
func utf16Text(b []byte, lo, hi int) []byte {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i+lo])|uint16(b[i+hi])<<8)
	}
	return []byte(string(utf16.Decode(units)))
}

// quote writes a word for bash.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
