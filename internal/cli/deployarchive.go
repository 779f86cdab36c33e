package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
)

// What the storage account of a deployment holds.
const (
	blobJournal = "journal"
	blobOutputs = "outputs.json"
	blobRuns    = "runs/" // then the time of its begin and the command
)

// archive keeps copies in the deployment's storage account, so that another machine
// can go on. No run fails because of it. Nil keeps none.
type archive struct {
	connect func(context.Context) (*azure.Archive, error)
	warn    func(text string)

	to        *azure.Archive
	gaveUp    bool
	resources []deploy.Resource
}

// open is the account, or nil: it is not there yet, or it does not let us in, which
// is said once.
func (a *archive) open(ctx context.Context) *azure.Archive {
	if a == nil || a.gaveUp {
		return nil
	}
	if a.to != nil {
		return a.to
	}
	to, err := a.connect(ctx)
	if err != nil {
		a.failed(err)
		return nil
	}
	a.to = to
	return to
}

func (a *archive) failed(err error) {
	if err == nil || binnacle.CodeOf(err) == binnacle.CodeNotFound || a.gaveUp {
		return
	}
	a.gaveUp = true
	e := binnacle.Public(err)
	a.warn(fmt.Sprintf("Warning: journal and log are not copied to the storage account; the run goes on. %s %s", e.Message, e.Hint))
}

// restore brings the journal of a run elsewhere into dir, where there is none.
func (a *archive) restore(ctx context.Context, dir string) error {
	path := filepath.Join(dir, blobJournal)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	to := a.open(ctx)
	if to == nil {
		return nil
	}
	b, err := to.Get(ctx, blobJournal)
	if err != nil {
		a.failed(err)
		return nil
	}
	const private, readable = 0o700, 0o600
	if err := os.MkdirAll(dir, private); err != nil {
		return fmt.Errorf("take over the journal: %w", err)
	}
	if err := os.WriteFile(path, b, readable); err != nil {
		return fmt.Errorf("take over the journal: %w", err)
	}
	a.warn("The journal is that of an earlier run elsewhere, from the storage account " + to.Account + ".")
	return nil
}

// copier is told of the journal's changes.
func (a *archive) copier(ctx context.Context) func([]byte) {
	if a == nil {
		return nil
	}
	return func(journal []byte) {
		if to := a.open(ctx); to != nil {
			a.failed(to.Put(ctx, blobJournal, journal))
		}
	}
}

// outputs are what the deployment has become.
func (a *archive) outputs(resources []deploy.Resource) {
	if a != nil {
		a.resources = resources
	}
}

// recorded does a run and keeps what it shows, and what came of it, in the archive.
func (d *deployment) recorded(ctx context.Context, at *place, what string, run func() error) error {
	a := at.archive
	if a == nil {
		return run()
	}
	began := time.Now().UTC()
	var shown recording
	out, messages := d.Out, d.Err
	d.Out, d.Err = io.MultiWriter(out, &shown), io.MultiWriter(messages, &shown)
	err := run()
	d.Out, d.Err = out, messages
	end := "\nThis worked.\n"
	if err != nil {
		e := binnacle.Public(err)
		end = fmt.Sprintf("\nThis failed: %s %s\n", clean(e.Message), clean(e.Hint))
	}
	// Also after Ctrl-C; not for long.
	const patience = 15 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	to := a.open(ctx)
	if to == nil {
		return err
	}
	a.failed(to.Put(ctx, blobRuns+began.Format("20060102T150405Z")+"-"+what+".log", append(shown.bytes(), end...)))
	if a.resources == nil {
		return err
	}
	b, encodeErr := json.MarshalIndent(map[string]any{"version": d.Version, "time": began, "resources": a.resources}, "", "  ")
	if encodeErr != nil {
		return errors.Join(err, encodeErr)
	}
	a.failed(to.Put(ctx, blobOutputs, b))
	return err
}

// recording is written to by whoever has something to show.
type recording struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *recording) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Bytes()
}
