package cluster_test

import (
	"bufio"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/binnacle-hub/binnacle/test/kube/cluster"
)

// A cluster that nobody used stops, and turns away who comes while it does; one that
// somebody has joined stays.
func TestExpire(t *testing.T) {
	t.Parallel()
	for name, joined := range map[string]bool{"unused": false, "joined": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			stopped := false
			expire, end := cluster.Ready(l, func() { stopped = true })
			t.Cleanup(end)
			join := func() error {
				conn, err := new(net.Dialer).DialContext(t.Context(), "unix", l.Addr().String())
				if err != nil {
					return err
				}
				t.Cleanup(func() { _ = conn.Close() })
				if _, err := io.WriteString(conn, cluster.Join+"\n"); err != nil {
					return err
				}
				_, err = bufio.NewReader(conn).ReadString('\n')
				return err
			}
			if joined {
				if err := join(); err != nil {
					t.Fatal(err)
				}
			}
			expire()
			if stopped == joined {
				t.Errorf("it stopped: %v", stopped)
			}
			if err := join(); (err == nil) != joined {
				t.Errorf("who joins then gets %v", err)
			}
		})
	}
}
