package kubernetes_test

import (
	"io"
	"log" //nolint:depguard // the registry takes no other
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func TestRegistry(t *testing.T) {
	store, status, blobs := registry.New(registry.Logger(log.New(io.Discard, "", 0))), 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			blobs++
		}
		store.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	img, err := sessiontest.BuildImage([]byte("x"), v1.Config{Cmd: []string{"jupyter-lab"}, Env: []string{"A=b"}, User: "1000:100"})
	must(t, err)
	tag, err := name.NewTag(host + "/a:1")
	must(t, err)
	must(t, remote.Write(tag, img))
	r := kubernetes.NewRegistry([]string{host}, remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryStatusCodes())
	blobs = 0
	for range 2 {
		c, err := r.Config(t.Context(), tag.String())
		must(t, err)
		if diff := cmp.Diff([]string{"jupyter-lab", "A=b", "1000:100"}, []string{c.Cmd[0], c.Env[0], c.User}); diff != "" {
			t.Error(diff)
		}
	}
	if blobs != 1 {
		t.Errorf("the configuration was fetched %d times", blobs)
	}
	for ref, want := range map[string]binnacle.Code{host + "/b:1": "not_found", "NOT an image": "invalid"} {
		_, err := r.Config(t.Context(), ref)
		if got := binnacle.CodeOf(err); got != want {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
	for code, want := range map[int]binnacle.Code{401: "internal", 403: "internal", 429: "limited", 500: "unavailable"} {
		status = code
		if _, err := r.Config(t.Context(), tag.String()); binnacle.CodeOf(err) != want {
			t.Errorf("%d: %v, want %s", code, err, want)
		}
	}
	server.Close()
	if _, err := r.Config(t.Context(), tag.String()); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("away: %v", err)
	}
}
