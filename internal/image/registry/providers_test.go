package registry_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log" //nolint:depguard // go-containerregistry's server writes to one
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	server "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
)

const ecrHost = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

// providers are the registries of this world under their own names: a real registry
// behind the way that each has of knowing people, and the services of their clouds
// that give out tokens. Nothing leaves this machine: every name leads here.
type providers struct {
	http.RoundTripper // reaches them

	images   http.Handler
	mu       sync.Mutex
	seen     map[string]bool // what was asked, by host and path
	usedUp   bool            // nothing is left of Docker Hub's limit
	metadata int             // how often Google's metadata server was asked in vain before it answers
}

func startProviders(t *testing.T) *providers {
	t.Helper()
	p := &providers{images: server.New(server.Logger(log.New(io.Discard, "", 0))), seen: map[string]bool{}}
	s := httptest.NewTLSServer(p)
	t.Cleanup(s.Close)
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it has one certificate for all names
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	p.RoundTripper = tr
	return p
}

// bearers is where each registry sends those who have no token, and its service.
func bearers() map[string][2]string {
	return map[string][2]string{
		"index.docker.io":             {"https://auth.docker.io/token", "registry.docker.io"},
		"ghcr.io":                     {"https://ghcr.io/token", "ghcr.io"},
		"hub.azurecr.io":              {"https://hub.azurecr.io/oauth2/token", "hub.azurecr.io"},
		"europe-west1-docker.pkg.dev": {"https://europe-west1-docker.pkg.dev/v2/token", "europe-west1-docker.pkg.dev"},
		"harbor.example.org":          {"https://harbor.example.org/service/token", "harbor-registry"},
	}
}

// people are who may sign in with a name and a password.
func people() map[string]string {
	return map[string]string{
		"index.docker.io": "lab:dckr_pat_x", "ghcr.io": "lab:ghp_x", "hub.azurecr.io": "principal:of-azure", "europe-west1-docker.pkg.dev": "_json_key:{key}",
		"harbor.example.org": "robot$lab+hub:of-harbor", "plain.example.org": "hub:of-plain", ecrHost: "AWS:of-ecr",
	}
}

func (p *providers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen[r.Host+r.URL.Path] = true
	usedUp := p.usedUp
	p.mu.Unlock()
	who, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "), ",")
	if b, err := base64.StdEncoding.DecodeString(who); err == nil {
		who = string(b)
	}
	at := "https://" + r.Host + r.URL.Path
	switch r.Host {
	case "sts.eu-west-1.amazonaws.com", "api.ecr.eu-west-1.amazonaws.com", "ecr.eu-west-1.amazonaws.com":
		p.amazon(w, r)
		return
	case "login.microsoftonline.com":
		entraID(w, r)
		return
	case "open.example.org":
		p.images.ServeHTTP(w, r)
		return
	case "plain.example.org", ecrHost:
		if who != people()[r.Host] {
			w.Header().Set("WWW-Authenticate", `Basic realm="https://`+r.Host+`/",service="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.images.ServeHTTP(w, r)
		return
	}
	if at == "https://hub.azurecr.io/oauth2/exchange" {
		if r.FormValue("access_token") != "of-entra" || r.FormValue("service") != r.Host {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"refresh_token":"of-exchange"}`)
		return
	}
	for host, b := range bearers() {
		if at == b[0] {
			tokens(w, r, host, who, b[1])
			return
		}
	}
	b, ok := bearers()[r.Host]
	if !ok || !strings.HasPrefix(r.URL.Path, "/v2/") {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if r.Header.Get("Authorization") != "Bearer of-"+r.Host {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service=%q,scope="repository:lab/x:pull,push"`, b[0], b[1]))
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	if usedUp && r.URL.Path != "/v2/" {
		w.Header().Set("RateLimit-Limit", "100;w=21600")
		w.Header().Set("RateLimit-Remaining", "0;w=21600")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`)
		return
	}
	p.images.ServeHTTP(w, r)
}

// tokens gives a registry's token to those it knows: by a GET with a password, or by
// a POST with a token that an identity was given.
func tokens(w http.ResponseWriter, r *http.Request, host, who, service string) {
	known := who == people()[host]
	if r.Method == http.MethodPost {
		known = r.FormValue("grant_type") == "refresh_token" && r.FormValue("refresh_token") == "of-exchange"
	}
	switch host {
	case "hub.azurecr.io":
		known = known || who == "00000000-0000-0000-0000-000000000000:of-exchange"
	case "europe-west1-docker.pkg.dev":
		known = known || who == "_token:of-metadata"
	}
	if !known || r.FormValue("service") != service || !strings.HasPrefix(r.FormValue("scope"), "repository:lab/x:") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	field := "token"
	if host == "hub.azurecr.io" {
		field = "access_token"
	}
	fmt.Fprintf(w, `{%q: %q, "expires_in": 300, "issued_at": %q}`, field, "of-"+host, time.Now().UTC().Format(time.RFC3339))
}

// amazon is STS, which changes a service account's token for keys, and ECR, which
// changes signed requests for a password.
func (p *providers) amazon(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Host, "sts.") {
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "of-kubernetes" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>AKIDEXAMPLE</AccessKeyId><SecretAccessKey>of-sts</SecretAccessKey><SessionToken>session</SessionToken><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		return
	}
	signed := r.Header.Get("Authorization")
	if !strings.HasPrefix(signed, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(signed, "/eu-west-1/ecr/") || r.Header.Get("X-Amz-Target") != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	token := base64.StdEncoding.EncodeToString([]byte(people()[ecrHost]))
	fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d,"proxyEndpoint":"https://%s"}]}`, token, time.Now().Add(12*time.Hour).Unix(), ecrHost)
}

// entraID is the service of Azure that changes a service account's token for one of its own.
func entraID(w http.ResponseWriter, r *http.Request) {
	const tenant = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111"
	switch {
	case strings.HasSuffix(r.URL.Path, "/discovery/instance"):
		fmt.Fprintf(w, `{"tenant_discovery_endpoint":%q,"metadata":[{"preferred_network":"login.microsoftonline.com","preferred_cache":"login.windows.net","aliases":["login.microsoftonline.com"]}]}`, tenant+"/v2.0/.well-known/openid-configuration")
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`, tenant+"/v2.0", tenant+"/oauth2/v2.0/authorize", tenant+"/oauth2/v2.0/token")
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token") && r.FormValue("client_assertion") == "of-kubernetes" && strings.Contains(r.FormValue("scope"), "https://containerregistry.azure.net/.default"):
		fmt.Fprint(w, `{"access_token":"of-entra","expires_in":3600,"token_type":"Bearer"}`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// identities gives this process what pods are given on three clouds.
func (p *providers) identities(t *testing.T) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("of-kubernetes"), 0o600); err != nil {
		t.Fatal(err)
	}
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if !strings.HasSuffix(r.URL.Path, "/token") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.metadata > 0 {
			p.metadata--
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"access_token":"of-metadata","expires_in":3599,"token_type":"Bearer"}`)
	}))
	t.Cleanup(metadata.Close)
	for name, value := range map[string]string{
		"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/hub", "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CA_BUNDLE": "",
		"AZURE_TENANT_ID": "11111111-1111-1111-1111-111111111111", "AZURE_CLIENT_ID": "22222222-2222-2222-2222-222222222222", "AZURE_FEDERATED_TOKEN_FILE": token,
		"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/", "GCE_METADATA_HOST": strings.TrimPrefix(metadata.URL, "http://"), "HOME": t.TempDir(), "PATH": "",
	} {
		t.Setenv(name, value)
	}
}

// TestProviders: an image is pushed to each registry that docs/registries.md names
// and found there, with each kind of credentials; wrong ones are told as such.
func TestProviders(t *testing.T) {
	p := startProviders(t)
	p.identities(t)
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, prefix, key string
		login             map[string]string // nil: by the pod's identity, or nobody
	}{
		{"Docker Hub", "docker.io/lab", "https://index.docker.io/v1/", basic("lab", "dckr_pat_x")},
		{"GHCR", "ghcr.io/lab", "ghcr.io", basic("lab", "ghp_x")},
		{"ACR, a service principal", "hub.azurecr.io/lab", "hub.azurecr.io", basic("principal", "of-azure")},
		{"ACR, a token of az acr login", "hub.azurecr.io/lab", "hub.azurecr.io", map[string]string{"auth": basic("00000000-0000-0000-0000-000000000000", "")["auth"], "identitytoken": "of-exchange"}},
		{"ACR, workload identity", "hub.azurecr.io/lab", "", nil},
		{"ECR, a password", ecrHost + "/lab", ecrHost, basic("AWS", "of-ecr")},
		{"ECR, a role for the service account", ecrHost + "/lab", "", nil},
		{"Artifact Registry, a key", "europe-west1-docker.pkg.dev/lab", "europe-west1-docker.pkg.dev", basic("_json_key", "{key}")},
		{"Artifact Registry, workload identity", "europe-west1-docker.pkg.dev/lab", "", nil},
		{"Harbor", "harbor.example.org/lab", "harbor.example.org", basic("robot$lab+hub", "of-harbor")},
		{"plain", "plain.example.org/lab", "plain.example.org", basic("hub", "of-plain")},
		{"plain, without a password", "open.example.org/lab", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := dockerConfig(t, tt.key, tt.login)
			r := registry.New(registry.Config{ImagePrefix: tt.prefix, DockerConfig: file, Timeout: 20 * time.Second}, p)
			image := r.Name("x:" + strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(tt.name)))
			ref, err := r.Reference(image)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(tt.name, "Artifact Registry, w") { // the metadata server is not there yet
				p.mu.Lock()
				p.metadata = 1
				p.mu.Unlock()
				_, _, err := r.Image(t.Context(), image, quiet)
				wantError(t, tt.name, err, binnacle.CodeUnavailable, "with its identity in Google Cloud")
			}
			if err := remote.Write(ref, img, append(r.Options(quiet), remote.WithContext(t.Context()))...); err != nil {
				t.Fatal(err)
			}
			if _, found, err := r.Image(t.Context(), image, quiet); err != nil || !found {
				t.Errorf("found %t, %v", found, err)
			}
			host := ref.Context().RegistryStr()
			if c, err := registry.AuthConfig(t.Context(), r, strings.Replace(host, "index.docker.io", "registry-1.docker.io", 1)); err != nil || (c.Username+c.IdentityToken == "") != (host == "open.example.org") {
				t.Errorf("BuildKit is given %q, %v", c.Username, err)
			}
			if tt.login == nil {
				return
			}
			wrong := registry.New(registry.Config{ImagePrefix: tt.prefix, DockerConfig: dockerConfig(t, tt.key, basic("lab", "expired")), Timeout: 20 * time.Second}, p)
			_, _, err = wrong.Image(t.Context(), image, quiet)
			wantError(t, tt.name, err, binnacle.CodeUnavailable, "does not accept this hub's credentials")
		})
	}
	p.mu.Lock()
	for _, at := range []string{"sts.eu-west-1.amazonaws.com/", "login.microsoftonline.com/11111111-1111-1111-1111-111111111111/oauth2/v2.0/token", "hub.azurecr.io/oauth2/exchange", "europe-west1-docker.pkg.dev/v2/token"} {
		if !p.seen[at] {
			b, _ := json.Marshal(p.seen)
			t.Errorf("%s was not asked: %s", at, b)
		}
	}
	p.mu.Unlock()
	t.Run("used up", func(t *testing.T) {
		p.mu.Lock()
		p.usedUp = true
		p.mu.Unlock()
		r := registry.New(registry.Config{ImagePrefix: "docker.io/lab", DockerConfig: dockerConfig(t, "https://index.docker.io/v1/", basic("lab", "dckr_pat_x")), Timeout: 20 * time.Second}, p)
		var said []string
		_, _, err := r.Image(t.Context(), "docker.io/lab/x:1", func(line string) { said = append(said, line) })
		wantError(t, "used up", err, binnacle.CodeLimited, "limits how often")
		if len(said) != 1 || !strings.Contains(said[0], "100 images in 6h0m0s") {
			t.Errorf("the user was told %q", said)
		}
	})
}

// TestClouds: an identity is used for registries of its cloud only.
func TestClouds(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"hub.azurecr.io": "azure", "europe-west1-docker.pkg.dev": "google", "eu.gcr.io": "google", ecrHost: "amazon eu-west-1",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn": "amazon cn-north-1", "123456789012.dkr-ecr.us-east-1.on.aws": "amazon us-east-1", "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com": "amazon us-east-1",
		"azurecr.io.example.org": "", "ecr.eu-west-1.amazonaws.com": "", ecrHost + ".example.org": "", "public.ecr.aws": "", "ghcr.io": "", "index.docker.io": "",
	} {
		if got := registry.CloudOf(host); got != want {
			t.Errorf("%s is of %q, want %q", host, got, want)
		}
	}
}
