package launch

import (
	"context"
	"errors"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// errNoImage is why a session does not start whose image somebody removed after
// the launch had found it.
var errNoImage = errors.New("the image is not there")

// prepare finds or builds the launch's image and notes it.
func (s *Service) prepare(ctx context.Context, r *run) error {
	img, err := s.image(ctx, r)
	if err != nil {
		return err
	}
	return s.chosen(ctx, r, img)
}

// start starts the session. An image that is gone by then is built again, once: the
// person asked for a session, and did not remove it.
func (s *Service) start(ctx context.Context, r *run) error {
	err := s.startSession(ctx, r)
	if !errors.Is(err, errNoImage) || r.record().Remade {
		return err
	}
	gone := r.record().Image
	s.log.WarnContext(ctx, "image was removed while it was being launched, and is built again", "launch_id", r.id, "image", gone, "error", err)
	err = s.say(ctx, r, binnacle.Event{
		Kind: binnacle.EventLog, Message: "The image " + gone + " was removed before its session could start. " +
			"It is built again, so this launch takes longer; steps that are in the cache are not repeated.",
	})
	if err != nil {
		return err
	}
	err = s.step(ctx, r, binnacle.PhaseFetching, binnacle.Event{}, func(rec *store.Launch) {
		rec.Remade, rec.Image, rec.SessionID = true, "", ""
	})
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, r); err != nil {
		return err
	}
	return s.startSession(ctx, r)
}

// noImage is the error of a start without its image.
func noImage(rec store.Launch, err error) error {
	e := &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "session.start", Message: "The image was removed while it was being launched.",
		Hint: "Launch again; it will be built anew.", Err: errors.Join(errNoImage, err),
	}
	if rec.Remade {
		e.Message = "The image is not where sessions start from, though it was built again for this launch."
		e.Hint = "Launch again in some minutes. The operator of this hub must find out what removes images."
	}
	return e
}
