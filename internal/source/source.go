// Package source finds out where a repository is and brings its files here.
//
// [Parse] reads what a person pasted without touching the network;
// [Source.ResolveTarget] asks the repository which commit is meant;
// [Source.Fetch] writes that commit's files to a directory.
//
// Everything it is given is hostile: addresses, refs, the answers of servers
// and the trees they send. It therefore runs the git command with arguments
// that cannot be taken for options, hands it nothing of the environment that
// it does not need, sends its HTTP through a proxy of ours that refuses
// addresses of private networks, and checks every path of a tree before git
// writes the first one.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Policy says how far a caller is trusted.
type Policy struct {
	// Local allows directories, file:// and addresses of private networks, and
	// lets git use the credentials of the person who runs us.
	Local bool
}

// Config says where mirrors are kept and what may be fetched.
type Config struct {
	// Dir holds the mirrors. It is created when missing.
	Dir string `yaml:"dir"`
	// Git is the program; a name is looked up in PATH.
	Git string `yaml:"git"`
	// Environ is the environment of the process, of which git is handed only
	// what it needs (PATH, certificate files, NO_PROXY; for a trusted caller
	// HOME and the ssh agent too). Nil gives it a usual PATH and nothing else.
	Environ []string `yaml:"-"`
	// Hosts are the base addresses of the providers gh, gl and gist.
	Hosts map[binnacle.Provider]string `yaml:"hosts"`
	// Protocols are what the public may use: https, http, ssh, git. A trusted
	// caller may use all of them, and file.
	Protocols []string `yaml:"protocols"`
	// Allow are networks the public may reach although they are private.
	Allow []netip.Prefix `yaml:"allow"`
	// Deny are networks the public may not reach; it wins over Allow.
	Deny []netip.Prefix `yaml:"deny"`
	// DenyHosts are names the public may not use, with all names below them.
	DenyHosts []string `yaml:"deny_hosts"`
	// Proxy is the HTTP proxy of this site ("http://proxy.example.org:3128");
	// empty is none.
	Proxy string `yaml:"proxy"`
	// CAFile holds the certificate authorities to trust; empty is the system's.
	CAFile string `yaml:"ca_file"`
	// ResolveTimeout bounds finding a commit.
	ResolveTimeout time.Duration `yaml:"resolve_timeout"`
	// FetchTimeout bounds fetching it, submodules included.
	FetchTimeout time.Duration `yaml:"fetch_timeout"`
	// MaxBytes bounds what one fetch may download and, separately, the files it
	// may write.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxFiles bounds how many files, links and directories it may write.
	MaxFiles int `yaml:"max_files"`
	// LFS replaces pointer files of Git LFS by the files they stand for.
	LFS bool `yaml:"lfs"`
}

// DefaultConfig is what a hub starts from; Dir is left to the caller.
func DefaultConfig() Config {
	return Config{
		Git: "git",
		Hosts: map[binnacle.Provider]string{
			binnacle.GitHub: "https://github.com",
			binnacle.GitLab: "https://gitlab.com",
			binnacle.Gist:   "https://gist.github.com",
		},
		Protocols:      []string{"https", "http"},
		ResolveTimeout: time.Minute,
		FetchTimeout:   10 * time.Minute,
		MaxBytes:       4 << 30,
		MaxFiles:       200_000,
		LFS:            true,
	}
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
	}
	if c.Dir == "" {
		bad("dir", "is not set")
	}
	if c.Git == "" {
		bad("git", "is not set")
	}
	for _, p := range []binnacle.Provider{binnacle.GitHub, binnacle.GitLab, binnacle.Gist} {
		u, err := url.Parse(c.Hosts[p])
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
			bad("hosts."+string(p), "is not an address such as https://git.example.org")
		}
	}
	for _, p := range c.Protocols {
		if !slices.Contains([]string{"https", "http", "ssh", "git"}, p) {
			bad("protocols", "%q is none of https, http, ssh, git", p)
		}
	}
	if c.Proxy != "" {
		u, err := url.Parse(c.Proxy)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
			bad("proxy", "is not an address such as http://proxy.example.org:3128")
		}
	}
	if c.ResolveTimeout <= 0 {
		bad("resolve_timeout", "must be more than 0")
	}
	if c.FetchTimeout <= 0 {
		bad("fetch_timeout", "must be more than 0")
	}
	if c.MaxBytes <= 0 {
		bad("max_bytes", "must be more than 0")
	}
	if c.MaxFiles <= 0 {
		bad("max_files", "must be more than 0")
	}
	return errors.Join(errs...)
}

// Source resolves and fetches repositories. Its methods may be called at the
// same time; work on one repository is done one after the other.
type Source struct {
	cfg      Config
	log      *slog.Logger
	resolver resolver

	mu    sync.Mutex
	locks map[string]chan struct{} // of mirrors, by name; held while full
}

// resolver is the part of net.Resolver that the guard needs.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// New prepares cfg.Dir.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	cfg.Dir = dir
	s := &Source{cfg: cfg, log: log, resolver: net.DefaultResolver, locks: map[string]chan struct{}{}}
	if err := os.MkdirAll(filepath.Join(dir, "home"), 0o700); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if err := s.writeConfigs(); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return s, nil
}

// writeConfigs writes git's global configuration as trusted callers get it:
// the person's own, and the leave to read repositories that somebody else
// owns, which a hub that runs as root meets all the time. It must be a file
// because git takes safe.directory neither from the environment nor across
// its own child processes.
func (s *Source) writeConfigs() error {
	var b strings.Builder
	home, config := environValue(s.cfg.Environ, "HOME"), environValue(s.cfg.Environ, "XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	for _, file := range []string{filepath.Join(config, "git", "config"), filepath.Join(home, ".gitconfig")} {
		if filepath.IsAbs(file) && !strings.ContainsAny(file, "\n\"\\") {
			fmt.Fprintf(&b, "[include]\n\tpath = \"%s\"\n", file)
		}
	}
	b.WriteString("[safe]\n\tdirectory = *\n")
	return os.WriteFile(s.localConfig(), []byte(b.String()), 0o600)
}

func (s *Source) localConfig() string { return filepath.Join(s.cfg.Dir, "local.gitconfig") }

func environValue(environ []string, name string) string {
	for _, e := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
