package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// balancer is the cloud's load balancer: it gives each Service of type
// LoadBalancer a loopback address of this machine and carries TCP connections
// from there to the Service. UDP is not carried.
type balancer struct {
	*cluster
	work    sync.WaitGroup
	mu      sync.Mutex
	address map[string]netip.Addr // by namespace/name
	open    map[string]net.Listener
}

// run watches Services until ctx is done. Changes are handled one by one.
func (b *balancer) run(ctx context.Context) error {
	b.address, b.open = map[string]netip.Addr{}, map[string]net.Listener{}
	factory := informers.NewSharedInformerFactory(b.client, time.Minute)
	informer := factory.Core().V1().Services().Informer()
	handle := func(obj any) {
		if svc, ok := obj.(*corev1.Service); ok {
			if err := b.serve(ctx, svc); err != nil && ctx.Err() == nil {
				b.log.WarnContext(ctx, "a load balancer is not right", "service", svc.Namespace+"/"+svc.Name, "error", err)
			}
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, obj any) { handle(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if svc, ok := obj.(*corev1.Service); ok {
				b.release(svc.Namespace + "/" + svc.Name)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch services: %w", err)
	}
	factory.StartWithContext(ctx)
	<-ctx.Done()
	factory.Shutdown()
	b.mu.Lock()
	for _, l := range b.open {
		_ = l.Close()
	}
	b.mu.Unlock()
	b.work.Wait()
	return nil
}

// serve opens what a Service wants, closes what it no longer wants, and tells
// the address in its status.
func (b *balancer) serve(ctx context.Context, svc *corev1.Service) error {
	key := svc.Namespace + "/" + svc.Name
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.Spec.LoadBalancerClass != nil {
		b.release(key)
		return nil
	}
	addr, err := b.reserve(key, svc)
	if err != nil {
		return err
	}
	wanted := map[string]string{} // from listener to service
	for _, p := range svc.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			port := strconv.Itoa(int(p.Port))
			wanted[net.JoinHostPort(addr.String(), port)] = net.JoinHostPort(svc.Spec.ClusterIP, port)
		}
	}
	if err := b.listen(ctx, key, wanted); err != nil {
		return err
	}
	status := []corev1.LoadBalancerIngress{{IP: addr.String(), IPMode: new(corev1.LoadBalancerIPModeProxy)}}
	if slices.EqualFunc(svc.Status.LoadBalancer.Ingress, status, func(x, y corev1.LoadBalancerIngress) bool { return x.IP == y.IP }) {
		return nil
	}
	svc = svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = status
	_, err = b.client.CoreV1().Services(svc.Namespace).UpdateStatus(ctx, svc, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the next change comes
	}
	return err
}

// reserve gives a Service the address it has, the one it asks for if that is
// ours and free, or any free one.
func (b *balancer) reserve(key string, svc *corev1.Service) (netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.address[key]; ok {
		return a, nil
	}
	const last = 254
	used := map[netip.Addr]bool{}
	for _, a := range b.address {
		used[a] = true
	}
	asked, _ := netip.ParseAddr(svc.Spec.LoadBalancerIP)
	for i := 1; i <= last; i++ {
		if a := b.balancer(i); a == asked && !used[a] {
			b.address[key] = a
			return a, nil
		}
	}
	for i := 1; i <= last; i++ {
		if a := b.balancer(i); !used[a] {
			b.address[key] = a
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address is free for %s", svc.Name)
}

func (b *balancer) listen(ctx context.Context, key string, wanted map[string]string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.open {
		if owner, at, _ := strings.Cut(id, " "); owner == key && wanted[at] == "" {
			delete(b.open, id)
			_ = l.Close()
		}
	}
	for at, to := range wanted {
		if b.open[key+" "+at] != nil {
			continue
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", at, err)
		}
		b.open[key+" "+at] = l
		b.work.Go(func() { b.accept(ctx, l, to) })
	}
	return nil
}

func (b *balancer) accept(ctx context.Context, l net.Listener, to string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		b.work.Go(func() { carry(ctx, conn, to) })
	}
}

// carry moves bytes both ways until both are done.
func carry(ctx context.Context, in net.Conn, to string) {
	defer in.Close()
	out, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", to)
	if err != nil {
		if t, ok := in.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // refused is told as refused
		}
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
	defer stop()
	var both sync.WaitGroup
	pipe := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if t, ok := dst.(*net.TCPConn); ok && err == nil {
			_ = t.CloseWrite()
		} else {
			_, _ = dst.Close(), src.Close()
		}
	}
	both.Go(func() { pipe(out, in) })
	both.Go(func() { pipe(in, out) })
	both.Wait()
}

func (b *balancer) release(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.address, key)
	for id, l := range b.open {
		if owner, _, _ := strings.Cut(id, " "); owner == key {
			delete(b.open, id)
			_ = l.Close()
		}
	}
}
