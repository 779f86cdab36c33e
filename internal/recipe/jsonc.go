package recipe

import (
	"encoding/json"
	"strings"
)

// decodeJSONC reads JSON with comments and trailing commas, as editors write it.
func decodeJSONC(file, text string, into any) error {
	plain := stripJSONC(text)
	if err := json.Unmarshal([]byte(plain), into); err != nil {
		return wrong(file, jsonLine(plain, err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "json: ")+".", "Correct it: comments and trailing commas are fine, everything else is as in JSON.")
	}
	return nil
}

// stripJSONC puts a space for every byte of a comment and for every trailing
// comma, so that places in the text stay the same.
func stripJSONC(text string) string {
	out := []byte(text)
	comma := -1 // the last comma, while only space and comments followed it
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			comma = -1
			i = stringEnd(out, i)
		case c == '/' && i+1 < len(out) && (out[i+1] == '/' || out[i+1] == '*'):
			i = blank(out, i)
		case c == ',':
			comma = i
		case c == ']' || c == '}':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma = -1
		}
	}
	return string(out)
}

// stringEnd is the quote that ends the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"' && b[i] != '\n'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

// blank overwrites the comment that begins at i and gives its last byte.
func blank(b []byte, i int) int {
	end := len(b)
	if b[i+1] == '/' {
		if n := strings.IndexByte(string(b[i:]), '\n'); n >= 0 {
			end = i + n
		}
	} else if n := strings.Index(string(b[i+2:]), "*/"); n >= 0 {
		end = i + n + 4
	} else {
		return end // never closed: for the parser to tell
	}
	for k := i; k < end; k++ {
		if b[k] != '\n' {
			b[k] = ' '
		}
	}
	return end - 1
}
