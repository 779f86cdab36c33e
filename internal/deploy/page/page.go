// Package page is the page that a deployment in a container shows while it
// runs: what it does, line by line, and how it ended. Nothing secret is on it, since
// whoever knows the address can read it.
package page

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

//go:embed page.html
var document []byte

// The states of a deployment.
const (
	Running = "running"
	Done    = "done"
	Failed  = "failed"
)

// Result is how a deployment stands. It is served as JSON.
type Result struct {
	State string `json:"state"`
	// URL of the hub, once it is done.
	URL string `json:"url,omitempty"`
	// Message and Hint say why it failed, and what to do.
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Page collects lines. It is an [io.Writer] for text, and an [http.Handler]: / is
// the page, /events its lines as server-sent events, /result the [Result].
type Page struct {
	mu      sync.Mutex
	partial []byte
	lines   []string
	result  Result
	news    chan struct{} // closed with every change
}

// New returns an empty page.
func New() *Page { return &Page{result: Result{State: Running}, news: make(chan struct{})} }

// Write adds text; a line is shown when it has ended. It never fails.
func (p *Page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, b...)
	for {
		line, rest, ended := bytes.Cut(p.partial, []byte("\n"))
		if !ended {
			return len(b), nil
		}
		p.lines = append(p.lines, string(line))
		p.partial = bytes.Clone(rest)
		p.tell()
	}
}

// End says how it ended.
func (p *Page) End(r Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result = r
	p.tell()
}

func (p *Page) tell() {
	close(p.news)
	p.news = make(chan struct{})
}

// since are the lines after the first n, with what says that there are more.
func (p *Page) since(n int) ([]string, Result, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[min(n, len(p.lines)):], p.result, p.news
}

// ServeHTTP answers one request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "Only GET.", http.StatusMethodNotAllowed)
	case r.URL.Path == "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
		_, _ = w.Write(document)
	case r.URL.Path == "/result":
		_, result, _ := p.since(0)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(result)
	case r.URL.Path == "/events":
		p.events(w, r)
	default:
		http.NotFound(w, r)
	}
}

// events sends each line once, from the one after Last-Event-ID, and the result
// when there is one.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	sent, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	sent = max(sent, 0)
	flush := http.NewResponseController(w)
	for {
		lines, result, news := p.since(sent)
		for _, line := range lines {
			sent++
			text, err := json.Marshal(line)
			if err != nil {
				return
			}
			fmt.Fprintf(w, "id: %d\ndata: %s\n\n", sent, text)
		}
		if result.State != Running {
			text, err := json.Marshal(result)
			if err != nil {
				return
			}
			fmt.Fprintf(w, "event: end\ndata: %s\n\n", text)
		}
		if flush.Flush() != nil || result.State != Running {
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}
