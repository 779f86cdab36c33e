package store_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// line joins the queue for builds and returns "granted" or the place.
func line(t *testing.T, s *store.Store, l store.SlotLimits, id, owner, repo string) string {
	t.Helper()
	got, err := s.Join(t.Context(), store.Slot{Queue: store.QueueBuilds, ID: id, Owner: owner, Repo: repo, Replica: "one"}, l)
	if err != nil {
		t.Fatal(err)
	}
	if got.Granted {
		return "granted"
	}
	return strconv.Itoa(got.Position)
}

func leaveSlot(t *testing.T, s *store.Store, l store.SlotLimits, id string) {
	t.Helper()
	if err := s.LeaveSlot(t.Context(), store.QueueBuilds, id, "one", l); err != nil {
		t.Fatal(err)
	}
}

func placesOf(t *testing.T, s *store.Store, replica string) map[string]int {
	t.Helper()
	got, err := s.Places(t.Context(), store.QueueBuilds, replica)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// slotsInTurns: places are as in one process's memory (TestQueueIsFair).
func slotsInTurns(t *testing.T, s *store.Store) {
	t.Helper()
	l := store.SlotLimits{Total: 1}
	var got []string
	for i := range 4 {
		got = append(got, line(t, s, l, fmt.Sprint("a", i), "ann", ""))
	}
	got = append(got, line(t, s, l, "b0", "bob", ""), line(t, s, l, "b0", "bob", ""))
	if diff := cmp.Diff([]string{"granted", "1", "2", "3", "1", "1"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"b0": 1, "a1": 2, "a2": 3, "a3": 4}, placesOf(t, s, "one")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{}, placesOf(t, s, "two")); diff != "" {
		t.Error(diff)
	}
	// Only its own replica gives a build's slot back, and each once.
	if err := s.LeaveSlot(t.Context(), store.QueueBuilds, "a0", "two", l); err != nil {
		t.Fatal(err)
	}
	leaveSlot(t, s, l, "a0")
	leaveSlot(t, s, l, "a0")
	if diff := cmp.Diff(map[string]int{"a1": 1, "a2": 2, "a3": 3}, placesOf(t, s, "")); diff != "" {
		t.Error(diff)
	}
	leaveSlot(t, s, l, "a2") // gives up
	leaveSlot(t, s, l, "b0")
	// Round 1 is served: who comes now is not before those who wait in it, and not behind all.
	if got := line(t, s, l, "c0", "cleo", ""); got != "1" {
		t.Error(got)
	}
}

func slotsOfEach(t *testing.T, s *store.Store) {
	t.Helper()
	l := store.SlotLimits{PerOwner: 1, PerRepo: 2}
	var got []string
	for _, who := range []string{"ann r", "ann r", "bob r", "cleo r", "cleo q"} {
		var owner, repo string
		if _, err := fmt.Sscan(who, &owner, &repo); err != nil {
			t.Fatal(err)
		}
		got = append(got, line(t, s, l, strconv.Itoa(len(got)), owner, repo))
	}
	if diff := cmp.Diff([]string{"granted", "1", "granted", "1", "granted"}, got); diff != "" {
		t.Error(diff)
	}
	forced, err := s.Join(t.Context(), store.Slot{Queue: store.QueueBuilds, ID: "f", Owner: "ann", Repo: "r", Replica: "two", Granted: true}, l)
	if err != nil || !forced.Granted {
		t.Error(forced, err)
	}
}

// slotsOfTheDead: who was silent, or began anew, holds none.
func slotsOfTheDead(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, l := t.Context(), store.SlotLimits{Total: 1}
	if err := s.Beat(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	line(t, s, l, "a", "ann", "")
	line(t, s, l, "b", "bob", "")
	if err := s.FreeSlots(ctx, store.QueueBuilds, time.Minute, l); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"b": 1}, placesOf(t, s, "")); diff != "" {
		t.Error(diff)
	}
	// Another replica goes on with what waits, at its place.
	if _, err := s.Join(ctx, store.Slot{Queue: store.QueueBuilds, ID: "b", Owner: "bob", Replica: "two"}, l); err != nil {
		t.Fatal(err)
	}
	if err := s.Beat(ctx, "two"); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if err := s.FreeSlots(ctx, store.QueueBuilds, time.Minute, l); err != nil {
		t.Fatal(err)
	}
	if got := line(t, s, l, "c", "cleo", ""); got != "1" {
		t.Errorf("b has the dead one's slot, and c waits: %s", got)
	}
	if err := s.LeaveSlots(ctx, store.QueueBuilds, "two", l); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{}, placesOf(t, s, "")); diff != "" {
		t.Error(diff)
	}
}

// slotsOfSessions: what runs is counted, and what is left of the dead is not.
func slotsOfSessions(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, l := t.Context(), store.SlotLimits{Total: 3}
	launching, ready, ended := record("launching", "ann", time.UnixMicro(5), binnacle.PhaseLaunching), record("ready", "ann", time.UnixMicro(6), binnacle.PhaseReady), record("ended", "ann", time.UnixMicro(7), binnacle.PhaseReady)
	ready.SessionID, ended.SessionID = "s-ready", "s-ended"
	if _, err := s.Append(ctx, nil, nil, launching, ready, ended); err != nil {
		t.Fatal(err)
	}
	for _, rec := range []store.Session{{ID: "s-ready", Launch: "ready"}, {ID: "s-ended", Launch: "ended", Ended: time.Now()}} {
		if err := s.PutSession(ctx, rec); err != nil {
			t.Fatal(err)
		}
	}
	granted := func(id string) bool {
		t.Helper()
		got, err := s.Join(ctx, store.Slot{Queue: store.QueueSessions, ID: id, Owner: id, Replica: "one"}, l)
		if err != nil {
			t.Fatal(err)
		}
		return got.Granted
	}
	for _, id := range []string{"launching", "ready", "ended"} {
		granted(id)
	}
	if granted("forgotten") {
		t.Fatal("a fourth of three")
	}
	// The list of sessions was made before one was ready, and has one that is not in the database.
	if err := s.SettleSlots(ctx, []store.Slot{{ID: "found", Owner: "bob", Exempt: true, Replica: "one"}}, l); err != nil {
		t.Fatal(err)
	}
	if granted("next") {
		t.Error("a session that was found is not counted")
	}
	if err := s.LeaveSlot(ctx, store.QueueSessions, "ready", "", l); err != nil { // by any replica
		t.Fatal(err)
	}
	if !granted("next") {
		t.Error("the slot of a session that ended is kept")
	}
}

// admissions: joining, the queue's length and an address's rate are decided together.
func admissions(t *testing.T, s *store.Store) {
	t.Helper()
	wish := func(id, owner, address string) store.Wish {
		l := record(id, owner, time.UnixMicro(int64(len(id))).UTC(), binnacle.PhaseWaiting)
		l.Replica, l.Epoch, l.Request.Repo = "one", 1, "gh/o/"+owner
		return store.Wish{
			Launch: l, Event: binnacle.Event{Kind: binnacle.EventPhase, Phase: binnacle.PhaseWaiting},
			Same: func(o store.Launch) bool { return o.Request.Repo == l.Request.Repo }, Address: address, Rate: 1, Burst: 2, MaxQueue: 1,
			Slot: store.Slot{Queue: store.QueueSessions, ID: id, Owner: owner, Replica: "one"}, Limits: store.SlotLimits{Total: 2},
		}
	}
	admit := func(w store.Wish) string {
		t.Helper()
		a, err := s.Admit(t.Context(), w)
		switch {
		case err != nil:
			t.Fatal(err)
		case a.Joined != nil:
			return "joined " + a.Joined.ID
		case a.Full:
			return "full"
		case a.After > time.Hour || a.After < 0:
			t.Errorf("it is said to wait %s", a.After)
		case a.After > 0:
			return "limited"
		case a.Slot.Granted:
			return "granted"
		}
		return strconv.Itoa(a.Slot.Position)
	}
	got := []string{
		admit(wish("a", "ann", "x")), admit(wish("again", "ann", "x")), admit(wish("b", "bob", "x")), admit(wish("c", "cleo", "x")),
		admit(wish("c", "cleo", "y")), admit(wish("d", "dan", "z")),
	}
	if diff := cmp.Diff([]string{"granted", "joined a", "granted", "limited", "1", "full"}, got); diff != "" {
		t.Error(diff)
	}
	if got := all(t, s, "a", 0); len(got) != 1 {
		t.Error(got)
	}
	for _, id := range []string{"again", "d"} {
		if _, err := s.Launch(t.Context(), id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Errorf("%s was refused and is there: %v", id, err)
		}
	}
	for address, want := range map[string]int{"x": 0, "y": 1, "never": 2} {
		left, whole, err := s.Rate(t.Context(), address, 1, 2)
		if err != nil || left != want || whole > 2*time.Hour || (whole > 0) != (want < 2) {
			t.Errorf("%s: %d left, %s, %v", address, left, whole, err)
		}
	}
	// One that is being canceled is not joined.
	if err := s.Cancel(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	w := wish("new", "ann", "w")
	w.MaxQueue = 0
	if got := admit(w); got != "2" {
		t.Error(got)
	}
}

func watching(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	for _, id := range []string{"seen", "unseen", "other"} {
		l := record(id, "", time.UnixMicro(5), binnacle.PhaseBuilding)
		l.Replica = map[bool]string{true: "two", false: "one"}[id == "other"]
		if _, err := s.Append(ctx, nil, nil, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Watch(ctx, []string{"other", "seen"}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"seen": true, "unseen": false} {
		if got, err := s.Watched(ctx, id, time.Minute); err != nil || got != want {
			t.Error(id, got, err)
		}
	}
	if got, err := s.Unwatched(ctx, "one", time.Minute); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
	<-time.After(2 * time.Millisecond)
	if got, err := s.Unwatched(ctx, "one", time.Millisecond); err != nil || !cmp.Equal(got, []string{"seen"}) {
		t.Error(got, err)
	}
	if got, err := s.Watched(ctx, "seen", time.Millisecond); err != nil || got {
		t.Error(got, err)
	}
}

// TestPostgresCountsTogether asks through several connections at once: there are
// never more slots than there may be, one launch for one wish, and no token twice.
func TestPostgresCountsTogether(t *testing.T) {
	server := postgres.Start(t)
	url := server.Database()
	const replicas, each, slots = 4, 12, 3
	var mu sync.Mutex
	joined, granted, limited := map[string]bool{}, 0, 0
	l := store.SlotLimits{Total: slots}
	ctx := context.WithoutCancel(t.Context())
	var wg sync.WaitGroup
	for r := range replicas {
		s, name := openPostgres(t, url), fmt.Sprint("r", r)
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprint(name, "-", i)
				rec := record(id, fmt.Sprint("owner", i), time.Now(), binnacle.PhaseWaiting)
				rec.Replica, rec.Epoch = name, 1
				a, err := s.Admit(ctx, store.Wish{
					Launch: rec, Event: binnacle.Event{Kind: binnacle.EventPhase}, Same: func(store.Launch) bool { return true },
					Address: "x", Rate: 1, Burst: each - 2, Slot: store.Slot{Queue: store.QueueSessions, ID: id, Owner: rec.Owner, Replica: name}, Limits: l,
				})
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
				case a.Joined != nil:
				case a.After > 0:
					limited++
				default:
					joined[rec.Owner+id] = true
					if a.Slot.Granted {
						granted++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(joined) != each-2 || granted != slots || limited == 0 {
		t.Errorf("%d launches of %d, %d slots of %d, %d limited", len(joined), each-2, granted, slots, limited)
	}
}
