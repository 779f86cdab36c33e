package cli_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/test/targz"
)

// site is a mirror with one package called harbour in each registry.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	wheel := zipped(t, map[string]string{
		"harbour.py": "depth = 6\n", "harbour-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"harbour-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: harbour\nVersion: 1.0\n", "harbour-1.0.dist-info/RECORD": "",
	})
	module := zipped(t, map[string]string{"harbour.example/m@v1.0.0/go.mod": "module harbour.example/m\n", "harbour.example/m@v1.0.0/m.go": "package m\n"})
	pack, err := targz.Pack("package", map[string]string{"package.json": `{"name": "harbour", "version": "1.0.0"}`})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(pack) // npm's own kind of hash
	s := &site{}
	answers := map[string]func(host string) []byte{
		"/pypi/simple/harbour/": func(string) []byte {
			return []byte(`<!DOCTYPE html><a href="/pypi/files/harbour-1.0-py3-none-any.whl">harbour-1.0-py3-none-any.whl</a>`)
		},
		"/pypi/files/harbour-1.0-py3-none-any.whl": func(string) []byte { return wheel },
		"/npm/harbour": func(host string) []byte {
			return fmt.Appendf(nil, `{"name": "harbour", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"name": "harbour", "version": "1.0.0", "dist": {"tarball": "http://%s/npm/harbour/-/harbour-1.0.0.tgz", "shasum": "%s"}}}}`, host, hex.EncodeToString(sum[:]))
		},
		"/npm/harbour/-/harbour-1.0.0.tgz":     func(string) []byte { return pack },
		"/go/harbour.example/m/@v/v1.0.0.info": func(string) []byte { return []byte(`{"Version": "v1.0.0"}`) },
		"/go/harbour.example/m/@v/v1.0.0.mod":  func(string) []byte { return []byte("module harbour.example/m\n") },
		"/go/harbour.example/m/@v/v1.0.0.zip":  func(string) []byte { return module },
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.String()) // all of it when we are the proxy
		s.mu.Unlock()
		body, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/harbour/") {
			w.Header().Set("Content-Type", "text/html")
		}
		_, _ = w.Write(body(r.Host))
	}))
	t.Cleanup(s.Close)
	return s
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestMirrors runs the tools of builds with what `serve --offline-mirror` tells
// them: each takes its package from a server of ours. conda, CRAN, R, Julia and
// Nix have one in test/e2e.
func TestMirrors(t *testing.T) {
	if testing.Short() {
		t.Skip("starts pip, npm and go")
	}
	s := newSite(t)
	direct := config.Config{Mirrors: config.Mirrors{Site: config.Secret(s.URL)}}
	t.Run("direct", func(t *testing.T) { s.serves(t, direct, "") })
	t.Run("through outbound_proxy", func(t *testing.T) {
		// A name that nobody can look up: only the proxy knows where it is.
		const site = "http://mirror.invalid"
		s.serves(t, config.Config{Mirrors: config.Mirrors{Site: site}, OutboundProxy: config.OutboundProxy{HTTP: config.Secret(s.URL)}}, site)
	})
}

// serves has each tool take its package from the site, whose address requests have
// in front where the site is the proxy.
func (s *site) serves(t *testing.T, cfg config.Config, address string) {
	t.Helper()
	env := append(os.Environ(), "GOSUMDB=off", "GOFLAGS=-mod=mod", "HOME="+t.TempDir())
	for name, value := range cli.BuildEnv(cfg) {
		env = append(env, name+"="+value)
	}
	for name, c := range map[string]struct{ tool, script, path string }{
		"pip": {"python3", `python3 -m venv v; v/bin/pip download --quiet --disable-pip-version-check --no-deps harbour==1.0 && test -e harbour-1.0-py3-none-any.whl`, "/pypi/files/harbour-1.0-py3-none-any.whl"},
		"npm": {"npm", `npm pack harbour@1.0.0 && test -e harbour-1.0.0.tgz`, "/npm/harbour/-/harbour-1.0.0.tgz"},
		"go":  {"go", `printf 'module x\n\ngo 1.21\n\nrequire harbour.example/m v1.0.0\n' > go.mod; export GOPATH=$PWD/gopath; go mod download harbour.example/m; test -e gopath/pkg/mod/harbour.example/m@v1.0.0/m.go; chmod -R u+w gopath`, "/go/harbour.example/m/@v/v1.0.0.zip"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(c.tool); err != nil {
				if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", c.script)
			cmd.Dir, cmd.Env = t.TempDir(), env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			defer func() { s.asked = nil }()
			if asked := strings.Join(s.asked, "\n"); !strings.Contains("\n"+asked, "\n"+address+c.path) {
				t.Errorf("the mirror was asked for %s", asked)
			}
		})
	}
}

// TestNixCache tells Nix of the operator's cache, and of the key that signed it.
func TestNixCache(t *testing.T) {
	var cfg config.Config
	cfg.Mirrors.NixCache = "https://nix.example.org/cache"
	const cache = "substituters = https://nix.example.org/cache" //nolint:misspell // as Nix spells it
	if got := cli.BuildEnv(cfg)["NIX_CONFIG"]; got != cache {
		t.Errorf("without a key: %q", got)
	}
	cfg.Mirrors.NixCacheKey = "nix.example.org-1:abc="
	if got := cli.BuildEnv(cfg)["NIX_CONFIG"]; got != cache+"\nextra-trusted-public-keys = nix.example.org-1:abc=" {
		t.Errorf("with a key: %q", got)
	}
}
