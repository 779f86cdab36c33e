package verify

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
)

// kernel is a Jupyter kernel and the connection to it.
type kernel struct {
	conn    *websocket.Conn
	session string
}

// start makes a kernel in a session and connects to it, by a way other than the
// usual one unless that is nil.
func start(ctx context.Context, way http.RoundTripper, base, token string) (*kernel, error) {
	base = strings.TrimSuffix(base, "/") + "/"
	client := &http.Client{Transport: way}
	auth := http.Header{"Authorization": {"token " + token}, "Content-Type": {"application/json"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"api/kernels", bytes.NewReader([]byte("{}")))
	if err != nil {
		return nil, err
	}
	req.Header = auth
	res, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close()
	const longest = 1 << 20
	b, err := io.ReadAll(io.LimitReader(res.Body, longest))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("the server answered %s", res.Status)
	}
	var k struct{ ID string }
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("the server's answer is not Jupyter's: %w", err)
	}
	address := "ws" + strings.TrimPrefix(base, "http") + "api/kernels/" + url.PathEscape(k.ID) + "/channels"
	conn, shake, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: client, HTTPHeader: auth})
	if shake != nil && shake.Body != nil {
		defer shake.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("open the kernel's WebSocket: %w", withoutURL(err))
	}
	conn.SetReadLimit(longest)
	return &kernel{conn: conn, session: rand.Text()}, nil
}

// withoutURL takes the address off an error: it may hold a token.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // only the outermost has the address
		return e.Err
	}
	return err
}

type header struct {
	ID      string `json:"msg_id,omitempty"`
	Type    string `json:"msg_type,omitempty"`
	Session string `json:"session,omitempty"`
	User    string `json:"username,omitempty"`
	Version string `json:"version,omitempty"`
}

type message struct {
	Header  header          `json:"header"`
	Parent  header          `json:"parent_header"`
	Meta    map[string]any  `json:"metadata"`
	Content json.RawMessage `json:"content"`
	Channel string          `json:"channel"`
	Buffers []string        `json:"buffers"`
}

// execute runs a cell and returns what it prints. An exception is an error.
func (k *kernel) execute(ctx context.Context, code string) (string, error) {
	content, err := json.Marshal(map[string]any{
		"code": code, "silent": false, "store_history": false, "user_expressions": map[string]any{}, "allow_stdin": false, "stop_on_error": true,
	})
	if err != nil {
		return "", err
	}
	id := rand.Text()
	b, err := json.Marshal(message{
		Header: header{ID: id, Type: "execute_request", Session: k.session, User: "verify", Version: "5.3"},
		Meta:   map[string]any{}, Content: content, Channel: "shell", Buffers: []string{},
	})
	if err != nil {
		return "", err
	}
	if err := k.conn.Write(ctx, websocket.MessageText, b); err != nil {
		return "", err
	}
	return k.collect(ctx, id)
}

// collect reads until the kernel has replied and is idle again.
func (k *kernel) collect(ctx context.Context, id string) (string, error) {
	var out strings.Builder
	replied, idle := false, false
	for !replied || !idle {
		_, b, err := k.conn.Read(ctx)
		if err != nil {
			return out.String(), fmt.Errorf("read from the kernel: %w", err)
		}
		var m message
		var c struct {
			Text   string `json:"text"`
			Name   string `json:"name"`
			State  string `json:"execution_state"`
			Error  string `json:"ename"`
			Value  string `json:"evalue"`
			Status string `json:"status"`
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return out.String(), fmt.Errorf("read from the kernel: %w", err)
		}
		if m.Parent.ID != id {
			continue
		}
		if err := json.Unmarshal(m.Content, &c); err != nil {
			return out.String(), fmt.Errorf("read from the kernel: %w", err)
		}
		switch {
		case m.Header.Type == "stream" && c.Name == "stdout":
			out.WriteString(c.Text)
		case m.Header.Type == "error":
			return out.String(), fmt.Errorf("it raised %s: %s", c.Error, shorten(c.Value))
		case m.Header.Type == "execute_reply":
			replied = true
		case m.Header.Type == "status" && c.State == "idle":
			idle = true
		}
	}
	return out.String(), nil
}

func (k *kernel) close() { _ = k.conn.CloseNow() }
