package e2e_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/test/jupyter"
)

// TestInterfaces launches each program a session can be besides JupyterLab, as
// its link does, and asks its page through the hub; where the program lives on a
// WebSocket, that too; and runs its notebook, if it has one.
func TestInterfaces(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		page   string // text in it
		socket string // path of its WebSocket
		says   string // in its first message; empty: it need only open
		seen   string // JavaScript that is true once a person sees it; empty: no browser
		image  string // end of the image's name, when the link makes it another
	}{
		"classic":   {path: "tree/index.ipynb", page: "Jupyter Notebook"},
		"streamlit": {path: "streamlit/", page: "<title>Streamlit</title>", socket: "streamlit/_stcore/stream", seen: `document.body.innerText.includes("Highest water: 3.60 m") && document.querySelector("canvas, svg.marks")`},
		"panel":     {path: "panel/", page: "Tides of the example harbour"},
		"voila":     {path: "voila/render/index.ipynb", page: "Highest water: 3.60 m"},
		"marimo":    {path: "marimo/?file=tides.py", page: "<title>tides</title>", socket: "marimo/ws?session_id=s_abcdef&file=tides.py", says: "kernel-ready"},
		"shiny":     {path: "shiny/", page: "Tides of the example harbour", socket: "shiny/websocket/", says: "sessionId"},
		"gradio":    {path: "gradio/", page: "Tides of the example harbour", seen: `document.body.innerText.includes("Highest water: 3.60 m")`},
		"dash":      {path: "dash/", page: "Tides of the example harbour", seen: `document.body.innerText.includes("Highest water: 3.60 m")`}, // a callback writes it
		"desktop":   {path: "desktop/", page: "desktop/static/", socket: "desktop-websockify/", says: "RFB 003.008", image: "-desktop", seen: `(c => c && c.width > 600 && new Set(new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size > 50)(document.querySelector("canvas"))`},
		"vscode":    {path: "vscode/", page: "vscode-workbench-web-configuration", image: "-vscode", seen: `[...document.querySelectorAll(".explorer-folders-view .label-name")].some(l => l.textContent == "tides.py")`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: the.example(t, name).URL, Path: c.path})
			stopAfter(t, l)
			built := time.Since(begin)
			if _, tag, _ := strings.Cut(l.Image, ":"); !strings.HasSuffix(tag, c.image) || c.image == "" && strings.Contains(tag, "-") {
				t.Errorf("the image is %s, want …%s", l.Image, c.image)
			}
			page, err := server.Get(t.Context(), c.path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(page), c.page) {
				t.Errorf("the page does not say %q:\n%.2000s", c.page, page)
			}
			if c.socket != "" {
				if said := firstMessage(t, server, c.socket, c.says != ""); !strings.Contains(said, c.says) {
					t.Errorf("the WebSocket says %.300q, want %q in it", said, c.says)
				}
			}
			if _, err := os.Stat(filepath.Join("../../examples", name, "index.ipynb")); err == nil {
				if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
					t.Error(err)
				}
			}
			t.Logf("ready after %s, answered after %s", built.Round(time.Second), time.Since(begin).Round(time.Second))
			if c.seen != "" {
				b := newBrowser(t)
				b.do(name, chromedp.Navigate(hub.OpenURL(*l.Session, c.path)))
				b.untilLoaded(c.seen)
				b.shot("interface-" + name)
			}
		})
	}
}

// firstMessage opens a WebSocket of a session, and waits for what it says when
// it has to say something.
func firstMessage(t *testing.T, s jupyter.Server, path string, wait bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.URL, "http")+path, &websocket.DialOptions{
		HTTPClient: s.Client, HTTPHeader: http.Header{"Authorization": {"token " + s.Token}}, Subprotocols: []string{"binary", "streamlit"},
	})
	if res != nil && res.Body != nil {
		defer res.Body.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	if !wait {
		return ""
	}
	_, said, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}
