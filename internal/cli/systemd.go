package cli

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// notify tells systemd (or whoever set NOTIFY_SOCKET) how the hub is.
func notify(ctx context.Context, environ []string, state string) error {
	path := lookup(environ, "NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixgram", path)
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}

// lookup finds the last value of a variable; empty when it is not set.
func lookup(environ []string, name string) string {
	value := ""
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}
