package hub

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// buildKeepAlive is the time between BinderHub's own comments.
const buildKeepAlive = 25 * time.Second

// build serves BinderHub's GET /build/<provider>/<spec>: one launch as a stream
// of its events. Its clients understand only status 200 and a last event
// "failed", and take a closed stream for a broken one: so every outcome is an
// event, and the stream stays open until the client leaves or CloseGrace ends.
func (h *Hub) build(w http.ResponseWriter, r *http.Request) error {
	h.rate(w, r)
	s := h.openStream(r.Context(), w, typeSSE, ":keepalive\n\n", min(buildKeepAlive, max(h.cfg.KeepAlive, time.Millisecond)))
	defer s.close()
	b := &buildStream{h: h, r: r, s: s, found: true}
	b.provider, b.spec = splitSpec(strings.TrimPrefix(r.URL.EscapedPath(), "/build/"))
	b.buildOnly = strings.EqualFold(r.URL.Query().Get("build_only"), "true")
	if err := b.run(w); err != nil && r.Context().Err() == nil {
		b.fail(h.report(r, "/build", err))
	}
	if r.Context().Err() != nil {
		return nil
	}
	grace := time.NewTimer(h.cfg.CloseGrace)
	defer grace.Stop()
	select {
	case <-r.Context().Done():
	case <-grace.C:
	}
	return nil
}

// splitSpec parts "<provider>/<spec>", both as they came: the spec keeps its
// escapes, as in BinderHub.
func splitSpec(rest string) (provider, spec string) {
	provider, spec, _ = strings.Cut(rest, "/")
	return provider, strings.TrimRight(spec, "/")
}

// buildStream translates the events of one launch.
type buildStream struct {
	h *Hub
	r *http.Request
	s *stream

	provider, spec string
	buildOnly      bool

	caller Caller
	phase  binnacle.Phase
	image  string
	found  bool // nothing was built
	waited bool // "Waiting for build" was said
	ended  bool
}

// send writes one event the way BinderHub frames it.
func (b *buildStream) send(fields ...pair) error {
	line := append([]byte("data: "), python(object(fields))...)
	return b.s.write(append(line, "\n\n"...))
}

func (b *buildStream) say(phase, message string) error {
	return b.send(pair{"phase", phase}, pair{"message", message})
}

// refuse ends a stream that never began, with the status BinderHub names.
func (b *buildStream) refuse(status int, message string) error {
	return b.send(pair{"phase", "failed"}, pair{"status_code", status}, pair{"message", message + "\n"})
}

func (b *buildStream) run(w http.ResponseWriter) error {
	if accepts(b.r, typeSSE) == 0 {
		return b.refuse(http.StatusBadRequest, "Missing Accept header: text/event-stream")
	}
	if d := b.r.Header.Get("Sec-Fetch-Dest"); (d != "" && d != "empty") || b.r.Header.Get("Sec-Purpose") != "" {
		// A picture or a prefetched link on some page is nobody's wish to launch.
		return b.refuse(http.StatusForbidden, "Forbidden")
	}
	if token := b.r.URL.Query().Get("build_token"); token != "" && !b.h.checkBuildToken(b.r, token, b.provider+"/"+b.spec) {
		return b.refuse(http.StatusForbidden, "Invalid build token")
	}
	if _, ok := providers[binnacle.Provider(b.provider)]; !ok {
		return b.say("failed", "No provider found for prefix "+clip(b.provider, 100)+"\n")
	}
	spec, err := b.parse()
	if err != nil {
		return b.say("failed", binnacle.Public(err).Message+"\n")
	}
	if b.caller, err = b.h.buildCaller(w, b.r); err != nil {
		return err
	}
	ctx, cancel := b.h.quick(b.r)
	defer cancel()
	l, err := b.h.deps.Service.Launch(ctx, b.caller, binnacle.LaunchRequest{Repo: spec.String(), Class: b.r.URL.Query().Get("class"), BuildOnly: b.buildOnly})
	if err != nil {
		return err
	}
	b.h.watch.observe(b.caller, l.ID, true)
	defer b.h.watch.join(l.ID)()
	return b.follow(b.r.Context(), l.ID)
}

// rate tells how many launches are left after this one, in BinderHub's headers.
func (h *Hub) rate(w http.ResponseWriter, r *http.Request) {
	if h.deps.Rate == nil {
		return
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	if limit, left, full, ok := h.deps.Rate(ctx, h.address(r)); ok {
		w.Header().Set("X-Ratelimit-Limit", strconv.Itoa(limit))
		w.Header().Set("X-Ratelimit-Remaining", strconv.Itoa(max(0, left-1)))
		w.Header().Set("X-Ratelimit-Reset", strconv.FormatInt(full.Unix(), 10))
	}
}

// buildCaller is who launches: the cookie's owner on our own pages, and a
// stranger of one request anywhere else. Another site may launch (that is what
// Thebe does), but only in a name that owns nothing; the address is limited.
func (h *Hub) buildCaller(w http.ResponseWriter, r *http.Request) (Caller, error) {
	// BinderHub's clients send tokens of its own kind.
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	return h.caller(w, r, false)
}

func (b *buildStream) parse() (binnacle.Spec, error) {
	spec, err := specOf(b.provider+"/"+b.spec, b.r.URL.Query())
	if err == nil || binnacle.Provider(b.provider) != binnacle.GitHub || strings.Contains(b.spec, "%") {
		return spec, err
	}
	return spec, binnacle.Errorf(binnacle.CodeInvalid, `Spec is not of the form "user/repo/ref", provided: "%s".`, clip(b.spec, 200))
}

func (b *buildStream) follow(ctx context.Context, id string) error {
	err := b.h.deps.Service.Events(ctx, b.caller, id, 0, func(e binnacle.Event) error { return b.event(ctx, id, e) })
	if err == nil && !b.ended {
		return binnacle.Errorf(binnacle.CodeUnavailable, "Unhandled error watching for build events. Please try again.")
	}
	return err
}

// event translates one of ours to none, one or more of BinderHub's.
func (b *buildStream) event(ctx context.Context, id string, e binnacle.Event) error {
	if e.Image != "" {
		b.image = e.Image
	}
	switch e.Kind {
	case binnacle.EventQueue:
		return b.say("waiting", "Waiting in the queue, position "+itoa(e.Position)+"\n")
	case binnacle.EventPhase:
		return b.enter(e.Phase)
	case binnacle.EventLog:
		return b.log(e)
	case binnacle.EventNote:
		if e.Error != nil {
			return b.say(binderPhase(e.Phase), "Note: "+oneParagraph(e.Error)+"\n")
		}
		return b.say(binderPhase(e.Phase), "Note: "+e.Message+"\n")
	case binnacle.EventEnd:
		b.ended = true
		return b.end(ctx, id, e)
	default:
		return nil // steps have their lines in the log
	}
}

// log is a line of the build, with repo2docker's order of keys; a line of the
// launch has the hub's.
func (b *buildStream) log(e binnacle.Event) error {
	if e.Phase == binnacle.PhaseFetching || e.Phase == binnacle.PhaseBuilding {
		return b.send(pair{"message", e.Message + "\n"}, pair{"phase", string(e.Phase)})
	}
	return b.say(binderPhase(e.Phase), e.Message+"\n")
}

func binderPhase(p binnacle.Phase) string {
	switch p {
	case binnacle.PhaseResolving, binnacle.PhaseWaiting:
		return "waiting"
	case binnacle.PhaseReady:
		return "launching"
	default:
		return string(p)
	}
}

func (b *buildStream) enter(p binnacle.Phase) error {
	if !p.Final() {
		b.phase = p
	}
	switch p {
	case binnacle.PhaseFetching, binnacle.PhaseBuilding:
		b.found = b.found && p != binnacle.PhaseBuilding
		if b.waited {
			return nil
		}
		b.waited = true
		return b.say("waiting", "Waiting for build to start...\n")
	case binnacle.PhaseLaunching:
		if err := b.built("built", "Found built image, launching...\n", "Built image, launching...\n"); err != nil {
			return err
		}
		return b.say("launching", "Launching server...\n")
	default:
		return nil
	}
}

// built tells of the image; BinderHub orders the keys differently for one that
// was there and one that was built.
func (b *buildStream) built(phase, found, built string) error {
	if b.found {
		return b.send(pair{"phase", phase}, pair{"imageName", b.image}, pair{"message", found})
	}
	return b.send(pair{"phase", phase}, pair{"message", built}, pair{"imageName", b.image})
}

func (b *buildStream) end(ctx context.Context, id string, e binnacle.Event) error {
	switch e.Phase {
	case binnacle.PhaseReady:
		if b.buildOnly {
			return b.built("ready", "Done! Found built image\n", "Done! Image built\n")
		}
		l, err := b.h.deps.Service.Get(ctx, b.caller, id)
		if err != nil {
			return err
		}
		return b.ready(l)
	case binnacle.PhaseCanceled:
		return b.say("failed", "The launch was cancelled.\n")
	default:
		if e.Error == nil {
			e.Error = binnacle.Errorf(binnacle.CodeInternal, "The launch failed.")
		}
		b.fail(e.Error)
		return nil
	}
}

// ready tells where the server is.
func (b *buildStream) ready(l binnacle.Launch) error {
	if l.Session == nil {
		return binnacle.Errorf(binnacle.CodeUnavailable, "The server stopped before it could be handed over.")
	}
	s := b.h.absoluteSession(b.r, *l.Session)
	request, host := "v2/"+b.provider+"/"+b.spec, b.h.base(b.r)+"/"
	repoURL, refURL, persistent := "", "", request
	if l.Revision != nil {
		repoURL, refURL, persistent = l.Revision.URL, l.Revision.WebURL, "v2/"+l.Revision.Fixed().String()
		if refURL == "" {
			refURL = repoURL
		}
	}
	return b.send(
		pair{"phase", "ready"}, pair{"message", "server running at " + s.URL + "\n"},
		pair{"image", orDefault(l.Image, b.image)}, pair{"repo_url", repoURL}, pair{"token", s.Token},
		pair{"binder_ref_url", refURL}, pair{"binder_launch_host", host},
		pair{"binder_request", request}, pair{"binder_persistent_request", persistent},
		pair{"binder_client_ip", b.caller.Address}, pair{"url", s.URL},
	)
}

// fail is the last event. Its texts for a ref are BinderHub's, which people and
// programs look for.
func (b *buildStream) fail(e *binnacle.Error) {
	name := b.provider + ":" + b.spec
	message := inLines(e)
	switch {
	case b.phase == binnacle.PhaseResolving && e.Code == binnacle.CodeNotFound:
		message = "Could not resolve ref for " + name + ". Double check your URL and that your repo is public.\n"
	case b.phase == binnacle.PhaseResolving && (e.Code == binnacle.CodeInvalid || e.Code == binnacle.CodeUnavailable || e.Code == binnacle.CodeTimeout):
		message = "Error resolving ref for " + name + ": " + message
	}
	fields := []pair{{"phase", "failed"}}
	if e.Code == binnacle.CodeLimited || e.Code == binnacle.CodeForbidden || e.Code == binnacle.CodeInternal {
		fields = append(fields, pair{"status_code", Status(e.Code)})
	}
	_ = b.send(append(fields, pair{"message", message})...) // the client has left: nobody to tell
}
