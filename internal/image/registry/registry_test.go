package registry_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // go-containerregistry's server writes to one
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	server "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
)

const (
	user, password = "hub", "secret-of-the-hub"
	identity       = "refresh-token-of-the-hub"
	bearer         = "a-bearer-token"
)

// host is a real registry that wants tokens, as Docker Hub does it (a GET with a
// password) and as ACR does it (a POST with an identity token), and that has the
// faults that a test gives it.
type host struct {
	*httptest.Server
	name string // host:port

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	asked int
}

func startHost(t *testing.T) *host {
	t.Helper()
	h := &host{}
	images := server.New(server.Logger(log.New(io.Discard, "", 0)))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user && u != "00000000-0000-0000-0000-000000000000" || p != password {
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, bearer)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != identity {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q}`, bearer)
	})
	mux.HandleFunc("POST /oauth2/exchange", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "access_token" || r.FormValue("access_token") != "of-entra" || r.FormValue("service") != h.name {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"refresh_token":%q}`, password)
	})
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+bearer {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service=%q,scope="repository:binnacle/x:pull"`, h.name, h.name))
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		h.mu.Lock()
		fault := h.fault
		h.asked++
		h.mu.Unlock()
		if r.URL.Path != "/v2/" && fault != nil && fault(w, r) {
			return
		}
		images.ServeHTTP(w, r)
	})
	h.Server = httptest.NewServer(mux)
	h.name = strings.TrimPrefix(h.URL, "http://")
	t.Cleanup(h.Close)
	return h
}

func (h *host) set(fault func(http.ResponseWriter, *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.asked = fault, 0
}

// answer is a fault that is always the same.
func answer(status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}
}

// dockerConfig writes what `docker login` would.
func dockerConfig(t *testing.T, host string, entry map[string]string) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"auths": map[string]any{host: entry}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func basic(u, p string) map[string]string {
	return map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(u + ":" + p))}
}

func of(h *host, file string) *registry.Registry {
	return registry.New(registry.Config{ImagePrefix: h.name + "/binnacle", Insecure: true, DockerConfig: file, Timeout: 10 * time.Second}, h.Client().Transport)
}

func quiet(string) {}

// push puts an image there and names it.
func push(t *testing.T, h *host, r *registry.Registry) string {
	t.Helper()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	image := h.name + "/binnacle/x:1"
	ref, err := r.Reference(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, append(r.Options(quiet), remote.WithContext(t.Context()))...); err != nil {
		t.Fatal(err)
	}
	return image
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	good := of(h, dockerConfig(t, h.name, basic(user, password)))
	image := push(t, h, good)
	for what, c := range map[string]struct {
		reg  *registry.Registry
		want string // in the message; empty when it works
	}{
		"as Docker Hub": {good, ""},
		"as ACR":        {of(h, dockerConfig(t, h.name, map[string]string{"auth": basic("<token>", "")["auth"], "identitytoken": identity})), ""},
		"by identity":   {registry.WithAzure(of(h, dockerConfig(t, "other.example.org", nil)), entra{}), ""},
		"wrong":         {of(h, dockerConfig(t, h.name, basic(user, "old"))), "does not accept this hub's credentials"},
		"none":          {of(h, dockerConfig(t, "other.example.org", basic(user, password))), "this hub has none for it"},
		"no identity":   {registry.WithAzure(of(h, dockerConfig(t, "other.example.org", nil)), entra{errors.New("no endpoint")}), "sign in"},
	} {
		img, found, err := c.reg.Image(t.Context(), image, quiet)
		if c.want == "" {
			if err != nil || !found {
				t.Errorf("%s: found %t, %v", what, found, err)
			} else if _, err := img.Layers(); err != nil {
				t.Errorf("%s: layers: %v", what, err)
			}
			continue
		}
		wantError(t, what, err, binnacle.CodeUnavailable, c.want)
	}
	if _, found, err := good.Image(t.Context(), h.name+"/binnacle/never:1", quiet); found || err != nil {
		t.Errorf("an image that is not there: %t, %v", found, err)
	}
}

// entra stands for the pod's identity.
type entra struct{ err error }

func (e entra) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "of-entra", ExpiresOn: time.Now().Add(time.Hour)}, e.err
}

func wantError(t *testing.T, what string, err error, code binnacle.Code, text string) {
	t.Helper()
	e := binnacle.Public(err)
	if err == nil || e.Code != code || !strings.Contains(e.Message, text) || e.Hint == "" {
		t.Errorf("%s: got %+v from %v, want %s and %q", what, e, err, code, text)
	}
	for _, secret := range []string{password, identity, bearer, "of-entra"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error has a secret in it: %v", what, err)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	r := of(h, dockerConfig(t, h.name, basic(user, password)))
	image := push(t, h, r)
	for what, c := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request) bool
		code  binnacle.Code
		want  string
	}{
		"forbidden": {answer(403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`), binnacle.CodeUnavailable, "does not let this hub read"},
		"scope":     {answer(401, `{"errors":[{"code":"UNAUTHORIZED","message":"insufficient_scope"}]}`), binnacle.CodeUnavailable, "does not let this hub read"},
		"quota":     {answer(403, `{"errors":[{"code":"DENIED","message":"adding 1.2 GiB of storage resource, which will exceed the configured upper limit of 1 GiB."}]}`), binnacle.CodeUnavailable, "quota"},
		"too often": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			return answer(429, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`)(w, r)
		}, binnacle.CodeLimited, "limits how often"},
		"its own":    {answer(501, ""), binnacle.CodeUnavailable, "a problem of its own (501)"},
		"not a word": {answer(418, "<html>"), binnacle.CodeUnavailable, "could not be read"},
	} {
		h.set(c.fault)
		_, _, err := r.Image(t.Context(), image, quiet)
		wantError(t, what, err, c.code, c.want)
	}
	h.set(nil)

	slow := registry.New(registry.Config{ImagePrefix: h.name + "/binnacle", Insecure: true, DockerConfig: dockerConfig(t, h.name, basic(user, password)), Timeout: 50 * time.Millisecond}, h.Client().Transport)
	h.set(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	_, _, err := slow.Image(t.Context(), image, quiet)
	wantError(t, "slow", err, binnacle.CodeTimeout, "did not answer in time")
	h.set(nil)

	h.Close()
	_, _, err = r.Image(t.Context(), image, quiet)
	wantError(t, "refusing", err, binnacle.CodeUnavailable, "nothing answers there")
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	defer tls.Close()
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	image = strings.TrimPrefix(tls.URL, "https://") + "/binnacle/x:1"
	_, _, err = registry.New(registry.Config{Timeout: time.Second}, &http.Transport{}).Image(t.Context(), image, quiet)
	wantError(t, "another authority", err, binnacle.CodeUnavailable, "not one this hub trusts")
}

// TestPatience: a registry that limits us is asked again when it says so.
func TestPatience(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	r := of(h, dockerConfig(t, h.name, basic(user, password)))
	image := push(t, h, r)
	times := 0
	h.set(func(w http.ResponseWriter, req *http.Request) bool {
		if times++; times > 2 {
			return false
		}
		w.Header().Set("Retry-After", "0")
		return answer(429, "toomanyrequests")(w, req)
	})
	var said []string
	if _, found, err := r.Image(t.Context(), image, func(line string) { said = append(said, line) }); !found || err != nil {
		t.Errorf("found %t, %v", found, err)
	}
	if len(said) != 2 || !strings.Contains(said[0], "limits this hub (429)") {
		t.Errorf("the user was told %q", said)
	}
}

// TestBuildKitAuth: a builder gets the credentials of the registry it asks for.
func TestBuildKitAuth(t *testing.T) {
	t.Parallel()
	file := dockerConfig(t, "https://index.docker.io/v1/", basic(user, password))
	r := registry.New(registry.Config{ImagePrefix: "registry.example.org/x", DockerConfig: file, Timeout: time.Second}, &http.Transport{})
	for host, want := range map[string]string{"registry-1.docker.io": user, "registry.example.org": "", "other.azurecr.io": ""} {
		c, err := registry.AuthConfig(t.Context(), r, host)
		if err != nil || c.Username != want {
			t.Errorf("%s: %q, %v", host, c.Username, err)
		}
	}
}

// TestExplainText: errors that have gone through BuildKit.
func TestExplainText(t *testing.T) {
	t.Parallel()
	r := registry.New(registry.Config{Timeout: time.Second}, &http.Transport{})
	for text, want := range map[string]string{
		`failed to push registry.example.org/a/b:1: unexpected status from POST request to https://registry.example.org/v2/a/b/blobs/uploads/: 403 Forbidden`:                        "does not let this hub write",
		`failed to push registry.example.org/a/b:1: unexpected status from PUT request to https://registry.example.org/v2/a/b/blobs/uploads/1?state=x: 413 Request Entity Too Large`: "a layer of this size",
		`failed to push: server message: insufficient_scope: authorization failed`:                                                                                                   "does not let this hub write",
		`failed to authorize: failed to fetch oauth token: unexpected status from POST request to https://auth.example.org/token: 401 Unauthorized`:                                  "none for it",
		`push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed`:                                       "does not let this hub write",
		`unexpected status from HEAD request to https://registry.example.org/v2/a/b/manifests/1: 429 Too Many Requests`:                                                              "limits how often",
		`toomanyrequests: You have reached your unauthenticated pull rate limit`:                                                                                                     "limits how often",
		`name unknown: The repository with name 'a/b' does not exist in the registry with id '1'`:                                                                                    "no repository",
		`failed to do request: Head "https://registry.example.org/v2/": http: server gave HTTP response to HTTPS client`:                                                             "does not speak https",
		`failed to do request: Head "https://registry.example.org/v2/": dial tcp: lookup registry.example.org: no such host`:                                                         "has no address",
		`failed to do request: Head "https://registry.example.org/v2/": dial tcp 192.0.2.1:443: connect: connection refused`:                                                         "nothing answers there",
		`failed to do request: Head "https://registry.example.org/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority`:                            "not one this hub trusts",
		`unexpected status from PUT request to https://registry.example.org/v2/a/b/blobs/uploads/4: 500 Internal Server Error`:                                                       "a problem of its own (500)",
		`something else`: "could not be written",
	} {
		err := r.Explain(t.Context(), "registry.example.org/a/b:1", registry.Write, errors.New(text))
		if e := binnacle.Public(err); !strings.Contains(e.Message, want) {
			t.Errorf("%s\nis told as %q, want %q", text, e.Message, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := registry.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for _, prefix := range []string{"https://registry.example.org/x", "registry.example.org/Upper", "no spaces"} {
		if err := (registry.Config{ImagePrefix: prefix, Timeout: 1}).Validate(); err == nil {
			t.Errorf("%q is taken", prefix)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"7": 7 * time.Second, "0": 0, "": time.Minute, "-1": time.Minute, "soon": time.Minute, "99999999999": time.Minute,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2025 03:04:35 GMT": time.Minute,
	} {
		if got := registry.RetryAfter(s, now, time.Minute); got != want {
			f.Errorf("%q is %s, want %s", s, got, want)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := registry.RetryAfter(s, now, time.Minute); got < 0 {
			t.Errorf("%q is %s", s, got)
		}
	})
}

func TestName(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"registry.example.org/binnacle":  "registry.example.org/binnacle/x:1",
		"registry.example.org/binnacle/": "registry.example.org/binnacle/x:1",
		"registry.example.org/a/binder-": "registry.example.org/a/binder-x:1",
		"docker.io/lab/binder_":          "docker.io/lab/binder_x:1",
		"registry.example.org:5000":      "registry.example.org:5000/x:1",
	} {
		cfg := registry.DefaultConfig()
		cfg.ImagePrefix = prefix
		if got := cfg.Name("x:1"); got != want || cfg.Validate() != nil {
			t.Errorf("%s: %s, %v; want %s", prefix, got, cfg.Validate(), want)
		}
	}
}
