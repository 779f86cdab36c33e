package registry

import (
	"context"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/docker/cli/cli/config/types"
)

// WithAzure makes r sign in as with a registry of Azure's, over http.
func WithAzure(r *Registry, who azcore.TokenCredential) *Registry {
	r.cloud = &azure{client: &http.Client{Transport: r.transport}, scheme: "http", credential: func() (azcore.TokenCredential, error) { return who, nil }}
	return r
}

// AuthConfig is what BuildKit is given.
func AuthConfig(ctx context.Context, r *Registry, host string) (types.AuthConfig, error) {
	return r.authConfig(ctx, host, nil, nil)
}

// RetryAfter is retryAfter.
func RetryAfter(header string, now time.Time, fallback time.Duration) time.Duration {
	return retryAfter(header, now, fallback)
}

// CloudOf names the cloud that a registry's host belongs to.
func CloudOf(host string) string {
	switch c := newCloud(host, nil).(type) {
	case *azure:
		return "azure"
	case *googleCloud:
		return "google"
	case *amazon:
		return "amazon " + c.region
	}
	return ""
}
