package e2e_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/jupyter"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// database is the hub's PostgreSQL, on this machine: the chart's own image is not
// within reach of tests. Pods reach it through a door on the cluster's network.
func (h *clusterHub) database(t *testing.T, host string) {
	t.Helper()
	h.postgres = postgres.Start(t)
	inside, err := url.Parse(h.postgres.Database())
	if err != nil {
		t.Fatal(err)
	}
	door, err := new(net.ListenConfig).Listen(t.Context(), "tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	ctx, to := context.WithoutCancel(t.Context()), inside.Host
	open.Go(func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			open.Go(func() { forward(ctx, c, to) })
		}
	})
	t.Cleanup(func() {
		h.uninstall(t) // replicas keep connections
		if err := door.Close(); err != nil {
			t.Error(err)
		}
		open.Wait()
	})
	inside.Host = door.Addr().String()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "hub-database"}, StringData: map[string]string{"url": inside.String()}}
	if _, err := h.Client.CoreV1().Secrets(h.namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// forward joins two connections until one ends.
func forward(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	d, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return // the database is down: the hub sees its connection end
	}
	defer d.Close()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(d, c); _ = d.Close() })
	both.Go(func() { _, _ = io.Copy(c, d); _ = c.Close() })
	both.Wait()
}

// replicas: whichever replica is killed, the leader too, sessions and their
// kernels go on, and so does a launch that it was at work on.
func (h *clusterHub) replicas(t *testing.T, repo *githost.Repo) {
	t.Helper()
	l, s := ready(t, h.person, launchOf(repo.URL))
	k := kernelWith12Knots(t, s)
	// Somebody works through a replica, which is killed.
	serves := h.each(t)[0]
	through := s
	through.URL = strings.Replace(s.URL, h.url, serves.url, 1)
	direct, err := through.Attach(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	runCell(t, direct, "print(knots + 2)", "14")
	h.killPod(t, serves.name)
	_ = k.Close() // it may have been this replica's too
	k = h.attach(t, s, k.ID)
	runCell(t, k, "print(knots + 3)", "15")
	_ = direct.Close()
	eventually(t, "two replicas are ready again", func() bool { return len(h.ready(t)) == 2 })
	leaders := map[string]bool{}
	for range 2 {
		leader := h.leads(t)
		leaders[leader] = true
		slow := h.slow(t)
		b, err := h.person.Launch(t.Context(), binnacle.LaunchRequest{Repo: slow, BuildOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		h.killPod(t, leader)
		eventually(t, "another replica leads", func() bool { return h.leads(t) != leader })
		again := h.attach(t, s, k.ID)
		runCell(t, again, "knots += 1; print(knots > 12)", "True")
		_ = k.Close() // its replica may be gone
		k = again
		h.ends(t, b.ID)
	}
	if len(leaders) < 2 {
		t.Errorf("only %v led", leaders)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

// replica is one of the hub's, reached past the load balancer.
type replica struct {
	name, url string
	client    *http.Client
}

// each is all that are ready.
func (h *clusterHub) each(t *testing.T) []replica {
	t.Helper()
	all := h.ready(t)
	if len(all) < 2 {
		t.Fatalf("%d replicas are ready", len(all))
	}
	return all
}

func (h *clusterHub) ready(t *testing.T) []replica {
	t.Helper()
	pods, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=hub"})
	if err != nil {
		t.Fatal(err)
	}
	var all []replica
	for _, p := range pods.Items {
		if !isReady(&p) || p.DeletionTimestamp != nil {
			continue
		}
		for _, port := range p.Spec.Containers[0].Ports {
			if port.Name == "http" {
				all = append(all, replica{
					p.Name, "http://" + net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(port.ContainerPort))) + "/",
					&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2000}},
				})
			}
		}
	}
	return all
}

// status is what a session answers for a path, which begins with its id.
func (r replica) status(ctx context.Context, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"user/"+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}

// together: through every replica it is the same hub. Who opens a link again gets
// the launch that is under way, and a session is known as soon as it is made.
func (h *clusterHub) together(t *testing.T, repo *githost.Repo) {
	t.Helper()
	eventually(t, "two replicas are ready again", func() bool { return len(h.ready(t)) == 2 })
	doors := h.each(t)
	first := &person{Client: dial(doors[0].url).WithToken(h.person.Token()), asked: h.person.asked}
	defer func() { h.person.asked = first.asked }()
	wish := binnacle.LaunchRequest{Repo: h.slow(t), BuildOnly: true}
	l, err := first.Launch(t.Context(), wish)
	if err != nil {
		t.Fatal(err)
	}
	second := dial(doors[1].url).WithToken(first.Token())
	again, err := second.Launch(t.Context(), wish)
	if err != nil || again.ID != l.ID {
		t.Errorf("the link opened again through the other replica: %s and %s, %v", l.ID, again.ID, err)
	}
	// A stranger with the same link is sent to the other replica: one of them follows.
	theirs, events := launch(t, dial(doors[1].url), wish)
	mine, own := follow(t, second, l.ID)
	if theirs.Phase != binnacle.PhaseReady || mine.Phase != binnacle.PhaseReady || builtIt(events) == builtIt(own) {
		t.Errorf("%+v\n%s\n%+v\n%s", theirs.Error, logOf(events), mine.Error, logOf(own))
	}
	for range 3 {
		l, _ := launch(t, first, launchOf(repo.URL))
		there, err := second.Get(t.Context(), l.ID)
		if err != nil || there.Session == nil {
			t.Fatalf("made through one replica, unknown to the other: %+v %v", there, err)
		}
		if code, err := doors[1].status(t.Context(), there.Session.ID+"/api/status?token="+there.Session.Token); err != nil || code != http.StatusOK {
			t.Errorf("its first request through the other replica: %d %v", code, err)
		}
		if err := second.Stop(t.Context(), there.Session.ID); err != nil {
			t.Error(err)
		}
	}
}

// builtIt says whether a launch had its image built, and did not follow another's build.
func builtIt(events []binnacle.Event) bool {
	text := logOf(events)
	return strings.Contains(text, "▸ postBuild") && !strings.Contains(text, "This one follows that build.")
}

// slow is a repository whose build takes some seconds.
func (h *clusterHub) slow(t *testing.T) string {
	t.Helper()
	h.made++
	wants := read(t, "../../examples/requirements/requirements.txt")
	dir := plainDir(t, map[string]string{"requirements.txt": wants, "postBuild": "#!/bin/bash\nsleep 4\n", "n.txt": string(rune('a' + h.made))})
	if err := os.Chmod(filepath.Join(dir, "postBuild"), 0o755); err != nil {
		t.Fatal(err)
	}
	repo, err := h.git.Repo(t.Context(), "slow-"+string(rune('a'+h.made)), dir)
	if err != nil {
		t.Fatal(err)
	}
	return repo.URL
}

// leads is the ready replica that holds the hub's Lease. One that was killed holds
// it until it runs out.
func (h *clusterHub) leads(t *testing.T) string {
	t.Helper()
	var leader string
	eventually(t, "a replica that is ready leads", func() bool {
		lease, err := h.Client.CoordinationV1().Leases(h.namespace).Get(t.Context(), h.namespace, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		leader = ""
		if holder := lease.Spec.HolderIdentity; holder != nil {
			leader = *holder
		}
		return slices.ContainsFunc(h.ready(t), func(r replica) bool { return r.name == leader })
	})
	return leader
}

func (h *clusterHub) killPod(t *testing.T, name string) {
	t.Helper()
	if err := h.Client.CoreV1().Pods(h.namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
}

// attach connects to a kernel as JupyterLab does: until it succeeds.
func (h *clusterHub) attach(t *testing.T, s jupyter.Server, id string) *jupyter.Kernel {
	t.Helper()
	var k *jupyter.Kernel
	eventually(t, "a kernel is reached again", func() (ok bool) {
		var err error
		k, err = s.Attach(t.Context(), id)
		return err == nil
	})
	return k
}

// ends follows a launch to its end over replicas that go away.
func (h *clusterHub) ends(t *testing.T, id string) {
	t.Helper()
	var last int64
	var text string
	eventually(t, "the launch ends", func() bool {
		err := h.person.Events(t.Context(), id, last, func(e binnacle.Event) error {
			if e.ID != last+1 {
				t.Errorf("event %d follows %d", e.ID, last)
			}
			last, text = e.ID, text+e.Message+"\n"
			return nil
		})
		l, gerr := h.person.Get(t.Context(), id)
		return errors.Join(err, gerr) == nil && l.Phase.Final()
	})
	if l, err := h.person.Get(t.Context(), id); err != nil || l.Phase != binnacle.PhaseReady {
		t.Errorf("%+v %v\n%s", l, err, text)
	}
}

// withoutDatabase: PostgreSQL crashes and comes back in the middle of a build.
func (h *clusterHub) withoutDatabase(t *testing.T) {
	t.Helper()
	l, err := h.person.Launch(t.Context(), binnacle.LaunchRequest{Repo: h.slow(t), BuildOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	h.postgres.Crash()
	<-time.After(2 * time.Second)
	h.postgres.Up()
	h.ends(t, l.ID)
}

// counted: every launch that was asked for has an end, and people see it.
func (h *clusterHub) counted(t *testing.T) {
	t.Helper()
	all, err := h.person.Launches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, l := range all {
		there[l.ID] = true
		if !l.Phase.Final() {
			t.Errorf("%s is still in %s", l.ID, l.Phase)
		}
	}
	asked := map[string]bool{}
	for _, id := range h.person.asked {
		if asked[id] = true; !there[id] {
			t.Errorf("%s is lost", id)
		}
	}
	if len(asked) != len(all) || len(asked) < 15 {
		t.Errorf("%d launches were asked for, %d are there", len(asked), len(all))
	}
}
