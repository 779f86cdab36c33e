// Package jupyter is a small client of a Jupyter server: it starts kernels and
// runs code in them the way a browser does, over the kernel's WebSocket. Tests
// and benchmarks use it to prove that a session works and not just answers.
package jupyter

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// Server is where a Jupyter server answers.
type Server struct {
	URL    string // with the base path, ends with a slash
	Token  string
	Client *http.Client
}

// Kernel is a running kernel and the one connection to it.
type Kernel struct {
	ID      string
	server  Server
	conn    *websocket.Conn
	session string
}

// Result is what a cell gave.
type Result struct {
	Stdout string
	Text   string // the text/plain of the cell's value
	Error  string // the exception, "" when the cell ran
}

// Get asks the server and gives the body of a 200.
func (s Server) Get(ctx context.Context, path string) ([]byte, error) {
	return s.do(ctx, http.MethodGet, path, nil)
}

func (s Server) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "token "+s.Token)
	res, err := s.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, b)
	}
	return b, nil
}

// StartKernel starts the server's default kernel, or the one named.
func (s Server) StartKernel(ctx context.Context, name string) (*Kernel, error) {
	body := map[string]string{}
	if name != "" {
		body["name"] = name
	}
	b, err := s.do(ctx, http.MethodPost, "api/kernels", body)
	if err != nil {
		return nil, err
	}
	var k struct{ ID string }
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, err
	}
	return s.Attach(ctx, k.ID)
}

// Attach connects to a kernel that runs already.
func (s Server) Attach(ctx context.Context, id string) (*Kernel, error) {
	conn, err := s.dial(ctx, "api/kernels/"+id+"/channels")
	if err != nil {
		return nil, err
	}
	const longest = 16 << 20 // bytes of one message
	conn.SetReadLimit(longest)
	return &Kernel{ID: id, server: s, conn: conn, session: rand.Text()}, nil
}

// dial opens a WebSocket of the server.
func (s Server) dial(ctx context.Context, path string) (*websocket.Conn, error) {
	conn, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.URL, "http")+path, &websocket.DialOptions{
		HTTPClient: s.Client, HTTPHeader: http.Header{"Authorization": {"token " + s.Token}},
	})
	if res != nil && res.Body != nil {
		defer res.Body.Close()
	}
	return conn, err
}

type message struct {
	Header  header          `json:"header"`
	Parent  header          `json:"parent_header"`
	Meta    map[string]any  `json:"metadata"`
	Content json.RawMessage `json:"content"`
	Channel string          `json:"channel"`
	Buffers []string        `json:"buffers"`
}

type header struct {
	ID      string `json:"msg_id,omitempty"`
	Type    string `json:"msg_type,omitempty"`
	Session string `json:"session,omitempty"`
	User    string `json:"username,omitempty"`
	Version string `json:"version,omitempty"`
	Date    string `json:"date,omitempty"`
}

// Execute runs a cell and waits for its reply and for the kernel to be idle.
func (k *Kernel) Execute(ctx context.Context, code string) (Result, error) {
	content, err := json.Marshal(map[string]any{
		"code": code, "silent": false, "store_history": true, "user_expressions": map[string]any{}, "allow_stdin": false, "stop_on_error": true,
	})
	if err != nil {
		return Result{}, err
	}
	id := rand.Text()
	b, err := json.Marshal(message{
		Header: header{ID: id, Type: "execute_request", Session: k.session, User: "test", Version: "5.3"},
		Meta:   map[string]any{}, Content: content, Channel: "shell", Buffers: []string{},
	})
	if err != nil {
		return Result{}, err
	}
	if err := k.conn.Write(ctx, websocket.MessageText, b); err != nil {
		return Result{}, err
	}
	return k.collect(ctx, id)
}

func (k *Kernel) collect(ctx context.Context, id string) (Result, error) {
	var r Result
	for replied, idle := false, false; !replied || !idle; {
		_, b, err := k.conn.Read(ctx)
		if err != nil {
			return r, fmt.Errorf("read from the kernel: %w", err)
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			return r, fmt.Errorf("read from the kernel: %w", err)
		}
		if m.Parent.ID != id {
			continue
		}
		var c struct {
			Name, Text, Ename, Evalue string
			State                     string         `json:"execution_state"`
			Data                      map[string]any `json:"data"`
		}
		if err := json.Unmarshal(m.Content, &c); err != nil {
			return r, fmt.Errorf("read from the kernel: %w", err)
		}
		switch m.Header.Type {
		case "stream":
			if c.Name == "stdout" {
				r.Stdout += c.Text
			}
		case "execute_result":
			if text, ok := c.Data["text/plain"].(string); ok {
				r.Text = text
			}
		case "error":
			r.Error = c.Ename + ": " + c.Evalue
		case "execute_reply":
			replied = true
		case "status":
			idle = idle || c.State == "idle"
		}
	}
	return r, nil
}

// Close ends the connection; the kernel goes on.
func (k *Kernel) Close() error { return k.conn.Close(websocket.StatusNormalClosure, "") }

// RunNotebook runs every code cell of a notebook file of the server in a new
// kernel of the kind that it names, and stops at the first that fails.
func (s Server) RunNotebook(ctx context.Context, path string) error {
	b, err := s.Get(ctx, "api/contents/"+path+"?content=1&type=notebook")
	if err != nil {
		return err
	}
	var file struct {
		Content struct {
			Cells []struct {
				Type   string `json:"cell_type"`
				Source any    `json:"source"`
			} `json:"cells"`
			Metadata struct {
				Kernel struct{ Name string } `json:"kernelspec"`
			} `json:"metadata"`
		} `json:"content"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return err
	}
	k, err := s.StartKernel(ctx, file.Content.Metadata.Kernel.Name)
	if err != nil {
		return err
	}
	ran := 0
	for i, cell := range file.Content.Cells {
		code, _ := cell.Source.(string)
		if cell.Type != "code" || strings.TrimSpace(code) == "" {
			continue
		}
		res, err := k.Execute(ctx, code)
		if err != nil {
			return errors.Join(err, k.Close())
		}
		if res.Error != "" {
			return errors.Join(fmt.Errorf("cell %d of %s: %s", i+1, path, res.Error), k.Close())
		}
		ran++
	}
	if ran == 0 {
		return errors.Join(fmt.Errorf("%s has no code to run", path), k.Close())
	}
	return k.Close()
}
