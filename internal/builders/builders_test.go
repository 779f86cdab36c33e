package builders_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/builders"
)

// builder speaks as much of BuildKit's protocol as choosing one needs; a "build"
// is a call of ListWorkers, which lasts until the builder lets it end.
type builder struct {
	controlapi.UnimplementedControlServer
	address string
	server  *grpc.Server
	health  *health.Server
	started chan struct{}
	finish  chan struct{}

	mu   sync.Mutex
	busy int // builds of other hubs
}

func startBuilder(t *testing.T, opts ...grpc.ServerOption) *builder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{address: l.Addr().String(), server: grpc.NewServer(opts...), health: health.NewServer(), started: make(chan struct{}, 100), finish: make(chan struct{})}
	controlapi.RegisterControlServer(b.server, b)
	healthpb.RegisterHealthServer(b.server, b.health)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := b.server.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { b.server.Stop(); serving.Wait() })
	return b
}

func (b *builder) Info(context.Context, *controlapi.InfoRequest) (*controlapi.InfoResponse, error) {
	return &controlapi.InfoResponse{}, nil
}

func (b *builder) ListenBuildHistory(_ *controlapi.BuildHistoryRequest, s grpc.ServerStreamingServer[controlapi.BuildHistoryEvent]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.busy {
		if err := s.Send(&controlapi.BuildHistoryEvent{}); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) ListWorkers(ctx context.Context, _ *controlapi.ListWorkersRequest) (*controlapi.ListWorkersResponse, error) {
	b.started <- struct{}{}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.finish:
		return &controlapi.ListWorkersResponse{}, nil
	}
}

// heard is what a build was told.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) say(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line)
}

func (h *heard) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.lines, func(l string) bool { return strings.Contains(l, text) })
}

func pool(t *testing.T, addresses ...string) *builders.Pool {
	t.Helper()
	cfg := builders.Config{Addresses: addresses, PerBuilder: 2, Wait: 300 * time.Millisecond}
	return builders.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func build(ctx context.Context, c *bkclient.Client) error {
	_, err := c.ControlClient().ListWorkers(ctx, &controlapi.ListWorkersRequest{})
	return err
}

// order finds which builder is the first for a key.
func order(t *testing.T, key string, bs ...*builder) (first, second *builder) {
	t.Helper()
	var all []builders.Builder
	for _, b := range bs {
		all = append(all, builders.Builder{Name: b.address, Address: b.address})
	}
	byAddress := map[string]*builder{}
	for _, b := range bs {
		byAddress[b.address] = b
	}
	ranked := builders.Rank(all, key)
	return byAddress[ranked[0].Address], byAddress[ranked[1].Address]
}

// began waits for a build on a builder.
func began(t *testing.T, b *builder, what string) {
	t.Helper()
	select {
	case <-b.started:
	case <-time.After(10 * time.Second):
		t.Fatalf("no build began: %s", what)
	}
}

func TestChoice(t *testing.T) {
	t.Parallel()
	a, b := startBuilder(t), startBuilder(t)
	first, second := order(t, "env", a, b)
	p := pool(t, a.address, b.address)
	var builds sync.WaitGroup
	start := func() {
		builds.Go(func() {
			if err := p.Use(t.Context(), "env", func(string) {}, build); err != nil {
				t.Error(err)
			}
		})
	}
	start()
	began(t, first, "the first of the key")
	start()
	began(t, first, "it has room for two")
	start()
	began(t, second, "the first is busy with builds of this hub")
	close(first.finish)
	close(second.finish)
	builds.Wait()

	first.mu.Lock()
	first.busy = 2
	first.mu.Unlock()
	start()
	began(t, second, "the first is busy with builds of other hubs")
	second.mu.Lock()
	second.busy = 9
	second.mu.Unlock()
	start()
	began(t, first, "both are busy, and the first does less")
	first.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	start()
	began(t, second, "the first is being drained")
	builds.Wait()
}

func TestLostBuilder(t *testing.T) {
	t.Parallel()
	a, b := startBuilder(t), startBuilder(t)
	first, second := order(t, "env", a, b)
	p := pool(t, a.address, b.address)
	var h heard
	done := make(chan error, 1)
	go func() { done <- p.Use(t.Context(), "env", h.say, build) }()
	began(t, first, "the first of the key")
	first.server.Stop()
	began(t, second, "the first is gone")
	close(second.finish)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !h.has("went away in the middle of the build") {
		t.Errorf("the user was told %q", h.lines)
	}
}

// TestOwnErrors: a build that fails is not begun again, and one whose context
// ends says why.
func TestOwnErrors(t *testing.T) {
	t.Parallel()
	a := startBuilder(t)
	p := pool(t, a.address)
	want, runs := errors.New("it does not compile"), 0
	err := p.Use(t.Context(), "env", func(string) {}, func(context.Context, *bkclient.Client) error { runs++; return want })
	if !errors.Is(err, want) || runs != 1 {
		t.Errorf("%v after %d runs", err, runs)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	err = p.Use(ctx, "env", func(string) {}, func(ctx context.Context, _ *bkclient.Client) error { cancel(want); return context.Cause(ctx) })
	if !errors.Is(err, want) {
		t.Errorf("canceled, it says %v", err)
	}
}

// TestEveryBuilderLost: a build that takes its builders down is not begun for ever.
func TestEveryBuilderLost(t *testing.T) {
	t.Parallel()
	all := map[string]*builder{}
	var addresses []string
	for range builders.Attempts + 1 {
		b := startBuilder(t)
		all[b.address] = b
		addresses = append(addresses, b.address)
	}
	left := len(all)
	err := pool(t, addresses...).Use(t.Context(), "env", func(string) {}, func(ctx context.Context, c *bkclient.Client) error {
		left--
		go build(ctx, c) //nolint:errcheck // it is ended with its builder
		for {
			for _, b := range all {
				select {
				case <-b.started:
					b.server.Stop()
					<-ctx.Done()
					return context.Cause(ctx)
				case <-time.After(time.Millisecond):
				}
			}
		}
	})
	if binnacle.CodeOf(err) != binnacle.CodeUnavailable || left != 1 {
		t.Errorf("%v, with %d builders left", err, left)
	}
}

func TestNoBuilder(t *testing.T) {
	t.Parallel()
	a := startBuilder(t)
	a.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	var h heard
	err := pool(t, a.address).Use(t.Context(), "env", h.say, build)
	if binnacle.CodeOf(err) != binnacle.CodeUnavailable || !strings.Contains(err.Error(), "takes no more builds") {
		t.Errorf("without a builder: %v", err)
	}
	if !h.has("waits for one") {
		t.Errorf("the user was told %q", h.lines)
	}
}

// TestRank: a builder that goes moves only its own keys, and each has its share.
func TestRank(t *testing.T) {
	t.Parallel()
	var all []builders.Builder
	for i := range 4 {
		all = append(all, builders.Builder{Name: fmt.Sprintf("builder-%d", i), Address: fmt.Sprintf("192.0.2.%d:1", i)})
	}
	const keys = 2000
	share := map[string]int{}
	for i := range keys {
		key := fmt.Sprint("env", i)
		ranked := builders.Rank(all, key)
		share[ranked[0].Name]++
		without := slices.DeleteFunc(slices.Clone(all), func(b builders.Builder) bool { return b == ranked[0] })
		if diff := cmp.Diff(ranked[1:], builders.Rank(without, key)); diff != "" {
			t.Fatalf("%s: the others changed their order: %s", key, diff)
		}
		moved := slices.Clone(all)
		for i := range moved {
			moved[i].Address = fmt.Sprintf("198.51.100.%d:1", i)
		}
		if got := builders.Rank(moved, key)[0].Name; got != ranked[0].Name {
			t.Fatalf("%s moved from %s to %s, which only have other addresses", key, ranked[0].Name, got)
		}
	}
	for name, n := range share {
		if n < keys/4-150 || n > keys/4+150 {
			t.Errorf("%s has %d of %d keys", name, n, keys)
		}
	}
}

func slice(name string, family discoveryv1.AddressType, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "hub", Labels: map[string]string{discoveryv1.LabelServiceName: "builders"}},
		AddressType: family, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: new("metrics"), Port: new(int32(9))}, {Name: new("buildkit"), Port: new(int32(1234))}},
	}
}

func endpoint(pod, address string, ready, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{address}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Terminating: &terminating},
	}
}

func TestEndpointSlices(t *testing.T) {
	t.Parallel()
	four := slice("a", discoveryv1.AddressTypeIPv4, endpoint("b-0", "192.0.2.1", true, false), endpoint("b-1", "192.0.2.2", false, false), endpoint("b-2", "192.0.2.3", true, true))
	six := slice("b", discoveryv1.AddressTypeIPv6, endpoint("b-0", "2001:db8::1", true, false), endpoint("b-3", "2001:db8::3", true, false))
	other := slice("c", discoveryv1.AddressTypeIPv4, endpoint("x", "192.0.2.9", true, false))
	other.Labels[discoveryv1.LabelServiceName] = "other"
	cluster := fake.NewClientset(four, six, other)
	p := builders.New(builders.Config{Service: "builders", Namespace: "hub", PerBuilder: 1, Wait: time.Second}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, cluster) }()
	want := func(what string, want ...builders.Builder) {
		t.Helper()
		var got []builders.Builder
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if got = p.Builders(); cmp.Equal(want, got) {
				return
			}
			<-time.After(5 * time.Millisecond)
		}
		t.Errorf("%s: %s", what, cmp.Diff(want, got))
	}
	zero, three := builders.Builder{Name: "b-0", Address: "192.0.2.1:1234"}, builders.Builder{Name: "b-3", Address: "[2001:db8::3]:1234"}
	want("at the start", zero, three)
	four = four.DeepCopy()
	four.Endpoints[1].Conditions.Ready = new(true)
	if _, err := cluster.DiscoveryV1().EndpointSlices("hub").Update(ctx, four, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	want("one became ready", zero, builders.Builder{Name: "b-1", Address: "192.0.2.2:1234"}, three)
	if err := cluster.DiscoveryV1().EndpointSlices("hub").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	want("a slice is gone", builders.Builder{Name: "b-0", Address: "[2001:db8::1]:1234"}, three)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := builders.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	bad := builders.Config{Service: "s", Addresses: []string{"nowhere"}}
	for _, want := range []string{"choose one", "nowhere", "per_builder", "wait"} {
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %q", err, want)
		}
	}
}
