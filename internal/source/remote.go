package source

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// remote is an address git may be given: its shape is checked, its policy is not.
type remote struct {
	scheme string // https, http, ssh, git or file
	user   string // ssh only
	host   string // without port and brackets; empty for file
	port   string // may be empty
	path   string // decoded, begins with a slash
}

// parseRemote reads a clone address: a URL or the scp style. Returns invalid
// for anything that is not plainly one of them.
func parseRemote(raw string) (remote, error) {
	if len(raw) > 2048 || hasControl(raw) || strings.ContainsAny(raw, " \"'`<>|{}") || strings.Contains(raw, "\\") {
		return remote{}, badRemote(raw)
	}
	if !strings.Contains(raw, "://") {
		var ok bool
		if raw, ok = scpURL(raw); !ok {
			return remote{}, badRemote(raw)
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return remote{}, badRemote(raw)
	}
	r := remote{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port(), path: u.Path}
	if !slices.Contains([]string{"https", "http", "ssh", "git", "file"}, r.scheme) {
		return remote{}, invalid("Use an address that begins with https://.",
			"Git cannot be asked for "+quote(raw)+": "+quote(u.Scheme)+" is not a protocol Binnacle speaks.")
	}
	if u.User != nil {
		_, secret := u.User.Password()
		if r.scheme != "ssh" || secret {
			return remote{}, credentialsError()
		}
		r.user = u.User.Username()
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return remote{}, invalid("Leave out what follows the question mark or the hash sign.",
			"The address of a repository has no query and no fragment.")
	}
	if !r.wellFormed() {
		return remote{}, badRemote(raw)
	}
	r.path = "/" + strings.Trim(path.Clean(r.path), "/")
	return r, nil
}

func (r remote) wellFormed() bool {
	if r.path == "" || strings.Trim(r.path, "/.") == "" || hasControl(r.path) || slices.Contains(strings.Split(r.path, "/"), "..") {
		return false
	}
	if strings.HasPrefix(strings.TrimLeft(r.path, "/"), "-") {
		return false // a path that a program on the far side could take for an option
	}
	if r.scheme == "file" {
		return (r.host == "" || r.host == "localhost") && r.port == "" && r.user == ""
	}
	if r.port != "" {
		if n, err := strconv.ParseUint(r.port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return hostName(r.host) && (r.user == "" || userName(r.user))
}

// hostName allows names and addresses. A zone ("fe80::1%eth0") is refused.
func hostName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !asciiWord(r) && r != '-' && r != '.' && r != ':' })
}

func userName(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return !asciiWord(r) && r != '-' && r != '.' })
}

func asciiWord(r rune) bool {
	return r == '_' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
}

// String is the address as git gets it and people see it.
func (r remote) String() string {
	u := url.URL{Scheme: r.scheme, Path: r.path, Host: r.hostPort()}
	if r.user != "" {
		u.User = url.User(r.user)
	}
	return u.String()
}

func (r remote) hostPort() string {
	host := r.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if r.port != "" && r.host != "" {
		host += ":" + r.port
	}
	if r.scheme == "file" {
		return ""
	}
	return host
}

// http says whether git speaks to it through our proxy.
func (r remote) http() bool { return r.scheme == "https" || r.scheme == "http" }

// join resolves the relative address of a submodule ("../other.git").
func (r remote) join(rel string) (remote, error) {
	p := path.Join(r.path, rel)
	if hasControl(rel) || p == "/" {
		return remote{}, badRemote(rel)
	}
	r.path = p
	if !r.wellFormed() {
		return remote{}, badRemote(rel)
	}
	return parseRemote(r.String())
}

// scpURL turns user@host:path into ssh://user@host/path.
func scpURL(s string) (string, bool) {
	host, p, ok := strings.Cut(s, ":")
	user, name, named := strings.Cut(host, "@")
	if !ok || p == "" || strings.HasPrefix(p, ":") || strings.Contains(host, "/") {
		return s, false
	}
	if !named {
		user, name = "", host
		if !strings.Contains(name, ".") {
			return s, false // "C:dir", "gh:owner": not a host as far as we can tell
		}
	} else if !userName(user) {
		return s, false
	}
	if !hostName(name) {
		return s, false
	}
	u := url.URL{Scheme: "ssh", Host: name, Path: "/" + strings.TrimPrefix(p, "/")}
	if named {
		u.User = url.User(user)
	}
	return u.String(), true
}

func credentialsError() *binnacle.Error {
	return invalid("Remove what stands before the @ from the address. For a private repository use git's credential helper on the machine that fetches it.",
		"Credentials do not belong in links: this address holds a user name or a password.")
}

func badRemote(s string) *binnacle.Error {
	return invalid("Paste the address you would give to git clone, for example https://git.example.org/team/repository.",
		"This is not the address of a git repository: "+quote(s)+".")
}
