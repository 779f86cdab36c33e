package proxy

import (
	"net/http"
	"strings"
)

// personal says whether a request shows that a person is there. What
// JupyterLab asks by itself, in a tab that was left open, does not: it would
// keep every session alive for ever.
func personal(method, rest string) bool {
	if method != http.MethodGet && method != http.MethodHead {
		return true
	}
	rest = strings.TrimSuffix(rest, "/")
	first, rest, _ := strings.Cut(rest, "/")
	switch first {
	case "metrics":
		return rest != ""
	case "api":
	default:
		return true
	}
	first, _, _ = strings.Cut(rest, "/")
	switch first {
	case "kernels", "sessions", "status", "terminals", "contents", "metrics", "kernelspecs":
		return false
	}
	return true
}
