package store_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// cutter passes connections on to a database, and when it is armed cuts one at
// its next commit: before the database has it, or when it has answered.
type cutter struct {
	to            string
	before, after atomic.Bool
	cuts          atomic.Int32
}

func (c *cutter) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var swallow atomic.Bool
	go func() {
		defer func() { _ = client.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || swallow.Load() {
				return // with its answer
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("commit\x00")) {
			if c.before.CompareAndSwap(true, false) {
				c.cuts.Add(1)
				return
			}
			if c.after.CompareAndSwap(true, false) {
				c.cuts.Add(1)
				swallow.Store(true)
			}
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// TestPostgresLosesTheAnswer: a write whose commit was done, or was not, and
// nobody was told, is there once.
func TestPostgresLosesTheAnswer(t *testing.T) {
	server := postgres.Start(t)
	u, err := url.Parse(server.Database())
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{to: u.Host}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	u.Host, u.RawQuery = ln.Addr().String(), "sslmode=disable"
	s := openPostgres(t, u.String())
	var batches []store.Batch
	for i, arm := range []*atomic.Bool{&c.before, &c.after} {
		arm.Store(true)
		b, err := s.Append(t.Context(), []store.Cursor{{Launch: "a", First: int64(i + 1)}}, lines(1, string(rune('x'+i))))
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
	}
	c.after.Store(true)
	if err := s.Share(t.Context(), store.Cursor{Launch: "b", First: 1}, batches); err != nil {
		t.Fatal(err)
	}
	if c.cuts.Load() != 3 {
		t.Errorf("%d commits were cut, not 3", c.cuts.Load())
	}
	for _, id := range []string{"a", "b"} {
		if diff := cmp.Diff([]string{"x0", "y0"}, all(t, s, id, 0)); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
}
