package engine_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/engine"
)

// way notes what is sent, and sends nothing.
type way struct{ sent []string }

func (w *way) RoundTrip(r *http.Request) (*http.Response, error) {
	w.sent = append(w.sent, r.URL.String())
	return nil, errors.New("nobody is here")
}

// TestPushing: what is pushed goes past the guard, to its own repository, while it is
// pushed.
func TestPushing(t *testing.T) {
	t.Parallel()
	const host = "10.1.2.3:5000"
	own := []string{"http://10.1.2.3:5000/v2/", "http://10.1.2.3:5000/v2/team/image/blobs/uploads/?mount=a", "http://10.1.2.3:5000/v2/team/image/manifests/1"}
	other := []string{
		"http://10.1.2.3:5000/v2/team/image2/manifests/1", "http://10.1.2.3:5000/v2/team/secret/manifests/1", "http://10.1.2.3:5000/v2/_catalog",
		"http://10.1.2.3:5000/latest/meta-data", "http://10.1.2.3/v2/team/image/manifests/1", "http://10.1.2.4:5000/v2/team/image/manifests/1",
	}
	var e engine.Engine
	send := func() (guarded, open way) {
		client := http.Client{Transport: e.Outlet(&guarded, &open)}
		for _, url := range slices.Concat(own, other) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res, err := client.Do(r); err == nil {
				t.Error(errors.Join(errors.New("somebody answers"), res.Body.Close()))
			}
		}
		return guarded, open
	}
	done, again := e.Pushing(host, "team/image"), e.Pushing(host, "team/image")
	for range 2 {
		if guarded, open := send(); !slices.Equal(open.sent, own) || !slices.Equal(guarded.sent, other) {
			t.Errorf("past the guard: %q\nbefore it: %q", open.sent, guarded.sent)
		}
		done() // the other push goes on
	}
	again()
	if guarded, open := send(); len(open.sent) > 0 || len(guarded.sent) != len(own)+len(other) {
		t.Errorf("afterwards past the guard: %q", open.sent)
	}
}
