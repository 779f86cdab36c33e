package source

import (
	"context"
	"net/netip"
)

// What tests of the parts need to see.

func CheckRef(ref string) error { return checkRef(ref) }

func CheckPath(p string) error { return checkPath(p) }

func Mask(s string) string { return mask(s) }

func ParseRefs(out []byte) (map[string]string, string, error) {
	r, err := parseRefs(out)
	return r.commits, r.head, err
}

func ParseRemote(s string) (string, error) {
	r, err := parseRemote(s)
	return r.String(), err
}

type Module struct{ Path, URL string }

func ParseModules(out string) ([]Module, error) {
	list, err := parseModules(out)
	var public []Module
	for _, m := range list {
		public = append(public, Module{m.path, m.url})
	}
	return public, err
}

func ModuleRemote(parent, address string) (string, error) {
	p, err := parseRemote(parent)
	if err != nil {
		return "", err
	}
	r, err := moduleRemote(p, address)
	return r.String(), err
}

// Leaves tells which links lead out of the tree.
func Leaves(links map[string]string) []string {
	var list []entry
	for p, t := range links {
		list = append(list, entry{path: p, kind: kindLink, target: t})
	}
	return escaping(list)
}

// GuardHost checks a host under the public policy.
func GuardHost(ctx context.Context, allow, deny []netip.Prefix, denyHosts []string, r Resolver, host string) error {
	g := &guard{allow: allow, deny: deny, denyHosts: denyHosts, resolver: r}
	_, err := g.lookup(ctx, host)
	return err
}

type Resolver = resolver

func (s *Source) SetResolver(r Resolver) { s.resolver = r }
