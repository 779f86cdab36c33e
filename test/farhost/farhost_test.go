package farhost_test

import (
	"os"
	"testing"

	"github.com/binnacle-hub/binnacle/test/farhost"
)

// TestNetworksApart: processes that run at the same time have each a machine of their
// own; two of one process are like that.
func TestNetworksApart(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("interfaces are made by root")
		}
		t.Skip("interfaces are made by root")
	}
	var hosts []*farhost.Host
	for range 2 {
		h, err := farhost.New()
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
		defer func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	if one, other := hosts[0].Network(), hosts[1].Network(); one == other {
		t.Errorf("both have %s", one)
	}
}
