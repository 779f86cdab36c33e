// Command server is the Jupyter server of the test image: package jupyter behind
// the flags that a spawner passes, with addresses under /x/ that misbehave or
// look around on request.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle/internal/session/sessiontest/jupyter"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "sleep" {
		select {}
	}
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	flags := map[string]string{}
	for _, arg := range os.Args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		flags[key] = value
	}
	if wait, err := time.ParseDuration(os.Getenv("TEST_DELAY")); err == nil {
		<-time.After(wait)
	}
	fmt.Println("starting below", flags["--ServerApp.base_url"])
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	if os.Getenv("TEST_STUBBORN") != "" {
		signal.Ignore(syscall.SIGTERM)
	}
	socket := flags["--ServerApp.sock"]
	if target := os.Getenv("TEST_LINK"); target != "" { // a link where the socket should be
		if err := os.Symlink(target, socket); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	s := jupyter.New(flags["--ServerApp.base_url"], os.Getenv("JUPYTER_TOKEN"))
	misbehave(s)
	network, address := "unix", socket
	if port := flags["--ServerApp.port"]; port != "" {
		network, address = "tcp", net.JoinHostPort(strings.Trim(flags["--ServerApp.ip"], "*"), port)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		l.Close()
	}()
	srv := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	fmt.Println("stopped")
	return nil
}

func misbehave(s *jupyter.Server) {
	s.Handle("GET /x/exit", func(_ http.ResponseWriter, r *http.Request) { os.Exit(number(r)) })
	s.Handle("GET /x/print", func(_ http.ResponseWriter, r *http.Request) {
		for range max(1, number(r)) {
			fmt.Println(r.FormValue("line"))
		}
	})
	s.Handle("GET /x/memory", func(http.ResponseWriter, *http.Request) {
		const piece = 16 << 20
		var hold [][]byte
		for {
			b := make([]byte, piece)
			for i := 0; i < piece; i += 4096 {
				b[i] = 1
			}
			hold = append(hold, b)
			_ = hold
		}
	})
	s.Handle("GET /x/fork", fork)
	s.Handle("GET /x/look", look)
	s.Handle("GET /x/read", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.FormValue("path")) //nolint:gosec // what the sandbox lets it read is the question
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(b) //nolint:gosec // for tests
	})
	s.Handle("GET /x/write", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Create(r.FormValue("path")) //nolint:gosec // as above
		if err == nil {
			_, err = io.CopyN(f, zeros{}, int64(number(r)))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
		}
	})
	s.Handle("GET /x/dial", func(w http.ResponseWriter, r *http.Request) {
		const patience = 300 * time.Millisecond
		d := net.Dialer{Timeout: patience}
		c, err := d.DialContext(r.Context(), r.FormValue("network"), r.FormValue("address"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		c.Close()
	})
}

// fork starts processes until it may not, and says how many there are.
func fork(w http.ResponseWriter, _ *http.Request) {
	const most = 100_000
	n := 0
	for ; n < most; n++ {
		if err := exec.CommandContext(context.Background(), "/proc/self/exe", "sleep").Start(); err != nil {
			break
		}
	}
	fmt.Fprint(w, n)
}

// look says what the process is and sees.
func look(w http.ResponseWriter, _ *http.Request) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	seen := map[string]string{}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		seen[key] = strings.TrimSpace(value)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	seen["processes"] = strconv.Itoa(len(procs))
	seen["args"] = strings.Join(os.Args, " ")
	seen["cwd"], _ = os.Getwd()
	seen["env"] = strings.Join(os.Environ(), "\n")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	seen["mounts"] = string(mounts)
	sockets, _ := os.ReadFile("/proc/net/unix")
	seen["sockets"] = string(sockets)
	_ = json.NewEncoder(w).Encode(seen)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func number(r *http.Request) int {
	n, _ := strconv.Atoi(r.FormValue("n"))
	return n
}
