package engine

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// Pushing lets BuildKit reach one repository ("team/image") of a registry
// ("registry.example.org:5000") whatever [Config].CheckAddress says, until done is
// called. It is for what an operator names; the registry's other repositories stay
// where a stranger's Dockerfile does not get them.
func (e *Engine) Pushing(host, repository string) (done func()) {
	p := &push{host: host, repository: repository}
	e.pushes.Store(p, nil)
	return func() { e.pushes.Delete(p) }
}

// push is an image on its way to a registry.
type push struct{ host, repository string }

// reaches says whether a request is a part of the push.
func (p *push) reaches(u *url.URL) bool {
	if u.Host != p.host {
		return false
	}
	of, api := strings.CutPrefix(u.Path, "/v2/")
	return api && (of == "" || strings.HasPrefix(of, p.repository+"/"))
}

// outlet takes requests of pushes past the guard that all others meet.
type outlet struct {
	guarded, open http.RoundTripper
	pushes        *sync.Map // of *push
}

// RoundTrip sends a request.
func (o outlet) RoundTrip(r *http.Request) (*http.Response, error) {
	pushed := false
	o.pushes.Range(func(key, _ any) bool {
		pushed = key.(*push).reaches(r.URL)
		return !pushed
	})
	if pushed {
		return o.open.RoundTrip(r)
	}
	return o.guarded.RoundTrip(r)
}
