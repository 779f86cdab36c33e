package sessiontest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// Fixture is what Run needs to know about a spawner.
type Fixture struct {
	// Image runs sessiontest/cmd/server, or what behaves like it.
	Image string
	// Reopen makes a new Spawner on the same runtime, as after a restart.
	Reopen func(t *testing.T) session.Spawner
	// Enforces says that Limits are enforced; a fake has none.
	Enforces bool
	// NodePIDs says that processes are limited by the machine a session runs on,
	// not by its Limits: Kubernetes has no such limit for a pod.
	NodePIDs bool
	// Residue lists what the runtime holds beyond its images; sorted.
	Residue func(t *testing.T) []string
}

// check is one test: its methods are named after what they check.
type check struct {
	t *testing.T
	s session.Spawner
	f Fixture
}

const patience = 20 * time.Second

// Run checks that a spawner keeps session.Spawner's promises. Each test calls
// open for a spawner without sessions.
func Run(t *testing.T, open func(t *testing.T) (session.Spawner, Fixture)) {
	t.Helper()
	for name, test := range map[string]func(check){
		"Life": check.life, "Errors": check.errors, "Websocket": check.websocket, "Logs": check.logs, "Follow": check.follow,
		"Exit": check.exit, "Restart": check.restart, "Concurrent": check.concurrent, "SameID": check.sameID, "Cancel": check.cancel,
		"Dial": check.dial, "Memory": check.memory, "Processes": check.processes,
	} {
		t.Run(name, func(t *testing.T) {
			s, f := open(t)
			if !f.Enforces && (name == "Memory" || name == "Processes") {
				return // nothing to check
			}
			if f.NodePIDs && name == "Processes" {
				t.Log("not checked: processes are limited by the machine, not by the session")
				return
			}
			test(check{t, s, f})
		})
	}
}

// NewSpec is a session that any spawner can run.
func NewSpec(id, image string) session.Spec {
	const memory, pids, disk = 512 << 20, 200, 1 << 30
	return session.Spec{
		ID: id, Image: image, BaseURL: "/user/" + id + "/", Token: "token-of-" + id,
		Env:    map[string]string{"COLOUR": "blue green"},
		Limits: binnacle.Limits{Memory: memory, CPU: 1, PIDs: pids, Disk: disk},
		Labels: map[string]string{"owner": "o1", "repo": "gh/example/repo/HEAD", "text": "ä \"quoted\"\nline"},
	}
}

// Fetch asks the session's server for a path below its base URL.
func Fetch(ctx context.Context, s session.Spawner, spec session.Spec, path string) (string, error) {
	client := Client(s, spec.ID)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://session"+spec.BaseURL+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "token "+spec.Token)
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, bytes.TrimSpace(b))
	}
	return string(b), err
}

// Client speaks HTTP with a session.
func Client(s session.Spawner, id string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx, id) }}}
}

// Await waits until the session has exited and returns its status.
func Await(t *testing.T, s session.Spawner, id string) session.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Logs(ctx, id, true, io.Discard); err != nil { // goes on until the session ends
		t.Fatalf("wait for the end of %s: %v", id, err)
	}
	st, err := s.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func start(t *testing.T, s session.Spawner, spec session.Spec) session.Status {
	t.Helper()
	st, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("start %s: %v", spec.ID, err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context()), spec.ID); err != nil {
			t.Errorf("stop %s: %v", spec.ID, err)
		}
	})
	return st
}

func (c check) life() {
	t, s, f := c.t, c.s, c.f
	ctx, before := t.Context(), f.Residue(t)
	spec := NewSpec("life-1", f.Image)
	st := start(t, s, spec)
	if st.State != session.Running || st.Started.IsZero() || st.Exit != "" {
		t.Errorf("after Start: %+v", st)
	}
	got, err := s.Get(ctx, spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := session.Status{
		ID: spec.ID, State: session.Running, Image: spec.Image, BaseURL: spec.BaseURL, Token: spec.Token,
		Labels: spec.Labels, Started: got.Started,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get: %s", diff)
	}
	second := NewSpec("life-2", f.Image)
	start(t, s, second)
	list, err := s.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != spec.ID || list[1].ID != second.ID {
		t.Errorf("List: %+v, %v; want life-1 and life-2", list, err)
	}
	if body, err := Fetch(ctx, s, spec, "api/status"); err != nil || !strings.Contains(body, "kernels") {
		t.Errorf("status: %q, %v", body, err)
	}
	for _, id := range []string{spec.ID, second.ID, spec.ID, "never-there"} {
		if err := s.Stop(ctx, id); err != nil {
			t.Errorf("stop %s: %v", id, err)
		}
	}
	if _, err := s.Get(ctx, spec.ID); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("Get after Stop: %v, want not_found", err)
	}
	if list, err := s.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("List after Stop: %v, %v", list, err)
	}
	if diff := cmp.Diff(before, f.Residue(t)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

func (c check) errors() {
	t, s, f := c.t, c.s, c.f
	ctx, before := t.Context(), f.Residue(t)
	_, err := s.Start(ctx, NewSpec("errors-1", "never/built:1"))
	wantCode(t, "Start without the image", err, binnacle.CodeNotFound)
	if diff := cmp.Diff(before, f.Residue(t)); diff != "" {
		t.Errorf("a failed Start left:\n%s", diff)
	}
	start(t, s, NewSpec("errors-2", f.Image))
	_, err = s.Start(ctx, NewSpec("errors-2", f.Image))
	wantCode(t, "Start of a taken ID", err, binnacle.CodeConflict)
	if _, err := Fetch(ctx, s, NewSpec("errors-2", f.Image), "api/status"); err != nil {
		t.Errorf("the session whose ID was asked for again: %v", err)
	}
	_, err = s.Get(ctx, "errors-3")
	wantCode(t, "Get", err, binnacle.CodeNotFound)
	_, err = s.Dial(ctx, "errors-3")
	wantCode(t, "Dial", err, binnacle.CodeNotFound)
	wantCode(t, "Logs", s.Logs(ctx, "errors-3", true, io.Discard), binnacle.CodeNotFound)
}

func wantCode(t *testing.T, what string, err error, want binnacle.Code) {
	t.Helper()
	if got := binnacle.CodeOf(err); got != want {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func (c check) websocket() {
	t, s, f := c.t, c.s, c.f
	spec := NewSpec("ws-1", f.Image)
	start(t, s, spec)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://session"+spec.BaseURL+"api/kernels/k/channels?token="+url.QueryEscape(spec.Token), &websocket.DialOptions{HTTPClient: Client(s, spec.ID)}) //nolint:bodyclose // the connection owns it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := conn.Read(ctx); err != nil || string(b) != "hello" {
		t.Errorf("echo: %q, %v", b, err)
	}
	spec.Token = "another"
	if _, err := Fetch(ctx, s, spec, "api/status"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("with another token: %v, want 403", err)
	}
}

func (c check) logs() {
	t, s, f := c.t, c.s, c.f
	ctx := t.Context()
	spec := NewSpec("logs-1", f.Image)
	start(t, s, spec)
	if _, err := Fetch(ctx, s, spec, "x/print?line=marker"); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for range 100 { // the line may be on its way
		b.Reset()
		if err := s.Logs(ctx, spec.ID, false, &b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "marker\n") {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if !strings.HasPrefix(b.String(), "starting below "+spec.BaseURL+"\n") || !strings.Contains(b.String(), "marker\n") {
		t.Errorf("log: %q", b.String())
	}
	if strings.Contains(b.String(), spec.Token) {
		t.Error("the token is in the log")
	}
}

func (c check) follow() {
	t, s, f := c.t, c.s, c.f
	spec := NewSpec("follow-1", f.Image)
	start(t, s, spec)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := s.Logs(t.Context(), spec.ID, true, w)
		w.Close()
		done <- err
	}()
	if _, err := Fetch(t.Context(), s, spec, "x/print?line=first"); err != nil {
		t.Fatal(err)
	}
	var seen []byte
	buf := make([]byte, 1024)
	for !bytes.Contains(seen, []byte("first\n")) {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, buf[:n]...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Logs(ctx, spec.ID, true, io.Discard); binnacle.CodeOf(err) != binnacle.CodeCanceled {
		t.Errorf("Logs after cancel: %v", err)
	}
	_, _ = Fetch(t.Context(), s, spec, "x/print?line=last") // in the log, before the end
	_, _ = Fetch(t.Context(), s, spec, "x/exit?n=0")        // its connection breaks
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(append(seen, rest...), []byte("last\n")) {
		t.Errorf("followed to %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Logs after the end: %v", err)
	}
}

func (c check) exit() {
	t, s, f := c.t, c.s, c.f
	ctx := t.Context()
	spec := NewSpec("exit-1", f.Image)
	start(t, s, spec)
	_, _ = Fetch(ctx, s, spec, "x/exit?n=3") // its connection breaks
	st := Await(t, s, spec.ID)
	if st.State != session.Exited || !strings.Contains(st.Exit, "code 3") {
		t.Errorf("after the end: %s, %q; want exited with code 3", st.State, st.Exit)
	}
	_, err := s.Dial(ctx, spec.ID)
	wantCode(t, "Dial after the end", err, binnacle.CodeUnavailable)
	if st, err := f.Reopen(t).Get(ctx, spec.ID); err != nil || st.State != session.Exited || !strings.Contains(st.Exit, "code 3") {
		t.Errorf("after a restart: %+v, %v", st, err)
	}
	var b strings.Builder
	if err := s.Logs(ctx, spec.ID, false, &b); err != nil || !strings.Contains(b.String(), "starting") {
		t.Errorf("log after the end: %q, %v", b.String(), err)
	}
}

func (c check) restart() {
	t, s, f := c.t, c.s, c.f
	ctx := t.Context()
	spec := NewSpec("restart-1", f.Image)
	start(t, s, spec)
	before, err := s.Get(ctx, spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	again := f.Reopen(t)
	after, err := again.Get(ctx, spec.ID)
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("after a restart: %v\n%s", err, diff)
	}
	if _, err := Fetch(ctx, again, spec, "api/status"); err != nil {
		t.Error(err)
	}
	_, err = again.Start(ctx, spec)
	wantCode(t, "Start of a session of before", err, binnacle.CodeConflict)
	if err := again.Stop(ctx, spec.ID); err != nil {
		t.Error(err)
	}
	if list, err := again.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("after Stop: %v, %v", list, err)
	}
}

func (c check) concurrent() {
	t, s, f := c.t, c.s, c.f
	before := f.Residue(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			spec := NewSpec(fmt.Sprintf("many-%d", i), f.Image)
			if _, err := s.Start(ctx, spec); err != nil {
				t.Errorf("start %s: %v", spec.ID, err)
				return
			}
			if _, err := Fetch(ctx, s, spec, "api/status"); err != nil {
				t.Errorf("ask %s: %v", spec.ID, err)
			}
			if err := s.Stop(ctx, spec.ID); err != nil {
				t.Errorf("stop %s: %v", spec.ID, err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(before, f.Residue(t)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

func (c check) sameID() {
	t, s, f := c.t, c.s, c.f
	const n = 4
	spec := NewSpec("same-1", f.Image)
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := s.Start(t.Context(), spec)
			errs <- err
		}()
	}
	started := 0
	for range n {
		if err := <-errs; err == nil {
			started++
		} else {
			wantCode(t, "Start of the same ID", err, binnacle.CodeConflict)
		}
	}
	if started != 1 {
		t.Errorf("%d started, want 1", started)
	}
	if _, err := Fetch(t.Context(), s, spec, "api/status"); err != nil {
		t.Error(err)
	}
	if err := s.Stop(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
}

func (c check) cancel() {
	t, s, f := c.t, c.s, c.f
	before := f.Residue(t)
	for i := range 12 { // cut off ever later
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*time.Millisecond)
		spec := NewSpec(fmt.Sprintf("cancel-%d", i), f.Image)
		_, err := s.Start(ctx, spec)
		cancel()
		if err == nil {
			err = s.Stop(t.Context(), spec.ID)
		} else if c := binnacle.CodeOf(err); c != binnacle.CodeTimeout && c != binnacle.CodeCanceled {
			t.Errorf("Start cut off: %v", err)
		} else {
			err = nil
		}
		if err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, f.Residue(t)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List: %v, %v", list, err)
	}
}

func (c check) dial() {
	t, s, f := c.t, c.s, c.f
	slow := NewSpec("dial-1", f.Image)
	slow.Env["TEST_DELAY"] = "1h"
	if f.Enforces { // a fake starts at once
		start(t, s, slow)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := s.Dial(ctx, slow.ID)
		wantCode(t, "Dial within its time", err, binnacle.CodeTimeout)
		waiting := make(chan error, 1)
		go func() {
			_, err := s.Dial(t.Context(), slow.ID)
			waiting <- err
		}()
		<-time.After(50 * time.Millisecond)
		if err := s.Stop(t.Context(), slow.ID); err != nil {
			t.Fatal(err)
		}
		if code := binnacle.CodeOf(<-waiting); code != binnacle.CodeUnavailable && code != binnacle.CodeNotFound {
			t.Errorf("Dial while it is stopped: %s", code)
		}
	}
	soon := NewSpec("dial-2", f.Image)
	soon.Env["TEST_DELAY"] = "300ms"
	start(t, s, soon)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := Fetch(ctx, s, soon, "api/status"); err != nil {
		t.Errorf("a request that waits for the server: %v", err)
	}
}

func (c check) memory() {
	t, s, f := c.t, c.s, c.f
	other, hog := NewSpec("memory-1", f.Image), NewSpec("memory-2", f.Image)
	hog.Limits.Memory = 128 << 20
	start(t, s, other)
	start(t, s, hog)
	_, _ = Fetch(t.Context(), s, hog, "x/memory") // its connection breaks
	if st := Await(t, s, hog.ID); st.State != session.Exited || !strings.Contains(st.Exit, "128 MiB of memory") {
		t.Errorf("the hog: %s, %q", st.State, st.Exit)
	}
	if _, err := Fetch(t.Context(), s, other, "api/status"); err != nil {
		t.Errorf("the other session: %v", err)
	}
}

func (c check) processes() {
	t, s, f := c.t, c.s, c.f
	other, bomb := NewSpec("fork-1", f.Image), NewSpec("fork-2", f.Image)
	bomb.Limits.PIDs = 64
	start(t, s, other)
	start(t, s, bomb)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	body, err := Fetch(ctx, s, bomb, "x/fork")
	var n int
	if _, scanErr := fmt.Sscan(body, &n); err == nil && (scanErr != nil || n >= int(bomb.Limits.PIDs)) {
		t.Errorf("%q processes were started, want fewer than %d", body, bomb.Limits.PIDs)
	}
	if _, err := Fetch(ctx, s, other, "api/status"); err != nil {
		t.Errorf("the other session: %v", err)
	}
	if err := s.Stop(ctx, bomb.ID); err != nil {
		t.Errorf("stop the bomb: %v", err)
	}
}
