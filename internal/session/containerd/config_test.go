package containerd_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/session/containerd"
)

func TestValidate(t *testing.T) {
	for _, cfg := range []containerd.Config{{}, {Dir: "x"}, {Dir: "/" + strings.Repeat("x", 60)}, {Dir: "/x", Grace: -1}} {
		if cfg.Validate() == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
