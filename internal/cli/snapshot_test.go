package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// What one hub saves another one loads: SQLite on a machine, PostgreSQL on a
// cluster. A launch's log is there again.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	s, err := store.Open(t.Context(), filepath.Join(from, "binnacle.db"))
	if err != nil {
		t.Fatal(err)
	}
	l := store.Launch{Launch: binnacle.Launch{ID: "a", Phase: binnacle.PhaseReady, Created: time.Now().UTC()}}
	if _, err := s.Append(t.Context(), []store.Cursor{{Launch: "a", First: 1}}, []binnacle.Event{{Kind: binnacle.EventLog, Message: "it was built"}}, l); err != nil {
		t.Fatal(err)
	}
	// It stays open: the hub goes on while it is saved.
	defer s.Close()
	key := filepath.Join("certificates", "acme", "users", "account.key")
	for _, name := range []string{key, filepath.Join("certificates", "locks", "issue.lock")} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte("the-account-key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, in string, args ...string) string {
		t.Helper()
		var out, log bytes.Buffer
		if code := cli.Run(t.Context(), cli.Env{Args: args, In: strings.NewReader(in), Out: &out, Err: &log, Width: func() int { return 80 }}); code != want {
			t.Fatalf("%v: exit %d: %s", args, code, log.String())
		}
		return out.String()
	}
	whole, without := run(0, "", "--data", from, "snapshot", "save"), run(0, "", "--data", from, "snapshot", "save", "--without-secrets")
	if !strings.Contains(whole, "the-account-key") || strings.Contains(without, "the-account-key") || strings.Contains(whole, "issue.lock") {
		t.Error("the wrong files are in it")
	}
	run(2, whole[:len(whole)/2], "--data", to, "snapshot", "load")
	run(0, whole, "--data", to, "snapshot", "load")
	if b, err := os.ReadFile(filepath.Join(to, key)); err != nil || string(b) != "the-account-key" {
		t.Errorf("%q, %v", b, err)
	}
	check := func(s *store.Store, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if events, err := s.Events(t.Context(), "a", 0); err != nil || len(events) != 1 || events[0].Message != "it was built" {
			t.Errorf("the log: %v, %v", events, err)
		}
	}
	check(store.Open(t.Context(), filepath.Join(to, "binnacle.db")))
	left, err := filepath.Glob(filepath.Join(to, ".snapshot*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if testing.Short() {
		return
	}
	url := postgres.Start(t).Database()
	settings := filepath.Join(t.TempDir(), "binnacle.yaml")
	if err := os.WriteFile(settings, []byte("data: "+to+"\nkubernetes: {enabled: true, database: \""+url+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, whole, "--config", settings, "snapshot", "load")
	check(store.OpenPostgres(t.Context(), url))
	back := run(0, "", "--config", settings, "snapshot", "save")
	run(0, back, "--data", to, "snapshot", "load")
	check(store.Open(t.Context(), filepath.Join(to, "binnacle.db")))
}
