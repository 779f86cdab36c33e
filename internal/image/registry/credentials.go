package registry

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
)

var _ authn.ContextKeychain = (*Registry)(nil)

// Resolve is ResolveContext for callers that have no context.
func (r *Registry) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return r.ResolveContext(context.Background(), target) //nolint:forbidigo // go-containerregistry asks ResolveContext
}

// ResolveContext finds the credentials for a registry: those of the docker
// configuration, then the pod's own identity in a cloud, then none.
func (r *Registry) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	file, err := r.dockerConfig()
	if err != nil {
		return nil, err
	}
	if who, err := stored(file, target); err != nil || who != authn.Anonymous {
		return who, err
	}
	// The identity is for the hub's own registry, never for one that a stranger's
	// Dockerfile names.
	if r.cloud != nil && target.RegistryStr() == r.own {
		return r.cloud.sign(ctx, target)
	}
	return authn.Anonymous, nil
}

// stored are the credentials that a docker configuration has for a registry.
func stored(file *configfile.ConfigFile, target authn.Resource) (authn.Authenticator, error) {
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		c, err := file.GetAuthConfig(key)
		if err != nil {
			return nil, fmt.Errorf("credentials for the registry %s: %w", target.RegistryStr(), err)
		}
		c.ServerAddress = ""
		if c != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, Auth: c.Auth, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}), nil
		}
	}
	return authn.Anonymous, nil
}

func (r *Registry) dockerConfig() (*configfile.ConfigFile, error) {
	if r.cfg.DockerConfig == "" {
		return config.LoadDefaultConfigFile(io.Discard), nil
	}
	f, err := os.Open(r.cfg.DockerConfig)
	if err != nil {
		return nil, fmt.Errorf("credentials for registries: %w", err)
	}
	defer f.Close()
	file, err := config.LoadFromReader(f)
	if err != nil {
		return nil, fmt.Errorf("credentials for registries, %s: %w", r.cfg.DockerConfig, err)
	}
	return file, nil
}

// BuildKitAuth answers BuildKit, which asks the hub for credentials: a builder
// has none of its own.
func (r *Registry) BuildKitAuth() session.Attachable {
	return authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: r.authConfig})
}

func (r *Registry) authConfig(ctx context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
	if host == authprovider.DockerHubRegistryHost {
		host = name.DefaultRegistry
	}
	at, err := name.NewRegistry(strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://"))
	if err != nil {
		return types.AuthConfig{}, fmt.Errorf("credentials for the registry %q: %w", host, err)
	}
	who, err := r.ResolveContext(ctx, at)
	if err != nil {
		return types.AuthConfig{}, err
	}
	c, err := authn.Authorization(ctx, who)
	if err != nil {
		return types.AuthConfig{}, err
	}
	return types.AuthConfig{ServerAddress: host, Username: c.Username, Password: c.Password, Auth: c.Auth, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}, nil
}

// lasting is how long what a cloud gave for a registry is used: its shortest
// lifetime is an hour.
const lasting = 30 * time.Minute
