package network

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/moby/buildkit/executor/resources/types"
	bknetwork "github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// buildPrefix begins the ids of build steps' namespaces.
const buildPrefix = "b-"

// Provider gives build steps namespaces of this network. The executor's DNS must
// be the [Network.Gateway].
func (n *Network) Provider() bknetwork.Provider { return &provider{n} }

type provider struct{ network *Network }

var _ bknetwork.Provider = (*provider)(nil)

// New makes the namespace of one build step.
func (p *provider) New(ctx context.Context, _ string, _ bknetwork.NamespaceOptions) (bknetwork.Namespace, error) {
	ns, err := p.network.Attach(ctx, buildPrefix+strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return nil, err
	}
	// The namespace is closed without a context, and has to go even if the
	// build was canceled.
	return &buildNamespace{ns: ns, detach: func() error { return p.network.Detach(context.WithoutCancel(ctx), ns.ID) }}, nil
}

// Close does nothing: the network is not the provider's.
func (p *provider) Close() error { return nil }

type buildNamespace struct {
	ns     Namespace
	detach func() error
}

// Set puts the step into the namespace.
func (b *buildNamespace) Set(s *specs.Spec) error {
	for i, ns := range s.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			s.Linux.Namespaces[i].Path = b.ns.Path
			return nil
		}
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: b.ns.Path})
	return nil
}

// Close removes the namespace.
func (b *buildNamespace) Close() error { return b.detach() }

// Sample measures nothing.
func (b *buildNamespace) Sample() (*types.NetworkSample, error) { return nil, nil }
