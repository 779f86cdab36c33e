package verify

import (
	"crypto/tls"
	"errors"
	"net"
)

// https says what is wrong when the hub is there and its HTTPS is not; empty is that
// something else is wrong.
func https(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "something answers at the hub's public address with a certificate that is not trusted here (https.staging makes such; else another server answers there)"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return "the hub answers and has no certificate yet; its log and /health say why"
	}
	return ""
}
