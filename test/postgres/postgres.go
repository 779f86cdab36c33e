// Package postgres runs a real PostgreSQL for tests: Debian's package
// "postgresql", in a temporary directory, on the loopback.
package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL.
type Server struct {
	t    testing.TB
	bin  string // where its programs are
	dir  string
	port int
	as   *syscall.SysProcAttr
	cmd  *exec.Cmd
	log  *os.File
	made int
}

const password = "s3cret@/" // has to be escaped in an address

// Start starts a server that ends with the test. It skips the test when it is
// short or there is no PostgreSQL; with BINNACLE_TEST_REQUIRE=all that fails it.
func Start(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("a PostgreSQL takes seconds to start")
	}
	s := &Server{t: t}
	if s.bin = Programs(); s.bin == "" {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("PostgreSQL is not installed (tools/setup.sh test), and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip("PostgreSQL is not installed; tools/setup.sh test installs it")
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "bpg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	s.unprivileged(secret)
	init := exec.CommandContext(t.Context(), filepath.Join(s.bin, "initdb"), "-D", s.data(), "-U", "binnacle", "-A", "scram-sha-256",
		"--pwfile", secret, "-E", "UTF8", "--locale=C", "--no-sync")
	init.SysProcAttr, init.Dir = s.as, s.dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.port = freePort(t)
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		t.Fatal(err)
	}
	s.Up()
	t.Cleanup(func() {
		if s.cmd != nil {
			s.Down()
		}
		_ = s.log.Close()
	})
	return s
}

// Programs is the directory of the server's programs, of the newest version
// there is; empty if there is none.
func Programs() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is right
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// unprivileged makes root run the server as its own user: it refuses root.
func (s *Server) unprivileged(files ...string) {
	s.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		s.t.Fatal(err1, err2)
	}
	for _, f := range append(files, s.dir) {
		if err := os.Chown(f, uid, gid); err != nil {
			s.t.Fatal(err)
		}
	}
	s.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func freePort(t testing.TB) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// Up starts the server again after Down or Crash.
func (s *Server) Up() {
	s.t.Helper()
	s.cmd = exec.CommandContext(context.Background(), filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB")
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.as, s.dir, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := pgx.Connect(context.Background(), s.URL("postgres"))
		if err == nil {
			_ = conn.Close(context.Background())
			return
		}
		if time.Now().After(deadline) {
			out, _ := os.ReadFile(s.log.Name())
			s.t.Fatalf("PostgreSQL does not start: %v\n%s", err, bytes.TrimSpace(out))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Down stops the server as an operator does: connections are cut.
func (s *Server) Down() { s.end(syscall.SIGINT) }

// Crash stops it at once, as if it had crashed.
func (s *Server) Crash() { s.end(syscall.SIGQUIT) }

func (s *Server) end(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
	_ = s.cmd.Wait() // a crash is no success
	s.cmd = nil
}

// URL is the address of a database.
func (s *Server) URL(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword("binnacle", password), Host: "127.0.0.1:" + strconv.Itoa(s.port), Path: database,
	}).String()
}

// Database makes a new database and returns its address.
func (s *Server) Database() string {
	s.t.Helper()
	s.made++
	name := fmt.Sprintf("test%d", s.made)
	s.Exec("postgres", "CREATE DATABASE "+name)
	return s.URL(name)
}

// Exec runs a statement in a database.
func (s *Server) Exec(database, statement string) {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.URL(database))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), statement); err != nil {
		s.t.Fatal(err)
	}
}
