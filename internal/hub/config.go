package hub

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultKeepAlive    = 15 * time.Second
	DefaultWriteTimeout = 30 * time.Second
	DefaultCloseGrace   = time.Minute
	DefaultAbandonAfter = 2 * time.Minute
	DefaultTitle        = "Binnacle"
)

// Config is what an operator decides about the hub's HTTP face.
type Config struct {
	// URL is the hub's public address, e.g. "https://hub.example.org". Empty:
	// each request's own host and scheme.
	URL string `yaml:"url"`
	// Aliases are other names of the hub: who comes by one of them stays there.
	Aliases []string `yaml:"aliases"`
	// Secret signs cookies and build tokens, 32 bytes or more. Empty: a random
	// one, and people lose what they own with each restart.
	Secret []byte `yaml:"-"`
	// SessionDomain gives each session a host of its own below it. Empty:
	// sessions share the hub's host, below /user/.
	SessionDomain string `yaml:"session_domain"`
	// AllowOrigin is the Access-Control-Allow-Origin of every answer, "*" for
	// pages that embed sessions (Thebe). Empty: none.
	AllowOrigin string `yaml:"allow_origin"`
	// MetricsToken is the bearer token that opens /metrics. Empty: anyone may read it.
	MetricsToken string `yaml:"-"`
	// TrustedProxies may say in X-Forwarded-For and -Proto who asks and how.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// Title is the hub's name on its pages.
	Title string `yaml:"title"`
	// Banner is a line of plain text on top of every page; About is shown on
	// the about page, one paragraph per blank line.
	Banner string `yaml:"banner"`
	About  string `yaml:"about"`
	// KeepAlive is the time between comments on a silent event stream.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// WriteTimeout is how long one write to a slow reader may take.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// CloseGrace is how long /build stays open after its last event: a client
	// that has not closed it by then is gone.
	CloseGrace time.Duration `yaml:"close_grace"`
	// AbandonAfter cancels a launch asked for by /build that nobody has watched
	// for so long. Negative: never.
	AbandonAfter time.Duration `yaml:"abandon_after"`
	// Version is what /versions tells.
	Version string `yaml:"-"`
}

// DefaultConfig is what a hub does when nothing is configured.
func DefaultConfig() Config { return Config{}.withDefaults() }

func (c Config) withDefaults() Config {
	c.KeepAlive = orDefault(c.KeepAlive, DefaultKeepAlive)
	c.WriteTimeout = orDefault(c.WriteTimeout, DefaultWriteTimeout)
	c.CloseGrace = orDefault(c.CloseGrace, DefaultCloseGrace)
	c.AbandonAfter = orDefault(c.AbandonAfter, DefaultAbandonAfter)
	c.Title = orDefault(c.Title, DefaultTitle)
	c.Version = orDefault(c.Version, "development")
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Validate tells everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			errs = append(errs, fmt.Errorf("url: %q is not like https://hub.example.org", c.URL))
		}
	}
	if len(c.Secret) > 0 && len(c.Secret) < 32 {
		errs = append(errs, fmt.Errorf("secret: %d bytes are too few, use 32", len(c.Secret)))
	}
	if d := c.SessionDomain; d != "" && (strings.ContainsAny(d, "/:*@ ") || !strings.Contains(d, ".")) {
		errs = append(errs, fmt.Errorf("session_domain: %q is not a domain like sessions.example.org", d))
	}
	if o := c.AllowOrigin; o != "" && o != "*" {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Path != "" {
			errs = append(errs, fmt.Errorf("allow_origin: %q is neither * nor like https://example.org", o))
		}
	}
	for name, d := range map[string]time.Duration{"keep_alive": c.KeepAlive, "write_timeout": c.WriteTimeout, "close_grace": c.CloseGrace} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: %s is negative", name, d))
		}
	}
	return errors.Join(errs...)
}
