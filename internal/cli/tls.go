package cli

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/certificate"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

// https says whether the hub speaks HTTPS itself.
func https(cfg config.Config) bool { return cfg.TLS.Cert != "" || cfg.TLS.ACME.Domain != "" }

// openTLS makes the public listener speak HTTPS, where the hub does so itself.
func (s *server) openTLS(ctx context.Context) error {
	if s.cfg.TLS.Redirect != "" {
		l, err := s.listen(ctx, s.cfg.TLS.Redirect, "tls.redirect")
		if err != nil {
			return err
		}
		s.plain = l
	}
	switch cfg := s.cfg.TLS; {
	case cfg.Cert != "":
		files := &certFiles{cert: cfg.Cert, key: cfg.Key, log: s.log}
		if _, err := files.get(nil); err != nil {
			return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "serve.tls", Message: "The certificate can't be used: " + err.Error() + ".", Err: err}
		}
		s.public = tls.NewListener(s.public, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get, NextProtos: []string{"h2", "http/1.1"}})
	case cfg.ACME.Domain != "":
		return s.openACME()
	}
	return nil
}

// openACME serves certificates that the hub gets by itself. Replicas share them in
// the database they share; a hub alone keeps them in its data directory.
func (s *server) openACME() error {
	// A replica that dies while it asks for a certificate gives way to another.
	const lease = time.Minute
	var storage certmagic.Storage = &certmagic.FileStorage{Path: filepath.Join(s.cfg.Data, "certificates")}
	if s.replica != "" {
		storage = certificate.NewStorage(s.store, lease)
	}
	roots, err := s.roots()
	if err != nil {
		return err
	}
	acme := s.cfg.TLS.ACME
	cfg := certificate.Config{Names: append([]string{acme.Domain}, acme.Also...), Email: acme.Email, CA: acme.CA, Roots: roots, Listen: s.public.Addr()}
	if s.cfg.Kubernetes.Enabled {
		cfg.Begin = behindBalancer
	}
	keeper := certificate.New(cfg, storage, s.log)
	s.public = tls.NewListener(s.public, keeper.TLS())
	s.below = append(s.below, keeper.Run)
	s.more = append(s.more, hub.Check{Service: "certificate", Run: func(context.Context) error { return keeper.Problem() }})
	return nil
}

// behindBalancer waits until a load balancer leads to a replica that has just started: it
// has to be ready first, and all that have to must know. Who asks the authority before
// has one of the few failures that it allows.
func behindBalancer(ctx context.Context) {
	const settled = 20 * time.Second
	select {
	case <-time.After(settled):
	case <-ctx.Done():
	}
}

// toHTTPS leads who came by http to the same page by https.
func (s *server) toHTTPS(w http.ResponseWriter, r *http.Request) {
	own, err := url.Parse(s.url)
	if err != nil { // it was looked at when the hub started
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	to := url.URL{Scheme: "https", Host: own.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	// By the name that they used, of which there may be more than one.
	if name := (&url.URL{Host: r.Host}).Hostname(); name != "" {
		to.Host = name
		if port := own.Port(); port != "" {
			to.Host = net.JoinHostPort(name, port)
		}
	}
	http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
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
