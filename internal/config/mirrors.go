package config

import "strings"

// Effective are the mirrors with those of the site filled in: what has no
// address of its own is below Site.
func (m Mirrors) Effective() Mirrors {
	site := strings.TrimSuffix(string(m.Site), "/")
	if site == "" {
		return m
	}
	below := func(s *Secret, path string) {
		if *s == "" {
			*s = Secret(site + path)
		}
	}
	if m.Debian == "" {
		m.Debian = site + "/debian"
	}
	below(&m.PyPI, "/pypi/simple")
	below(&m.Python, "/python")
	below(&m.Conda, "/conda")
	below(&m.NPM, "/npm")
	below(&m.Go, "/go")
	below(&m.CRAN, "/cran")
	below(&m.R, "/r")
	below(&m.Bioconductor, "/bioconductor")
	below(&m.RStudio, "/rstudio")
	below(&m.Julia, "/julia")
	below(&m.JuliaReleases, "/julia-releases")
	below(&m.NixCache, "/nix")
	below(&m.Nixpkgs, "/nixpkgs")
	if m.Crates == "" {
		m.Crates = Secret("sparse+" + site + "/crates/")
	}
	return m
}
