package launch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/internal/session"
)

func TestLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.notes = []recipe.Note{{Location: recipe.Location{File: "apt.txt", Line: 2}, Message: "careful"}}
		svc, stop := b.serve()
		defer stop()
		id := begin(t, svc, ann, ask("main"))
		want := `phase waiting
phase resolving
phase fetching
log fetching Fetching c0ffee-main
note fetching careful [invalid apt.txt:2]
phase building
log building building img/c0ffee-main
step building pip
phase launching
end ready
`
		if diff := cmp.Diff(want, brief(follow(t, svc, id, 0))); diff != "" {
			t.Error(diff)
		}
		if builds, sessions, _, err := svc.Load(t.Context()); err != nil || builds != 0 || sessions != 1 {
			t.Errorf("Load = %d builds, %d sessions, %v", builds, sessions, err)
		}
		versions, err := svc.Resolved(t.Context(), ann, id)
		if err != nil || len(versions) != 1 || versions[0].Content != "img/c0ffee-main\n" {
			t.Errorf("Resolved = %+v, %v", versions, err)
		}
		if _, err := svc.Resolved(t.Context(), launch.Caller{Owner: "bob"}, id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Errorf("somebody else's: %v", err)
		}
		l, err := svc.Get(t.Context(), ann, id)
		if err != nil {
			t.Fatal(err)
		}
		var phases []binnacle.Phase
		for _, p := range l.Phases {
			phases = append(phases, p.Phase)
			if p.Millis == 0 {
				t.Errorf("phase %s has no duration", p.Phase)
			}
		}
		if diff := cmp.Diff([]binnacle.Phase{"waiting", "resolving", "fetching", "building", "launching"}, phases); diff != "" {
			t.Error(diff)
		}
		s := l.Session
		if s == nil || s.Token == "" || len(s.Token) < 22 || s.Path != "lab" || s.URL != "https://hub.example.org/user/"+s.ID+"/" ||
			!strings.HasPrefix(s.ID, "o-r-") || s.LaunchID != id || s.IdleEnds.Sub(s.Started) < 29*time.Minute || s.Ends.Sub(s.Started) < 5*time.Hour {
			t.Errorf("%+v", s)
		}
		if entries, err := os.ReadDir(b.cfg.Checkouts); err != nil || len(entries) > 0 {
			t.Error(entries, err)
		}

		// A second launch finds the image.
		id = begin(t, svc, ann, ask("main"))
		want = `phase waiting
phase resolving
log resolving Found built image img/c0ffee-main.
phase launching
end ready
`
		if diff := cmp.Diff(want, brief(follow(t, svc, id, 0))); diff != "" {
			t.Error(diff)
		}
		if b.src.fetches != 1 || b.bld.count() != 1 || b.spw.count() != 2 {
			t.Error(b.src.fetches, b.bld.count(), b.spw.count())
		}
		// So does an old link, and is told.
		want = "phase waiting\nphase resolving\nnote resolving The repository has no branch master any more: its default branch, main, is taken instead. [not_found :0]\n" + strings.TrimPrefix(want, "phase waiting\nphase resolving\n")
		if diff := cmp.Diff(want, brief(follow(t, svc, begin(t, svc, ann, ask("master")), 0))); diff != "" {
			t.Error(diff)
		}
		// Build only ends without a session; rebuild builds.
		id = begin(t, svc, ann, binnacle.LaunchRequest{Repo: "gh/o/r/main", BuildOnly: true, Rebuild: true})
		if e := end(t, svc, id); e.Phase != binnacle.PhaseReady || e.Image != "img/c0ffee-main" || b.bld.count() != 2 || b.spw.count() != 3 {
			t.Errorf("%+v", e)
		}
	})
}

func TestRequests(t *testing.T) {
	b := newBench(t)
	defer b.close()
	b.cfg.BannedSpecs, b.cfg.AllowedSpecs = []string{"^gh/Bad/"}, []string{"^gh/", "^dir/"}
	svc, stop := b.serve()
	defer stop()
	operator := launch.Caller{Trusted: true}
	tests := []struct {
		name   string
		caller launch.Caller
		req    binnacle.LaunchRequest
		want   binnacle.Code
	}{
		{"fine", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Path: "lab/tree/a b.ipynb?x=../y", Env: map[string]string{"A_1": "x"}}, ""},
		{"nothing", ann, binnacle.LaunchRequest{}, binnacle.CodeInvalid},
		{"bad ref", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Ref: "-x"}, binnacle.CodeInvalid},
		{"ref with newline", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Ref: "a\nb"}, binnacle.CodeInvalid},
		{"directory", ann, binnacle.LaunchRequest{Repo: t.TempDir()}, binnacle.CodeForbidden},
		{"directory of the operator", operator, binnacle.LaunchRequest{Repo: t.TempDir(), Editable: true}, ""},
		{"editable repository", operator, binnacle.LaunchRequest{Repo: "gh/o/r", Editable: true}, binnacle.CodeInvalid},
		{"banned", ann, binnacle.LaunchRequest{Repo: "gh/bad/r"}, binnacle.CodeForbidden},
		{"not allowed", ann, binnacle.LaunchRequest{Repo: "gist/u/0123456789abcdef0123"}, binnacle.CodeForbidden},
		{"path out", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Path: "lab/../../other"}, binnacle.CodeInvalid},
		{"path out escaped", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Path: "lab/%2e%2e/%2e%2e/other"}, binnacle.CodeInvalid},
		{"path with newline", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Path: "lab\nx"}, binnacle.CodeInvalid},
		{"env name", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Env: map[string]string{"A B": ""}}, binnacle.CodeInvalid},
		{"env token", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Env: map[string]string{"JUPYTER_TOKEN": "x"}}, binnacle.CodeInvalid},
		{"env size", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Env: map[string]string{"A": strings.Repeat("x", 40<<10)}}, binnacle.CodeInvalid},
		{"limits", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Limits: binnacle.Limits{Memory: -1}}, binnacle.CodeInvalid},
		{"class", ann, binnacle.LaunchRequest{Repo: "gh/o/r", Class: "large"}, binnacle.CodeInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := svc.Launch(t.Context(), tt.caller, tt.req)
			if binnacle.CodeOf(err) != tt.want {
				t.Fatal(err)
			}
			if err == nil {
				follow(t, svc, l.ID, 0)
			} else if e := binnacle.Public(err); e.Hint == "" {
				t.Errorf("%q has no hint", e.Message)
			}
		})
	}
}

// TestClasses: a launch may ask for a class that the operator offers, whose sessions
// are told apart, and is not joined with one of another class.
func TestClasses(t *testing.T) {
	b := newBench(t)
	defer b.close()
	b.cfg.Classes = []string{"gpu", "large"}
	svc, stop := b.serve()
	defer stop()
	gate := make(chan struct{})
	b.bld.build = (&busy{gate: gate}).build
	ids := map[string]string{} // by launch
	for _, class := range []string{"", "gpu", "gpu", "large"} {
		req := ask("main")
		req.Class = class
		ids[begin(t, svc, ann, req)] = class
	}
	if len(ids) != 3 {
		t.Errorf("launches: %v", ids)
	}
	close(gate)
	for id, class := range ids {
		if e := end(t, svc, id); e.Phase != binnacle.PhaseReady {
			t.Fatalf("%+v", e)
		}
		l, err := svc.Get(t.Context(), ann, id)
		if err != nil {
			t.Fatal(err)
		}
		list, err := b.spw.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if s.ID == l.Session.ID && s.Labels[session.LabelClass] != class {
				t.Errorf("a session of the class %q is labelled %v", class, s.Labels)
			}
		}
	}
	req := ask("main")
	req.Class = "huge"
	if _, err := svc.Launch(t.Context(), ann, req); binnacle.CodeOf(err) != binnacle.CodeInvalid || !strings.Contains(binnacle.Public(err).Hint, "gpu, large") {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	tests := map[string]struct {
		set  func(b *bench)
		ref  string
		want string
		in   string // of the error's message
	}{
		"ref": {func(*bench) {}, "missing", "end failed [not_found :0]", "no ref"},
		"fetch": {func(b *bench) {
			b.src.onFetch = func(context.Context) error { return binnacle.Errorf(binnacle.CodeUnavailable, "The forge is away.") }
		}, "main", "end failed [unavailable :0]", "forge"},
		"build": {func(b *bench) {
			b.bld.build = func(context.Context, image.Request, func(binnacle.Event)) error {
				return &binnacle.Error{Code: binnacle.CodeBuildFailed, Message: "no such package", File: "requirements.txt", Line: 3}
			}
		}, "main", "end failed [build_failed requirements.txt:3]", "package"},
		"panic of text": {func(b *bench) {
			b.bld.build = func(context.Context, image.Request, func(binnacle.Event)) error { return errors.New("secret /path") }
		}, "main", "end failed [internal :0]", "our side"},
		"silent build": {func(b *bench) {
			b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
				<-ctx.Done()
				return ctx.Err()
			}
		}, "main", "end failed [timeout :0]", "said nothing for 20 minutes"},
		"long build": {func(b *bench) {
			b.bld.build = func(ctx context.Context, _ image.Request, event func(binnacle.Event)) error {
				tick := time.NewTicker(time.Minute)
				defer tick.Stop()
				for {
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-tick.C:
						event(binnacle.Event{Kind: binnacle.EventLog, Message: "."})
					}
				}
			}
		}, "main", "end failed [timeout :0]", "longer than 60 minutes"},
		"session exits":  {func(b *bench) { b.spw.broken = true }, "main", "end failed [build_failed :0]", "start script ended with status 3"},
		"session silent": {func(b *bench) { b.spw.silent = true }, "main", "end failed [timeout :0]", "did not answer within 5 minutes"},
		"spawner": {func(b *bench) {
			b.spw.onStart = func(context.Context) error { return binnacle.Errorf(binnacle.CodeUnavailable, "The runtime is away.") }
		}, "main", "end failed [unavailable :0]", "runtime"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				tt.set(b)
				svc, stop := b.serve()
				defer stop()
				events := follow(t, svc, begin(t, svc, ann, ask(tt.ref)), 0)
				last := events[len(events)-1]
				if got := strings.TrimSpace(brief([]binnacle.Event{last})); got != tt.want || !strings.Contains(last.Error.Message, tt.in) || last.Error.ID == "" {
					t.Errorf("%s %+v", got, last.Error)
				}
				if strings.HasPrefix(name, "session") && !strings.Contains(brief(events), "log launching line two\n") {
					t.Error("the session's last words are missing:\n" + brief(events))
				}
				if n := b.spw.count(); n != 0 {
					t.Errorf("%d sessions are left", n)
				}
				synctest.Wait()
				if st := svc.Stats(); st.Launches != 0 || st.Building != 0 || st.Queued != 0 || st.Sessions != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestBuilderDiesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = func(context.Context, image.Request, func(binnacle.Event)) error {
			if b.bld.count() == 1 {
				return binnacle.Errorf(binnacle.CodeUnavailable, "The builder is away.")
			}
			return nil
		}
		svc, stop := b.serve()
		defer stop()
		if e := end(t, svc, begin(t, svc, ann, ask("main"))); e.Phase != binnacle.PhaseReady || b.bld.count() != 2 {
			t.Error(e, b.bld.count())
		}
	})
}

func TestCancelInEachPhase(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for phase, set := range map[binnacle.Phase]func(b *bench){
		binnacle.PhaseWaiting:   func(b *bench) { b.cfg.MaxSessions = 1 },
		binnacle.PhaseResolving: func(b *bench) { b.src.onResolve = hang },
		binnacle.PhaseFetching:  func(b *bench) { b.src.onFetch = hang },
		binnacle.PhaseBuilding: func(b *bench) {
			b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error { return hang(ctx) }
		},
		binnacle.PhaseLaunching: func(b *bench) { b.spw.silent = true },
	} {
		t.Run(string(phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				set(b)
				svc, stop := b.serve()
				defer stop()
				if phase == binnacle.PhaseWaiting {
					end(t, svc, begin(t, svc, ann, ask("first")))
				}
				id := begin(t, svc, ann, ask("main"))
				synctest.Wait()
				l, err := svc.Get(t.Context(), ann, id)
				if err != nil || l.Phase != phase {
					t.Fatal(l.Phase, err)
				}
				if err := svc.Cancel(t.Context(), launch.Caller{Owner: "bob"}, id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
					t.Error(err)
				}
				if err := svc.Cancel(t.Context(), ann, id); err != nil {
					t.Fatal(err)
				}
				e := end(t, svc, id)
				if e.Phase != binnacle.PhaseCanceled || e.Error.Code != binnacle.CodeCanceled {
					t.Errorf("%+v", e)
				}
				synctest.Wait()
				st := svc.Stats()
				want := 0
				if phase == binnacle.PhaseWaiting {
					want = 1
				}
				if st.Launches+st.Building+st.Queued != 0 || st.Sessions != want || b.spw.count() != want {
					t.Errorf("%+v, %d sessions", st, b.spw.count())
				}
				if entries, _ := os.ReadDir(b.cfg.Checkouts); len(entries) > 0 {
					t.Error(entries)
				}
				if err := svc.Cancel(t.Context(), ann, id); err != nil {
					t.Error("canceling again:", err)
				}
			})
		})
	}
}

func TestManyJoinOneBuild(t *testing.T) {
	callers := 500
	if testing.Short() {
		callers = 50
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = func(ctx context.Context, _ image.Request, event func(binnacle.Event)) error {
			for i := range 20 {
				event(binnacle.Event{Kind: binnacle.EventLog, Message: fmt.Sprint("line ", i)})
				<-time.After(time.Second)
			}
			return nil
		}
		svc, stop := b.serve()
		defer stop()
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				<-time.After(time.Duration(i) * 30 * time.Millisecond)
				id := begin(t, svc, launch.Caller{Owner: fmt.Sprint("p", i)}, ask("main"))
				if i%7 == 3 {
					<-time.After(time.Second)
					if err := svc.Cancel(context.Background(), launch.Caller{Trusted: true}, id); err != nil {
						t.Error(err)
					}
					end(t, svc, id)
					return
				}
				text := brief(follow(t, svc, id, 0))
				for n := range 20 {
					if strings.Count(text, fmt.Sprintf("log building line %d\n", n)) != 1 {
						t.Errorf("launch %d has no line %d:\n%s", i, n, text)
						return
					}
				}
				if strings.Count(text, "phase building\n") != 1 || !strings.HasSuffix(text, "phase launching\nend ready\n") {
					t.Errorf("launch %d:\n%s", i, text)
				}
			})
		}
		wg.Wait()
		if b.bld.count() != 1 || b.src.fetches != 1 {
			t.Errorf("%d builds, %d fetches", b.bld.count(), b.src.fetches)
		}
	})
}

func TestEqualImagesJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = func(context.Context, image.Request, func(binnacle.Event)) error {
			<-time.After(time.Minute)
			return nil
		}
		svc, stop := b.serve()
		defer stop()
		// Two repositories, one commit: the fake's name is that of the commit.
		one := begin(t, svc, ann, binnacle.LaunchRequest{Repo: "gh/o/one/main"})
		<-time.After(time.Second)
		two := begin(t, svc, ann, binnacle.LaunchRequest{Repo: "gh/o/two/main"})
		<-time.After(time.Second)
		if err := svc.Cancel(t.Context(), ann, one); err != nil {
			t.Fatal(err)
		}
		text := brief(follow(t, svc, two, 0))
		if b.bld.count() != 1 || strings.Count(text, "log building building img/c0ffee-main\n") != 1 || !strings.HasSuffix(text, "end ready\n") {
			t.Errorf("%d builds\n%s", b.bld.count(), text)
		}
		if e := end(t, svc, one); e.Phase != binnacle.PhaseCanceled {
			t.Error(e)
		}
	})
}

func TestSameWishSameLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.spw.silent = true
		svc, stop := b.serve()
		defer stop()
		one := begin(t, svc, ann, ask("main"))
		synctest.Wait()
		if two := begin(t, svc, ann, ask("main")); two != one {
			t.Error("reloading began a second launch")
		}
		if other := begin(t, svc, launch.Caller{Owner: "bob"}, ask("main")); other == one {
			t.Error("bob got ann's launch")
		}
		if other := begin(t, svc, ann, binnacle.LaunchRequest{Repo: "gh/o/r/main", Path: "x"}); other == one {
			t.Error("another path is another wish")
		}
	})
}

// TestAskedInterface is a link that opens what the repository does not imply: it
// gets an image of its own, others keep theirs.
func TestAskedInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		svc, stop := b.serve()
		defer stop()
		images := map[string]string{}
		for _, path := range []string{"vscode/?folder=/x", "desktop", "vscode", "lab/tree/vscode", ""} {
			req := ask("main")
			req.Path = path
			id := begin(t, svc, ann, req)
			follow(t, svc, id, 0)
			l, err := svc.Get(t.Context(), ann, id)
			if err != nil {
				t.Fatal(err)
			}
			images[path] = l.Image
		}
		want := map[string]string{
			"vscode/?folder=/x": "img/c0ffee-mainvscode", "vscode": "img/c0ffee-mainvscode", "desktop": "img/c0ffee-maindesktop",
			"lab/tree/vscode": "img/c0ffee-main", "": "img/c0ffee-main",
		}
		if diff := cmp.Diff(want, images); diff != "" {
			t.Error(diff)
		}
		if b.bld.count() != 3 {
			t.Errorf("%d builds, want 3", b.bld.count())
		}
	})
}
