// Package watch lets a hub follow the repository that describes it: a new commit
// of its branch is deployed and verified; one with which the hub does not work is
// not tried again.
//
// Nobody has to reach the hub's cloud from outside for that: whoever watches needs
// only to read the repository.
package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/forge"
)

// Tries is how often a commit is tried whose failure may not be its own, such as
// a cloud that does not answer.
const Tries = 3

// Repository has the deployment's file.
type Repository interface {
	// Head is the commit that is to run.
	Head(ctx context.Context) (commit string, err error)
	// File is the deployment's file in it. Returns invalid when it is not there.
	File(ctx context.Context, commit string) ([]byte, error)
}

// Hub is what is deployed.
type Hub interface {
	// Deploy brings the hub to what the file says and verifies it, or leaves it as
	// it was; what the file says and only a person can do is returned in words.
	// Errors with the code invalid are the file's own, with conflict that somebody
	// else works on the hub.
	Deploy(ctx context.Context, file []byte, t *Try) (waits []string, err error)
	// Return goes back to a revision and waits until it runs.
	Return(ctx context.Context, revision int) error
}

// Store keeps what is known of commits.
type Store interface {
	// Load is what Save was given last; nothing at first.
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, b []byte) error
}

// State is what is known of commits.
type State struct {
	// Applied is the commit that runs, since when, the hash of its file, and the
	// version of the program that deployed it.
	Applied string    `json:"applied,omitempty"`
	When    time.Time `json:"when,omitzero"`
	Sum     string    `json:"sum,omitempty"`
	Version string    `json:"version,omitempty"`
	// Waits are what of Applied a person has to do.
	Waits []string `json:"waits,omitempty"`
	// Quarantined is a commit with which the hub did not work, and Reason why.
	Quarantined string    `json:"quarantined,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	// Back is the revision that Quarantined is being taken back to; 0 when that is
	// done.
	Back int `json:"back,omitempty"`
	// Trying is a commit that is being deployed, from the revision From, or that
	// failed Failures times for a reason that may pass.
	Trying   string `json:"trying,omitempty"`
	From     int    `json:"from,omitempty"`
	Failures int    `json:"failures,omitempty"`
	// Told is the verdict that the forge was told last.
	Told string `json:"told,omitempty"`
}

// Options are what a [Watcher] is made from.
type Options struct {
	Repository Repository
	Hub        Hub
	Store      Store
	// Version of the program: a newer one deploys again what an older one did.
	Version string
	// Tell writes a verdict to the forge; nil tells nobody.
	Tell func(ctx context.Context, commit string, s forge.State, text string) error
	Now  func() time.Time
	Log  *slog.Logger
}

// Watcher follows a repository.
type Watcher struct{ o Options }

// New makes a Watcher.
func New(o Options) *Watcher { return &Watcher{o} }

// Run looks every interval, until ctx ends. What goes wrong is logged; the next
// look may be luckier.
func (w *Watcher) Run(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if _, err := w.Once(ctx); err != nil && ctx.Err() == nil {
			w.o.Log.ErrorContext(ctx, "not deployed", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Once looks, deploys what is new, and says whether it did. It returns why the
// hub does not run the repository's commit, if it does not.
func (w *Watcher) Once(ctx context.Context) (changed bool, err error) {
	head, err := w.o.Repository.Head(ctx)
	if err != nil {
		return false, err
	}
	return w.take(ctx, head, w.o.Repository.File)
}

// Take deploys a commit whose file is known, as Once does.
func (w *Watcher) Take(ctx context.Context, commit string, file []byte) (changed bool, err error) {
	return w.take(ctx, commit, func(context.Context, string) ([]byte, error) { return file, nil })
}

func (w *Watcher) take(ctx context.Context, head string, read func(context.Context, string) ([]byte, error)) (changed bool, err error) {
	s, err := w.State(ctx)
	if err != nil {
		return false, err
	}
	if s.Back != 0 { // an earlier process was ended while it went back
		w.o.Log.InfoContext(ctx, "going back", slog.Int("revision", s.Back))
		if err := w.o.Hub.Return(ctx, s.Back); err != nil {
			return false, err
		}
		s.Back = 0
		if err := w.save(ctx, s); err != nil {
			return false, err
		}
	}
	defer func() { w.tell(ctx) }()
	switch {
	case head == s.Applied && s.Version == w.o.Version:
		return false, nil
	case head == s.Quarantined:
		return false, quarantined(s)
	}
	file, err := read(ctx, head)
	if err != nil {
		return false, w.failed(ctx, &s, head, err)
	}
	sum := sha256.Sum256(file)
	hash := hex.EncodeToString(sum[:])
	if hash == s.Sum && s.Version == w.o.Version {
		w.o.Log.InfoContext(ctx, "nothing of the deployment changed", slog.String("commit", head))
		return false, w.save(ctx, State{Applied: head, When: w.now(), Sum: hash, Version: s.Version, Waits: s.Waits, Told: s.Told})
	}
	w.o.Log.InfoContext(ctx, "deploying", slog.String("commit", head))
	if s.Trying != head {
		w.say(ctx, head, forge.Pending, "It is being deployed.")
	}
	waits, err := w.o.Hub.Deploy(ctx, file, w.try(&s, head))
	if err != nil {
		return false, w.failed(ctx, &s, head, err)
	}
	w.o.Log.InfoContext(ctx, "deployed and verified", slog.String("commit", head))
	return true, w.save(ctx, State{Applied: head, When: w.now(), Sum: hash, Version: w.o.Version, Waits: waits, Told: s.Told})
}

func (w *Watcher) now() time.Time { return w.o.Now().UTC().Truncate(time.Second) }

// Try is one try to deploy a commit. What it is told is known to the next
// process too: this one may be replaced by what it deploys. Nil notes nothing.
type Try struct {
	// From is the revision that ran when an earlier process began with the same
	// commit; 0 when none did.
	From int

	w      *Watcher
	s      *State
	commit string
}

func (w *Watcher) try(s *State, commit string) *Try {
	t := &Try{w: w, s: s, commit: commit}
	if s.Trying == commit {
		t.From = s.From
	}
	return t
}

// Begin notes the revision to go back to, before anything is changed.
func (t *Try) Begin(ctx context.Context, from int) error {
	if t == nil {
		return nil
	}
	if t.s.Trying != t.commit {
		t.s.Trying, t.s.Failures = t.commit, 0
	}
	t.s.From = from
	return t.w.save(ctx, *t.s)
}

// Back notes that the commit is taken back to a revision, before that is done.
func (t *Try) Back(ctx context.Context, cause error, to int) error {
	if t == nil {
		return nil
	}
	t.w.quarantine(t.s, t.commit, cause)
	t.s.Reason, t.s.Back = "It was taken back. "+t.s.Reason, to
	return t.w.save(ctx, *t.s)
}

// Returned notes that the commit was taken back.
func (t *Try) Returned(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.s.Back = 0
	return t.w.save(ctx, *t.s)
}

func (w *Watcher) quarantine(s *State, commit string, cause error) {
	s.Trying, s.From, s.Failures = "", 0, 0
	s.Quarantined, s.Reason, s.Since = commit, binnacle.Public(cause).Message, w.now()
}

// failed keeps a commit from being tried for ever.
func (w *Watcher) failed(ctx context.Context, s *State, commit string, err error) error {
	switch code := binnacle.CodeOf(err); {
	case s.Quarantined == commit:
		return errors.Join(quarantined(*s), err)
	case ctx.Err() != nil:
		return context.Cause(ctx) // nobody knows whether it would have worked
	case code == binnacle.CodeConflict:
		return err // somebody else works on it, which says nothing of the commit
	case code != binnacle.CodeInvalid:
		if s.Trying != commit {
			s.Trying, s.From, s.Failures = commit, 0, 0
		}
		if s.Failures++; s.Failures < Tries {
			return errors.Join(err, w.save(ctx, *s))
		}
	}
	w.quarantine(s, commit, err)
	return errors.Join(quarantined(*s), err, w.save(ctx, *s))
}

func quarantined(s State) error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "watch.quarantine", Message: fmt.Sprintf("The commit %.12s is not tried again: %s", s.Quarantined, s.Reason),
		Hint: "Push a commit that mends it. The hub runs as before.",
	}
}

// tell writes the verdict to the forge, unless that knows it. One that does not
// answer is told at the next look.
func (w *Watcher) tell(ctx context.Context) {
	if w.o.Tell == nil || ctx.Err() != nil {
		return
	}
	s, err := w.State(ctx)
	if err != nil {
		return // it was said
	}
	commit, state, text := s.verdict()
	told := commit + " " + string(state) + " " + text
	if commit == "" || told == s.Told || !w.say(ctx, commit, state, text) {
		return
	}
	s.Told = told
	if err := w.save(ctx, s); err != nil {
		w.o.Log.WarnContext(ctx, "what the forge was told is not noted", slog.Any("error", err))
	}
}

// verdict is the newest thing that is known.
func (s State) verdict() (commit string, state forge.State, text string) {
	switch {
	case s.Trying != "":
		return s.Trying, forge.Trouble, fmt.Sprintf("Try %d of %d failed; it is tried again.", s.Failures, Tries)
	case s.Quarantined != "":
		return s.Quarantined, forge.Failure, "Not deployed: " + s.Reason
	case len(s.Waits) > 0:
		return s.Applied, forge.Success, "The hub runs it. A person has to run up for: " + strings.Join(s.Waits, ", ")
	}
	return s.Applied, forge.Success, "The hub runs it."
}

// say tells the forge, if there is one; false says that it did not listen.
func (w *Watcher) say(ctx context.Context, commit string, s forge.State, text string) bool {
	if w.o.Tell == nil {
		return false
	}
	if err := w.o.Tell(ctx, commit, s, text); err != nil {
		w.o.Log.WarnContext(ctx, "the forge is not told", slog.String("commit", commit), slog.Any("error", err))
		return false
	}
	return true
}

// State reads what is known; nothing at first.
func (w *Watcher) State(ctx context.Context) (State, error) {
	b, err := w.o.Store.Load(ctx)
	if err != nil {
		return State{}, err
	}
	return Read(b)
}

// Read is a state as a [Store] has it.
func Read(b []byte) (State, error) {
	var s State
	if len(b) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "watch.state", Message: "What is known of commits can't be read: " + err.Error() + ".",
			Hint: "Remove it (watch.json of --state, the ConfigMap NAME-commits, or commits.json on the machine): the repository's commit is then deployed once more, which changes nothing where nothing is to change.", Err: err,
		}
	}
	return s, nil
}

// save outlasts the end of ctx: what was done must be known.
func (w *Watcher) save(ctx context.Context, s State) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	return w.o.Store.Save(ctx, b)
}

// File is a [Store] in a file.
type File string

// Load reads it.
func (f File) Load(context.Context) ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was deployed: %w", err)
	}
	return b, nil
}

// Save replaces it: half a state is never read.
func (f File) Save(_ context.Context, b []byte) error {
	const private = 0o700
	if err := os.MkdirAll(filepath.Dir(string(f)), private); err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	part := string(f) + ".part"
	if err := os.WriteFile(part, b, 0o600); err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	if err := os.Rename(part, string(f)); err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	return nil
}
