package engine

import "net/http"

// Settle is settle.
var Settle = settle

// RemoveGroups is removeGroups.
var RemoveGroups = removeGroups

// Unmount is unmount.
var Unmount = unmount

// Outlet is what BuildKit's requests to registries go through.
func (e *Engine) Outlet(guarded, open http.RoundTripper) http.RoundTripper {
	return outlet{guarded, open, &e.pushes}
}
