package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log" //nolint:depguard // the registry takes no other
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/miekg/dns"
)

// serveRegistry runs the registry until ctx is done.
func (c *cluster) serveRegistry(ctx context.Context, l net.Listener) error {
	logger := slog.NewLogLogger(c.log.Handler(), slog.LevelDebug)
	srv := &http.Server{
		Handler:           c.faulty(registry.New(registry.Logger(stdlog.New(logger.Writer(), "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(c.path("registry"))))),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the registry: %w", err)
	}
	return nil
}

// spoil makes the registry fail in one of the ways that registries do.
func (c *cluster) spoil(how string) error {
	switch how {
	case "ok", "down", "slow", "denied", "limited":
		c.spoilt.Store(how)
		return nil
	}
	return fmt.Errorf("a registry is not %q: it is ok, down, slow, denied or limited", how)
}

func (c *cluster) faulty(registry http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const wait = 20 * time.Second
		switch c.spoilt.Load() {
		case "down":
			panic(http.ErrAbortHandler) // the connection ends without an answer
		case "slow":
			select {
			case <-time.After(wait):
			case <-r.Context().Done():
				return
			}
		case "denied":
			http.Error(w, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, http.StatusForbidden)
			return
		case "limited":
			w.Header().Set("Retry-After", "60")
			http.Error(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`, http.StatusTooManyRequests)
			return
		}
		registry.ServeHTTP(w, r)
	})
}

// box is the image whose only file is our box program; sandboxes of pods run it.
func (c *cluster) box() string { return c.registry() + "/box:1" }

// pushBox makes that image and puts it into the registry.
func (c *cluster) pushBox(ctx context.Context) error {
	program, err := os.ReadFile(c.program("box"))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	files := []struct {
		tar.Header
		body []byte
	}{
		{tar.Header{Name: "box", Mode: 0o755, Size: int64(len(program))}, program},
		{tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, nil},
	}
	for _, f := range files {
		if err := errors.Join(w.WriteHeader(&f.Header), write(w, f.body)); err != nil {
			return fmt.Errorf("make the image of box: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("make the image of box: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return fmt.Errorf("make the image of box: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("make the image of box: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("make the image of box: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", goarch(), v1.Config{Entrypoint: []string{"/box"}}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return fmt.Errorf("make the image of box: %w", err)
	}
	ref, err := name.ParseReference(c.box())
	if err != nil {
		return err
	}
	if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push the image of box: %w", err)
	}
	return nil
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// serveDNS passes questions of the nodes and of CoreDNS on to this machine's
// resolvers, which may be at an address that only this machine reaches.
func (c *cluster) serveDNS(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return fmt.Errorf("read this machine's resolvers: %w", err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		network := w.LocalAddr().Network()
		for _, s := range conf.Servers {
			client := dns.Client{Net: network, Timeout: 3 * time.Second}
			if answer, _, err := client.ExchangeContext(ctx, q, net.JoinHostPort(s, conf.Port)); err == nil {
				_ = w.WriteMsg(answer)
				return
			}
		}
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
	})
	servers := []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}}
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() { failed <- s.ActivateAndServe() }()
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
		err = fmt.Errorf("serve DNS: %w", err)
	}
	return errors.Join(err, udp.Close(), tcp.Close())
}
