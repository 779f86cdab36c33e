package page_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/deploy/page"
)

// A browser that comes late, or again after its connection broke, gets each line
// once, and the end.
func TestPage(t *testing.T) {
	t.Parallel()
	shown := page.New()
	server := httptest.NewServer(shown)
	defer server.Close()
	if _, err := io.WriteString(shown, "one\ntw"); err != nil {
		t.Fatal(err)
	}
	get := func(path, last string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	early := bufio.NewReader(get("/events", "").Body)
	if first, err := early.ReadString('\n'); err != nil || first != "id: 1\n" {
		t.Fatalf("%q %v", first, err)
	}
	fmt.Fprint(shown, "o <b>\n")
	shown.End(page.Result{State: page.Done, URL: "https://hub.example.org"})
	rest, err := io.ReadAll(early)
	want := "data: \"one\"\n\nid: 2\ndata: \"two \\u003cb\\u003e\"\n\nevent: end\ndata: {\"state\":\"done\",\"url\":\"https://hub.example.org\"}\n\n"
	if diff := cmp.Diff(want, string(rest)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for last, want := range map[string]string{"1": "id: 2\n", "2": "event: end\n", "99": "event: end\n", "-4": "id: 1\n", "x": "id: 1\n"} {
		b, err := io.ReadAll(get("/events", last).Body)
		if err != nil || !strings.HasPrefix(string(b), want) {
			t.Errorf("after %s: %s %v", last, b, err)
		}
	}
	for path, want := range map[string]int{"/": 200, "/result": 200, "/other": 404} {
		if res := get(path, ""); res.StatusCode != want || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
	}
	res, err := server.Client().Post(server.URL+"/result", "text/plain", strings.NewReader("done"))
	if err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v %v", res, err)
	}
	_ = res.Body.Close()
}
