package network

import (
	"context"
	"net/netip"
	"strings"
)

const sessionPrefix = "s-"

// Sessions is the network as session spawners see it: ids of sessions, and
// nothing of build steps.
type Sessions struct{ network *Network }

// Sessions gives sessions namespaces of this network.
func (n *Network) Sessions() Sessions { return Sessions{n} }

// Attach is [Network.Attach] for a session.
func (s Sessions) Attach(ctx context.Context, id string) (path string, addr netip.Addr, err error) {
	ns, err := s.network.Attach(ctx, sessionPrefix+id)
	return ns.Path, ns.Addr, err
}

// Detach is [Network.Detach] for a session.
func (s Sessions) Detach(ctx context.Context, id string) error {
	return s.network.Detach(ctx, sessionPrefix+id)
}

// Sweep is [Network.Sweep] over the sessions.
func (s Sessions) Sweep(ctx context.Context, keep func(id string) bool) error {
	return s.network.Sweep(ctx, func(id string) bool {
		session, ours := strings.CutPrefix(id, sessionPrefix)
		return !ours || keep(session)
	})
}

// ResolvConf is [Network.ResolvConf].
func (s Sessions) ResolvConf() string { return s.network.ResolvConf() }
