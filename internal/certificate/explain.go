package certificate

import (
	"errors"
	"net"
	"strings"

	"github.com/mholt/acmez/v3/acme"

	"github.com/binnacle-hub/binnacle"
)

// refused says whether the authority answered, and so counts the failure.
func refused(err error) bool {
	_, ok := errors.AsType[acme.Problem](err)
	return ok
}

// explain says what an authority's refusal means to the operator. The cause is
// long and for the log.
func explain(name string, err error) *binnacle.Error {
	e := &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "certificate.get"}
	var problem acme.Problem
	if !errors.As(err, &problem) {
		e.Message = "No certificate could be got for " + name + "."
		if _, ok := errors.AsType[net.Error](err); ok || strings.Contains(err.Error(), "x509:") {
			e.Message = "The certificate authority can't be reached for " + name + "."
			e.Hint = "The hub must reach the authority's address (tls.acme.ca) by HTTPS; behind a proxy set HTTPS_PROXY, and with an authority of your own ca_bundle."
		}
		return e
	}
	details := []string{problem.Detail}
	for _, sub := range problem.Subproblems {
		details = append(details, sub.Detail)
	}
	detail := strings.Join(details, "; ")
	kind := problem.Type[strings.LastIndexByte(problem.Type, ':')+1:]
	switch {
	case kind == "dns" || strings.Contains(detail, "resolv") || strings.Contains(detail, "NXDOMAIN"):
		e.Message = "The authority finds no address for " + name + " in the DNS."
		e.Hint = "Give the name an A record with the hub's public address, or an AAAA record; then wait until the DNS has forgotten that there was none."
	case kind == "connection" || kind == "tls" || strings.Contains(detail, "connect"):
		e.Message = "The authority can't connect to " + name + " on port 443."
		e.Hint = "The name must lead to this hub, and port 443 must be open from the whole internet (firewall, security group, service.loadBalancerSourceRanges); where it can't be, use tls.cert or an ingress."
	case kind == "unauthorized" || kind == "incorrectResponse":
		e.Message = "Something else than this hub answers on port 443 of " + name + "."
		e.Hint = "The name must lead to this hub itself: a proxy in front that ends TLS needs the certificate instead; then set no tls.acme."
	case kind == "caa":
		e.Message = "The DNS of " + name + " does not allow this authority (a CAA record)."
		e.Hint = "Add the authority to the CAA record of the domain, or set tls.acme.ca to one that it allows."
	case kind == "rateLimited":
		e.Message = "The authority has given or refused too many certificates for " + name + " lately."
		e.Hint = "Wait; the hub asks again by itself. Keep the hub's data or database: it holds the certificates."
	case kind == "rejectedIdentifier":
		e.Message = "The authority gives no certificates for " + name + "."
		e.Hint = "Use a public name, or an authority of your own in tls.acme.ca."
	case kind == "externalAccountRequired" || kind == "userActionRequired":
		e.Message = "The authority wants an account that it knows."
		e.Hint = "Binnacle has no external account binding; use another authority, or tls.cert."
	default:
		e.Message = "The authority gives no certificate for " + name + "."
	}
	if detail != "" {
		e.Message += " It says: " + strings.TrimSuffix(detail, ".") + "."
	}
	return e
}
