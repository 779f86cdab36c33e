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
		return &azure{client: &http.Client{Transport: under}, scheme: "https", credential: podIdentity}
	case hasSuffix(host, ".pkg.dev", ".gcr.io") || host == "gcr.io":
		return googleCloud{}
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

type googleCloud struct{}

func (googleCloud) sign(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	return authn.Resolve(ctx, google.Keychain, target)
}

// podIdentity is workload identity, or the identity of the machine.
func podIdentity() (azcore.TokenCredential, error) { return azidentity.NewDefaultAzureCredential(nil) }

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
			return nil, &binnacle.Error{
				Code: binnacle.CodeUnavailable, Op: "registry.azure", Err: err, Message: "This hub can't sign in to the registry " + target.RegistryStr() + " with its identity in Azure.",
				Hint: "Tell the operator of this hub: its identity needs the roles AcrPull and AcrPush there; else kubernetes.registry.docker_config names a file with credentials.",
			}
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
