package hub

import (
	"net/http"
	"strconv"
	"strings"
)

// The types a stream of events can be sent as.
const (
	typeSSE    = "text/event-stream"
	typeNDJSON = "application/x-ndjson"
)

// accepts tells how much a request wants a media type: the q of the most
// specific range that covers it, 0 for not at all. No Accept header wants all.
func accepts(r *http.Request, mediaType string) float64 {
	values := r.Header.Values("Accept")
	if len(values) == 0 {
		return 1
	}
	major, _, _ := strings.Cut(mediaType, "/")
	best, quality := -1, 0.0
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		rank := -1
		switch strings.ToLower(strings.TrimSpace(name)) {
		case mediaType:
			rank = 2
		case major + "/*":
			rank = 1
		case "*/*":
			rank = 0
		}
		if rank > best {
			best, quality = rank, qualityOf(params)
		}
	}
	return quality
}

// qualityOf reads q out of a range's parameters; what cannot be read counts 1.
func qualityOf(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(k, "q") {
			continue
		}
		if q, err := strconv.ParseFloat(v, 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}

// wantsNDJSON chooses between the two forms of an event stream; browsers and
// those who do not care get server-sent events.
func wantsNDJSON(r *http.Request) bool {
	return accepts(r, typeNDJSON) > accepts(r, typeSSE)
}
