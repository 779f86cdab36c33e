package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

// History has the revisions, oldest first. Returns not_found when there is none.
func (c *Cloud) History(ctx context.Context) ([]deploy.Revision, error) {
	out, err := c.machine.run(ctx, nil, "history")
	if err != nil {
		return nil, err
	}
	var list []deploy.Revision
	for _, line := range read(out)["revision"] {
		const fields = 4
		part := strings.SplitN(line, " ", fields)
		if len(part) != fields {
			return nil, binnacle.Errorf(binnacle.CodeInternal, "The history of %s can't be read.", c.o.Config.Name)
		}
		number, err := strconv.Atoi(part[0])
		seconds, err2 := strconv.ParseInt(part[1], 10, 64)
		if err != nil || err2 != nil {
			return nil, binnacle.Errorf(binnacle.CodeInternal, "The history of %s can't be read.", c.o.Config.Name)
		}
		r := deploy.Revision{Number: number, Updated: time.Unix(seconds, 0).UTC(), Status: part[2], Version: part[3]}
		r.Current = r.Status == "current" || r.Status == "deployed"
		r.Worked = r.Status == "deployed" || r.Status == "superseded"
		if r.Status == "current" {
			r.Status, r.Note = "failed", "It is in use, and was never seen to work."
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, &binnacle.Error{Code: binnacle.CodeNotFound, Op: "host.history", Message: fmt.Sprintf("The hub %s is not installed on %s.", c.o.Config.Name, c.machine.where), Hint: "binnacle deploy up installs it."}
	}
	return list, nil
}

// Rollback makes a revision the one in use again, program and configuration.
// Where a newer program has brought the database to a form that the older one
// can't read, the copy from before comes back, and the second return says so.
func (c *Cloud) Rollback(ctx context.Context, revision int) (note string, err error) {
	if err := c.Lock(ctx); err != nil {
		return "", err
	}
	out, err := c.do(ctx, nil, "rollback", strconv.Itoa(revision))
	if later := read(out).one("database"); later != "" {
		note = fmt.Sprintf("The database is the one from before revision %s, whose form the older program can't read; the newer one is kept in %s/releases/%s/after.", later, base(c.o.Config.Name), later)
	}
	return note, err
}

// Await waits until the hub answers.
func (c *Cloud) Await(ctx context.Context) error {
	f, err := c.look(ctx)
	if err != nil || f.has("asleep") {
		return err
	}
	return c.Wait(ctx, deploy.Resource{}, tokenStart)
}

// Restart starts the hub anew; sessions go on.
func (c *Cloud) Restart(ctx context.Context) error { return c.verb(ctx, "restart") }

// Sleep stops the hub until Wake, also when the machine is started anew.
// Sessions go on until they end.
func (c *Cloud) Sleep(ctx context.Context) error { return c.verb(ctx, "sleep") }

// Wake starts what Sleep stopped.
func (c *Cloud) Wake(ctx context.Context) error { return c.verb(ctx, "wake") }

// verb runs a verb on what must be there.
func (c *Cloud) verb(ctx context.Context, verb string) error {
	if err := c.Lock(ctx); err != nil {
		return err
	}
	f, err := c.look(ctx)
	if err != nil {
		return err
	}
	if f.one("unit") != "ours" {
		return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "host." + verb, Message: fmt.Sprintf("The hub %s is not installed on %s.", c.o.Config.Name, c.machine.where), Hint: "binnacle deploy up installs it."}
	}
	_, err = c.do(ctx, nil, verb)
	return err
}

// LogOptions say which part of the log.
type LogOptions struct {
	// Watch is the log of who follows the repository.
	Watch  bool
	Follow bool
	// Previous is what the run before the present one said.
	Previous bool
	// Since is how far back; 0 is everything.
	Since time.Duration
	// Tail is how many lines; 0 is all.
	Tail int64
}

// Logs writes what the hub says, or who follows the repository.
func (c *Cloud) Logs(ctx context.Context, o LogOptions, w io.Writer) error {
	word := map[bool]string{true: yes, false: no}
	since := int64(0)
	if o.Since > 0 {
		since = max(1, int64(o.Since/time.Second))
	}
	return c.machine.stream(ctx, nil, w, "logs", word[o.Follow], word[o.Previous], strconv.FormatInt(since, 10), strconv.FormatInt(o.Tail, 10), word[o.Watch])
}

// BuildLogs writes what builds of the hub said, as its program does with these
// flags, which follows as long as somebody holds its input open.
func (c *Cloud) BuildLogs(ctx context.Context, flags []string, follow bool, w io.Writer) error {
	if !follow {
		return c.machine.stream(ctx, nil, w, "builds", flags...)
	}
	// A pipe of the system: the process has it alone, and is not waited for because of it.
	in, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("follow builds: %w", err)
	}
	err = c.machine.stream(ctx, in, w, "builds", flags...)
	return errors.Join(err, in.Close(), hold.Close())
}

// Save writes what of the hub must survive, as a tar; it goes on meanwhile.
func (c *Cloud) Save(ctx context.Context, secrets bool, w io.Writer) error {
	var args []string
	if !secrets {
		args = append(args, "--without-secrets")
	}
	return c.machine.stream(ctx, nil, w, "save", args...)
}

// Load replaces it by what Save wrote: the hub is stopped, and started anew
// also when that fails, with what it had.
func (c *Cloud) Load(ctx context.Context, r io.Reader) error {
	if err := c.Lock(ctx); err != nil {
		return err
	}
	_, err := c.do(ctx, r, "load")
	return err
}

// Settings is the hub's configuration as it is on the machine.
func (c *Cloud) Settings(ctx context.Context) ([]byte, error) {
	f, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	return []byte(f.text("config")), nil
}
