// Package config gathers the settings of all parts: defaults, then the file,
// then the environment, then flags. It is the only reader of the environment.
//
// Each part owns its own Config with comments and defaults; [Config] nests
// them. The reference page is written from those comments.
package config

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/builders"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/engine/network"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/proxy"
	"github.com/binnacle-hub/binnacle/internal/session/containerd"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// Config is everything that can be set.
type Config struct {
	// Data is the directory everything is kept in: images, caches, the
	// database, sessions. At most 36 characters, because unix sockets live
	// below it.
	Data string `yaml:"data"`
	// Listen is the address the hub answers on, for example "0.0.0.0:443";
	// port 0 takes a free one.
	Listen string `yaml:"listen"`
	// URL is how people reach the hub, for example "https://hub.example.org";
	// empty follows from listen and tls.
	URL string `yaml:"url"`
	// SessionDomain gives each session its own host name below it, which
	// isolates sessions from each other in the browser. Needs a wildcard DNS
	// record and certificate. Empty serves sessions below the hub's own name.
	SessionDomain string `yaml:"session_domain"`
	// TrustedProxies are the addresses of reverse proxies in front of the hub:
	// their X-Forwarded-* headers are believed, nobody else's.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// AllowOrigin is the Access-Control-Allow-Origin of the hub and of
	// sessions, "*" for pages that embed sessions (Thebe). Empty: none.
	AllowOrigin string `yaml:"allow_origin"`
	// MetricsToken is what Prometheus has to send (Authorization: Bearer …) to read
	// /metrics, which names the repositories that are launched. Empty: anyone may.
	MetricsToken Secret `yaml:"metrics_token"`
	TLS          TLS    `yaml:"tls"`
	Log          Log    `yaml:"log"`
	// CABundle is a file with the certificate authorities to trust when
	// fetching and building; empty is the machine's own. "none" gives builds
	// only what their image has.
	CABundle string `yaml:"ca_bundle"`
	// OutboundProxy is the site's way out.
	OutboundProxy OutboundProxy  `yaml:"outbound_proxy"`
	Base          Base           `yaml:"base"`
	Mirrors       Mirrors        `yaml:"mirrors"`
	Build         Build          `yaml:"build"`
	Source        source.Config  `yaml:"source"`
	Network       network.Config `yaml:"network"`
	Session       Session        `yaml:"session"`
	Launch        launch.Config  `yaml:"launch"`
	Proxy         proxy.Config   `yaml:"proxy"`
	Hub           hub.Config     `yaml:"hub"`
	Kubernetes    Kubernetes     `yaml:"kubernetes"`

	environ []string
}

// TLS makes the hub speak HTTPS: with a certificate of yours, or with one it
// gets by ACME.
type TLS struct {
	// Cert and Key are PEM files. They are read again when they change.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	ACME ACME   `yaml:"acme"`
	// Redirect is where the hub speaks HTTP too, to lead people to HTTPS: 0.0.0.0:80,
	// for example. Empty is nowhere.
	Redirect string `yaml:"redirect"`
}

// ACME gets certificates by itself. The hub must be reachable on port 443.
type ACME struct {
	// Domain is the name the certificate is for; empty switches ACME off.
	Domain string `yaml:"domain"`
	// Also are further names that lead here and get certificates, for example the one
	// from before while people move to a new one. Each is served as if it were the
	// only one.
	Also []string `yaml:"also"`
	// Email is told to the authority for notices.
	Email string `yaml:"email"`
	// CA is the directory address of the authority; empty is Let's Encrypt.
	CA string `yaml:"ca"`
}

// Log says how the hub writes its log, to standard error.
type Log struct {
	// Format is "text", "json" or "auto": text on a terminal, JSON elsewhere.
	Format string `yaml:"format"`
	// Level is "debug", "info", "warn" or "error".
	Level string `yaml:"level"`
}

// OutboundProxy is used for fetching repositories and by build steps.
type OutboundProxy struct {
	// HTTP and HTTPS are the addresses of proxies; empty takes HTTP_PROXY and
	// HTTPS_PROXY of the environment.
	HTTP  Secret `yaml:"http"`
	HTTPS Secret `yaml:"https"`
	// No lists hosts that are reached directly; empty takes NO_PROXY.
	No []string `yaml:"no"`
}

// Base is the image everything is built on.
type Base struct {
	// Image is any Debian or Ubuntu image of a registry, also one with CUDA, such
	// as nvidia/cuda:13.0.1-runtime-ubuntu24.04: what it sets in its environment
	// stays. Empty bootstraps one from Debian's packages, which needs mmdebstrap
	// and no registry.
	Image string `yaml:"image"`
	// Suite is the Debian release to bootstrap.
	Suite string `yaml:"suite"`
	// Python is the version the base image has, "X.Y"; empty is 3.13, which
	// Debian trixie has. Set it with another image or suite.
	Python string `yaml:"python"`
	// Packages are installed into a bootstrapped base; empty is the usual set.
	Packages []string `yaml:"packages"`
	// Archive is a tar file with a bootstrapped base: taken when it is there,
	// which a site without a mirror can bring along, and written when it is not.
	Archive string `yaml:"archive"`
}

// Mirrors are where packages come from, for institutes that have mirrors or no
// way to the internet.
type Mirrors struct {
	// Site is a mirror that has all of the others below it, so that nothing is
	// fetched from anywhere else (`serve --offline-mirror`): debian, pypi/simple,
	// python, conda, npm, go, crates, cran, r, bioconductor, rstudio, julia,
	// julia-releases, nix and nixpkgs. Those set here keep their own address.
	Site Secret `yaml:"site"`
	// Debian is the address of a Debian mirror; empty is Debian's own.
	Debian string `yaml:"debian"`
	// PyPI is the Python package index; empty is the public one.
	PyPI Secret `yaml:"pypi"`
	// PyPIExtra are further indexes beside it.
	PyPIExtra []Secret `yaml:"pypi_extra"`
	// Python is where builds of other versions than the base's are, laid out as
	// uv's own source of them; empty is that.
	Python Secret `yaml:"python"`
	// Conda is the channel alias: where channels named without an address are.
	Conda Secret `yaml:"conda"`
	// NPM is the registry of JavaScript packages.
	NPM Secret `yaml:"npm"`
	// Go is where Go modules and toolchains come from, as GOPROXY has it.
	Go Secret `yaml:"go"`
	// Crates is the index of Rust crates, as Cargo has it: sparse+https://….
	Crates Secret `yaml:"crates"`
	// CRAN is a mirror of R packages. {date} in it becomes the day whose packages
	// are wanted, as 2024-06-01 or latest, and {codename} the Debian or Ubuntu
	// release; empty is Posit's public package manager, which has both, and
	// packages that are compiled.
	CRAN Secret `yaml:"cran"`
	// R is where builds of other versions of R than Debian's are; empty is
	// https://cdn.posit.co/r.
	R Secret `yaml:"r"`
	// Bioconductor is where R packages of Bioconductor are; empty is
	// https://bioconductor.org/packages.
	Bioconductor Secret `yaml:"bioconductor"`
	// RStudio is where packages of RStudio Server are; empty is
	// https://download2.rstudio.org.
	RStudio Secret `yaml:"rstudio"`
	// RStudioSHA256 is the hash of the mirror's package of RStudio Server when it
	// has another version than ours.
	RStudioSHA256 string `yaml:"rstudio_sha256"`
	// Julia is a package server; empty is Julia's own.
	Julia Secret `yaml:"julia"`
	// JuliaReleases is where Julia's builds and their list versions.json are;
	// empty is https://julialang-s3.julialang.org/bin.
	JuliaReleases Secret `yaml:"julia_releases"`
	// NixCache is where compiled packages of Nix are; empty is Nix's own. They
	// must be signed with the key of that, or with NixCacheKey.
	NixCache Secret `yaml:"nix_cache"`
	// NixCacheKey is the public key of packages in NixCache that others than Nix's
	// own servers signed, as nix key convert-secret-to-public writes it: name:base64.
	NixCacheKey string `yaml:"nix_cache_key"`
	// Nixpkgs is where the channels of Nix are, a directory for each, or the
	// tarball of one that all repositories get; empty is https://channels.nixos.org.
	Nixpkgs Secret `yaml:"nixpkgs"`
	// Registries lists mirrors of image registries by the registry's host,
	// tried in order.
	Registries map[string][]string `yaml:"registries"`
}

// Build bounds build steps.
type Build struct {
	// Python is the version of repositories that name none, "X.Y"; empty is the
	// base image's own, which needs no download.
	Python string `yaml:"python"`
	// Limits bound one build step; 0 is unlimited.
	Limits binnacle.Limits `yaml:"limits"`
	// Parallel is how many build steps run at once; 0 is unlimited.
	Parallel int `yaml:"parallel"`
	// Env is given to every build step. It is never stored in a layer and does
	// not decide whether a layer is built anew.
	Env map[string]Secret `yaml:"env"`
}

// Session is how sessions run on this machine.
type Session struct {
	// Grace is how long a session may take to end by itself.
	Grace time.Duration `yaml:"grace"`
	// LogSize in bytes is what is kept of a session's output.
	LogSize int64 `yaml:"log_size"`
	// CABundle is a file with the certificate authorities that sessions trust;
	// empty leaves the image's.
	CABundle string `yaml:"ca_bundle"`
}

// Kubernetes is the hub's cluster, where it runs on one. The Helm chart sets it.
type Kubernetes struct {
	// Enabled runs sessions as pods and builds on builders: this process is one
	// replica of a hub on a cluster, and needs no right of its machine.
	Enabled bool `yaml:"enabled"`
	// Kubeconfig is a file that says how to reach the cluster; empty is the
	// service account of the pod.
	Kubeconfig string `yaml:"kubeconfig"`
	// Namespace is where the hub's replicas and builders run; empty is the one of
	// the pod.
	Namespace string `yaml:"namespace"`
	// Database is the address of the PostgreSQL that replicas share, such as
	// postgres://user:password@host:5432/binnacle; empty is SQLite in data, for
	// one replica. The chart gives it in BINNACLE_KUBERNETES_DATABASE.
	Database Secret `yaml:"database"`
	// Session is how sessions run as pods.
	Session kubernetes.Config `yaml:"session"`
	// Builders are the BuildKits that make images.
	Builders builders.Config `yaml:"builders"`
	// Registry is where images are kept.
	Registry registry.Config `yaml:"registry"`
}

// The defaults of [Config].
const (
	DefaultData       = "/var/lib/binnacle"
	DefaultListen     = "127.0.0.1:8585"
	DefaultDiskBudget = 50 << 30
)

// Default is one machine for one person: it listens on the loopback only.
func Default() Config {
	c := Config{
		Data: DefaultData, Listen: DefaultListen,
		Log:     Log{Format: "auto", Level: "info"},
		Base:    Base{Suite: engine.DefaultSuite},
		Build:   Build{Limits: binnacle.Limits{Memory: 4 << 30, PIDs: 4096, Disk: 20 << 30}},
		Source:  source.DefaultConfig(),
		Network: network.DefaultConfig(),
		Session: Session{Grace: containerd.DefaultGrace, LogSize: containerd.DefaultLogSize},
		Launch:  launch.DefaultConfig(),
		Proxy:   proxy.DefaultConfig(),
		Hub:     hub.DefaultConfig(),
	}
	c.Kubernetes.Session = kubernetes.DefaultConfig()
	c.Kubernetes.Builders, c.Kubernetes.Registry = builders.DefaultConfig(), registry.DefaultConfig()
	c.Launch.DiskBudget = DefaultDiskBudget
	return c
}

// derived are settings of the parts that follow from others, which are named.
func derived() map[string]string {
	return map[string]string{
		"source.dir": "data", "source.proxy": "outbound_proxy.https", "source.ca_file": "ca_bundle",
		"network.dir": "data", "proxy.session_domain": "session_domain", "proxy.hub_url": "url",
		"proxy.trusted_proxies": "trusted_proxies", "hub.trusted_proxies": "trusted_proxies",
		"hub.url": "url", "hub.session_domain": "session_domain",
		"hub.allow_origin": "allow_origin", "launch.allow_origin": "allow_origin", "hub.aliases": "tls.acme.also",
	}
}

// derive fills in what follows from other settings.
func (c *Config) derive() {
	env := func(name string) string {
		return cmp.Or(lookup(c.environ, name), lookup(c.environ, strings.ToLower(name)))
	}
	c.OutboundProxy.HTTP = cmp.Or(c.OutboundProxy.HTTP, Secret(env("HTTP_PROXY")))
	c.OutboundProxy.HTTPS = cmp.Or(c.OutboundProxy.HTTPS, Secret(env("HTTPS_PROXY")))
	if len(c.OutboundProxy.No) == 0 {
		c.OutboundProxy.No = splitList(env("NO_PROXY"))
	}
	c.Source.Dir = filepath.Join(c.Data, "git")
	c.Source.Environ = c.environ
	c.Source.Proxy = string(cmp.Or(c.OutboundProxy.HTTPS, c.OutboundProxy.HTTP))
	if c.CABundle != "none" {
		c.Source.CAFile = c.CABundle
	}
	c.Network.Dir = c.Data
	if c.Kubernetes.Enabled {
		c.Launch.Classes = c.Kubernetes.Session.Classes()
	}
	c.Launch.Checkouts = filepath.Join(c.Data, "checkouts")
	c.Proxy.SessionDomain = c.SessionDomain
	c.Proxy.HubURL = c.URL
	c.Proxy.TrustedProxies, c.Hub.TrustedProxies = c.TrustedProxies, c.TrustedProxies
	c.Hub.URL = strings.TrimSuffix(c.URL, "/")
	c.Hub.SessionDomain, _, _ = strings.Cut(c.SessionDomain, ":") // a port is the proxy's business
	c.Hub.Aliases = c.TLS.ACME.Also
	c.Hub.AllowOrigin, c.Launch.AllowOrigin = c.AllowOrigin, c.AllowOrigin
}

// Validate reports every problem, each with the path of its setting.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	const longest = 36
	if !filepath.IsAbs(c.Data) || len(c.Data) > longest {
		bad("data: must be an absolute path of at most %d characters, not %q", longest, c.Data)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen: %q is not an address such as 127.0.0.1:8585", c.Listen)
	}
	if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "") {
		bad("url: %q is not an address such as https://hub.example.org", c.URL)
	}
	errs = append(errs, c.TLS.validate())
	switch c.Log.Format {
	case "auto", "text", "json":
	default:
		bad("log.format: %q is none of auto, text, json", c.Log.Format)
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level: %q is none of debug, info, warn, error", c.Log.Level)
	}
	if c.Base.Archive != "" && !filepath.IsAbs(c.Base.Archive) {
		bad("base.archive: must be an absolute path, not %q", c.Base.Archive)
	}
	for path, file := range map[string]string{"ca_bundle": c.CABundle, "session.ca_bundle": c.Session.CABundle} {
		if _, err := os.Stat(file); file != "" && file != "none" && err != nil {
			bad("%s: %w", path, err)
		}
	}
	if c.Build.Parallel < 0 {
		bad("build.parallel: must not be negative")
	}
	if c.Session.Grace < 0 || c.Session.LogSize < 0 {
		bad("session.grace, session.log_size: must not be negative")
	}
	errs = append(errs,
		within("source", c.Source.Validate()), within("network", c.Network.Validate()),
		within("launch", c.Launch.Validate()), within("proxy", c.Proxy.Validate()),
		within("hub", c.Hub.Validate()), within("kubernetes.session", c.Kubernetes.Session.Validate()),
		within("kubernetes.builders", c.Kubernetes.Builders.Validate()), within("kubernetes.registry", c.Kubernetes.Registry.Validate()))
	return errors.Join(errs...)
}

func (t TLS) validate() error {
	var errs []error
	if (t.Cert == "") != (t.Key == "") {
		errs = append(errs, errors.New("tls.cert, tls.key: both are needed, or none"))
	}
	if t.Cert != "" && t.Key != "" {
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			errs = append(errs, fmt.Errorf("tls.cert: %w", err))
		}
		if t.ACME.Domain != "" {
			errs = append(errs, errors.New("tls.acme: a certificate is given already by tls.cert; choose one"))
		}
	}
	for i, name := range append([]string{t.ACME.Domain}, t.ACME.Also...) {
		if ok := hostname(name); !ok && (i > 0 || name != "") {
			path := "tls.acme.domain"
			if i > 0 {
				path = "tls.acme.also"
			}
			errs = append(errs, fmt.Errorf("%s: %q is not a name such as hub.example.org", path, name))
		}
	}
	if t.ACME.Domain == "" && (t.ACME.Email != "" || t.ACME.CA != "" || len(t.ACME.Also) > 0) {
		errs = append(errs, errors.New("tls.acme.domain: must be set for ACME"))
	}
	if _, _, err := net.SplitHostPort(t.Redirect); t.Redirect != "" && err != nil {
		errs = append(errs, fmt.Errorf("tls.redirect: %q is not like 0.0.0.0:80", t.Redirect))
	} else if t.Redirect != "" && t.Cert == "" && t.ACME.Domain == "" {
		errs = append(errs, errors.New("tls.redirect: leads to HTTPS, which needs tls.acme or tls.cert"))
	}
	return errors.Join(errs...)
}

// hostname says whether an authority could give a certificate for name by a
// challenge to it: a wildcard has none.
func hostname(name string) bool {
	_, err := netip.ParseAddr(name)
	return err != nil && strings.Contains(name, ".") && len(name) <= 253 &&
		strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".")
}

// within puts the section before every problem of a part.
func within(section string, err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	errs := make([]error, len(lines))
	for i, line := range lines {
		errs[i] = errors.New(section + "." + line)
	}
	return errors.Join(errs...)
}

// Environ is the environment the configuration was made from, for the child
// processes that need the operator's.
func (c Config) Environ() []string { return c.environ }
