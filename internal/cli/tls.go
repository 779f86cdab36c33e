package cli

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
)

// tlsConfig is nil when the hub speaks plain HTTP.
func tlsConfig(ctx context.Context, cfg config.Config, log *slog.Logger) (*tls.Config, error) {
	switch {
	case cfg.TLS.Cert != "":
		files := &certFiles{cert: cfg.TLS.Cert, key: cfg.TLS.Key, log: log}
		if _, err := files.get(nil); err != nil {
			return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "serve.tls", Message: "The certificate can't be used: " + err.Error() + ".", Err: err}
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get, NextProtos: []string{"h2", "http/1.1"}}, nil
	case cfg.TLS.ACME.Domain != "":
		return acmeConfig(ctx, cfg)
	default:
		return nil, nil //nolint:nilnil // no TLS is no error
	}
}

// acmeConfig gets a certificate in the background: requests are refused until
// it is there, and it is renewed in time.
func acmeConfig(ctx context.Context, cfg config.Config) (*tls.Config, error) {
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
	})
	magic = certmagic.New(cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: filepath.Join(cfg.Data, "certificates")}})
	issuer := certmagic.ACMEIssuer{Email: cfg.TLS.ACME.Email, Agreed: true, DisableHTTPChallenge: true, CA: certmagic.LetsEncryptProductionCA}
	if cfg.TLS.ACME.CA != "" {
		issuer.CA = cfg.TLS.ACME.CA
	}
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	if err := magic.ManageAsync(ctx, []string{cfg.TLS.ACME.Domain}); err != nil {
		return nil, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "serve.acme", Message: "No certificate could be asked for: " + err.Error() + ".",
			Hint: "The name must lead here and port 443 must be reachable from outside.", Err: err,
		}
	}
	out := magic.TLSConfig()
	out.NextProtos = append([]string{"h2", "http/1.1"}, out.NextProtos...)
	return out, nil
}

// certFiles serves a certificate from files and reads them again when they
// change. A broken new file is reported and the old one stays in use.
type certFiles struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	loaded time.Time // of the files that loaded came from
	now    *tls.Certificate
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := time.Time{}
	for _, path := range []string{f.cert, f.key} {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(changed) {
			changed = info.ModTime()
		}
	}
	if f.now != nil && changed.Equal(f.loaded) {
		return f.now, nil
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil && f.now != nil {
		f.log.Error("the new certificate can't be read, the old one stays in use", "err", err)
		f.loaded = changed
		return f.now, nil
	}
	if err != nil {
		return nil, err
	}
	f.now, f.loaded = &c, changed
	return f.now, nil
}

func withTLS(l net.Listener, cfg *tls.Config) net.Listener {
	if cfg == nil {
		return l
	}
	return tls.NewListener(l, cfg)
}
