package e2e_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
	"github.com/binnacle-hub/binnacle/test/cran"
	"github.com/binnacle-hub/binnacle/test/farhost"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/jupyter"
	"github.com/binnacle-hub/binnacle/test/nixcache"
	"github.com/binnacle-hub/binnacle/test/rstudio"
)

// world is what the tests share: the real binary as a hub on its own data
// directory, and a git server with the examples. Building an environment takes
// most of a minute, so they all use one hub, as people do.
type world struct {
	bin  string
	data string
	addr string
	git  *githost.Host
	far  *farhost.Host // where servers are that builds may reach
	cran *cran.Server
	// late is a place for what TestJulia and TestNix make: Julia's releases below
	// /bin, its packages at /, nixpkgs below /channels. Channels of conda are below /conda.
	late *lateServer
	// nix is a cache of Nix's packages, empty until TestNix fills it, and the key
	// whose signatures the hub trusts.
	nix *nixcache.Cache
	key nixcache.Key
	// rstudio is the hash of the stand-in for RStudio Server, which is below /server.
	rstudio string
	proc    *hubProcess
	out     *os.File // the hub's log
}

type hubProcess struct {
	cmd  *exec.Cmd
	done chan error
}

// the is the one world; TestMain makes it, and nothing else is global here.
var the *world

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if slices.Contains(os.Args, "-test.short=true") {
		fmt.Println("the end-to-end tests do not run with -short")
		return 0
	}
	w, err := newWorld()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	the = w
	code := m.Run()
	if err := w.close(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: after the tests:", err)
		code = 1
	}
	return code
}

func newWorld() (*world, error) {
	bin, err := filepath.Abs("../../bin/binnacle")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("run `make build` first: %w", err)
	}
	data, err := os.MkdirTemp("/tmp", "be")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(data, 0o711); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	w := &world{bin: bin, data: data, addr: addr}
	if w.git, err = githost.New(); err != nil {
		return nil, err
	}
	if w.far, err = farhost.New(); err != nil {
		return nil, err
	}
	port, err := w.far.Listen()
	if err != nil {
		return nil, err
	}
	w.cran = cran.Start(port, cran.Examples()...)
	if port, err = w.far.Listen(); err != nil {
		return nil, err
	}
	w.late, w.nix = startLate(port), nixcache.New()
	w.late.mux.Handle("/nix/", http.StripPrefix("/nix", w.nix))
	deb, sum, err := rstudio.Package(context.Background())
	if err != nil {
		return nil, err
	}
	w.rstudio = sum
	w.late.mux.HandleFunc("/server/jammy/amd64/", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(deb) })
	if w.key, err = nixcache.NewKey("ours-1"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(data, "binnacle.yaml"), []byte(w.config()), 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(artefacts(), 0o755); err != nil {
		return nil, err
	}
	if w.out, err = os.Create(filepath.Join(artefacts(), "hub.log")); err != nil {
		return nil, err
	}
	return w, w.start()
}

// freeAddress is one nobody listens on; the hub keeps it over restarts.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// artefacts is where screenshots and logs go, for people to look at. Two runs at
// once have a place each.
func artefacts() string { return cmp.Or(os.Getenv("BINNACLE_TEST_ARTEFACTS"), "artefacts") }

// start runs the hub, with flags, and waits until it answers.
func (w *world) start(flags ...string) error {
	cmd := exec.Command(w.bin, append([]string{"serve", "--config", filepath.Join(w.data, "binnacle.yaml")}, flags...)...)
	cmd.Stdout, cmd.Stderr = w.out, w.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &hubProcess{cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	w.proc = p
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return w.answers(ctx)
}

// answers waits for the hub's first answer. Connecting is refused until it
// listens, so there is nothing to wait on but time.
func (w *world) answers(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url()+"health", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			return nil
		}
		select {
		case <-tick.C:
		case err := <-w.proc.done:
			return fmt.Errorf("the hub ended: %w", err)
		case <-ctx.Done():
			return errors.New("the hub does not answer")
		}
	}
}

func (w *world) url() string { return "http://" + w.addr + "/" }

// kill is kill -9 of the hub, and of nothing else.
func (w *world) kill() error {
	if err := w.proc.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := <-w.proc.done; err == nil {
		return errors.New("the hub ended by itself before it was killed")
	}
	return nil
}

// stop is how an operator stops it.
func (w *world) stop() error {
	if err := w.proc.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-w.proc.done:
		return err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("the hub did not stop within a minute"), w.kill())
	}
}

func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	sessions, err := w.operator().Sessions(ctx)
	errs = append(errs, err)
	for _, s := range sessions {
		errs = append(errs, w.operator().Stop(ctx, s.ID))
	}
	errs = append(errs, w.stop(), w.git.Close(), w.leftovers())
	w.cran.Close()
	w.late.Close()
	errs = append(errs, w.far.Close())
	errs = append(errs, w.out.Close(), os.RemoveAll(w.data))
	return errors.Join(errs...)
}

// leftovers is what nobody owns any more: mounts, processes, namespaces.
func (w *world) leftovers() error {
	var errs []error
	for _, c := range [][]string{{"mount"}, {"ps", "-eo", "args"}} {
		out, err := exec.Command(c[0], c[1:]...).Output()
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(out), "\n") {
			if strings.Contains(line, w.data) {
				errs = append(errs, fmt.Errorf("left behind: %s", line))
			}
		}
	}
	return errors.Join(errs...)
}

// public is a person's client: somebody else each time.
func (w *world) public() *client.Client { return dial(w.url()) }

// operator is the client of the machine's own command line.
func (w *world) operator() *client.Client { return dial(filepath.Join(w.data, "hub.sock")) }

func dial(address string) *client.Client {
	c, err := client.New(address)
	if err != nil {
		panic(err) // both addresses are ours
	}
	return c
}

// config is the hub's: the git host and the browser are on loopback, which a
// hub refuses unless it is told.
func (w *world) config() string {
	return fmt.Sprintf(`data: %s
listen: %s
base: {archive: %s}
source: {allow: [127.0.0.0/8], fetch_timeout: 2m}
build: {limits: {memory: 4294967296, pids: 1000, disk: 8589934592}, env: {UV_PYTHON_DOWNLOADS_JSON_URL: "%[7]s/python/downloads.json"}}
network: {allow: [%[4]s]}
mirrors: {cran: "%[5]s", rstudio: "%[7]s", rstudio_sha256: %[6]s, julia: "%[7]s", julia_releases: "%[7]s/bin", nixpkgs: "%[7]s/channels", nix_cache: "%[7]s/nix", nix_cache_key: "%[8]s", conda: "%[7]s/conda", python: "%[7]s/python", bioconductor: "%[7]s/bioconductor"}
launch: {per_owner: 0, address_rate: 0, max_sessions: 30, limits: {memory: 1073741824}}
`, w.data, w.addr, filepath.Join(os.TempDir(), "binnacle-test-base.tar"), w.far.Network(), w.cran.URL, w.rstudio, w.late.URL, w.key.Public())
}

// example makes a repository of the git host from a folder of examples.
func (w *world) example(t *testing.T, name string) *githost.Repo {
	t.Helper()
	r, err := w.git.Repo(t.Context(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))+"-"+name, filepath.Join("../../examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// exampleWith is an example with some files that only the tests can write.
func (w *world) exampleWith(t *testing.T, name string, files map[string]string) *githost.Repo {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("../../examples", name))); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := w.git.Repo(t.Context(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))+"-"+name, dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// room clears away what the hub of all tests has built, when the disk is nearly
// full: the environments of all of them together take more than CI may have.
func room(t *testing.T) {
	t.Helper()
	const enough, keep = 14 << 30, "5GiB"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(the.data, &fs); err != nil {
		t.Fatal(err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < enough {
		t.Logf("%d MiB are free: %s", free>>20, hubShell().must(t, "clean", "--budget", keep))
	}
}

// launcher is a client, or one who counts.
type launcher interface {
	Launch(ctx context.Context, req binnacle.LaunchRequest) (binnacle.Launch, error)
	Events(ctx context.Context, id string, after int64, yield func(binnacle.Event) error) error
	Get(ctx context.Context, id string) (binnacle.Launch, error)
}

// launch asks for a repository and follows it to its end.
func launch(t *testing.T, c launcher, req binnacle.LaunchRequest) (binnacle.Launch, []binnacle.Event) {
	t.Helper()
	room(t)
	l, err := c.Launch(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return follow(t, c, l.ID)
}

func follow(t *testing.T, c launcher, id string) (binnacle.Launch, []binnacle.Event) {
	t.Helper()
	var events []binnacle.Event
	err := c.Events(t.Context(), id, 0, func(e binnacle.Event) error {
		events = append(events, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return l, events
}

// ready launches and insists on a session.
func ready(t *testing.T, c launcher, req binnacle.LaunchRequest) (binnacle.Launch, jupyter.Server) {
	t.Helper()
	l, events := launch(t, c, req)
	if l.Phase != binnacle.PhaseReady || l.Session == nil {
		for _, e := range events {
			t.Log(e.Kind, e.Phase, e.Step, e.Message)
		}
		t.Fatalf("the launch of %s ended as %s: %+v", req.Repo, l.Phase, l.Error)
	}
	return l, server(l)
}

func server(l binnacle.Launch) jupyter.Server {
	return jupyter.Server{URL: l.Session.URL, Token: l.Session.Token, Client: http.DefaultClient}
}

// stopAfter ends the session with the test.
func stopAfter(t *testing.T, l binnacle.Launch) {
	t.Helper()
	t.Cleanup(func() {
		if err := the.operator().Stop(context.WithoutCancel(t.Context()), l.Session.ID); err != nil {
			t.Error(err)
		}
	})
}

// logOf is the launch's log as lines.
func logOf(events []binnacle.Event) string {
	var b strings.Builder
	w := bufio.NewWriter(&b)
	for _, e := range events {
		if e.Kind == binnacle.EventLog {
			fmt.Fprintln(w, e.Message)
		}
	}
	_ = w.Flush()
	return b.String()
}
