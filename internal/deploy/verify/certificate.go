package verify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Certificate is what a hub shows to browsers.
type Certificate struct {
	Names  []string
	Issuer string
	Ends   time.Time
}

// ReadCertificate asks a hub at an https:// address for its certificate. roots are
// whom to trust; nil is whom this machine trusts. Returns unavailable when there is
// none that a browser takes, with the reason.
func ReadCertificate(ctx context.Context, address string, roots *x509.CertPool) (Certificate, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		return Certificate{}, binnacle.Errorf(binnacle.CodeInvalid, "%s has no certificate: it is not https.", address)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return Certificate{}, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "verify.certificate", Message: fmt.Sprintf("%s has no certificate that browsers take: %v.", u.Host, err),
			Hint: "binnacle deploy logs --component hub shows what the certificate authority said.", Err: err,
		}
	}
	defer conn.Close()
	c, ok := conn.(*tls.Conn)
	if !ok || len(c.ConnectionState().PeerCertificates) == 0 {
		return Certificate{}, binnacle.Errorf(binnacle.CodeInternal, "A connection by TLS is a %T.", conn)
	}
	leaf := c.ConnectionState().PeerCertificates[0]
	issuer := leaf.Issuer.CommonName
	if len(leaf.Issuer.Organization) > 0 {
		issuer = leaf.Issuer.Organization[0]
	}
	return Certificate{Names: leaf.DNSNames, Issuer: issuer, Ends: leaf.NotAfter}, nil
}
