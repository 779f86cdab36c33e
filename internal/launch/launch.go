package launch

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// Caller is who asks.
type Caller struct {
	// Owner is an opaque id of the person; empty owns nothing.
	Owner string
	// Trusted is the operator: may launch directories, sees and stops all.
	Trusted bool
	// Address is where the request came from, for limits.
	Address string
}

// may says whether the caller may act on what owner has.
func (c Caller) may(owner string) bool {
	return c.Trusted || c.Owner != "" && c.Owner == owner
}

// sees says whether the caller may watch and cancel a launch. One that was asked
// for by nobody in particular (a client without cookies) belongs to whoever
// knows its id.
func (c Caller) sees(rec store.Launch) bool {
	return c.may(rec.Owner) || rec.Owner == "" && !rec.Trusted
}

// key is who shares a turn in the queue with the caller.
func (c Caller) key() string {
	switch {
	case c.Owner != "":
		return "owner " + c.Owner
	case c.Trusted:
		return "operator"
	default:
		return "address " + network(c.Address)
	}
}

// Launch begins a launch and returns it at once. A person who asks again for
// what is already under way gets that launch. Returns invalid for a request
// that cannot be right, forbidden for what this hub does not launch, limited
// (see RetryAfter) when the person or the hub has too many, unavailable while
// the hub stops.
func (s *Service) Launch(ctx context.Context, caller Caller, req binnacle.LaunchRequest) (binnacle.Launch, error) {
	target, err := parse(req)
	if err != nil {
		return binnacle.Launch{}, err
	}
	if err := check(caller, target, req); err != nil {
		return binnacle.Launch{}, err
	}
	if err := s.checkClass(req.Class); err != nil {
		return binnacle.Launch{}, err
	}
	if err := s.gate.check(target.Spec); err != nil {
		return binnacle.Launch{}, err
	}
	now := time.Now().UTC()
	rec := store.Launch{
		Launch: binnacle.Launch{ID: newID(16), Spec: target.Spec, Created: now},
		Owner:  caller.Owner, Trusted: caller.Trusted, Request: req,
	}
	s.mine(&rec)
	enter(&rec, binnacle.PhaseWaiting, now)
	r := newRun(rec, 1, caller)
	same, err := s.begin(ctx, caller, r, now)
	if err != nil {
		return binnacle.Launch{}, err
	}
	if same != nil {
		s.mu.Lock()
		r := s.runs[same.ID]
		s.mu.Unlock()
		return s.view(*same, r), nil
	}
	s.log.InfoContext(ctx, "launch begins", "launch_id", r.id, "repo", rec.Spec.String(), "trusted", caller.Trusted)
	s.own(func(ctx context.Context) { s.drive(ctx, r) })
	return s.view(r.record(), r), nil
}

// begin writes the run's first event and gives it its place in the queue, or
// returns the launch that is under way for the same, or refuses.
func (s *Service) begin(ctx context.Context, caller Caller, r *run, now time.Time) (*store.Launch, error) {
	begin := binnacle.Event{Time: now, Kind: binnacle.EventPhase, Phase: binnacle.PhaseWaiting}
	if s.shared() {
		return s.admitShared(ctx, caller, r, begin)
	}
	// Writing comes before serving: the lock of the run is held until it is on
	// the disk, while others may already find it.
	same, err := s.admit(caller, r, now)
	if err != nil {
		return nil, err
	}
	if same != nil {
		rec := same.record()
		return &rec, nil
	}
	if _, err := s.write(ctx, []*run{r}, []binnacle.Event{begin}, func(*store.Launch) {}); err != nil {
		s.forget(r)
		return nil, err
	}
	return nil, s.enqueue(ctx, r)
}

// admit notes the run, or returns the one under way for the same wish, or
// refuses.
func (s *Service) admit(caller Caller, r *run, now time.Time) (*run, error) {
	waiting, _ := s.sessions.sizes()
	waitingBuilds, _ := s.builds.sizes()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, restarting()
	}
	if !caller.Trusted && caller.Owner != "" {
		for _, o := range s.runs {
			if !o.ending && o.caller.Owner == caller.Owner && !o.caller.Trusted && o.spec == r.spec && equal(o.request, r.request) {
				return o, nil
			}
		}
	}
	if !caller.Trusted {
		if s.cfg.MaxQueue > 0 && waiting+waitingBuilds >= s.cfg.MaxQueue {
			return nil, queueFull()
		}
		if after, ok := s.rates.take(caller.Address, now); !ok {
			return nil, tooMany(after)
		}
	}
	s.runs[r.id] = r
	return nil, nil
}

// equal says whether two requests ask for the same.
func equal(a, b binnacle.LaunchRequest) bool {
	return a.Repo == b.Repo && a.Ref == b.Ref && a.Subdir == b.Subdir && a.Path == b.Path && maps.Equal(a.Env, b.Env) && a.Limits == b.Limits && a.Class == b.Class &&
		a.Editable == b.Editable && a.BuildOnly == b.BuildOnly && a.Rebuild == b.Rebuild
}

func (s *Service) forget(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, r.id)
}

// drive takes a launch from its phase to its end.
func (s *Service) drive(root context.Context, r *run) {
	ctx, cancel := context.WithCancelCause(root)
	defer cancel(nil)
	r.mu.Lock()
	r.cancel = cancel
	if r.canceled != nil {
		cancel(r.canceled)
	}
	r.mu.Unlock()
	err := s.advance(ctx, r)
	if err != nil {
		// Whatever gave up because ctx ended, why it ended is the reason.
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
	}
	if errors.Is(err, errStopping) {
		return
	}
	if !errors.Is(err, errTaken) && s.conclude(context.WithoutCancel(ctx), r, err) {
		s.forget(r)
		return
	}
	s.letGo(context.WithoutCancel(ctx), r)
}

// advance returns nil once the launch is ready for its last event. It begins at
// the launch's phase, which after a restart is not the first. Builds belong to
// root: they outlive the launch that began them.
func (s *Service) advance(ctx context.Context, r *run) error {
	rec := r.record()
	if err := s.reserve(ctx, r); err != nil {
		return err
	}
	if rec.Revision == nil {
		if err := s.resolve(ctx, r); err != nil {
			return err
		}
		rec = r.record()
	}
	if rec.Phase != binnacle.PhaseLaunching {
		if err := s.prepare(ctx, r); err != nil {
			return err
		}
	}
	if rec.Request.BuildOnly {
		return nil
	}
	return s.start(ctx, r)
}

// enqueue takes a place in the queue for sessions, in the order of asking.
func (s *Service) enqueue(ctx context.Context, r *run) error {
	rec := r.record()
	if rec.Request.BuildOnly {
		return nil
	}
	// What had its slot before the restart has it after.
	t, err := s.sessions.join(ctx, r.id, asker{r.caller.key(), repoKey(rec.Spec), rec.Trusted}, rec.Phase != binnacle.PhaseWaiting)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slot = t
	return nil
}

// reserve waits for room for the session before anything else is done, so that
// nothing is built for a person who then has to wait.
func (s *Service) reserve(ctx context.Context, r *run) error {
	r.mu.Lock()
	t := r.slot
	r.mu.Unlock()
	if t == nil {
		return nil
	}
	err := s.sessions.wait(ctx, t, func(position int) { s.queued(ctx, binnacle.PhaseWaiting, position, r) })
	r.mu.Lock()
	r.position = 0
	r.mu.Unlock()
	return err
}

func repoKey(spec binnacle.Spec) string { return string(spec.Provider) + "/" + spec.Repo }

// step enters a phase, and is on the disk when it returns.
func (s *Service) step(ctx context.Context, r *run, phase binnacle.Phase, e binnacle.Event, change func(*store.Launch)) error {
	now := time.Now().UTC()
	was := r.record()
	e.Time, e.Kind, e.Phase = now, binnacle.EventPhase, phase
	if n := len(was.Phases); n > 0 && was.Phases[n-1].Millis == 0 {
		e.Millis = now.Sub(was.Phases[n-1].Start).Milliseconds()
	}
	var took time.Duration
	_, err := s.write(ctx, []*run{r}, []binnacle.Event{e}, func(rec *store.Launch) {
		took = enter(rec, phase, now)
		if change != nil {
			change(rec)
		}
	})
	if err != nil {
		return fmt.Errorf("enter %s: %w", phase, err)
	}
	s.deps.Observer.PhaseDone(was.Phase, "success", took, was.Spec.Provider)
	s.log.InfoContext(ctx, "phase", "launch_id", r.id, "phase", phase, "previous", was.Phase, "duration", took)
	return nil
}

// resolve finds out which commit is meant.
func (s *Service) resolve(ctx context.Context, r *run) error {
	if r.record().Phase != binnacle.PhaseResolving {
		if err := s.step(ctx, r, binnacle.PhaseResolving, binnacle.Event{}, nil); err != nil {
			return err
		}
	}
	rec := r.record()
	target, err := parse(rec.Request)
	if err != nil {
		return err
	}
	if rec.Spec.Provider == binnacle.Dir {
		// A relative path means what it meant when it was asked for.
		target.Spec = rec.Spec
	}
	rev, file, err := s.resolved.resolve(ctx, s.deps.Source, target, source.Policy{Local: rec.Trusted})
	if err != nil {
		return err
	}
	if err := s.gate.check(rev.Spec); err != nil {
		return err
	}
	_, err = s.write(ctx, []*run{r}, renamedBranch(rev), func(rec *store.Launch) {
		rec.Revision = &rev
		rec.Spec = rev.Spec
		rec.Path = landing(rec.Request.Path, target.URLPath, strings.TrimPrefix(file, rev.Spec.Subdir+"/"))
	})
	return err
}

// renamedBranch tells who follows an old link that it names a branch which is no more.
func renamedBranch(rev binnacle.Revision) []binnacle.Event {
	e := rev.Renamed()
	if e == nil {
		return nil
	}
	return []binnacle.Event{{Time: time.Now().UTC(), Kind: binnacle.EventNote, Phase: binnacle.PhaseResolving, Message: e.Message, Error: e}}
}

// landing is where in the session a person lands.
func landing(asked, urlPath, file string) string {
	switch {
	case asked != "":
		return strings.TrimLeft(asked, "/")
	case urlPath != "":
		return strings.TrimLeft(urlPath, "/")
	case file != "":
		return "lab/tree/" + (&url.URL{Path: strings.TrimLeft(file, "/")}).EscapedPath()
	default:
		return "lab"
	}
}

// chosen notes the image the launch goes on with.
func (s *Service) chosen(ctx context.Context, r *run, img image.Image) error {
	now := time.Now().UTC()
	if err := s.deps.Store.UseImage(ctx, img.Name, img.Environment, now); err != nil {
		return err
	}
	with := func(rec *store.Launch) {
		rec.Image, rec.Environment = img.Name, img.Environment
		if !rec.Request.BuildOnly {
			rec.SessionID = newSessionID(rec.Spec)
		}
	}
	if r.record().Request.BuildOnly {
		_, err := s.write(ctx, []*run{r}, nil, with)
		return err
	}
	return s.step(ctx, r, binnacle.PhaseLaunching, binnacle.Event{Image: img.Name}, with)
}

// conclude writes the end. It returns false when another replica has the launch.
func (s *Service) conclude(ctx context.Context, r *run, err error) bool {
	// Before the end can be seen: who has seen it and asks again wants a new one.
	s.mu.Lock()
	r.ending = true
	s.mu.Unlock()
	now := time.Now().UTC()
	phase, outcome := binnacle.PhaseReady, "success"
	var public *binnacle.Error
	if err != nil {
		phase, outcome = binnacle.PhaseFailed, string(binnacle.CodeOf(err))
		if binnacle.CodeOf(err) == binnacle.CodeCanceled {
			phase = binnacle.PhaseCanceled
		}
		public = binnacle.Public(err)
		public.ID = newID(8)
	}
	was := r.record()
	e := binnacle.Event{Time: now, Kind: binnacle.EventEnd, Phase: phase, Image: was.Image, Error: public}
	if n := len(was.Phases); n > 0 && was.Phases[n-1].Millis == 0 {
		e.Millis = now.Sub(was.Phases[n-1].Start).Milliseconds()
	}
	_, werr := s.write(ctx, []*run{r}, []binnacle.Event{e}, func(rec *store.Launch) {
		enter(rec, phase, now)
		rec.Ended, rec.Error = now, public
	})
	if errors.Is(werr, errTaken) {
		return false
	}
	r.mu.Lock()
	// When even this cannot be written the watchers go all the same; the next
	// hub finds the launch unfinished.
	r.ended = true
	r.signal()
	slot := r.slot
	if err == nil {
		r.slot, slot = nil, nil // the session's now
	}
	if r.grace != nil {
		r.grace.Stop()
	}
	r.mu.Unlock()
	s.sessions.leave(ctx, slot)
	s.deps.Observer.PhaseDone(was.Phase, outcome, time.Duration(e.Millis)*time.Millisecond, was.Spec.Provider)
	s.deps.Observer.LaunchDone(outcome, now.Sub(was.Created), was.Spec.Provider)
	attrs := []any{"launch_id", r.id, "repo", was.Spec.String(), "phase", was.Phase, "duration", now.Sub(was.Created), "session_id", was.SessionID}
	if werr != nil {
		s.log.ErrorContext(ctx, "end of launch not written", append(attrs, "error", werr)...)
	}
	switch {
	case err == nil:
		s.log.InfoContext(ctx, "launch ready", attrs...)
	case outcome == string(binnacle.CodeInternal):
		s.log.ErrorContext(ctx, "launch failed", append(attrs, "code", outcome, "err_id", public.ID, "error", err)...)
	default:
		s.log.InfoContext(ctx, "launch ended", append(attrs, "code", outcome, "err_id", public.ID, "error", err)...)
	}
	return true
}

// parse reads the request's address and applies its ref.
func parse(req binnacle.LaunchRequest) (source.Target, error) {
	t, err := source.Parse(req.Repo)
	if err != nil {
		return source.Target{}, err
	}
	if req.Ref != "" {
		if strings.ContainsFunc(req.Ref, control) || len(req.Ref) > 1024 || strings.HasPrefix(req.Ref, "-") {
			return source.Target{}, invalid("The ref is not one git could have.", "Write the name of a branch or tag, or a commit.")
		}
		t.Spec.Ref, t.RefAndPath = req.Ref, false
	}
	if req.Subdir != "" {
		t.Spec, err = t.Spec.In(req.Subdir)
	}
	return t, err
}

// check finds what cannot be right in the rest of the request.
func check(caller Caller, t source.Target, req binnacle.LaunchRequest) error {
	if t.Spec.Provider == binnacle.Dir && !caller.Trusted {
		return &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: "launch", Message: "A directory of this machine can only be launched from its command line.",
			Hint: "Give the address of a repository.",
		}
	}
	if req.Editable && t.Spec.Provider != binnacle.Dir {
		return invalid("Only a directory can be mounted editable.", "Leave editable out, or launch a directory.")
	}
	if strings.ContainsFunc(req.Path, control) || len(req.Path) > 2048 || strings.Contains(req.Path, "\\") {
		return invalid("The path to open is too long or holds control characters.", `Write it like "lab/tree/index.ipynb".`)
	}
	p, _, _ := strings.Cut(req.Path, "?")
	if un, err := url.PathUnescape(p); err != nil || slices.Contains(strings.Split(path.Clean("x/"+un)+"/"+un, "/"), "..") {
		return invalid("The path to open leaves the session.", `Write it like "lab/tree/index.ipynb", without "..".`)
	}
	size := 0
	for k, v := range req.Env {
		if !envName(k) || strings.ContainsRune(v, 0) {
			return invalid("This is not a name or value for an environment variable: "+fmt.Sprintf("%.80q", k)+".", "Names are letters, digits and _.")
		}
		if strings.HasPrefix(k, "JUPYTER_TOKEN") || strings.HasPrefix(k, "BINNACLE_") {
			return invalid("The environment variable "+k+" belongs to the hub.", "Choose another name.")
		}
		size += len(k) + len(v)
	}
	if size > 32<<10 || len(req.Env) > 200 {
		return invalid("There are too many environment variables.", "Put them into a file of the repository.")
	}
	if l := req.Limits; l.Memory < 0 || l.CPU < 0 || l.PIDs < 0 || l.Disk < 0 || math.IsNaN(l.CPU) {
		return invalid("A limit is negative.", "Leave it out to get the hub's.")
	}
	return nil
}

// checkClass refuses a class that the operator does not offer.
func (s *Service) checkClass(class string) error {
	switch {
	case class == "" || slices.Contains(s.cfg.Classes, class):
		return nil
	case len(s.cfg.Classes) == 0:
		return invalid("This hub has no classes of sessions.", "Leave class out.")
	default:
		return invalid("This hub has no class "+fmt.Sprintf("%.80q", class)+" of sessions.", "There are: "+strings.Join(s.cfg.Classes, ", ")+".")
	}
}

func envName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

func control(c rune) bool { return c < 0x20 || c == 0x7f || c == '\u2028' || c == '\u2029' }

func invalid(message, hint string) *binnacle.Error {
	return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "launch", Message: message, Hint: hint}
}

// newID is n random characters of a-z2-7.
func newID(n int) string {
	b := make([]byte, (n*5+7)/8)
	_, _ = rand.Read(b) // never fails
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))[:n]
}

// newSessionID is the repository's name, for people, and what makes it unique.
func newSessionID(spec binnacle.Spec) string {
	const most = 30
	repo := spec.Repo
	if u, err := url.Parse(repo); err == nil && spec.Provider == binnacle.Git && u.Path != "" {
		repo = u.Path
	}
	if spec.Provider == binnacle.Dir {
		repo = path.Base(repo)
	}
	var b strings.Builder
	for _, c := range strings.ToLower(strings.TrimSuffix(repo, ".git")) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' && b.Len() > 0 {
			b.WriteRune(c)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
	}
	slug := b.String()
	if len(slug) > most {
		slug = slug[:most]
	}
	if slug = strings.Trim(slug, "-"); slug == "" {
		slug = "session"
	}
	return slug + "-" + newID(8)
}
