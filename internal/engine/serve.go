package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// healthService is asked by those who want nothing built.
const healthService = "/grpc.health.v1.Health/"

// Serve lets the hubs of a cluster build here, until ctx ends. Then it takes no
// more builds (NOT_SERVING in gRPC's health protocol), and returns when those it
// has are done, or when grace is over.
//
// certificates is a directory with tls.crt, tls.key and ca.crt, which signed the
// hubs' certificates: whoever can build can run anything. The files are read for
// each connection. Empty serves without TLS.
func (e *Engine) Serve(ctx context.Context, l net.Listener, certificates string, grace time.Duration) error {
	var builds counter // calls, in truth: a hub's last one ends when it has heard all
	opts := append(serverOptions(), grpc.ChainUnaryInterceptor(builds.unary), grpc.ChainStreamInterceptor(builds.stream), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{PermitWithoutStream: true}))
	if certificates != "" {
		if _, err := mutualTLS(certificates); err != nil {
			return errors.Join(err, l.Close())
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return mutualTLS(certificates) },
		})))
	}
	server, state := grpc.NewServer(opts...), health.NewServer()
	e.builder.controller.Register(server)
	healthpb.RegisterHealthServer(server, state)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve builds: %w", err)
	case <-ctx.Done():
	}
	state.Shutdown()
	e.log.InfoContext(ctx, "no more builds are taken", slog.Int("calls", builds.running()))
	select {
	case <-builds.none():
	case <-time.After(grace):
		e.log.WarnContext(ctx, "builds are ended: there is no more time for them", slog.Int("calls", builds.running()))
	}
	server.Stop()
	return <-ended
}

// mutualTLS reads the certificates for one connection.
func mutualTLS(dir string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("the builder's certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("the authority of the hubs' certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("the authority of the hubs' certificates: %s has no certificate", filepath.Join(dir, "ca.crt"))
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}, nil
}

// counter counts calls that have not ended.
type counter struct {
	mu   sync.Mutex
	n    int
	zero []chan struct{} // to close when n is 0
}

func (c *counter) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, healthService) {
		return handler(ctx, req)
	}
	c.add(1)
	defer c.add(-1)
	return handler(ctx, req)
}

func (c *counter) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, healthService) {
		return handler(srv, s)
	}
	c.add(1)
	defer c.add(-1)
	return handler(srv, s)
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n += n; c.n > 0 {
		return
	}
	for _, ch := range c.zero {
		close(ch)
	}
	c.zero = nil
}

func (c *counter) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// none is closed once no build runs.
func (c *counter) none() <-chan struct{} {
	ch := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		close(ch)
		return ch
	}
	c.zero = append(c.zero, ch)
	return ch
}
