package store_test

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// fill makes a store with launches that share a log, a session and secrets.
func fill(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, now := t.Context(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b := record("a", "ada", now, binnacle.PhaseReady), record("b", "bob", now.Add(time.Second), binnacle.PhaseFailed)
	a.Request.Env = map[string]string{"PASSWORD": "the-password"}
	if _, err := s.Append(ctx, []store.Cursor{{Launch: "a", First: 1}, {Launch: "b", First: 1}}, lines(3, "shared "), a, b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, []store.Cursor{{Launch: "a", First: 4}}, lines(2, "a's own ")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSession(ctx, store.Session{ID: "s1", Launch: "a", Owner: "ada", Repo: "o/r"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(ctx, "hub", []byte("the-cookie-key\x00\xff")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutFile(ctx, "acme/account.key", []byte("the-account-key")); err != nil {
		t.Fatal(err)
	}
}

// content is what people see of a store.
func content(t *testing.T, s *store.Store) map[string]any {
	t.Helper()
	out := map[string]any{}
	list, err := s.Launches(t.Context(), "", true, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		l.Replica, l.Epoch = "", 0
		out["launch "+l.ID] = l
		events, err := s.Events(t.Context(), l.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			out["event "+l.ID+strconv.FormatInt(e.ID, 10)] = e.Message
		}
	}
	if out["sessions"], err = s.RunningSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	if key, err := s.Value(t.Context(), "hub"); err == nil {
		out["key"] = string(key)
	}
	return out
}

// What SQLite exports PostgreSQL takes, and back again; logs are there again.
func TestPortable(t *testing.T) {
	url := postgres.Start(t).Database()
	pg, err := store.OpenPostgres(t.Context(), url)
	opened(t, pg, err)
	lite, again := open(t, filepath.Join(t.TempDir(), "a.db")), open(t, filepath.Join(t.TempDir(), "b.db"))
	fill(t, lite)
	want := content(t, lite)
	// What is there already goes.
	fill(t, again)
	if _, err := again.Append(t.Context(), []store.Cursor{{Launch: "c", First: 1}}, lines(1, "old"), record("c", "eve", time.Now(), binnacle.PhaseReady)); err != nil {
		t.Fatal(err)
	}
	from := lite
	for _, to := range []*store.Store{pg, again} {
		var b bytes.Buffer
		if err := from.Export(t.Context(), &b, true); err != nil {
			t.Fatal(err)
		}
		for range 2 { // twice gives the same
			if err := to.Import(t.Context(), bytes.NewReader(b.Bytes())); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, content(t, to)); diff != "" {
				t.Fatalf("after it was brought back:\n%s", diff)
			}
		}
		from = to
	}
	if data, err := again.Value(t.Context(), "hub"); err != nil || string(data) != "the-cookie-key\x00\xff" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestPortableWithoutSecrets(t *testing.T) {
	t.Parallel()
	s, other := open(t, filepath.Join(t.TempDir(), "a.db")), open(t, filepath.Join(t.TempDir(), "b.db"))
	fill(t, s)
	if err := other.Set(t.Context(), "hub", []byte("its own")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Export(t.Context(), &b, false); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"the-password", "the-cookie-key", "the-account-key", "dGhlLWNvb2tpZS1rZX", "dGhlLWFjY291bnQ"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("it has %s", secret)
		}
	}
	if err := other.Import(t.Context(), bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if l, err := other.Launch(t.Context(), "a"); err != nil || l.Request.Env != nil {
		t.Errorf("%+v, %v", l.Request, err)
	}
	if key, err := other.Value(t.Context(), "hub"); err != nil || string(key) != "its own" {
		t.Errorf("the key of its own went: %q, %v", key, err)
	}
}

// What is damaged, cut short or newer changes nothing.
func TestPortableRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "a.db"))
	fill(t, s)
	want := content(t, s)
	var b bytes.Buffer
	if err := s.Export(t.Context(), &b, true); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	first, rest, _ := strings.Cut(text, "\n")
	_, later, _ := strings.Cut(rest, "\n")
	cases := map[string]string{
		"empty": "", "another": `{"a":1}`, "cut": text[:len(text)/2], "without its end": text[:strings.LastIndex(text, `{"end"`)],
		"a row is missing": first + "\n" + later, "more behind": text + "{}", "unknown table": first + "\n" + `{"table":"users","row":[]}` + "\n" + rest,
		"a body is missing": strings.Replace(first+"\n"+`{"table":"chunks","row":["a",9,9,77]}`+"\n"+rest, `"end":`, `"end":1`, 1),
	}
	for name, text := range cases {
		if err := s.Import(t.Context(), strings.NewReader(text)); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := strings.Replace(text, `"format":1`, `"format":2`, 1)
	if err := s.Import(t.Context(), strings.NewReader(newer)); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("newer: %v", err)
	}
	if diff := cmp.Diff(want, content(t, s)); diff != "" {
		t.Errorf("it was changed:\n%s", diff)
	}
}

func FuzzCheckExport(f *testing.F) {
	f.Add([]byte(`{"store":"binnacle-store","format":1}` + "\n" + `{"table":"activity","row":["a",1]}` + "\n" + `{"end":1}`))
	f.Add([]byte(`{"store":"binnacle-store","format":1}` + "\n" + `{"table":"launches","row":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := store.CheckExport(bytes.NewReader(b)); err != nil && binnacle.CodeOf(err) != binnacle.CodeInvalid && binnacle.CodeOf(err) != binnacle.CodeConflict {
			t.Error(err)
		}
	})
}
