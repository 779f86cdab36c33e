package builders

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultPerBuilder = 4
	DefaultWait       = 5 * time.Minute
)

// Config of the pool.
type Config struct {
	// Service is the Service whose ready endpoints are the builders; it may be a
	// headless one.
	Service string
	// Namespace is where the Service is; empty is the hub's own.
	Namespace string
	// Addresses are builders outside of the cluster, instead of a Service:
	// "host:port".
	Addresses []string
	// TLS is a directory with ca.crt, which signed the builders' certificates, and
	// tls.crt and tls.key, with which the hub shows who it is. Empty speaks
	// without TLS, which only a network that nobody else is in can bear.
	TLS string
	// ServerName is in the builders' certificates; empty is SERVICE.NAMESPACE.svc,
	// or the host of an address.
	ServerName string
	// PerBuilder is how many builds a builder does at once before the next one is
	// asked. When all do as many, the one that does least gets more.
	PerBuilder int
	// Wait is how long a build waits when no builder is ready.
	Wait time.Duration
}

// DefaultConfig has no builders.
func DefaultConfig() Config {
	return Config{PerBuilder: DefaultPerBuilder, Wait: DefaultWait}
}

// Enabled says whether builders are configured.
func (c Config) Enabled() bool { return c.Service != "" || len(c.Addresses) > 0 }

// Validate reports every problem, each with the name of its setting.
func (c Config) Validate() error {
	var errs []error
	if c.Service != "" && len(c.Addresses) > 0 {
		errs = append(errs, errors.New("addresses: builders are named by service already; choose one"))
	}
	for _, a := range c.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil && !strings.HasPrefix(a, "unix:///") {
			errs = append(errs, fmt.Errorf("addresses: %q is not an address such as builder.example.org:1234", a))
		}
	}
	if c.PerBuilder < 1 {
		errs = append(errs, errors.New("per_builder: must be at least 1"))
	}
	if c.Wait <= 0 {
		errs = append(errs, errors.New("wait: must be more than 0"))
	}
	return errors.Join(errs...)
}
