// Package azuresim is an Azure for tests: an HTTPS server that speaks the part
// of Azure Resource Manager, of the sign-in and of the retail prices that
// deployments use, with state, and with the sequences that the real one has:
// 201 and Creating before Succeeded, 201 and then Failed, 429 with a pause,
// providers that are not registered, quota, names that are taken, operations
// that are forgotten.
//
// It is written from Azure's documentation. It was never compared with Azure.
package azuresim

import (
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ids that tests sign in with.
const (
	Subscription     = "11111111-1111-1111-1111-111111111111"
	SubscriptionName = "Research"
	Tenant           = "22222222-2222-2222-2222-222222222222"
	Client           = "33333333-3333-3333-3333-333333333333"
	Secret           = "the-secret-of-the-simulator"
	token            = "a-token-of-the-simulator"
)

// Resource is one resource as it is stored.
type Resource struct {
	ID, Name, Type, Location string
	Tags                     map[string]string
	Body                     map[string]any // sku, identity, properties…
	State                    string         // of provisioning
	// Foreign resources were put there by tests.
	Foreign bool

	looks   int    // until the operation ends
	outcome string // "" succeeds, else the code it fails with
	reason  string
}

// Azure is the whole state. Fields may be set before the first request.
type Azure struct {
	// Looks is how often an operation is asked about before it ends.
	Looks int
	// Unregistered are the namespaces that must be registered before use.
	Unregistered map[string]bool
	// Taken are the names that others in the world have, by type or "label".
	Taken map[string]string
	// CoresFree is the quota.
	CoresFree int
	// FailCreate makes the next creation of a type end in failure, with a code.
	FailCreate map[string]string
	// Throttle is how many requests are refused first.
	Throttle int
	// Unseen is how many requests are refused first because a role that was just
	// assigned is not seen yet.
	Unseen int
	// Forget makes Azure forget all operations that are under way.
	Forget bool
	// Denied are the actions that who signs in may not, with wildcards.
	Denied []string
	// Disabled subscriptions take nothing.
	Disabled bool
	// Kubeconfig is what clusters hand out.
	Kubeconfig []byte
	// Address is what public addresses are; "" is 192.0.2.7.
	Address string

	// Blobs is a server of blobs, which has the accounts below it by their names;
	// BlobKey is the key of each. "" is none that could be reached.
	Blobs, BlobKey string

	// Created is when clusters say that they were made; zero says nothing.
	Created time.Time
	// Passwords are those of the registry's tokens that were made, in order.
	Passwords []string
	// Front stands before it and may keep requests from it; nil lets all through.
	Front func(http.Handler) http.Handler

	mu        sync.Mutex
	url       string
	resources map[string]*Resource // by lower-case id
	ops       map[string]string    // operation → id of the resource
	writes    []string             // "PUT type/name"
	requests  int
	lists     int
	waiting   int             // for whom types the code
	tokens    map[string]bool // of registries, by lower-case id
}

// Server is a running simulator.
type Server struct {
	*Azure
	URL    string
	CAFile string // what to trust
	HTTP   *http.Client
}

// Start serves a simulator until the test ends.
func Start(t testing.TB, a *Azure) *Server {
	t.Helper()
	if a.Looks == 0 {
		a.Looks = 2
	}
	if a.CoresFree == 0 {
		a.CoresFree = 100
	}
	a.resources, a.ops, a.tokens = map[string]*Resource{}, map[string]string{}, map[string]bool{}
	var handler http.Handler = a
	if a.Front != nil {
		handler = a.Front(a)
	}
	srv := httptest.NewTLSServer(handler)
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return &Server{Azure: a, URL: srv.URL, CAFile: ca, HTTP: srv.Client()}
}

// ServeHTTP answers one request.
func (a *Azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	a.url = "https://" + r.Host // by whatever name it is reached
	path := r.URL.Path
	switch {
	case strings.HasPrefix(path, "/api/retail/prices"):
		a.prices(w, r)
	case path == "/pipelines/oidc":
		if r.Header.Get("Authorization") != "Bearer "+Secret || r.URL.Query().Get("serviceConnectionId") == "" {
			answer(w, http.StatusUnauthorized, map[string]any{"message": "TF400813: not authorized"})
			return
		}
		answer(w, http.StatusOK, map[string]any{"oidcToken": Assertion})
	case path == "/msi/token":
		a.ownIdentity(w, r)
	case strings.Contains(path, "/oauth2/") || strings.Contains(path, "/.well-known/") || strings.HasSuffix(path, "/discovery/instance"):
		a.signIn(w, r)
	case r.Header.Get("Authorization") != "Bearer "+token:
		fail(w, http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed.")
	case r.URL.Query().Get("api-version") == "":
		fail(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter is required for all requests.")
	case a.Throttle > 0:
		a.Throttle--
		w.Header().Set("Retry-After-Ms", "2")
		fail(w, http.StatusTooManyRequests, "TooManyRequests", "The request is being throttled.")
	case a.Unseen > 0:
		a.Unseen--
		fail(w, http.StatusForbidden, "AuthorizationFailed", "The client does not have authorization to perform the action, or the scope is invalid. If access was recently granted, please refresh your credentials.")
	case strings.HasPrefix(path, "/operations/"):
		a.operation(w, r)
	default:
		a.manager(w, r)
	}
}

// Assertion is what another issuer says of the client: a token of a cluster, or of a
// pipeline, that Azure was told to trust.
const Assertion = "an-assertion-of-another-issuer"

// signIn gives tokens to who knows the secret, who brings the assertion, and who has
// typed a code into a browser, which is not done at once.
func (a *Azure) signIn(w http.ResponseWriter, r *http.Request) {
	tenant := strings.Split(r.URL.Path, "/")[1]
	if strings.HasSuffix(r.URL.Path, "/discovery/instance") {
		answer(w, http.StatusOK, map[string]any{"tenant_discovery_endpoint": a.url + "/" + Tenant + "/v2.0/.well-known/openid-configuration", "metadata": []any{
			map[string]any{"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host}},
		}})
		return
	}
	if strings.Contains(r.URL.Path, "/.well-known/") {
		base := a.url + "/" + tenant
		answer(w, http.StatusOK, map[string]any{"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "issuer": base + "/v2.0"})
		return
	}
	_ = r.ParseForm()
	if tenant == Tenant && strings.HasSuffix(r.URL.Path, "/devicecode") {
		a.waiting = 1
		answer(w, http.StatusOK, map[string]any{
			"device_code": Assertion, "user_code": "ABCD-EFGH", "verification_uri": a.url + "/device", "expires_in": 900, "interval": 1,
			"message": "Open " + a.url + "/device and enter the code ABCD-EFGH.",
		})
		return
	}
	device := r.Form.Get("device_code") == Assertion
	if device && a.waiting > 0 {
		a.waiting--
		answer(w, http.StatusBadRequest, map[string]any{"error": "authorization_pending", "error_description": "AADSTS70016: Authorization is pending."})
		return
	}
	proved := r.Form.Get("client_id") == Client && (r.Form.Get("client_secret") == Secret || r.Form.Get("client_assertion") == Assertion)
	if tenant != Tenant || !proved && !device {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
		return
	}
	answer(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600})
}

// ownIdentity gives tokens to a container with a managed identity: IDENTITY_ENDPOINT
// leads here, and IDENTITY_HEADER is the secret.
func (a *Azure) ownIdentity(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Identity-Header") != Secret || r.URL.Query().Get("client_id") != Client || r.URL.Query().Get("resource") == "" {
		answer(w, http.StatusBadRequest, map[string]any{"statusCode": http.StatusBadRequest, "message": "No User Assigned or Delegated Managed Identity found for specified ClientId"})
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_on": strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10),
		"resource": r.URL.Query().Get("resource"), "client_id": Client,
	})
}

// Identity is the environment of a container with the managed identity [Client].
func (s *Server) Identity() []string {
	return []string{"IDENTITY_ENDPOINT=" + s.URL + "/msi/token", "IDENTITY_HEADER=" + Secret}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Ms-Error-Code", code)
	answer(w, status, map[string]any{"error": map[string]any{"code": code, "message": message}})
}

// State is everything that exists, by type and name, and its state.
func (a *Azure) State() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]string{}
	for _, r := range a.resources {
		out[r.Type+"/"+r.Name] = r.State
	}
	return out
}

// Whole is all of the state: every resource as JSON by its id, and the registries'
// tokens.
func (a *Azure) Whole() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]string{}
	for id, r := range a.resources {
		b, err := json.Marshal(r.json())
		if err != nil {
			b = []byte(err.Error())
		}
		out[id] = string(b)
	}
	for id := range a.tokens {
		out[id] = "a token"
	}
	return out
}

// Writes are the requests that changed something, in order.
func (a *Azure) Writes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.writes)
}

// Requests is how many were asked.
func (a *Azure) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// Lists is how often somebody asked for all that is in a group: once for each plan.
func (a *Azure) Lists() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lists
}

// Add puts a resource of somebody else there: type and name, in a group.
func (a *Azure) Add(group, typ, name string, tags map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := "/subscriptions/" + Subscription + "/resourceGroups/" + group
	if typ != typeGroup {
		id += "/providers/" + typ + "/" + name
	}
	a.resources[strings.ToLower(id)] = &Resource{
		ID: id, Name: name, Type: typ, Location: "westeurope", Tags: maps.Clone(tags), Body: map[string]any{"properties": map[string]any{}}, State: "Succeeded", Foreign: true,
	}
}

// Body is the stored body of a resource, nil when it is not there.
func (a *Azure) Body(typ, name string) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.resources {
		if strings.EqualFold(r.Type, typ) && strings.EqualFold(r.Name, name) {
			return r.Body
		}
	}
	return nil
}

// Edit changes a stored resource as somebody in the portal would.
func (a *Azure) Edit(typ, name string, f func(r *Resource)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.resources {
		if strings.EqualFold(r.Type, typ) && strings.EqualFold(r.Name, name) {
			f(r)
		}
	}
}
