// Package certificate gets certificates for the hub's names from an authority by
// ACME, keeps them fresh, and says what is in the way when there is none. The
// challenge is answered on the port of the hub itself (tls-alpn-01).
//
// Replicas share one storage: one of them asks the authority, any of them answers
// its question, and all serve what it gave.
package certificate

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/binnacle-hub/binnacle"
)

// Config says which names have certificates.
type Config struct {
	// Names have a certificate each.
	Names []string
	// Email is told to the authority.
	Email string
	// CA is the directory of the authority; empty is Let's Encrypt.
	CA string
	// Roots are trusted when the authority is asked; nil are the machine's.
	Roots *x509.CertPool
	// Listen is where the hub answers.
	Listen net.Addr
	// Begin returns when the authority can reach the hub, and is waited for before it is
	// asked for a name that has no certificate yet; nil is at once.
	Begin func(ctx context.Context)
	// Check is how often certificates are looked at; 0 is every ten minutes.
	Check time.Duration
	// Wait is the time after the first, second… failure, the last one for all that
	// follow; nil is what Let's Encrypt allows.
	Wait []time.Duration
}

// Keeper keeps certificates.
type Keeper struct {
	cfg     Config
	storage certmagic.Storage
	magic   *certmagic.Config
	cache   *certmagic.Cache
	log     *slog.Logger

	mu       sync.Mutex
	problems map[string]error // of names, the newest
}

// New makes a keeper that keeps certificates in storage, and serves those that are
// there already. The caller runs it.
func New(cfg Config, storage certmagic.Storage, log *slog.Logger) *Keeper {
	k := &Keeper{cfg: cfg, storage: storage, log: log, problems: map[string]error{}}
	if len(k.cfg.Wait) == 0 {
		// Five failures an hour are allowed for a name, however they are spread.
		k.cfg.Wait = []time.Duration{time.Minute, 3 * time.Minute, 6 * time.Minute, 12 * time.Minute}
	}
	told := zap.New(&core{log: log})
	k.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return k.magic, nil },
		RenewCheckInterval: cfg.Check, Logger: told,
	})
	k.magic = certmagic.New(k.cache, certmagic.Config{Storage: storage, Logger: told, OnEvent: k.event})
	issuer := certmagic.ACMEIssuer{
		CA: cmp.Or(cfg.CA, certmagic.LetsEncryptProductionCA), Email: cfg.Email, Agreed: true,
		DisableHTTPChallenge: true, TrustedRoots: cfg.Roots, Logger: told,
	}
	if a, ok := cfg.Listen.(*net.TCPAddr); ok {
		issuer.AltTLSALPNPort = a.Port
		if !a.IP.IsUnspecified() {
			issuer.ListenHost = a.IP.String()
		}
	}
	k.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(k.magic, issuer)}
	return k
}

// TLS serves the certificates, and answers the authority's challenges.
func (k *Keeper) TLS() *tls.Config {
	out := k.magic.TLSConfig()
	out.MinVersion = tls.VersionTLS12
	out.NextProtos = append([]string{"h2", "http/1.1"}, out.NextProtos...)
	return out
}

// Run gets what is missing and renews what grows old until ctx ends. The hub must
// accept connections already.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, name := range k.cfg.Names {
		wg.Go(func() { k.manage(ctx, name) })
	}
	<-ctx.Done()
	wg.Wait()
	k.cache.Stop()
	return nil
}

// Problem says which of the names have no certificate that works, and why; nil is
// that all is well.
func (k *Keeper) Problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, name := range k.cfg.Names {
		if err := k.problems[name]; err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// manage tries until name has a certificate, which certmagic then keeps fresh.
func (k *Keeper) manage(ctx context.Context, name string) {
	if k.cfg.Begin != nil && !k.has(ctx, name) {
		k.cfg.Begin(ctx)
	}
	for ctx.Err() == nil {
		wait := k.try(ctx, name)
		if wait == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// has says whether a name has a certificate, old or new.
func (k *Keeper) has(ctx context.Context, name string) bool {
	return k.storage.Exists(ctx, certmagic.StorageKeys.SiteCert(k.magic.Issuers[0].IssuerKey(), name))
}

// failure is what replicas and later starts know of failures: together they must
// not ask more often than the authority allows.
type failure struct {
	Count int       `json:"count"`
	At    time.Time `json:"at"`
	Why   string    `json:"why"`
	Hint  string    `json:"hint"`
}

func failureKey(name string) string {
	return path.Join("binnacle", "failed", certmagic.StorageKeys.Safe(name)+".json")
}

// try asks once, unless the last failure was a moment ago; it returns how long to
// wait for the next time, 0 when there is a certificate.
func (k *Keeper) try(ctx context.Context, name string) time.Duration {
	const again = 10 * time.Second // when the storage fails
	lock := "binnacle_get_" + name
	if err := k.storage.Lock(ctx, lock); err != nil {
		k.failed(ctx, name, err)
		return again
	}
	defer func() {
		if err := k.storage.Unlock(context.WithoutCancel(ctx), lock); err != nil {
			k.log.WarnContext(ctx, "the lock of a certificate can't be given back", "name", name, "err", err)
		}
	}()
	var last failure
	b, err := k.storage.Load(ctx, failureKey(name))
	if err == nil {
		err = json.Unmarshal(b, &last)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.WarnContext(ctx, "what is known of earlier failures can't be read", "name", name, "err", err)
	}
	if wait := time.Until(last.At.Add(k.wait(last.Count))); last.Count > 0 && wait > 0 && wait <= k.wait(last.Count) {
		err := &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "certificate.get", Message: last.Why, Hint: last.Hint}
		k.failed(ctx, name, err, "next", time.Now().Add(wait).Truncate(time.Second))
		return wait
	}
	if err = k.magic.ManageSync(ctx, []string{name}); err == nil {
		k.well(ctx, name)
		return 0
	}
	if ctx.Err() != nil {
		return again
	}
	e := explain(name, err)
	if !refused(err) {
		k.failed(ctx, name, e, "next", time.Now().Add(k.cfg.Wait[0]).Truncate(time.Second), "cause", err.Error())
		return k.cfg.Wait[0]
	}
	last = failure{Count: last.Count + 1, At: time.Now(), Why: e.Message, Hint: e.Hint}
	wait := k.wait(last.Count)
	k.failed(ctx, name, e, "next", last.At.Add(wait).Truncate(time.Second), "cause", err.Error())
	if b, err = json.Marshal(last); err == nil {
		err = k.storage.Store(ctx, failureKey(name), b)
	}
	if err != nil {
		k.log.WarnContext(ctx, "the failure can't be kept", "name", name, "err", err)
	}
	return wait
}

func (k *Keeper) wait(failures int) time.Duration {
	return k.cfg.Wait[max(0, min(failures, len(k.cfg.Wait))-1)]
}

func (k *Keeper) well(ctx context.Context, name string) {
	k.mu.Lock()
	delete(k.problems, name)
	k.mu.Unlock()
	if err := k.storage.Delete(ctx, failureKey(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.WarnContext(ctx, "earlier failures can't be forgotten", "name", name, "err", err)
	}
	k.log.InfoContext(ctx, "the certificate is there", "name", name)
}

func (k *Keeper) failed(ctx context.Context, name string, err error, more ...any) {
	k.mu.Lock()
	k.problems[name] = err
	k.mu.Unlock()
	if e, ok := errors.AsType[*binnacle.Error](err); ok {
		more = append(more, "hint", e.Hint)
	}
	k.log.ErrorContext(ctx, "there is no certificate yet", append([]any{"name", name, "err", err}, more...)...)
}

// event hears of renewals, which certmagic does by itself.
func (k *Keeper) event(ctx context.Context, event string, data map[string]any) error {
	renewal, _ := data["renewal"].(bool)
	name := fmt.Sprint(data["identifier"])
	if !renewal {
		return nil
	}
	switch event {
	case "cert_obtained":
		k.mu.Lock()
		delete(k.problems, name)
		k.mu.Unlock()
		k.log.InfoContext(ctx, "the certificate was renewed", "name", name)
	case "cert_failed":
		err, _ := data["error"].(error)
		if errors.Is(err, context.Canceled) {
			return nil // the hub ends
		}
		e := explain(name, err)
		k.mu.Lock()
		k.problems[name] = e
		k.mu.Unlock()
		k.log.ErrorContext(ctx, "the certificate can't be renewed, the old one is served", "name", name, "err", e, "hint", e.Hint, "cause", err)
	}
	return nil
}
