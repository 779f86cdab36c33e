package builders

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// A builder whose machine is gone sends no farewell: within this time without an
// answer from its kernel the connection counts as broken.
const silence = 30 * time.Second

// patience is how long a builder may take to say whether it is ready.
const patience = 5 * time.Second

// conn is a connection to one builder, for one build.
type conn struct {
	builder Builder
	client  *bkclient.Client
	busy    int // builds it does now, for all hubs

	broken context.Context // ends with errLost when the builder's side of the connection ends
	breaks context.CancelCauseFunc
	closed atomic.Bool
}

// connect opens a connection and asks whether the builder takes builds, and how
// many it has.
func (p *Pool) connect(ctx context.Context, b Builder) (*conn, error) {
	c := &conn{builder: b}
	c.broken, c.breaks = context.WithCancelCause(context.WithoutCancel(ctx))
	// BuildKit's client keeps its connection to itself; the health of the server
	// is asked through the same.
	var under grpc.ClientConnInterface
	var first sync.Once // a build makes many calls at once
	see := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		first.Do(func() { under = cc })
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	opts := append(p.credentials(b), bkclient.WithContextDialer(c.dial), bkclient.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(see)))
	var err error
	if c.client, err = bkclient.New(ctx, "passthrough:///"+b.Address, opts...); err != nil {
		c.breaks(nil)
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	if _, err = c.client.ControlClient().Info(ctx, &controlapi.InfoRequest{}); err == nil {
		err = errors.Join(healthy(ctx, under), c.count(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, context.Cause(ctx), c.close())
	}
	return c, nil
}

// healthy asks whether the builder is not being drained.
func healthy(ctx context.Context, cc grpc.ClientConnInterface) error {
	res, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	if grpcerrors.Code(err) == codes.Unimplemented {
		return nil // whoever answers is ready
	}
	if err == nil && res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = errors.New("it takes no more builds")
	}
	return err
}

// count asks how many builds the builder has now, whoever they are for.
func (c *conn) count(ctx context.Context) error {
	active, err := c.client.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{ActiveOnly: true, EarlyExit: true})
	if err != nil {
		return err
	}
	for {
		_, err := active.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.busy++
	}
}

// credentials are read for each connection: a certificate that was renewed is
// taken at once.
func (p *Pool) credentials(b Builder) []bkclient.ClientOpt {
	if p.cfg.TLS == "" {
		return nil
	}
	name := p.cfg.ServerName
	if name == "" && p.cfg.Service != "" {
		name = p.cfg.Service + "." + p.cfg.Namespace + ".svc"
	}
	if host, _, err := net.SplitHostPort(b.Address); name == "" && err == nil {
		name = host
	}
	return []bkclient.ClientOpt{
		bkclient.WithServerConfig(name, filepath.Join(p.cfg.TLS, "ca.crt")),
		bkclient.WithCredentials(filepath.Join(p.cfg.TLS, "tls.crt"), filepath.Join(p.cfg.TLS, "tls.key")),
	}
}

// lost says whether it was the builder that ended the connection.
func (c *conn) lost() bool { return errors.Is(context.Cause(c.broken), errLost) }

func (c *conn) close() error {
	c.closed.Store(true)
	defer c.breaks(nil)
	return c.client.Close()
}

// dial is how gRPC reaches the builder.
func (c *conn) dial(ctx context.Context, address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, address = "unix", path
	}
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence / 2, Interval: silence / 6, Count: 3},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
			}), err)
		},
	}
	under, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watched{Conn: under, conn: c}, nil
}

// watched notices that the other side is gone.
type watched struct {
	net.Conn
	conn   *conn
	closed atomic.Bool
}

// Read tells the connection when the other side ended it.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil && !w.closed.Load() && !w.conn.closed.Load() {
		w.conn.breaks(errLost)
	}
	return n, err
}

// Close ends the connection from our side.
func (w *watched) Close() error {
	w.closed.Store(true)
	return w.Conn.Close()
}
