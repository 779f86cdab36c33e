package proxy

import (
	"net/http"
	"strings"
)

// userPrefix begins the path of every session.
const userPrefix = "/user/"

// maxID is the longest session id.
const maxID = 50

type verdict int

const (
	routeNotFound verdict = iota
	routeForward
	routeRedirect
	routeMethod // a method that is not carried
	routeBad    // a request that must not be passed on
)

// route is where a request goes.
type route struct {
	id string
	// target is the raw request target in origin form, as the client wrote it.
	target string
	// rest is target after "/user/<id>/", without the query.
	rest string
	// own is set where the session has a host of its own.
	own      bool
	location string
}

// prefix is the path the session answers under.
func (rt route) prefix() string { return userPrefix + rt.id + "/" }

func (p *Proxy) route(r *http.Request) (route, verdict) {
	rt := route{target: rawTarget(r)}
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		return rt, routeMethod
	}
	if !visible(rt.target) || !visible(r.Host) || !visible(r.Method) {
		// HTTP/2 lets a space into :path, which would end our request line.
		return rt, routeBad
	}
	host, onHost := p.sessionHost(r.Host)
	id, rest, ok := splitTarget(rt.target)
	rt.rest = rest
	switch {
	case onHost && !validID(host):
		return rt, routeNotFound
	case onHost && pathOf(rt.target) == "/":
		rt.location = userPrefix + host + "/" + queryOf(rt.target)
		return rt, routeRedirect
	case !ok, onHost && host != id:
		return rt, routeNotFound
	}
	rt.id, rt.own = id, onHost
	switch {
	case pathOf(rt.target) == userPrefix+id:
		rt.location = userPrefix + id + "/" + queryOf(rt.target)
		return rt, routeRedirect
	case p.domain != "" && !onHost:
		// On the hub's own origin the session's pages could act as the hub.
		if r.Method != http.MethodGet && r.Method != http.MethodHead || isUpgrade(r) {
			return rt, routeNotFound
		}
		rt.location = "//" + id + "." + p.cfg.SessionDomain + rt.target
		return rt, routeRedirect
	}
	return rt, routeForward
}

// sessionHost gives the label before the session domain; false when the host
// is not below it.
func (p *Proxy) sessionHost(host string) (string, bool) {
	if p.domain == "" {
		return "", false
	}
	label, ok := strings.CutSuffix(hostname(host), "."+p.domain)
	return label, ok
}

// splitTarget takes the session's id from the first two segments of a raw
// target, and what follows "/user/<id>/" up to the query. Nothing is decoded:
// an encoded or dotted segment is no id.
func splitTarget(target string) (id, rest string, ok bool) {
	after, ok := strings.CutPrefix(pathOf(target), userPrefix)
	if !ok {
		return "", "", false
	}
	id, rest, _ = strings.Cut(after, "/")
	if !validID(id) {
		return "", "", false
	}
	return id, rest, true
}

func validID(s string) bool {
	if s == "" || len(s) > maxID || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// rawTarget is the request target in origin form without any cleaning; the
// scheme and host of an absolute form are cut off (net/http has put the host in
// r.Host).
func rawTarget(r *http.Request) string {
	t := r.RequestURI
	if t == "" { // not from a server
		return r.URL.RequestURI()
	}
	if t[0] == '/' {
		return t
	}
	_, after, ok := strings.Cut(t, "://")
	if !ok {
		return t
	}
	i := strings.IndexAny(after, "/?")
	switch {
	case i < 0:
		return "/"
	case after[i] == '?':
		return "/" + after[i:]
	}
	return after[i:]
}

func pathOf(target string) string {
	if before, _, ok := strings.Cut(target, "?"); ok {
		return before
	}
	return target
}

// queryOf is the query with its question mark, or "".
func queryOf(target string) string {
	if i := strings.IndexByte(target, '?'); i >= 0 {
		return target[i:]
	}
	return ""
}

// visible says that s has no space and no control character.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// hostname is the host of a Host header: lower case, without port and final dot.
func hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
