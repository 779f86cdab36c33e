package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// The defaults of [Config].
const (
	DefaultStartWait    = 20 * time.Second
	DefaultWriteTimeout = 5 * time.Minute
	DefaultIdleTimeout  = 30 * time.Second
	DefaultHalfClose    = 30 * time.Second
	DefaultMaxIdle      = 128
	DefaultMaxParked    = 2048
)

// Config is how sessions are reached from outside. Start from [DefaultConfig].
type Config struct {
	// SessionDomain gives each session its own host <id>.<SessionDomain>, with
	// a port where it is not the scheme's own. A wildcard DNS record and
	// certificate must exist for it. Empty: sessions share the hub's host and
	// are not isolated from each other in the browser.
	SessionDomain string `yaml:"session_domain"`
	// TrustedProxies are the addresses whose X-Forwarded-* headers are believed.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// HubURL is where error pages link to; empty is "/".
	HubURL string `yaml:"hub_url"`
	// FrameAncestors are the origins that may show a session in a frame, as in
	// the CSP directive ("'self'", "https://example.org"). Empty leaves what
	// the session says, which for Jupyter is itself only.
	FrameAncestors []string `yaml:"frame_ancestors"`
	// StartWait is how long a request waits for a session that starts before it
	// is answered with "still starting".
	StartWait time.Duration `yaml:"start_wait"`
	// WriteTimeout ends a connection whose reader takes nothing for so long.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// IdleTimeout closes an unused connection to a session.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// HalfClose ends a WebSocket one side of which has ended for so long.
	HalfClose time.Duration `yaml:"half_close"`
	// MaxIdle is how many unused connections to one session are kept.
	MaxIdle int `yaml:"max_idle"`
	// MaxParked is how many requests may wait for sessions at a time; further
	// ones are told "still starting" at once.
	MaxParked int `yaml:"max_parked"`
}

// DefaultConfig is path mode that trusts nobody.
func DefaultConfig() Config {
	return Config{
		StartWait:    DefaultStartWait,
		WriteTimeout: DefaultWriteTimeout,
		IdleTimeout:  DefaultIdleTimeout,
		HalfClose:    DefaultHalfClose,
		MaxIdle:      DefaultMaxIdle,
		MaxParked:    DefaultMaxParked,
	}
}

// Validate reports every problem, each beginning with the field's name.
func (c Config) Validate() error {
	var errs []error
	if c.SessionDomain != "" && !validDomain(hostname(c.SessionDomain)) {
		errs = append(errs, fmt.Errorf("session_domain: %q is not a domain name; write it as sessions.example.org or sessions.example.org:8443", c.SessionDomain))
	}
	for i, p := range c.TrustedProxies {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("trusted_proxies[%d]: not an address range; write it as 192.0.2.0/24", i))
		}
	}
	if c.HubURL != "" {
		u, err := url.Parse(c.HubURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https" && !strings.HasPrefix(c.HubURL, "/")) {
			errs = append(errs, fmt.Errorf("hub_url: %q is not an http or https address", c.HubURL))
		}
	}
	for i, a := range c.FrameAncestors {
		if a == "" || strings.ContainsAny(a, "; ,\t\r\n") {
			errs = append(errs, fmt.Errorf("frame_ancestors[%d]: %q is not one source of a Content-Security-Policy", i, a))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"start_wait", c.StartWait},
		{"write_timeout", c.WriteTimeout},
		{"idle_timeout", c.IdleTimeout},
		{"half_close", c.HalfClose},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be more than 0", d.name))
		}
	}
	if c.MaxIdle < 0 {
		errs = append(errs, errors.New("max_idle: must not be negative"))
	}
	if c.MaxParked <= 0 {
		errs = append(errs, errors.New("max_parked: must be more than 0"))
	}
	return errors.Join(errs...)
}

func validDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
