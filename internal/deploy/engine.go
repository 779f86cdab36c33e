package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Engine brings a cloud to what is wanted.
type Engine struct {
	Cloud   Cloud
	Journal *Journal
	// Progress is told of each step; nil tells nobody.
	Progress func(Event)
	// Poll is the pause between two looks at a resource whose operation nobody
	// knows any more; 0 is [DefaultPoll].
	Poll time.Duration
}

// DefaultPoll is a compromise between news and throttling.
const DefaultPoll = 10 * time.Second

// Event is one thing that happened in a run.
type Event struct {
	Action   Action
	Resource Resource
	// Done is false when the step begins. Resumed says that an earlier run began it.
	Done, Resumed bool
	Took          time.Duration
}

// Result is what a run did.
type Result struct {
	// Written are the steps that changed something, in order.
	Written []Step `json:"written"`
	// Resources is everything of the deployment as it is now.
	Resources []Resource `json:"resources"`
}

// Check looks for what would go wrong; nothing is created.
func (e *Engine) Check(ctx context.Context) ([]Finding, error) { return e.Cloud.Check(ctx) }

// Up makes what is wanted be there: a plan, and [Engine.Apply] on it.
func (e *Engine) Up(ctx context.Context) (Result, error) {
	p, err := e.Plan(ctx)
	if err != nil {
		return Result{}, err
	}
	return e.Apply(ctx, p)
}

// Apply carries out a plan. It may be stopped at any moment; a new plan continues
// then. When everything is as wanted it writes nothing and asks nothing. A plan may
// be old: each resource is looked at again before something is written to it.
// Returns the error of the first step that failed, and conflict when somebody else
// has made in the meantime what was to be made.
func (e *Engine) Apply(ctx context.Context, p Plan) (res Result, err error) {
	for _, s := range p.Steps {
		if !s.Action.Writes() {
			if err := e.close(s.Resource); err != nil {
				return res, err
			}
			continue
		}
		written, err := e.apply(ctx, s)
		if err != nil {
			return res, err
		}
		if written {
			res.Written = append(res.Written, s)
		}
	}
	if err := e.closeGone(ctx); err != nil {
		return res, err
	}
	if p.Writes() == 0 { // the plan has just read everything
		for _, s := range p.Steps {
			res.Resources = append(res.Resources, s.Resource)
		}
		return res, nil
	}
	res.Resources, err = e.verify(ctx)
	return res, err
}

// close ends an operation that an earlier run did not live to see the end of.
func (e *Engine) close(r Resource) error {
	entry, open := e.Journal.Open(r)
	if !open {
		return nil
	}
	entry.Step = stepDone
	return e.Journal.write(entry)
}

// closeGone ends the operations of earlier runs on what is not there any more: a run
// that was killed while it deleted does not come by again.
func (e *Engine) closeGone(ctx context.Context) error {
	for _, r := range e.Journal.pending() {
		_, err := e.Cloud.Find(ctx, r)
		if binnacle.CodeOf(err) != binnacle.CodeNotFound {
			continue
		}
		if err := e.close(r); err != nil {
			return err
		}
	}
	return nil
}

// verify reads everything back: an operation that ended well is not yet a
// resource that is as wanted.
func (e *Engine) verify(ctx context.Context) ([]Resource, error) {
	p, err := e.compareAll(ctx)
	if err != nil {
		return nil, err
	}
	var rs []Resource
	var wrong []string
	for _, s := range p.Steps {
		if s.Action.Writes() {
			line := []string{s.Resource.Key() + ": " + string(s.Action)}
			for _, d := range s.Differences {
				line = append(line, fmt.Sprintf("%s is %q, not %q", d.Field, d.From, d.To))
			}
			wrong = append(wrong, strings.Join(line, ", "))
		}
		rs = append(rs, s.Resource)
	}
	if len(wrong) > 0 {
		return rs, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "deploy.verify", Message: "Not everything is as wanted:\n  " + strings.Join(wrong, "\n  "),
			Hint: "Run the same command again.",
		}
	}
	return rs, nil
}

// apply carries out one step; written says whether this run asked for anything.
func (e *Engine) apply(ctx context.Context, s Step) (written bool, err error) {
	start := e.Journal.now()
	_, resumed := e.Journal.Open(s.Resource)
	resumed = resumed || s.Action == ActionWait
	e.tell(Event{Action: s.Action, Resource: s.Resource, Resumed: resumed})
	begun := resumed || s.Resource.State == StateDeleting
	if begun {
		// What an earlier run began decides what is left to do.
		if err := e.settle(ctx, s.Resource); err != nil {
			return false, err
		}
	}
	if begun || s.Action != ActionDelete { // clouds look themselves before they delete
		again, problem, err := e.again(ctx, s)
		if problem != "" {
			err = binnacle.Errorf(binnacle.CodeConflict, "%s", problem)
		}
		if err != nil {
			return false, err
		}
		if !again.Action.Writes() {
			e.tell(Event{Action: s.Action, Resource: s.Resource, Done: true, Resumed: begun, Took: e.Journal.now().Sub(start)})
			return false, nil
		}
		s = again
	}
	if err := e.operate(ctx, s); err != nil {
		return true, err
	}
	e.tell(Event{Action: s.Action, Resource: s.Resource, Done: true, Resumed: resumed, Took: e.Journal.now().Sub(start)})
	return true, nil
}

// again decides anew, by how the resource is now.
func (e *Engine) again(ctx context.Context, s Step) (Step, string, error) {
	if s.Action != ActionDelete {
		return e.compare(ctx, s.Resource)
	}
	_, err := e.Cloud.Find(ctx, s.Resource)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		s.Action = ActionKeep
		return s, "", nil
	}
	return s, "", err
}

// operate begins an operation, notes how to wait for it, and waits.
func (e *Engine) operate(ctx context.Context, s Step) error {
	r := s.Resource
	entry := Entry{Step: stepIntent, Action: s.Action, Kind: r.Kind, Name: r.Name}
	if err := e.Journal.write(entry); err != nil {
		return err
	}
	token, err := e.Cloud.Begin(ctx, s.Action, r)
	if err != nil {
		return e.failed(ctx, entry, err)
	}
	if token != "" {
		entry.Step, entry.Token = stepWait, token
		if err := e.Journal.write(entry); err != nil {
			return err
		}
		if err := e.Cloud.Wait(ctx, r, token); err != nil && binnacle.CodeOf(err) != binnacle.CodeNotFound {
			return e.failed(ctx, entry, err)
		}
	}
	return e.end(ctx, entry, r, s.Action == ActionDelete)
}

// settle waits for the operation of an earlier run: with its token, or by
// looking, when the token was never written down or is forgotten.
func (e *Engine) settle(ctx context.Context, r Resource) error {
	if entry, known := e.Journal.Open(r); known && entry.Token != "" {
		// Its error is not ours: the state decides whether it is asked for again.
		if err := e.Cloud.Wait(ctx, r, entry.Token); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if err := e.quiet(ctx, r); err != nil {
		return err
	}
	return e.close(r)
}

// quiet waits until no operation on a resource is under way.
func (e *Engine) quiet(ctx context.Context, r Resource) error {
	poll := e.Poll
	if poll <= 0 {
		poll = DefaultPoll
	}
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		have, err := e.Cloud.Find(ctx, r)
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return nil
		}
		if err != nil || (have.State != StateWorking && have.State != StateDeleting) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// end reads the resource back and closes the operation.
func (e *Engine) end(ctx context.Context, entry Entry, r Resource, gone bool) error {
	if err := e.quiet(ctx, r); err != nil {
		return e.failed(ctx, entry, err)
	}
	have, err := e.Cloud.Find(ctx, r)
	switch {
	case gone && binnacle.CodeOf(err) == binnacle.CodeNotFound:
	case err != nil:
		return e.failed(ctx, entry, err)
	case gone:
		return e.failed(ctx, entry, binnacle.Errorf(binnacle.CodeUnavailable, "%s %s is still there after it was deleted.", r.Kind, r.Name))
	case have.State == StateFailed:
		return e.failed(ctx, entry, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "deploy.apply", Message: fmt.Sprintf("The %s %s could not be created: %s", r.Kind, r.Name, have.Reason),
			Hint: "Mend the cause and run the same command again: it continues here.",
		})
	}
	entry.Step = stepDone
	return e.Journal.write(entry)
}

// failed closes the operation, unless we were only told to stop: then it goes on
// without us and the next run waits for it.
func (e *Engine) failed(ctx context.Context, entry Entry, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	entry.Step, entry.Error = stepFailed, binnacle.Public(cause).Message
	if err := e.Journal.write(entry); err != nil {
		return err
	}
	return cause
}

func (e *Engine) tell(event Event) {
	if e.Progress != nil {
		e.Progress(event)
	}
}
