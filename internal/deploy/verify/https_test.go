package verify_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/deploy/verify"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
)

// TestWithoutCertificate: a hub that has none yet is another matter than one that is
// not there, or another server.
func TestWithoutCertificate(t *testing.T) {
	t.Parallel()
	strange := httptest.NewTLSServer(http.NotFoundHandler())
	none := httptest.NewUnstartedServer(http.NotFoundHandler())
	none.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no certificate") }}
	none.StartTLS()
	gone := httptest.NewTLSServer(http.NotFoundHandler())
	gone.Close()
	t.Cleanup(strange.Close)
	t.Cleanup(none.Close)
	for url, want := range map[string]string{
		none.URL: "has no certificate yet", strange.URL: "not trusted here", gone.URL: "does not answer at its public address",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c, err := client.New(url)
			if err != nil {
				t.Fatal(err)
			}
			_, err = verify.Run(t.Context(), c, verify.Options{Repository: "gh/o/r/HEAD", Now: time.Now, Answer: 2 * time.Second})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
}
