package jupyter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// Terminal types a command into a new terminal of the server, and gives what it
// prints. The terminal is ended.
func (s Server) Terminal(ctx context.Context, command string) (_ string, err error) {
	b, err := s.do(ctx, http.MethodPost, "api/terminals", map[string]string{})
	if err != nil {
		return "", err
	}
	var terminal struct{ Name string }
	if err := json.Unmarshal(b, &terminal); err != nil {
		return "", err
	}
	defer func() {
		_, ended := s.do(ctx, http.MethodDelete, "api/terminals/"+terminal.Name, nil)
		err = errors.Join(err, ended)
	}()
	conn, err := s.dial(ctx, "terminals/websocket/"+terminal.Name)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.CloseNow() }()
	// What is typed is printed too, but not as these words.
	const begin, end = "the-beginning", "the-end"
	line, err := json.Marshal([]string{"stdin", "echo the-'beginning'; " + command + "; echo the-'end'\r"})
	if err != nil {
		return "", err
	}
	if err := conn.Write(ctx, websocket.MessageText, line); err != nil {
		return "", err
	}
	for printed := ""; ; {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return "", fmt.Errorf("read from the terminal: %w, after %q", err, printed)
		}
		var message []any
		if err := json.Unmarshal(b, &message); err != nil {
			return "", fmt.Errorf("read from the terminal: %w", err)
		}
		if len(message) == 2 && message[0] == "stdout" {
			printed += fmt.Sprint(message[1])
		}
		if _, after, begun := strings.Cut(printed, begin+"\r\n"); begun {
			if said, _, ended := strings.Cut(after, end+"\r\n"); ended {
				return strings.ReplaceAll(said, "\r\n", "\n"), nil
			}
		}
	}
}
