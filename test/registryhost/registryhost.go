// Package registryhost serves registries under their own names, on this machine: a
// real registry behind the ways that Docker Hub, Azure's and plain ones have of
// knowing who asks and what that one may do.
package registryhost

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log" //nolint:depguard // go-containerregistry's server writes to one
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Person is who has a login.
type Person struct {
	Password string
	// Push are the beginnings of repositories that may be pushed to.
	Push []string
}

// Registry is one that is served.
type Registry struct {
	// Realm is the address that gives out tokens; empty asks for the password each time.
	Realm string
	// Field of the answer that the token is in; empty is "token".
	Field string
	// Denied answers 403 to who may not push, as some do; else it is 401.
	Denied bool
	// People by name; without any nobody has to sign in.
	People map[string]Person
}

// DockerHub is Docker Hub with these people.
func DockerHub(people map[string]Person) Registry {
	return Registry{Realm: "https://auth.docker.io/token", People: people}
}

// Azure is a registry of Azure's, of that name, with these people.
func Azure(host string, people map[string]Person) Registry {
	return Registry{Realm: "https://" + host + "/oauth2/token", Field: "access_token", People: people}
}

// Network reaches registries by their names, and nothing else: every other name has
// no address.
type Network struct {
	registries map[string]Registry
	images     http.Handler
	transport  *http.Transport

	mu    sync.Mutex
	asked []string
}

var _ http.RoundTripper = (*Network)(nil)

// Start serves registries by their hosts until the test ends.
func Start(t testing.TB, registries map[string]Registry) *Network {
	t.Helper()
	n := &Network{registries: registries, images: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s := httptest.NewTLSServer(n)
	t.Cleanup(s.Close)
	n.transport = &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it has one certificate for all names
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}
	t.Cleanup(n.transport.CloseIdleConnections)
	return n
}

// Nowhere is a network without registries.
func Nowhere() *Network { return &Network{} }

// RoundTrip asks the registry, or who gives out its tokens.
func (n *Network) RoundTrip(r *http.Request) (*http.Response, error) {
	for host, reg := range n.registries {
		if r.URL.Host == host || strings.HasPrefix(reg.Realm, "https://"+r.URL.Host+"/") {
			return n.transport.RoundTrip(r)
		}
	}
	return nil, &net.DNSError{Err: "no such host", Name: r.URL.Hostname(), IsNotFound: true}
}

// Asked are the requests for repositories, in order: method, host and path.
func (n *Network) Asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

// ServeHTTP answers one request.
func (n *Network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	for _, reg := range n.registries {
		if reg.Realm == "https://"+r.Host+r.URL.Path {
			reg.token(w, r, user, password)
			return
		}
	}
	reg := n.registries[r.Host]
	repo, upload, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/uploads/")
	if repo != "" {
		n.mu.Lock()
		n.asked = append(n.asked, r.Method+" "+r.Host+"/"+repo)
		n.mu.Unlock()
	}
	var known, may bool
	if reg.Realm == "" {
		p, ok := reg.People[user]
		known, may = ok && p.Password == password, p.may(repo)
	} else {
		// A token says of whom it is and for what.
		granted, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer granted:")
		known, may = ok, granted == repo+":push"
	}
	switch {
	case len(reg.People) == 0:
	case !known:
		reg.refuse(w, r, repo, "")
		return
	case repo != "" && r.Method != http.MethodGet && !may:
		reg.refuse(w, r, repo, "insufficient_scope")
		return
	}
	if r.Method == http.MethodDelete && upload != "" {
		w.WriteHeader(http.StatusNoContent) // which the real one does not do
		return
	}
	n.images.ServeHTTP(w, r)
}

func (p Person) may(repo string) bool {
	return slices.ContainsFunc(p.Push, func(prefix string) bool { return strings.HasPrefix(repo, prefix) })
}

// token gives one to who knows the password. What somebody may not do is not in it,
// and not an error.
func (reg Registry) token(w http.ResponseWriter, r *http.Request, user, password string) {
	p, ok := reg.People[user]
	if !ok || p.Password != password || r.ParseForm() != nil {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"details":"incorrect username or password"}`)
		return
	}
	field := reg.Field
	if field == "" {
		field = "token"
	}
	granted := ""
	for _, scope := range r.Form["scope"] {
		part := strings.Split(scope, ":")
		if len(part) == 3 && strings.Contains(part[2], "push") && p.may(part[1]) {
			granted = part[1] + ":push"
		}
	}
	fmt.Fprintf(w, `{%q:%q,"expires_in":300}`, field, "granted:"+granted)
}

// refuse says how to sign in.
func (reg Registry) refuse(w http.ResponseWriter, r *http.Request, repo, why string) {
	challenge := `Basic realm="registry"`
	if reg.Realm != "" {
		challenge = fmt.Sprintf(`Bearer realm=%q,service=%q,scope="repository:%s:pull,push"`, reg.Realm, r.Host, repo)
	}
	if why != "" {
		challenge += fmt.Sprintf(`,error=%q`, why)
	}
	status, body := http.StatusUnauthorized, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`
	if why != "" && (reg.Denied || reg.Realm == "") {
		status, body = http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`
	} else {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}
