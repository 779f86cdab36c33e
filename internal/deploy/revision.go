package deploy

import (
	"time"
)

// Revision is one form that a hub had: its program and its settings.
type Revision struct {
	Number  int       `json:"revision"`
	Status  string    `json:"status"`
	Version string    `json:"version"` // of Binnacle
	Updated time.Time `json:"updated"`
	// Note is why it is in this state.
	Note string `json:"note,omitempty"`
	// Current says that it is the one in use, Worked that it was seen to run.
	Current bool `json:"-"`
	Worked  bool `json:"-"`
}
