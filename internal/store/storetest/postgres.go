// Package storetest runs a real PostgreSQL for tests: Debian's package
// "postgresql", in a temporary directory, on the loopback.
package storetest

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

// Postgres is a running server.
type Postgres struct {
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
func Start(t testing.TB) *Postgres {
	t.Helper()
	if testing.Short() {
		t.Skip("a PostgreSQL takes seconds to start")
	}
	p := &Postgres{t: t}
	if p.bin = programs(); p.bin == "" {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("PostgreSQL is not installed (tools/setup.sh test), and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip("PostgreSQL is not installed; tools/setup.sh test installs it")
	}
	var err error
	if p.dir, err = os.MkdirTemp("", "bpg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	secret := filepath.Join(p.dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	p.unprivileged(secret)
	init := exec.CommandContext(context.Background(), filepath.Join(p.bin, "initdb"), "-D", p.data(), "-U", "binnacle", "-A", "scram-sha-256",
		"--pwfile", secret, "-E", "UTF8", "--locale=C", "--no-sync")
	init.SysProcAttr, init.Dir = p.as, p.dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.port = freePort(t)
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		t.Fatal(err)
	}
	p.Up()
	t.Cleanup(func() {
		if p.cmd != nil {
			p.Down()
		}
		_ = p.log.Close()
	})
	return p
}

// programs is the directory of the server's programs, of the newest version
// there is.
func programs() string {
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
func (p *Postgres) unprivileged(files ...string) {
	p.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		p.t.Fatal(err1, err2)
	}
	for _, f := range append(files, p.dir) {
		if err := os.Chown(f, uid, gid); err != nil {
			p.t.Fatal(err)
		}
	}
	p.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}} //nolint:gosec // ids fit
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

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
func (p *Postgres) Up() {
	p.t.Helper()
	p.cmd = exec.CommandContext(context.Background(), filepath.Join(p.bin, "postgres"), "-D", p.data(), "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB")
	p.cmd.SysProcAttr, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.as, p.dir, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := pgx.Connect(context.Background(), p.URL("postgres"))
		if err == nil {
			_ = conn.Close(context.Background())
			return
		}
		if time.Now().After(deadline) {
			out, _ := os.ReadFile(p.log.Name())
			p.t.Fatalf("PostgreSQL does not start: %v\n%s", err, bytes.TrimSpace(out))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Down stops the server as an operator does: connections are cut.
func (p *Postgres) Down() { p.end(syscall.SIGINT) }

// Crash stops it at once, as if it had crashed.
func (p *Postgres) Crash() { p.end(syscall.SIGQUIT) }

func (p *Postgres) end(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Error(err)
	}
	_ = p.cmd.Wait() // a crash is no success
	p.cmd = nil
}

// URL is the address of a database.
func (p *Postgres) URL(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword("binnacle", password), Host: "127.0.0.1:" + strconv.Itoa(p.port), Path: database,
	}).String()
}

// Database makes a new database and returns its address.
func (p *Postgres) Database() string {
	p.t.Helper()
	p.made++
	name := fmt.Sprintf("test%d", p.made)
	p.Exec("postgres", "CREATE DATABASE "+name)
	return p.URL(name)
}

// Exec runs a statement in a database.
func (p *Postgres) Exec(database, statement string) {
	p.t.Helper()
	conn, err := pgx.Connect(context.Background(), p.URL(database))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), statement); err != nil {
		p.t.Fatal(err)
	}
}
