package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// backend answers for the servers of all simulated sessions, on this machine's
// address in the cluster.
func (b *clusterBench) backend() {
	b.t.Helper()
	host, _, err := net.SplitHostPort(b.Registry)
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(b.t.Context(), "tcp", host+":8888")
	if err != nil {
		b.t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "simulated") })}
	srv.SetKeepAlivesEnabled(false) // a connection that is kept would answer without a route
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() {
		_ = srv.Close()
		serving.Wait()
	})
	b.address = host
}

// until returns when a session's route answers, or does not any more.
func (r replica) until(ctx context.Context, id string, answers bool) error {
	for {
		code, err := r.status(ctx, id+"/api")
		if err == nil && (code == http.StatusOK) == answers {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of %s: %d: %w", id, r.name, code, errors.Join(err, ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mark writes into the API server that a simulated session runs, or is starting.
func (b *clusterBench) mark(ctx context.Context, id string, runs bool) error {
	status := b.template.Status.DeepCopy()
	b.simulated(status)
	if !runs {
		status.Phase, status.Conditions = corev1.PodPending, nil
		status.ContainerStatuses[0].Ready = false
		status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = b.Client.CoreV1().Pods(b.sessions).Patch(ctx, id, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// markAll marks sessions, 20 at once.
func (b *clusterBench) markAll(ids []string, runs bool) {
	b.t.Helper()
	b.paced(ids, 0, func(id string) {
		if err := b.mark(b.t.Context(), id, runs); err != nil {
			b.t.Error(err)
		}
	})
}

// paced does something for each session: that many a second, or as fast as 20 at
// once do it; it returns how many it were a second.
func (b *clusterBench) paced(ids []string, rate int, do func(id string)) float64 {
	next := make(chan string, len(ids)) // who is late does not slow the others down
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for id := range next {
				do(id)
			}
		})
	}
	began := time.Now()
	for i, id := range ids {
		if rate > 0 {
			<-time.After(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		}
		next <- id
	}
	close(next)
	all.Wait()
	return float64(len(ids)) / time.Since(began).Seconds()
}

// lags collects how long changes took to be seen, by replica.
type lags struct {
	mu   sync.Mutex
	took map[string][]float64 // in ms
}

func (l *lags) add(name string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.took == nil {
		l.took = map[string][]float64{}
	}
	l.took[name] = append(l.took[name], float64(time.Since(since).Microseconds())/1000)
}

// report has one value for each replica.
func (l *lags) report(b *clusterBench, what, note string) {
	b.t.Helper()
	for _, p := range []int{50, 99} {
		var values []float64
		for _, took := range l.took {
			slices.Sort(took)
			values = append(values, took[(len(took)-1)*p/100])
		}
		b.add(fmt.Sprintf("%s, p%d", what, p), "ms", note, values...)
	}
}

// routes measures how long after the API server's change a replica's route follows,
// while sessions become ready or go away at a pace.
func (b *clusterBench) routes(have int) {
	b.t.Helper()
	const seconds = 5
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	replicas := b.each(b.t)
	at := func(rate, n int) string {
		return fmt.Sprintf("%s a second, %d sessions there", map[bool]string{true: "as many as 20 writers make", false: strconv.Itoa(rate)}[rate == 0], n)
	}
	for _, rate := range []int{10, 50, 100, 200, 0} {
		n := rate * seconds
		if rate == 0 {
			n = min(have, 1000)
		}
		ids := some(0, min(n, have))
		b.markAll(ids, false)
		<-time.After(2 * time.Second) // until all replicas have seen that
		began := map[string]chan time.Time{}
		var seen lags
		var waiting sync.WaitGroup
		for _, id := range ids {
			for _, r := range replicas {
				start := make(chan time.Time, 1)
				began[id+r.name] = start
				waiting.Go(func() { // asked before: the answer comes as soon as there is a route
					if err := r.until(ctx, id, true); err != nil {
						b.t.Error(err)
						return
					}
					select {
					case t := <-start:
						seen.add(r.name, t)
					default:
						b.t.Errorf("%s answers through %s before it is ready", id, r.name)
					}
				})
			}
		}
		<-time.After(2 * time.Second) // until all of them wait
		made := b.paced(ids, rate, func(id string) {
			for _, r := range replicas {
				began[id+r.name] <- time.Now()
			}
			if err := b.mark(ctx, id, true); err != nil {
				b.t.Error(err)
			}
		})
		waiting.Wait()
		what := "sessions become ready, " + at(rate, have)
		b.add(what+": made", "1/s", "pods marked ready in the API server", made)
		seen.report(b, what+": until the route answers", "from before the write to the answer through one replica; one value for each")
	}
	b.gone(ctx, replicas, have, 50, seconds)
}

// gone measures how long routes answer for pods that are deleted. It makes them anew.
func (b *clusterBench) gone(ctx context.Context, replicas []replica, have, rate, seconds int) {
	b.t.Helper()
	ids := some(have-rate*seconds, have)
	var seen lags
	var waiting sync.WaitGroup
	made := b.paced(ids, rate, func(id string) {
		began := time.Now()
		if err := b.Client.CoreV1().Pods(b.sessions).Delete(ctx, id, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			b.t.Error(err)
			return
		}
		for _, r := range replicas {
			waiting.Go(func() {
				if err := r.until(ctx, id, false); err != nil {
					b.t.Error(err)
					return
				}
				seen.add(r.name, began)
			})
		}
	})
	waiting.Wait()
	what := fmt.Sprintf("sessions' pods are deleted, %d a second, %d sessions there", rate, have)
	b.add(what+": made", "1/s", "pods deleted in the API server", made)
	seen.report(b, what+": until the route does not answer", "looked at every 5 ms; one value for each replica")
	b.simulate(have-rate*seconds, have)
}

func some(from, to int) []string {
	var ids []string
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprintf("simulated-%d", i))
	}
	return ids
}

// resync ends the watches of running replicas, with the API server's process, and
// measures what it takes until they follow again.
func (b *clusterBench) resync(n int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	replicas := b.each(b.t)
	for round := range 3 {
		id := fmt.Sprintf("simulated-%d", round)
		b.markAll([]string{id}, false)
		<-time.After(2 * time.Second)
		before := b.cpu()
		if err := b.Signal("kube-apiserver", syscall.SIGKILL); err != nil {
			b.t.Fatal(err)
		}
		down := time.Now()
		within(b.t, patience, "the API server has ended", func() bool {
			_, err := b.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Timeout(time.Second).DoRaw(ctx)
			return err != nil
		})
		for b.mark(ctx, id, true) != nil && ctx.Err() == nil { // the first write that it takes again
			<-time.After(10 * time.Millisecond)
		}
		up := time.Now()
		b.add(fmt.Sprintf("API server away, %d sessions there", n), "s", "killed and started again by the cluster of the tests: to its first write", up.Sub(down).Seconds())
		var seen lags
		var waiting sync.WaitGroup
		for _, r := range replicas {
			waiting.Go(func() {
				if err := r.until(ctx, id, true); err != nil {
					b.t.Error(err)
					return
				}
				seen.add(r.name, up)
			})
		}
		waiting.Wait()
		var values []float64
		for _, took := range seen.took {
			values = append(values, took[0]/1000)
		}
		b.add(fmt.Sprintf("watch of a running replica broke, %d sessions there: until it follows again", n), "s", "from the first write that the API server took again to the route that follows from it; one value for each replica", values...)
		<-time.After(5 * time.Second) // the rest of the list's work
		b.add(fmt.Sprintf("watch of a running replica broke, %d sessions there: CPU", n), "s", "of all replicas together, from the API server's end to 5 s after they follow again", b.cpu()-before)
	}
	b.add(fmt.Sprintf("hub memory after its watch broke three times, %d sessions there", n), "MiB", "resident; one value for each replica", b.memory()...)
}

// processes are the hub's on this machine: nodes are processes too.
func (b *clusterBench) processes() (pids []int) {
	b.t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, path := range found {
		if line, err := os.ReadFile(path); err == nil && string(line) == "binnacle\x00serve\x00" {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	if len(pids) == 0 {
		b.t.Fatal("the hub's process is not on this machine")
	}
	return pids
}

// cpu is what all replicas have used, in seconds.
func (b *clusterBench) cpu() (total float64) {
	b.t.Helper()
	for _, pid := range b.processes() {
		total += b.cpuOf(pid)
	}
	return total
}

func (b *clusterBench) cpuOf(pid int) float64 {
	b.t.Helper()
	const ticks = 100 // a second, as all Linux of today counts them
	f := strings.Fields(read(b.t, fmt.Sprintf("/proc/%d/stat", pid)))
	user, uerr := strconv.ParseFloat(f[13], 64)
	system, serr := strconv.ParseFloat(f[14], 64)
	if err := errors.Join(uerr, serr); err != nil {
		b.t.Fatal(err)
	}
	return (user + system) / ticks
}

// memory is each replica's, resident, in MiB.
func (b *clusterBench) memory() (values []float64) {
	b.t.Helper()
	for _, pid := range b.processes() {
		values = append(values, b.memoryOf(pid))
	}
	return values
}

func (b *clusterBench) memoryOf(pid int) float64 {
	b.t.Helper()
	for line := range strings.Lines(read(b.t, fmt.Sprintf("/proc/%d/status", pid))) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			if err != nil {
				b.t.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.t.Fatalf("process %d tells no memory", pid)
	return 0
}
