package hub

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// BinderHub's clients and its federation compare answers byte by byte, and
// Python writes JSON with spaces, in insertion order and in ASCII. object and
// python do the same.

// pair is one key of an object.
type pair struct {
	key   string
	value any // string, bool, int, object or []any
}

type object []pair

// python writes v as Python's json.dumps does.
func python(v any) []byte { return appendPython(nil, v) }

func appendPython(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendASCII(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendPython(b, e)
		}
		return append(b, ']')
	case object:
		b = append(b, '{')
		for i, p := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendASCII(b, p.key)
			b = append(b, ": "...)
			b = appendPython(b, p.value)
		}
		return append(b, '}')
	default:
		return append(b, "null"...)
	}
}

// appendASCII writes a string with everything outside ASCII escaped; bytes
// that are no UTF-8 become U+FFFD.
func appendASCII(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r >= 0x20 && r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = appendUnit(appendUnit(b, hi), lo)
		default:
			b = appendUnit(b, r)
		}
	}
	return append(b, '"')
}

func appendUnit(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
