package verify_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/verify"
)

func TestReadCertificate(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	got, err := verify.ReadCertificate(t.Context(), s.URL, roots)
	if err != nil || !got.Ends.Equal(s.Certificate().NotAfter) || !slices.Contains(got.Names, "example.com") || got.Issuer != "Acme Co" {
		t.Errorf("%+v %v", got, err)
	}
	for address, want := range map[string]binnacle.Code{
		s.URL:                                  binnacle.CodeUnavailable, // nobody trusts it
		"http://" + s.Listener.Addr().String(): binnacle.CodeInvalid, "https://127.0.0.1:1/": binnacle.CodeUnavailable,
	} {
		if _, err := verify.ReadCertificate(t.Context(), address, nil); binnacle.CodeOf(err) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}
