package hub

import (
	"io"
	"net/http"

	"github.com/binnacle-hub/binnacle"
)

// resolved reads the exact versions in the image of the launch a request names.
func (h *Hub) resolved(w http.ResponseWriter, r *http.Request) ([]binnacle.Resolved, error) {
	c, l, err := h.launchOf(w, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	return h.deps.Service.Resolved(ctx, c, l.ID)
}

func (h *Hub) listResolved(w http.ResponseWriter, r *http.Request) error {
	files, err := h.resolved(w, r)
	if err != nil {
		return err
	}
	if files == nil {
		files = []binnacle.Resolved{}
	}
	return writeJSON(w, http.StatusOK, files)
}

// getResolved gives one of the files, as it is to be committed.
func (h *Hub) getResolved(w http.ResponseWriter, r *http.Request) error {
	files, err := h.resolved(w, r)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name != r.PathValue("name") {
			continue
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, err := io.WriteString(w, f.Content)
		return err
	}
	return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "hub.resolved", Message: "The image keeps no such file.", Hint: "The list is one step up in the address."}
}
