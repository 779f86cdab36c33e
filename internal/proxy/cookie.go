package proxy

import "strings"

// hubCookie says whether a cookie of this name is the hub's. Names are compared
// without case because servers in sessions may do so.
func hubCookie(name string) bool {
	name = strings.TrimSpace(name)
	const host = "__host-"
	if len(name) >= len(host) && strings.EqualFold(name[:len(host)], host) {
		name = name[len(host):]
	}
	const ours = "binnacle"
	return len(name) >= len(ours) && strings.EqualFold(name[:len(ours)], ours)
}

// sessionCookies is a Cookie header without the hub's own cookies. It splits at
// every semicolon, also within quotes: a session could else open a quote in a
// cookie of its own and have ours read as part of it.
func sessionCookies(header string) string {
	if !mentionsHub(header) {
		return header
	}
	var b strings.Builder
	for part := range strings.SplitSeq(header, ";") {
		part = strings.TrimSpace(part)
		name, _, _ := strings.Cut(part, "=")
		if part == "" || hubCookie(name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(part)
	}
	return b.String()
}

// mentionsHub is the quick way out: no hub cookie without this word.
func mentionsHub(header string) bool {
	const word = "binnacle"
	for i := 0; i+len(word) <= len(header); i++ {
		if c := header[i]; (c == 'b' || c == 'B') && strings.EqualFold(header[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// rewriteSetCookie makes a session's Set-Cookie harmless for the hub and for
// other sessions: no hub cookie, no Domain, and no Path outside of prefix
// unless prefix is "" (a host of its own). false: drop it. A cookie without a
// name is dropped since browsers send "=binnacle=x" as "binnacle=x".
func rewriteSetCookie(header, prefix string) (string, bool) {
	pair, attributes, _ := strings.Cut(header, ";")
	name, _, ok := strings.Cut(pair, "=")
	if !ok || strings.TrimSpace(name) == "" || hubCookie(name) {
		return "", false
	}
	var b strings.Builder
	b.WriteString(strings.TrimSpace(pair))
	path := ""
	for attribute := range strings.SplitSeq(attributes, ";") {
		attribute = strings.TrimSpace(attribute)
		key, value, _ := strings.Cut(attribute, "=")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "", "domain":
			continue
		case "path":
			path = strings.TrimSpace(value) // the last one counts
			continue
		}
		b.WriteString("; ")
		b.WriteString(attribute)
	}
	if prefix != "" && !strings.HasPrefix(path, prefix) {
		// Without a Path the browser takes the directory of the request's own.
		path = prefix
	}
	if path != "" {
		b.WriteString("; Path=")
		b.WriteString(path)
	}
	return b.String(), true
}
