// Package watch lets a hub follow the repository that describes it: a new commit
// of its branch is deployed and verified; one with which the hub does not work is
// not tried again.
//
// Nobody has to reach the hub's cloud from outside for that: whoever watches needs
// only to read the repository.
package watch

import (
	"bytes"
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
	"time"

	"github.com/binnacle-hub/binnacle"
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

// Apply deploys a file and verifies the hub, or leaves the hub as it was. Errors
// with the code invalid are the file's own.
type Apply func(ctx context.Context, file []byte) error

// State is what is known of commits. It is kept in a file.
type State struct {
	// Applied is the commit that runs, and Sum the hash of its file.
	Applied string `json:"applied,omitempty"`
	Sum     string `json:"sum,omitempty"`
	// Quarantined is a commit with which the hub did not work, and Reason why.
	Quarantined string    `json:"quarantined,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	// Trying is a commit that failed Failures times for a reason that may pass.
	Trying   string `json:"trying,omitempty"`
	Failures int    `json:"failures,omitempty"`
}

// Watcher follows a repository.
type Watcher struct {
	repo  Repository
	apply Apply
	path  string
	now   func() time.Time
	log   *slog.Logger
}

// New makes a Watcher whose state is in the file at path.
func New(repo Repository, apply Apply, path string, now func() time.Time, log *slog.Logger) *Watcher {
	return &Watcher{repo: repo, apply: apply, path: path, now: now, log: log}
}

// Run looks every interval, until ctx ends. What goes wrong is logged; the next
// look may be luckier.
func (w *Watcher) Run(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if _, err := w.Once(ctx); err != nil && ctx.Err() == nil {
			w.log.ErrorContext(ctx, "not deployed", slog.Any("error", err))
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
	s, err := w.State()
	if err != nil {
		return false, err
	}
	head, err := w.repo.Head(ctx)
	if err != nil {
		return false, err
	}
	switch head {
	case s.Applied:
		return false, nil
	case s.Quarantined:
		return false, quarantined(s)
	}
	file, err := w.repo.File(ctx, head)
	if err != nil {
		return false, w.failed(ctx, s, head, err)
	}
	sum := sha256.Sum256(file)
	hash := hex.EncodeToString(sum[:])
	if hash == s.Sum {
		w.log.InfoContext(ctx, "nothing of the deployment changed", slog.String("commit", head))
		return false, w.save(State{Applied: head, Sum: hash})
	}
	w.log.InfoContext(ctx, "deploying", slog.String("commit", head))
	if err := w.apply(ctx, file); err != nil {
		return false, w.failed(ctx, s, head, err)
	}
	w.log.InfoContext(ctx, "deployed and verified", slog.String("commit", head))
	return true, w.save(State{Applied: head, Sum: hash})
}

// failed keeps a commit from being tried for ever.
func (w *Watcher) failed(ctx context.Context, s State, commit string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // nobody knows whether it would have worked
	}
	if s.Trying != commit {
		s.Trying, s.Failures = commit, 0
	}
	if s.Failures++; s.Failures < Tries && binnacle.CodeOf(err) != binnacle.CodeInvalid {
		return errors.Join(err, w.save(s))
	}
	s.Trying, s.Failures = "", 0
	s.Quarantined, s.Reason, s.Since = commit, binnacle.Public(err).Message, w.now().UTC()
	return errors.Join(quarantined(s), err, w.save(s))
}

func quarantined(s State) error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "watch.quarantine", Message: fmt.Sprintf("The commit %.12s is not tried again: %s", s.Quarantined, s.Reason),
		Hint: "Push a commit that mends it. The hub runs as before.",
	}
}

// State reads what is known; nothing at first.
func (w *Watcher) State() (State, error) {
	b, err := os.ReadFile(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read what was deployed: %w", err)
	}
	var s State
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return State{}, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "watch.state", Message: "What was deployed can't be read from " + w.path + ".",
			Hint: "Remove the file: the repository's commit is then deployed once more, which changes nothing where nothing is to change.", Err: err,
		}
	}
	return s, nil
}

// save replaces the file: half a state is never read.
func (w *Watcher) save(s State) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	const private = 0o700
	if err := os.MkdirAll(filepath.Dir(w.path), private); err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	part := w.path + ".part"
	if err := os.WriteFile(part, b, 0o600); err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	if err := os.Rename(part, w.path); err != nil {
		return fmt.Errorf("keep what was deployed: %w", err)
	}
	return nil
}
