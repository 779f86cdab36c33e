package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/google"

	"github.com/binnacle-hub/binnacle"
)

// cloud signs in with the identity of the pod.
type cloud interface {
	sign(ctx context.Context, target authn.Resource) (authn.Authenticator, error)
}

// newCloud is the cloud that a registry's host belongs to; nil for none.
func newCloud(host string, under http.RoundTripper) cloud {
	switch {
	case hasSuffix(host, ".azurecr.io", ".azurecr.cn", ".azurecr.us"):
		client := &http.Client{Transport: under}
		return &azure{client: client, scheme: "https", credential: sync.OnceValues(func() (azcore.TokenCredential, error) { return podIdentity(client) })}
	case hasSuffix(host, ".pkg.dev", ".gcr.io") || host == "gcr.io":
		return &googleCloud{}
	}
	if region := regionOf(host); region != "" {
		return &amazon{client: &http.Client{Transport: under}, region: region}
	}
	return nil
}

func hasSuffix(s string, suffixes ...string) bool {
	for _, x := range suffixes {
		if strings.HasSuffix(s, x) {
			return true
		}
	}
	return false
}

// googleCloud is the account of the pod or the machine in Google Cloud. It is not
// go-containerregistry's keychain, which takes a first failure for good: the
// metadata server of a pod that has just started often answers a moment later.
type googleCloud struct {
	mu  sync.Mutex
	who authn.Authenticator // renews its tokens by itself
}

func (g *googleCloud) sign(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.who != nil {
		return g.who, nil
	}
	ctx = context.WithoutCancel(ctx) // tokens are renewed with it later
	who, err := google.NewEnvAuthenticator(ctx)
	if err != nil {
		if who, _ = google.NewGcloudAuthenticator(ctx); who == nil || who == authn.Anonymous { // on a developer's machine
			return nil, noIdentity(target, "Google Cloud", "its service account needs the roles Artifact Registry Reader and Writer", err)
		}
	}
	g.who = who
	return who, nil
}

// noIdentity says that the pod's identity in a cloud is of no use.
func noIdentity(target authn.Resource, cloud, needs string, err error) error {
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "registry.identity", Err: err, Message: "This hub can't sign in to the registry " + target.RegistryStr() + " with its identity in " + cloud + ".",
		Hint: "Tell the operator of this hub: " + needs + " there; else kubernetes.registry.docker_config names a file with credentials.",
	}
}

// podIdentity is workload identity, or the identity of the machine.
func podIdentity(client *http.Client) (azcore.TokenCredential, error) {
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: client}})
}

// azure changes the pod's token of Entra for one of the registry (ACR's
// /oauth2/exchange).
type azure struct {
	client     *http.Client
	scheme     string
	credential func() (azcore.TokenCredential, error)

	mu    sync.Mutex
	token string
	until time.Time
}

// acrUser is the name that goes with such a token.
const acrUser = "00000000-0000-0000-0000-000000000000"

func (a *azure) sign(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Now().After(a.until) {
		token, err := a.exchange(ctx, target.RegistryStr())
		if err != nil {
			return nil, noIdentity(target, "Azure", "its identity needs the roles AcrPull and AcrPush", err)
		}
		a.token, a.until = token, time.Now().Add(lasting)
	}
	return authn.FromConfig(authn.AuthConfig{Username: acrUser, Password: a.token}), nil
}

func (a *azure) exchange(ctx context.Context, host string) (string, error) {
	credential, err := a.credential()
	if err != nil {
		return "", err
	}
	entra, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://containerregistry.azure.net/.default"}})
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {entra.Token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.scheme+"://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	const most = 1 << 20
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	err = json.NewDecoder(io.LimitReader(res.Body, most)).Decode(&answer)
	if res.StatusCode != http.StatusOK || err != nil || answer.RefreshToken == "" {
		return "", fmt.Errorf("the registry answers %s to the exchange of tokens", res.Status)
	}
	return answer.RefreshToken, nil
}
