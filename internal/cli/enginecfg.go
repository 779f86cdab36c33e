package cli

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/engine/network"
)

// engineConfig is the engine's part of the configuration.
func engineConfig(cfg config.Config, net *network.Network) engine.Config {
	mirrors := cfg.Mirrors.Effective()
	return engine.Config{
		Dir: cfg.Data, Base: engineBase(cfg),
		Env: buildEnv(cfg), CABundle: cfg.CABundle, BuildLimits: cfg.Build.Limits, Parallel: cfg.Build.Parallel,
		Mirrors: mirrors.Registries, Network: net.Provider(), Nameserver: nameserver(net.Gateway()),
		CheckAddress: checkAddress(cfg),
	}
}

func engineBase(cfg config.Config) engine.Base {
	return engine.Base{
		Image: cfg.Base.Image, Suite: cfg.Base.Suite, Mirror: cfg.Mirrors.Effective().Debian, Packages: cfg.Base.Packages, Archive: cfg.Base.Archive,
	}
}

func nameserver(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// buildEnv tells the tools of build steps where packages come from. It never
// gets into a layer or a cache key.
func buildEnv(cfg config.Config) map[string]string {
	env, mirrors := map[string]string{}, cfg.Mirrors.Effective()
	put := func(value string, names ...string) {
		for _, name := range names {
			if value != "" {
				env[name] = value
			}
		}
	}
	put(string(cfg.OutboundProxy.HTTP), "HTTP_PROXY", "http_proxy")
	put(string(cfg.OutboundProxy.HTTPS), "HTTPS_PROXY", "https_proxy")
	put(strings.Join(cfg.OutboundProxy.No, ","), "NO_PROXY", "no_proxy")
	put(string(mirrors.PyPI), "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
	extra := make([]string, 0, len(mirrors.PyPIExtra))
	for _, s := range mirrors.PyPIExtra {
		extra = append(extra, string(s))
	}
	put(strings.Join(extra, " "), "PIP_EXTRA_INDEX_URL", "UV_INDEX")
	put(strings.Join(plainHosts(append(extra, string(mirrors.PyPI))), " "), "PIP_TRUSTED_HOST")
	put(string(mirrors.Python), "UV_PYTHON_INSTALL_MIRROR")
	put(string(mirrors.Conda), "CONDA_CHANNEL_ALIAS", "MAMBA_CHANNEL_ALIAS")
	put(string(mirrors.NPM), "NPM_CONFIG_REGISTRY", "npm_config_registry")
	put(string(mirrors.CRAN), "BINNACLE_CRAN")
	put(string(mirrors.Go), "GOPROXY")
	put(string(mirrors.Crates), "BINNACLE_CRATES") // Cargo has no variable for it: steps do
	put(string(mirrors.R), "BINNACLE_R")
	put(string(mirrors.Bioconductor), "BINNACLE_BIOCONDUCTOR")
	put(string(mirrors.RStudio), "BINNACLE_RSTUDIO")
	put(mirrors.RStudioSHA256, "BINNACLE_RSTUDIO_SHA256")
	put(string(mirrors.Julia), "JULIA_PKG_SERVER")
	put(string(mirrors.JuliaReleases), "BINNACLE_JULIA_RELEASES")
	put(string(mirrors.Nixpkgs), "BINNACLE_NIXPKGS")
	if cache := string(mirrors.NixCache); cache != "" {
		settings := "substituters = " + cache //nolint:misspell // as Nix spells it
		if mirrors.NixCacheKey != "" {
			settings += "\nextra-trusted-public-keys = " + mirrors.NixCacheKey
		}
		put(settings, "NIX_CONFIG")
	}
	for name, value := range cfg.Build.Env {
		env[name] = string(value)
	}
	return env
}

// plainHosts are the hosts of addresses without TLS: pip passes over those that it is
// not told to trust, and who configured such a mirror has decided that.
func plainHosts(addresses []string) []string {
	var hosts []string
	for _, address := range addresses {
		if u, err := url.Parse(address); err == nil && u.Scheme == "http" {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// checkAddress refuses to fetch images and ADD sources from private networks:
// a Dockerfile is a stranger's. What the operator allows for repositories or
// build steps is allowed here, and a site with a proxy leaves it to that.
func checkAddress(cfg config.Config) func(context.Context, string) error {
	if cfg.OutboundProxy.HTTP != "" || cfg.OutboundProxy.HTTPS != "" {
		return nil
	}
	allow := append(append([]netip.Prefix{}, cfg.Source.Allow...), cfg.Network.Allow...)
	deny := append(append([]netip.Prefix{}, cfg.Source.Deny...), cfg.Network.Deny...)
	in := func(list []netip.Prefix, a netip.Addr) bool {
		for _, p := range list {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return func(_ context.Context, address string) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("check %s: %w", address, err)
		}
		addr := ap.Addr().Unmap()
		private := !addr.IsGlobalUnicast() || addr.IsPrivate() || in(sharedNetworks(), addr)
		if in(deny, addr) || (private && !in(allow, addr)) {
			return &binnacle.Error{
				Code: binnacle.CodeForbidden, Op: "engine.address", Message: "The build may not fetch from an address of a private network.",
				Hint: "The operator can allow it with source.allow in the configuration.",
			}
		}
		return nil
	}
}

// sharedNetworks are not private by name but by use: carrier networks (where
// some clouds have their metadata service) and benchmarks.
func sharedNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	}
}
