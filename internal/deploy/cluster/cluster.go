// Package cluster deploys to a Kubernetes that is there: a namespace, the
// registry's credentials as Secrets, and the chart's release.
//
// What it creates has the label [Label]; nothing without it is changed or
// deleted. A namespace that was there before is used and stays.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

// Label marks what is ours; its value is the deployment's name.
const Label = "binnacle-deployment"

// The kinds of resources.
const (
	KindNamespace = "namespace"
	KindSecret    = "secret"
	KindPull      = "pull secret"
	KindRelease   = "release"
	KindToken     = "token"
)

// Kinds lists them.
func Kinds() []string {
	return []string{KindNamespace, KindSecret, KindRelease, KindPull, KindToken}
}

// Options are what a [Cloud] is made from.
type Options struct {
	Config config.Config
	// Connect says how the cluster is reached. It is called when that is first
	// needed; not_found means that the cluster is not there yet.
	Connect func(context.Context) (release.Access, error)
	// Where is what people call the cluster.
	Where string
	// Domain is the name people reach the hub by; empty is the load balancer's
	// address.
	Domain string
	// Also are further names that lead to the hub and get certificates.
	Also []string
	// Version of Binnacle that is installed.
	Version string
	// Registry has the credentials of the registry; nil for none.
	Registry *Credentials
	// Password makes the registry's password where the cluster has none yet; nil
	// when Registry has one.
	Password func(context.Context) (config.Secret, error)
	// Missing is why the registry's password is not here, nil when it is or is not
	// needed. The one that the cluster has stays then.
	Missing error
	// Registries is how registries are reached from here, to try logins; nil tries none.
	Registries http.RoundTripper
	// Token is the forge's, for who follows the repository. Where it is empty, the one
	// that the cluster has stays.
	Token config.Secret
	// Inside says that we are a part of the deployment: secrets are those that the
	// cluster has, and rights are those of an upgrade.
	Inside bool
	// Values are the chart's, beside those that follow from the configuration.
	Values map[string]any
	// Holder says in words who works on the deployment, for others to read.
	Holder string
	// Timeout is how long the hub may take until it runs; 0 is [DefaultTimeout].
	Timeout time.Duration
	// Tell is told how it goes while we wait; nil tells nobody.
	Tell func(string)
	Log  *slog.Logger
	// Within is the key of a resource that takes all of this with it when it is
	// deleted; empty for none.
	Within string
}

// DefaultTimeout is enough for a new node to fetch images.
const DefaultTimeout = 15 * time.Minute

// Cloud is one deployment on a cluster.
type Cloud struct {
	o Options

	mu     sync.Mutex // guards connecting
	helm   *release.Client
	client kubernetes.Interface
	lock   *lock
}

var (
	_ deploy.Cloud      = (*Cloud)(nil)
	_ deploy.Identifier = (*Cloud)(nil)
)

// New makes a cloud; it does not connect yet. Close it.
func New(o Options) *Cloud {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return &Cloud{o: o}
}

// connect makes the clients, once. Returns not_found when there is no cluster,
// and invalid for a kubeconfig that can't be used.
func (c *Cloud) connect(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.helm != nil {
		return nil
	}
	access, err := c.o.Connect(ctx)
	if err != nil {
		return err
	}
	helm, err := release.New(access, c.o.Config.Namespace(), c.o.Version, c.o.Log)
	if err != nil {
		return err
	}
	c.helm, c.client = helm, helm.Kubernetes()
	c.lock = newLock(c.client, c.o.Config.Namespace(), c.o.Config.Name, c.o.Holder, c.o.Tell)
	return nil
}

// Close gives the deployment's lock back.
func (c *Cloud) Close(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock == nil {
		return nil
	}
	return c.lock.release(ctx)
}

// Sweep removes what a run that was killed may have left beside the deployment: its
// lock.
func (c *Cloud) Sweep(ctx context.Context) error {
	if err := c.connect(ctx); err != nil {
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return nil
		}
		return err
	}
	return c.lock.sweep(ctx)
}

// Lock takes the deployment's lock, for what is done beside plans; Close gives
// it back. Returns conflict when another run has it.
func (c *Cloud) Lock(ctx context.Context) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	return c.lock.take(ctx)
}

// Helm is the release's own client, for what is done beside plans.
func (c *Cloud) Helm(ctx context.Context) (*release.Client, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c.helm, nil
}

// Who is a line for people.
func (c *Cloud) Who(context.Context) (string, error) {
	return fmt.Sprintf("%s, namespace %s", c.o.Where, c.o.Config.Namespace()), nil
}

// tokenName is the Secret with the forge's token, or empty.
func (c *Cloud) tokenName() string {
	if c.o.Config.Watch.Repository == "" || c.o.Config.Watch.TokenFrom == "" {
		return ""
	}
	return c.o.Config.Name + "-watch"
}

// secretName is that of the registry's credentials.
func (c *Cloud) secretName() string { return c.o.Config.Name + "-registry" }

// sessions is the namespace of sessions, which the chart makes.
func (c *Cloud) sessions() string { return c.o.Config.Namespace() + "-sessions" }

// asWanted is the setting of a Secret: its content is never shown.
const asWanted = "as the file says"

// Wanted lists the resources in the order they are created in.
func (c *Cloud) Wanted(context.Context) ([]deploy.Resource, error) {
	ns := deploy.Resource{Kind: KindNamespace, Name: c.o.Config.Namespace(), Shared: true, Holds: true, Within: c.o.Within}
	rs := []deploy.Resource{ns}
	if c.o.Registry != nil {
		rs = append(rs, deploy.Resource{Kind: KindSecret, Name: c.secretName(), Spec: map[string]string{"credentials": asWanted}, Within: c.o.Within})
	}
	if name := c.tokenName(); name != "" {
		rs = append(rs, deploy.Resource{Kind: KindToken, Name: name, Spec: map[string]string{"token": asWanted}, Within: c.o.Within})
	}
	version := c.o.Version
	if version == "" { // a build without one
		ch, err := chart.Load("")
		if err != nil {
			return nil, err
		}
		version = ch.Metadata.AppVersion
	}
	spec, err := c.spec(c.values(""), version)
	if err != nil {
		return nil, err
	}
	rel := deploy.Resource{Kind: KindRelease, Name: c.o.Config.Name, Spec: spec, Within: c.o.Within}
	rs = append(rs, rel)
	if c.o.Registry != nil {
		// Its namespace comes and goes with the release.
		within := rel.Key()
		if c.o.Within != "" {
			within = c.o.Within
		}
		rs = append(rs, deploy.Resource{Kind: KindPull, Name: c.secretName(), Spec: map[string]string{"credentials": asWanted}, Within: within})
	}
	return rs, nil
}

func (c *Cloud) ours(labels map[string]string) bool { return labels[Label] == c.o.Config.Name }

// Find reads a resource.
func (c *Cloud) Find(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
	if err := c.connect(ctx); err != nil {
		return r, err
	}
	switch r.Kind {
	case KindNamespace:
		ns, err := c.client.CoreV1().Namespaces().Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return r, missing(r, err)
		}
		out := c.found(r, ns.ObjectMeta)
		if ns.Status.Phase == corev1.NamespaceTerminating {
			out.State = deploy.StateDeleting
		}
		return out, nil
	case KindSecret, KindPull:
		s, err := c.client.CoreV1().Secrets(c.namespaceOf(r.Kind)).Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return r, missing(r, err)
		}
		out := c.found(r, s.ObjectMeta)
		out.Spec = map[string]string{"credentials": "others"}
		if c.wanted(s.Data[corev1.DockerConfigJsonKey]) {
			out.Spec["credentials"] = asWanted
		}
		return out, nil
	case KindToken:
		s, err := c.client.CoreV1().Secrets(c.o.Config.Namespace()).Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return r, missing(r, err)
		}
		out := c.found(r, s.ObjectMeta)
		out.Spec = map[string]string{"token": "another"}
		if have := string(s.Data[tokenKey]); have != "" && (c.o.Inside || c.o.Token == "" || have == string(c.o.Token)) {
			out.Spec["token"] = asWanted
		}
		return out, nil
	case KindRelease:
		return c.findRelease(ctx, r)
	}
	return r, binnacle.Errorf(binnacle.CodeInvalid, "Resources of the kind %q can't be handled.", r.Kind)
}

func (c *Cloud) namespaceOf(kind string) string {
	if kind == KindPull {
		return c.sessions()
	}
	return c.o.Config.Namespace()
}

// found is a resource as an object of the cluster says it is.
func (c *Cloud) found(r deploy.Resource, m metav1.ObjectMeta) deploy.Resource {
	out := deploy.Resource{
		Kind: r.Kind, Name: r.Name, ID: string(m.UID), Spec: map[string]string{}, Holds: r.Holds, Within: r.Within,
		Ours: c.ours(m.Labels), State: deploy.StateReady, Labels: m.Labels,
	}
	if len(r.Spec) == 0 {
		out.Spec = nil
	}
	if m.DeletionTimestamp != nil {
		out.State = deploy.StateDeleting
	}
	return out
}

func missing(r deploy.Resource, err error) error {
	if apierrors.IsNotFound(err) {
		return binnacle.Errorf(binnacle.CodeNotFound, "There is no %s %s.", r.Kind, r.Name)
	}
	return explain(fmt.Sprintf("look at the %s %s", r.Kind, r.Name), err)
}

// explain says in words what the cluster answered.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	e := &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "cluster", Message: fmt.Sprintf("It was not possible to %s: %v.", doing, err),
		Hint: "Is the cluster reachable? kubectl with the same context must work too.", Err: err,
	}
	switch {
	case apierrors.IsForbidden(err):
		e.Code, e.Hint = binnacle.CodeForbidden, "Ask the administrators of the cluster for this right; binnacle deploy check lists all that are missing."
	case apierrors.IsUnauthorized(err):
		e.Code, e.Hint = binnacle.CodeUnauthorized, "Sign in to the cluster again: the kubeconfig's credentials are not accepted."
	}
	return e
}

func (c *Cloud) findRelease(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
	have, err := c.helm.Current(r.Name)
	if err != nil {
		return r, err
	}
	out := deploy.Resource{
		Kind: r.Kind, Name: r.Name, ID: fmt.Sprintf("%s/%s.v%d", c.o.Config.Namespace(), r.Name, have.Revision),
		Ours: c.ours(have.Labels), State: deploy.StateReady, Labels: have.Labels, Within: r.Within,
		Outputs: map[string]string{"version": have.Version, "revision": strconv.Itoa(have.Revision)},
	}
	address, err := c.helm.Address(ctx, r.Name)
	if err != nil {
		return r, err
	}
	if out.Spec, err = c.spec(c.withoutAddress(have.Values, address), have.Version); err != nil {
		return r, err
	}
	if url := c.URL(address); url != "" {
		out.Outputs["url"] = url
	}
	if address != "" {
		out.Outputs["address"] = address
	}
	switch {
	case have.Pending():
		// Helm can't tell a run that goes on from one that was killed; the lock can.
		out.State, out.Reason = deploy.StateFailed, "An earlier run was killed while it worked on the release."
		held, err := c.lock.heldByOther(ctx)
		if err != nil {
			return r, err
		}
		if held {
			out.State = deploy.StateWorking
		}
	case !have.Deployed():
		out.State, out.Reason = deploy.StateFailed, have.Note
	default:
		err = c.health(ctx, &out)
	}
	return out, err
}

// health adds how the pods of the release are.
func (c *Cloud) health(ctx context.Context, out *deploy.Resource) error {
	list, err := c.helm.Workloads(ctx, out.Name)
	if err != nil {
		return err
	}
	for _, w := range list {
		text := fmt.Sprintf("%d of %d ready", w.Ready, w.Want)
		if w.Trouble != "" {
			text += ", " + w.Trouble
		}
		out.Outputs["pods of "+w.Component] = text
		if w.Stuck && !w.OK() {
			out.State, out.Reason = deploy.StateFailed, w.Component+" does not run: "+w.Trouble
		}
	}
	return nil
}

// List has the namespace, what of ours is in it, and what of others.
func (c *Cloud) List(ctx context.Context) ([]deploy.Resource, error) {
	wanted, err := c.Wanted(ctx)
	if err != nil {
		return nil, err
	}
	err = c.connect(ctx)
	if err == nil && c.o.Within != "" {
		_, err = c.o.Connect(ctx) // the cluster may have been deleted since
	}
	if binnacle.CodeOf(err) == binnacle.CodeNotFound || c.o.Within != "" && errors.Is(err, deploy.ErrAsleep) {
		return nil, nil // what is in it goes with it
	}
	if err != nil {
		return nil, err
	}
	var out []deploy.Resource
	// Credentials may be there from a time when the file had some.
	both := []deploy.Resource{{Kind: KindSecret, Name: c.secretName(), Within: c.o.Within}, {Kind: KindPull, Name: c.secretName(), Within: KindRelease + "/" + c.o.Config.Name}}
	if c.o.Registry == nil {
		wanted = append(wanted, both...)
	}
	if c.tokenName() == "" {
		wanted = append(wanted, deploy.Resource{Kind: KindToken, Name: c.o.Config.Name + "-watch", Within: c.o.Within})
	}
	for _, w := range wanted {
		have, err := c.Find(ctx, w)
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, have)
	}
	if len(out) > 0 && out[0].Kind == KindNamespace && out[0].Ours && c.o.Within == "" {
		foreign, err := c.foreign(ctx)
		return append(out, foreign...), err
	}
	return out, nil
}
