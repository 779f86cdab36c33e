package deploy

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
)

// The steps of an operation in the journal.
const (
	stepIntent = "intent" // about to be asked for
	stepWait   = "wait"   // asked for; the token says how to wait
	stepDone   = "done"
	stepFailed = "failed"
)

// Entry is one line of the journal. It holds no secrets.
type Entry struct {
	Time   time.Time `json:"time"`
	Step   string    `json:"step"`
	Action Action    `json:"action"`
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
	Token  string    `json:"token,omitempty"`
	Error  string    `json:"error,omitempty"`
}

func (e Entry) key() string { return e.Kind + "/" + e.Name }

// Journal is what was begun, on disk before it is waited for. While it is open
// no other process can open it; the lock ends with the process, so that it
// can't stay behind.
type Journal struct {
	// Copied is given the whole journal after each change, when it is on disk; nil
	// keeps it on this disk alone.
	Copied func(journal []byte)

	file *os.File
	lock *os.File
	now  func() time.Time
	open map[string]Entry // operations that have not ended, by key
}

// OpenJournal opens the journal in dir, creating it, and reads what earlier runs
// left. now tells the time. Returns conflict when another process has it open.
func OpenJournal(dir string, now func() time.Time) (*Journal, error) {
	const private = 0o700
	if err := os.MkdirAll(dir, private); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	lock, err := takeLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	j := &Journal{lock: lock, now: now, open: map[string]Entry{}}
	const readable = 0o600
	j.file, err = os.OpenFile(filepath.Join(dir, "journal"), os.O_RDWR|os.O_CREATE, readable)
	if err == nil {
		err = j.read()
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), j.Close())
	}
	return j, nil
}

// takeLock holds the lock of this process, and says in the file whose it is.
func takeLock(path string) (*os.File, error) {
	const readable = 0o600
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, readable)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b, _ := io.ReadAll(f)
		return nil, errors.Join(&binnacle.Error{
			Code: binnacle.CodeConflict, Op: "deploy.lock",
			Message: strings.TrimSpace("Another process is working on this deployment: " + strings.TrimSpace(string(b))),
			Hint:    "Wait until it has ended. The lock ends with that process.", Err: err,
		}, f.Close())
	}
	host, _ := os.Hostname()
	err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("process %d on %s\n", os.Getpid(), host)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// read replays the file. A last line that a crash cut short is taken away;
// anything else that can't be read is an error, because operations could be
// forgotten.
func (j *Journal) read() error {
	r := bufio.NewReader(j.file)
	var good int64
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return &binnacle.Error{
				Code: binnacle.CodeInternal, Op: "deploy.journal", Message: fmt.Sprintf("Line %d of the journal %s is damaged.", n, j.file.Name()),
				Hint: "Move the file away; the next run looks at what is there instead.", Err: err,
			}
		}
		j.apply(e)
		good += int64(len(line))
	}
	if err := j.file.Truncate(good); err != nil {
		return err
	}
	_, err := j.file.Seek(good, io.SeekStart)
	return err
}

func (j *Journal) apply(e Entry) {
	switch e.Step {
	case stepDone, stepFailed:
		delete(j.open, e.key())
	default:
		j.open[e.key()] = e
	}
}

// write appends an entry and returns when it is on disk.
func (j *Journal) write(e Entry) error {
	e.Time = j.now().UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if _, err := j.file.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.apply(e)
	if j.Copied == nil {
		return nil
	}
	whole, err := os.ReadFile(j.file.Name())
	if err != nil {
		return fmt.Errorf("copy journal: %w", err)
	}
	j.Copied(whole)
	return nil
}

// Open is the operation on a resource that has not ended.
func (j *Journal) Open(r Resource) (Entry, bool) {
	e, ok := j.open[r.Key()]
	return e, ok
}

// pending are the resources with operations that have not ended, in the order of
// their keys.
func (j *Journal) pending() []Resource {
	var out []Resource
	for _, key := range slices.Sorted(maps.Keys(j.open)) {
		out = append(out, Resource{Kind: j.open[key].Kind, Name: j.open[key].Name})
	}
	return out
}

// Close lets other processes open the journal.
func (j *Journal) Close() error {
	var errs []error
	for _, f := range []*os.File{j.file, j.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// syncDir makes the names in a directory survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
