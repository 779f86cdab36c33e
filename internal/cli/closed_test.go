package cli_test

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/cli"
)

// What can be reached is named; what can't is what was wanted.
func TestClosed(t *testing.T) {
	t.Parallel()
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := shut.Close(); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"Sessions reach none of: the hub=":      {"the hub=" + shut.Addr().String()},
		"A session reaches the API server (127": {"the hub=" + shut.Addr().String(), "the API server=" + open.Addr().String(), "--within", "10ms"},
		`"nobody" is not like NAME=ADDRESS`:     {"nobody"},
	} {
		var out bytes.Buffer
		code := cli.Run(t.Context(), cli.Env{Args: append([]string{"closed"}, args...), In: strings.NewReader(""), Out: &out, Err: &out, Width: func() int { return 80 }})
		if !strings.Contains(out.String(), want) || (code == 0) != strings.HasPrefix(want, "Sessions") {
			t.Errorf("closed %q: exit %d: %s", args, code, out.String())
		}
	}
}
