package registry_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	server "github.com/google/go-containerregistry/pkg/registry"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

const acr = "myhubimages.azurecr.io"

// registries are of each kind: ada may push to her hub's images, and bob nowhere.
func registries(t *testing.T) *registryhost.Network {
	t.Helper()
	people := func(prefix string) map[string]registryhost.Person {
		return map[string]registryhost.Person{"ada": {Password: password, Push: []string{prefix}}, "bob": {Password: password}}
	}
	return registryhost.Start(t, map[string]registryhost.Registry{
		"index.docker.io":    registryhost.DockerHub(people("institute/binder-")),
		acr:                  registryhost.Azure(acr, people("my-hub/")),
		"harbor.example.org": {Realm: "https://harbor.example.org/service/token", Denied: true, People: people("my-hub/")},
		"plain.example.org":  {People: people("my-hub/")},
		"open.example.org":   {},
	})
}

// The login is accepted or not, may push or not: each registry says it in its own way.
func TestTryPush(t *testing.T) {
	t.Parallel()
	n := registries(t)
	for prefix, repo := range map[string]string{
		"docker.io/institute/binder-":       "index.docker.io/institute/binder-binnacle-check",
		acr + "/my-hub/binder-":             acr + "/my-hub/binder-binnacle-check",
		"harbor.example.org/my-hub/binder-": "harbor.example.org/my-hub/binder-binnacle-check",
		"plain.example.org/my-hub":          "plain.example.org/my-hub/binnacle-check",
		"open.example.org/my-hub/binder-":   "open.example.org/my-hub/binder-binnacle-check",
	} {
		host, _, _ := strings.Cut(repo, "/")
		key := strings.Replace(host, "index.docker.io", "https://index.docker.io/v1/", 1)
		for _, tt := range []struct {
			name   string
			file   string
			code   binnacle.Code
			says   string
			signed string
		}{
			{"accepted", loginFile(key, "ada", password), "", "", "ada"},
			{"wrong password", loginFile(key, "ada", "wrong"), binnacle.CodeUnauthorized, "does not accept the user and the password", ""},
			{"nobody of that name", loginFile(key, "eve", password), binnacle.CodeUnauthorized, "does not accept the user and the password", ""},
			{"without the right", loginFile(key, "bob", password), binnacle.CodeForbidden, "does not let it push to " + repo, ""},
			{"without a login", "", binnacle.CodeUnauthorized, "wants a login, and there is none", ""},
			{"the login of another", loginFile("other.example.org", "ada", password), binnacle.CodeUnauthorized, "wants a login, and there is none", ""},
		} {
			before := len(n.Asked())
			user, err := try(t, n, prefix, tt.file)
			if host == "open.example.org" {
				tt.code = ""
			}
			if binnacle.CodeOf(err) != tt.code && (err != nil || tt.code != "") || tt.code != "" && !strings.Contains(binnacle.Public(err).Message, tt.says) || tt.code == "" && user != tt.signed && host != "open.example.org" {
				t.Errorf("%s, %s: %q, %v", prefix, tt.name, user, err)
			}
			if err != nil && strings.Contains(err.Error()+binnacle.Public(err).Message, password) {
				t.Errorf("%s, %s: the password shows: %v", prefix, tt.name, err)
			}
			if tt.code != "" {
				continue
			}
			if diff := cmp.Diff([]string{"POST " + repo, "DELETE " + repo}, n.Asked()[before:]); diff != "" {
				t.Errorf("%s, %s: asked (-want +got):\n%s", prefix, tt.name, diff)
			}
		}
	}
}

func loginFile(key, user, password string) string {
	return `{"auths":{"` + key + `":{"auth":"` + basic(user, password)["auth"] + `"}},"credsStore":"must-not-be-run"}`
}

func try(t *testing.T, under http.RoundTripper, prefix, file string) (string, error) {
	t.Helper()
	const enough = 10 * time.Second
	return registry.TryPush(t.Context(), registry.Config{ImagePrefix: prefix, Timeout: enough}, []byte(file), under)
}

// What is not the login's fault is told apart from it.
func TestTryPushInVain(t *testing.T) {
	t.Parallel()
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" && status != http.StatusTeapot {
				return
			}
			http.Error(w, body, status)
		}
	}
	started := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	secure := httptest.NewTLSServer(answers(http.StatusOK, ""))
	t.Cleanup(secure.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	stuck := make(chan struct{})
	defer close(stuck)
	slow := started(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
	}))
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	for name, tt := range map[string]struct {
		host string
		code binnacle.Code
		says string
	}{
		"nothing answers":   {strings.TrimPrefix(closed.URL, "http://"), binnacle.CodeUnavailable, "nothing answers there"},
		"certificate":       {strings.TrimPrefix(secure.URL, "https://"), binnacle.CodeUnavailable, "certificate that is not trusted here"},
		"slow":              {slow, binnacle.CodeTimeout, "does not answer here in time"},
		"no registry":       {started(http.NotFoundHandler()), binnacle.CodeNotFound, "is no registry"},
		"no repository":     {started(answers(http.StatusNotFound, `{"errors":[{"code":"NAME_UNKNOWN"}]}`)), binnacle.CodeNotFound, "has no place for"},
		"full":              {started(answers(http.StatusForbidden, "quota has been exceeded")), binnacle.CodeConflict, "is full"},
		"limited":           {started(answers(http.StatusTooManyRequests, "")), binnacle.CodeLimited, "limits how often"},
		"broken":            {started(answers(http.StatusBadGateway, "")), binnacle.CodeUnavailable, "a problem of its own (502)"},
		"something unknown": {started(answers(http.StatusTeapot, "")), binnacle.CodeUnavailable, "says nothing of the login"},
	} {
		cfg := registry.Config{ImagePrefix: tt.host + "/my-hub/binder-", Timeout: 2 * time.Second, Insecure: name != "certificate"} // they speak http
		_, err := registry.TryPush(t.Context(), cfg, []byte(loginFile(tt.host, "ada", password)), tr)
		if binnacle.CodeOf(err) != tt.code || !strings.Contains(binnacle.Public(err).Message, tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	there := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, started(http.NotFoundHandler()))
	}}
	t.Cleanup(there.CloseIdleConnections)
	if _, err := try(t, there, "registry.example.org/x", ""); binnacle.CodeOf(err) != binnacle.CodeInvalid || !strings.Contains(err.Error(), "does not speak https") {
		t.Errorf("plain http: %v", err)
	}
	if _, err := try(t, registryhost.Nowhere(), "registry.example.org/x", ""); binnacle.CodeOf(err) != binnacle.CodeUnavailable || !strings.Contains(err.Error(), "its name has no address") {
		t.Errorf("a name without an address: %v", err)
	}
	if _, err := try(t, registryhost.Nowhere(), "no name", ""); binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Errorf("a prefix that is none: %v", err)
	}
	if _, err := try(t, registryhost.Nowhere(), "registry.example.org/x", "{"); binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Errorf("no docker configuration: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := registry.TryPush(ctx, registry.Config{ImagePrefix: slow + "/x", Timeout: time.Minute}, nil, tr); !errors.Is(err, why) {
		t.Errorf("canceled: %v", err)
	}
}

// TestTryPushPlain: at a private address the library speaks http without being told
// to, and BuildKit and the nodes do not.
func TestTryPushPlain(t *testing.T) {
	s := httptest.NewServer(server.New())
	defer s.Close()
	cfg := registry.Config{ImagePrefix: strings.TrimPrefix(s.URL, "http://") + "/lab/binder-", Timeout: time.Minute}
	if _, err := registry.TryPush(t.Context(), cfg, nil, http.DefaultTransport); binnacle.CodeOf(err) != binnacle.CodeInvalid || !strings.Contains(err.Error(), "does not speak https") {
		t.Errorf("without being told: %v", err)
	}
	cfg.Insecure = true
	if _, err := registry.TryPush(t.Context(), cfg, nil, http.DefaultTransport); err != nil {
		t.Errorf("when told so: %v", err)
	}
}
