package cli_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	regserver "github.com/google/go-containerregistry/pkg/registry"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/registry"

	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
)

// TestChartIsPublished: the chart goes to a registry that wants a login, and Helm
// brings the same chart back from there.
func TestChartIsPublished(t *testing.T) {
	t.Parallel()
	const user, password = "ops", "pass-8QmX"
	inner := regserver.New(regserver.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	dir := t.TempDir()
	login := filepath.Join(dir, "config.json")
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	if err := os.WriteFile(login, fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, host, auth), 0o600); err != nil {
		t.Fatal(err)
	}
	push := []string{"chart", "--output", dir, "--plain-http", "--push", "oci://" + host + "/charts/"}
	if code, _, log := deploy(t, "", nil, append(push, "--docker-config", filepath.Join(dir, "none.json"))...); code != 5 || !strings.Contains(log, "did not take the chart") {
		t.Errorf("without a login: exit %d, %s", code, log)
	}
	if code, _, log := deploy(t, "", nil, "chart", "--output", dir, "--push", host+"/charts"); code != 2 || !strings.Contains(log, "oci://") {
		t.Errorf("no address of a registry: exit %d, %s", code, log)
	}
	code, out, log := deploy(t, "", nil, append(push, "--docker-config", login)...)
	if code != 0 || strings.Contains(out+log, password) {
		t.Fatalf("exit %d, %s", code, log)
	}
	c, err := chart.Load("")
	if err != nil {
		t.Fatal(err)
	}
	ref := host + "/charts/binnacle:" + c.Metadata.Version
	if !strings.Contains(out, "oci://"+ref+"@sha256:") {
		t.Errorf("it says %q", out)
	}
	helm, err := registry.NewClient(registry.ClientOptPlainHTTP(), registry.ClientOptCredentialsFile(login))
	if err != nil {
		t.Fatal(err)
	}
	got, err := helm.Pull(ref)
	if err != nil {
		t.Fatal(err)
	}
	back, err := loader.LoadArchive(bytes.NewReader(got.Chart.Data))
	if err != nil {
		t.Fatal(err)
	}
	if back.Metadata.Version != c.Metadata.Version || len(back.Templates) != len(c.Templates) || back.Schema == nil {
		t.Errorf("Helm brings back %+v with %d templates", back.Metadata, len(back.Templates))
	}
}
