package hub_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
)

// streamUntil reads a stream until a line holds text; the result hangs up.
func streamUntil(t *testing.T, url, text string, header ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return func() {
				cancel()
				resp.Body.Close()
			}
		}
	}
	cancel()
	resp.Body.Close()
	t.Fatalf("the stream ended without %q", text)
	return nil
}
