package hub

import "net/http"

// For tests of package hub_test.
var (
	SplitSpec   = splitSpec
	LandingPath = landingPath
	PathOrURL   = pathOrURL
)

// Accepts asks for one Accept header.
func Accepts(header, mediaType string) float64 {
	return accepts(&http.Request{Header: http.Header{"Accept": {header}}}, mediaType)
}

// Routes lists the API's methods and patterns; trusted says who has them.
func (h *Hub) Routes() map[string]bool {
	out := map[string]bool{}
	for _, r := range h.api {
		out[r.method+" "+r.pattern] = r.trusted
	}
	return out
}

// StaticDir is where the pages' parts are.
func (h *Hub) StaticDir() string { return h.web.dir }
