// Package release installs the embedded chart by Helm's SDK: install, upgrade,
// rollback, uninstall, and waiting until what was installed runs.
//
// A run that is killed leaves a release that Helm calls pending, for ever. Here
// [Client.Recover] marks it failed, and the next upgrade continues.
package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"helm.sh/helm/v4/pkg/action"
	helmkube "helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	v1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
)

// DefaultTimeout is for one operation of Helm; it does not wait for pods.
const DefaultTimeout = 5 * time.Minute

// keepRevisions is how far one can go back.
const keepRevisions = 10

// Release is what Helm knows of one revision.
type Release struct {
	Revision int               `json:"revision"`
	Status   string            `json:"status"`
	Version  string            `json:"version"` // of Binnacle
	Values   map[string]any    `json:"-"`
	Labels   map[string]string `json:"-"`
	Updated  time.Time         `json:"updated"`
	// Note is why it is in this state, in Helm's words or ours.
	Note string `json:"note,omitempty"`
}

// Pending says that an operation is under way, or was killed.
func (r Release) Pending() bool {
	s := common.Status(r.Status)
	return s.IsPending() || s == common.StatusUninstalling
}

// Deployed says that the revision is the one in use.
func (r Release) Deployed() bool { return common.Status(r.Status) == common.StatusDeployed }

// Superseded says that the revision was in use before another one.
func (r Release) Superseded() bool { return common.Status(r.Status) == common.StatusSuperseded }

// Client works on the releases of one namespace.
type Client struct {
	namespace string
	version   string
	client    kubernetes.Interface
	config    *rest.Config
	helm      *action.Configuration
	log       *slog.Logger
}

// New makes a client from a kubeconfig's content, for the version of the chart
// that is installed. It does not connect yet. Returns invalid for a kubeconfig
// without the context.
func New(a Access, namespace, version string, log *slog.Logger) (*Client, error) {
	g, err := a.getter(namespace)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(g.config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	helm := action.NewConfiguration(action.ConfigurationSetLogger(quiet{log.Handler()}))
	if err := helm.Init(g, namespace, "secret"); err != nil {
		return nil, fmt.Errorf("start helm: %w", err)
	}
	return &Client{namespace: namespace, version: version, client: client, config: g.config, helm: helm, log: log}, nil
}

// Kubernetes is the client of the cluster.
func (c *Client) Kubernetes() kubernetes.Interface { return c.client }

// quiet lets Helm's chatter through as details only: what matters comes back as
// errors.
type quiet struct{ slog.Handler }

// Enabled drops what Helm calls information.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && q.Handler.Enabled(ctx, l)
}

// WithAttrs stays quiet.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup stays quiet.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// Current is the newest revision of a release, whatever its state. Returns
// not_found when there is none.
func (c *Client) Current(name string) (Release, error) {
	all, err := c.History(name)
	if err != nil {
		return Release{}, err
	}
	return all[len(all)-1], nil
}

// History has the revisions of a release, oldest first. Returns not_found when
// there is none.
func (c *Client) History(name string) ([]Release, error) {
	list, err := c.helm.Releases.History(name)
	if errors.Is(err, driver.ErrReleaseNotFound) || err == nil && len(list) == 0 {
		return nil, binnacle.Errorf(binnacle.CodeNotFound, "No release %s is installed in the namespace %s.", name, c.namespace)
	}
	if err != nil {
		return nil, explain("read the release", err)
	}
	out := make([]Release, 0, len(list))
	for _, r := range list {
		rel, ok := r.(*v1.Release)
		if !ok {
			return nil, binnacle.Errorf(binnacle.CodeInternal, "A release of the kind %T is not known.", r)
		}
		out = append(out, read(rel))
	}
	sortByRevision(out)
	return out, nil
}

func read(r *v1.Release) Release {
	out := Release{Revision: r.Version, Values: r.Config, Labels: r.Labels}
	if r.Info != nil {
		out.Status, out.Note, out.Updated = string(r.Info.Status), r.Info.Description, r.Info.LastDeployed
	}
	if r.Chart != nil && r.Chart.Metadata != nil {
		out.Version = r.Chart.Metadata.AppVersion
	}
	return out
}

// Recover marks the newest revision failed when a killed run left it pending.
// The caller holds the deployment's lock: nobody else works on it.
func (c *Client) Recover(name string) error {
	last, err := c.helm.Releases.Last(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil
	}
	if err != nil {
		return explain("read the release", err)
	}
	rel, ok := last.(*v1.Release)
	if !ok || !read(rel).Pending() || rel.Info.Status == common.StatusUninstalling {
		return nil // what was being removed is removed again
	}
	rel.SetStatus(common.StatusFailed, "The run that worked on it was killed.")
	return explain("mend the release", c.helm.Releases.Update(rel))
}

// Apply installs the chart with the values, or upgrades what is there. It
// returns when the cluster has taken every object; [Client.Wait] waits until
// they run. Canceling lets the objects that are being written be written.
func (c *Client) Apply(ctx context.Context, name string, values map[string]any, labels map[string]string) (Release, error) {
	if err := c.Recover(name); err != nil {
		return Release{}, err
	}
	ch, err := chart.Load(c.version)
	if err != nil {
		return Release{}, err
	}
	// Helm changes what it is given.
	values, err = plain(values)
	if err != nil {
		return Release{}, err
	}
	have, err := c.Current(name)
	if err == nil && common.Status(have.Status) == common.StatusUninstalling {
		// A removal that was killed is finished first.
		if err := c.Uninstall(name); err != nil {
			return Release{}, err
		}
		_, err = c.Current(name)
	}
	var done any
	switch {
	case binnacle.CodeOf(err) == binnacle.CodeNotFound:
		in := action.NewInstall(c.helm)
		in.ReleaseName, in.Namespace, in.Timeout, in.Labels = name, c.namespace, DefaultTimeout, maps.Clone(labels)
		in.WaitStrategy, in.WaitOptions = helmkube.HookOnlyStrategy, []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
		done, err = in.RunWithContext(ctx, ch, values)
	case err == nil:
		up := action.NewUpgrade(c.helm)
		up.Namespace, up.Timeout, up.Labels, up.MaxHistory = c.namespace, DefaultTimeout, maps.Clone(labels), keepRevisions
		up.WaitStrategy, up.WaitOptions = helmkube.HookOnlyStrategy, []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
		// The chart is the only one who may own its objects' fields.
		up.ForceConflicts, up.ResetValues = true, true
		done, err = up.RunWithContext(ctx, name, ch, values)
	}
	if err != nil {
		return Release{}, explain("install the chart", err)
	}
	rel, ok := done.(*v1.Release)
	if !ok {
		return Release{}, binnacle.Errorf(binnacle.CodeInternal, "A release of the kind %T is not known.", done)
	}
	return read(rel), nil
}

// Previous is the newest revision before the current one that was in use.
// Returns not_found when there is none.
func (c *Client) Previous(name string) (Release, error) {
	all, err := c.History(name)
	if err != nil {
		return Release{}, err
	}
	for i := len(all) - 2; i >= 0; i-- {
		if common.Status(all[i].Status) == common.StatusSuperseded {
			return all[i], nil
		}
	}
	return Release{}, &binnacle.Error{
		Code: binnacle.CodeNotFound, Op: "release.previous", Message: fmt.Sprintf("There is no earlier revision of %s that ran.", name),
		Hint: "Change the file and run binnacle deploy up.",
	}
}

// Rollback goes back to a revision: to its values and its version of the chart.
func (c *Client) Rollback(name string, revision int) error {
	if err := c.Recover(name); err != nil {
		return err
	}
	rb := action.NewRollback(c.helm)
	rb.Version, rb.Timeout, rb.MaxHistory = revision, DefaultTimeout, keepRevisions
	rb.WaitStrategy, rb.ForceConflicts = helmkube.HookOnlyStrategy, true
	return explain("roll back", rb.Run(name))
}

// Uninstall removes the release and waits until its objects are gone. One that
// is not there is no error.
func (c *Client) Uninstall(name string) error {
	un := action.NewUninstall(c.helm)
	un.Timeout, un.IgnoreNotFound = DefaultTimeout, true
	un.WaitStrategy, un.DeletionPropagation = helmkube.LegacyStrategy, "foreground"
	_, err := un.Run(name)
	return explain("remove the release", err)
}
