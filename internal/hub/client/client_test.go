package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
)

// TestCodes sends every code from a hub to the client, which gets it back.
func TestCodes(t *testing.T) {
	for _, code := range binnacle.Codes() {
		for _, bare := range []bool{false, true} {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(hub.Status(code))
				if !bare {
					_ = json.NewEncoder(w).Encode(&binnacle.Error{Code: code, Message: "100% sure.", Hint: "h", File: "apt.txt", Line: 3, ID: "x"})
				}
			}))
			c, err := client.New(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Sessions(t.Context())
			e, ok := errors.AsType[*binnacle.Error](err)
			if !ok || e.Code != code {
				t.Errorf("%s, bare %v: %v", code, bare, err)
			} else if want := (&binnacle.Error{Code: code, Message: "100% sure.", Hint: "h", File: "apt.txt", Line: 3, ID: "x"}); !bare && !cmp.Equal(want, e) {
				t.Error(cmp.Diff(want, e))
			}
			srv.Close()
		}
	}
}

// TestEventsResume breaks the stream in several ways; every event comes once.
func TestEventsResume(t *testing.T) {
	calls := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		event := func(id int, kind, more string) {
			fmt.Fprintf(w, `{"id":%d,"time":"2026-11-23T04:00:00Z","kind":%q,"phase":"building"%s}`+"\n", id, kind, more)
		}
		switch calls {
		case 1:
			event(1, "phase", "")
			fmt.Fprint(w, "\n")
			event(2, "log", `,"message":"x"`)
			fmt.Fprint(w, `{"id":3,"ti`) // cut in the middle
		case 2:
			if got := r.URL.Query().Get("after"); got != "2" {
				t.Errorf("after %s", got)
			}
			w.WriteHeader(http.StatusServiceUnavailable) // the hub restarts
		case 3:
			event(2, "log", "")
			event(3, "log", "")
			event(0, "problem", `,"error":{"code":"unavailable","message":"away"}`)
		default:
			event(4, "end", "")
		}
	}))
	defer srv.Close()
	c, err := client.New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	if err := c.Events(t.Context(), "l", 0, func(e binnacle.Event) error { got = append(got, e.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4}, got); diff != "" {
		t.Error(diff)
	}
	stop := binnacle.Errorf(binnacle.CodeTimeout, "enough")
	if err := c.Events(t.Context(), "l", 0, func(binnacle.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("yield's error: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("why")
	cancel(cause)
	if err := c.Events(ctx, "l", 0, func(binnacle.Event) error { return nil }); !errors.Is(err, cause) {
		t.Errorf("canceled: %v", err)
	}
}

// TestSilence: a hub whose machine is lost says nothing and ends nothing, before an
// answer or in the middle of one.
func TestSilence(t *testing.T) {
	calls := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if calls < 3 {
			if calls == 2 {
				fmt.Fprintln(w, `{"id":1,"kind":"log"}`)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
			return
		}
		if got := r.URL.Query().Get("after"); got != "1" {
			t.Errorf("after %s", got)
		}
		fmt.Fprintln(w, `{"id":2,"kind":"end"}`)
	}))
	defer srv.Close()
	c, err := client.New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	if err := c.WithSilence(200*time.Millisecond).Events(t.Context(), "l", 0, func(e binnacle.Event) error { got = append(got, e.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2}, got); diff != "" || calls != 3 {
		t.Errorf("%d calls: %s", calls, diff)
	}
}

// TestSocket calls over a unix socket, keeps the token, and tells of a hub that
// is not there.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	c, err := client.New(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Version(t.Context()); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("no hub: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var auth []string
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = append(auth, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		w.Header().Set(hub.TokenHeader, "me")
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.URL.Path, "/log"):
			fmt.Fprint(w, "a line\n")
		case strings.HasSuffix(r.URL.Path, "/launches") && r.Method == http.MethodGet, strings.HasSuffix(r.URL.Path, "/sessions"):
			fmt.Fprint(w, `[{"id":"x"}]`)
		default:
			fmt.Fprint(w, `{"id":"x","version":"1","freed":3,"total":4}`)
		}
	})}}
	srv.Start()
	defer srv.Close()
	ctx := t.Context()
	var log strings.Builder
	_, err1 := c.Launch(ctx, binnacle.LaunchRequest{Repo: "gh/o/r"})
	_, err2 := c.Get(ctx, "x")
	_, err3 := c.Launches(ctx)
	_, err4 := c.KeepAlive(ctx, "x")
	_, err5 := c.Session(ctx, "../x")
	_, err6 := c.Clean(ctx, hub.CleanRequest{})
	_, err7 := c.Usage(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, c.Cancel(ctx, "x"), c.Stop(ctx, "x"), c.Logs(ctx, "x", true, &log), c.LaunchLog(ctx, "x", false, &log)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"POST /api/launches ", "GET /api/launches/x Bearer me", "GET /api/launches Bearer me", "POST /api/sessions/x/keep-alive Bearer me", "GET /api/sessions/..%2Fx Bearer me",
		"POST /api/clean Bearer me", "GET /api/usage Bearer me", "DELETE /api/launches/x Bearer me", "DELETE /api/sessions/x Bearer me", "GET /api/sessions/x/log?follow=true Bearer me", "GET /api/launches/x/log Bearer me",
	}
	if diff := cmp.Diff(want, auth); diff != "" {
		t.Error(diff)
	}
	if log.String() != "a line\na line\n" {
		t.Errorf("log %q", log.String())
	}
}
