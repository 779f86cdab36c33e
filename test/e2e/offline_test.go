package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/olddebian"
)

// siteMirror is the one proxy of an institute: Debian's packages and Python's, as
// this machine gets them, below an address of its own, and a note of what was asked.
type siteMirror struct {
	*httptest.Server

	mu    sync.Mutex
	asked []string
}

func startSite(t *testing.T) *siteMirror {
	t.Helper()
	l, err := the.far.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s, mux := &siteMirror{}, http.NewServeMux()
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.Path)
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	// The tools know where things are: no address is written here.
	debian, err := olddebian.Mirror(t.Context())
	if err != nil {
		t.Skip(err) // there is no address to stand before
	}
	mux.Handle("/debian/", http.StripPrefix("/debian", behind(t, debian, nil)))
	files := map[string]http.Handler{} // by host, which the index names
	var known sync.Mutex
	elsewhere := regexp.MustCompile(`https://([a-z0-9.-]+)/packages/`)
	mux.Handle("/pypi/simple/", http.StripPrefix("/pypi/simple", behind(t, pipIndex(t), func(page string) string {
		return elsewhere.ReplaceAllStringFunc(page, func(address string) string {
			host := elsewhere.FindStringSubmatch(address)[1]
			known.Lock()
			defer known.Unlock()
			if files[host] == nil {
				files[host] = behind(t, "https://"+host, nil)
			}
			return s.URL + "/pypi/files/" + host + "/packages/"
		})
	})))
	mux.HandleFunc("/pypi/files/{host}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		known.Lock()
		h := files[r.PathValue("host")]
		known.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		http.StripPrefix("/pypi/files/"+r.PathValue("host"), h).ServeHTTP(w, r)
	})
	return s
}

// behind hands requests on to an address, and its pages through change.
func behind(t *testing.T, address string, change func(string) string) http.Handler {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		if change != nil {
			r.Out.Header.Del("Accept-Encoding") // to be read here
		}
	}}
	if change != nil {
		p.ModifyResponse = func(r *http.Response) error {
			page, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			text := change(string(page))
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			r.Header.Del("Content-Length")
			return nil
		}
	}
	return p
}

// pipIndex is where pip gets Python's packages, as pip has it.
func pipIndex(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)").Output()
	if err != nil {
		t.Fatalf("pip: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// TestOfflineMirror: a site whose builds reach nothing but its own mirror starts from
// nothing: base, Jupyter, packages of Debian and of Python come from there.
func TestOfflineMirror(t *testing.T) {
	sh, data := ownShell(t)
	site := startSite(t)
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("data: %s\nsource: {allow: [127.0.0.0/8]}\nnetwork: {outbound: false, allow: [%s]}\nlaunch: {address_rate: 0}\n", data, the.far.Network())
	if err := os.WriteFile(sh.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(artefacts(), "offline.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	hub := sh.command(t, "serve", "--listen", addr, "--offline-mirror", site.URL)
	hub.Stdout, hub.Stderr = out, out
	hub.Cancel = func() error { return hub.Process.Signal(syscall.SIGTERM) }
	w := &world{data: data, addr: addr, proc: &hubProcess{cmd: hub, done: make(chan error, 1)}}
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.proc.done <- hub.Wait() }()
	if err := w.answers(t.Context()); err != nil {
		t.Fatal(err)
	}
	repo := the.exampleWith(t, "apt", map[string]string{"requirements.txt": "humanize\n"})
	l, server := ready(t, w.public(), binnacle.LaunchRequest{Repo: repo.URL})
	if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
		t.Error(err)
	}
	cell(t, server, "import humanize; print(humanize.intcomma(12345))", "12,345")
	if err := w.operator().Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	asked := strings.Join(site.asked, "\n")
	for _, want := range []string{"/debian/dists/trixie/InRelease", "/python3-venv_", "/tree_", "/pypi/simple/jupyterlab/", "/humanize-"} {
		if !strings.Contains(asked, want) {
			t.Errorf("the mirror was not asked for %s", want)
		}
	}
	dropNetwork(t, data)
	nothingOf(t, data)
}
