package cluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// Credentials are those of a registry.
type Credentials struct {
	Host, Username string
	Password       config.Secret
}

// dockerConfig is the content of a Secret of type kubernetes.io/dockerconfigjson.
func (r *Credentials) dockerConfig() string {
	host := r.Host
	if host == "docker.io" || host == "" {
		host = "https://index.docker.io/v1/" // as every client calls Docker Hub in such files
	}
	login := base64.StdEncoding.EncodeToString([]byte(r.Username + ":" + string(r.Password)))
	b, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"auth": login}}})
	if err != nil {
		return "" // texts can always be written
	}
	return string(b)
}

// The tokens of operations.
const (
	tokenApply = "apply"
	tokenGone  = "gone"
)

// Begin starts an operation. Only who holds the deployment's lock may; another
// one gets conflict.
func (c *Cloud) Begin(ctx context.Context, a deploy.Action, r deploy.Resource) (string, error) {
	if err := c.connect(ctx); err != nil {
		if a == deploy.ActionDelete && binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return "", nil
		}
		return "", err
	}
	if a == deploy.ActionDelete {
		return c.remove(ctx, r)
	}
	if r.Kind == KindNamespace {
		return "", c.makeNamespace(ctx, r)
	}
	if err := c.lock.take(ctx); err != nil {
		return "", err
	}
	if r.Kind == KindRelease {
		address, err := c.helm.Address(ctx, r.Name)
		if err != nil {
			return "", err
		}
		_, err = c.helm.Apply(ctx, r.Name, c.values(address), map[string]string{Label: c.o.Config.Name})
		return tokenApply, err
	}
	if r.Kind == KindToken {
		return "", c.putToken(ctx, r)
	}
	return "", c.putSecret(ctx, r)
}

// makeNamespace creates one as ours. One that is there is left as it is.
func (c *Cloud) makeNamespace(ctx context.Context, r deploy.Resource) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Name, Labels: map[string]string{Label: c.o.Config.Name}}}
	_, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return explain("create the namespace "+r.Name, err)
}

func (c *Cloud) putSecret(ctx context.Context, r deploy.Resource) error {
	secrets := c.client.CoreV1().Secrets(c.namespaceOf(r.Kind))
	if c.o.Registry == nil {
		return binnacle.Errorf(binnacle.CodeInvalid, "registry: there are no credentials to store.")
	}
	credentials, err := c.credentials(ctx)
	if err != nil {
		return err
	}
	return c.store(ctx, secrets, "the registry's credentials", &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: r.Name}, Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(credentials)},
	})
}

// tokenKey is the key of the token in its Secret, and the name of its file.
const tokenKey = "token"

// putToken stores the forge's token.
func (c *Cloud) putToken(ctx context.Context, r deploy.Resource) error {
	if c.o.Token == "" {
		return c.o.Config.Watch.NoToken("in the cluster")
	}
	return c.store(ctx, c.client.CoreV1().Secrets(c.o.Config.Namespace()), "the forge's token", &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: r.Name}, Type: corev1.SecretTypeOpaque, Data: map[string][]byte{tokenKey: []byte(c.o.Token)},
	})
}

// store makes a Secret ours, with its content.
func (c *Cloud) store(ctx context.Context, secrets typedcore.SecretInterface, what string, s *corev1.Secret) error {
	s.Labels = map[string]string{Label: c.o.Config.Name}
	_, err := secrets.Create(ctx, s, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return explain("store "+what, err)
	}
	have, err := secrets.Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil {
		return explain("read "+what, err)
	}
	if !c.ours(have.Labels) {
		return binnacle.Errorf(binnacle.CodeConflict, "The secret %s is there already and was not created by this deployment.", s.Name)
	}
	have.Data = s.Data
	_, err = secrets.Update(ctx, have, metav1.UpdateOptions{})
	return explain("store "+what, err)
}

// wanted says that stored credentials are those of the registry. Of a password that
// was made for the cluster nobody else knows what it is.
func (c *Cloud) wanted(stored []byte) bool {
	r := c.o.Registry
	if r == nil {
		return false
	}
	if r.Password != "" || c.o.Password == nil && c.o.Missing == nil {
		return string(stored) == r.dockerConfig()
	}
	var have struct {
		Auths map[string]struct {
			Auth []byte `json:"auth"`
		} `json:"auths"`
	}
	if json.Unmarshal(stored, &have) != nil {
		return false
	}
	user, password, _ := strings.Cut(string(have.Auths[r.Host].Auth), ":")
	return user == r.Username && password != ""
}

// credentials are what is stored for the registry: those of the file, those that
// the cluster has already, or new ones.
func (c *Cloud) credentials(ctx context.Context) (string, error) {
	r := *c.o.Registry
	if r.Password != "" || c.o.Password == nil && c.o.Missing == nil {
		return r.dockerConfig(), nil
	}
	if stored, err := c.stored(ctx); stored != "" || err != nil {
		return stored, err
	}
	if c.o.Missing != nil {
		return "", c.o.Missing
	}
	var err error
	if r.Password, err = c.o.Password(ctx); err != nil {
		return "", err
	}
	return r.dockerConfig(), nil
}

// stored are the credentials of the registry that the cluster has already; it may
// have none.
func (c *Cloud) stored(ctx context.Context) (string, error) {
	for _, kind := range []string{KindSecret, KindPull} {
		s, err := c.client.CoreV1().Secrets(c.namespaceOf(kind)).Get(ctx, c.secretName(), metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return "", explain("read the registry's credentials", err)
		}
		if err == nil && c.ours(s.Labels) && c.wanted(s.Data[corev1.DockerConfigJsonKey]) {
			return string(s.Data[corev1.DockerConfigJsonKey]), nil
		}
	}
	return "", nil
}

// remove deletes what is ours.
func (c *Cloud) remove(ctx context.Context, r deploy.Resource) (string, error) {
	have, err := c.Find(ctx, r)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !have.Ours {
		return "", binnacle.Errorf(binnacle.CodeForbidden, "The %s %s is not ours and stays.", r.Kind, r.Name)
	}
	now := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}
	switch r.Kind {
	case KindNamespace:
		c.lock.forget() // it goes with the namespace
		err = c.client.CoreV1().Namespaces().Delete(ctx, r.Name, now)
	case KindSecret, KindPull, KindToken:
		err = c.client.CoreV1().Secrets(c.namespaceOf(r.Kind)).Delete(ctx, r.Name, metav1.DeleteOptions{})
	case KindRelease:
		if err := c.lock.take(ctx); err != nil {
			return "", err
		}
		return tokenGone, c.helm.Uninstall(r.Name)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return "", explain("delete the "+r.Kind+" "+r.Name, err)
	}
	return tokenGone, nil
}

// Wait continues an operation until its end.
func (c *Cloud) Wait(ctx context.Context, r deploy.Resource, token string) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, context.DeadlineExceeded)
	defer cancel()
	switch {
	case token == tokenApply && r.Kind == KindRelease:
		return c.waitRelease(ctx, r)
	case token == tokenGone:
		return c.waitGone(ctx, r)
	}
	return binnacle.Errorf(binnacle.CodeNotFound, "There is no such operation.")
}

// waitRelease waits until the hub runs. A hub that is known by the address of
// its load balancer is told it as soon as there is one.
func (c *Cloud) waitRelease(ctx context.Context, r deploy.Resource) error {
	if err := c.helm.Wait(ctx, r.Name, c.o.Tell); err != nil {
		return err
	}
	have, err := c.Find(ctx, r)
	address := have.Outputs["address"]
	if err != nil || have.State == deploy.StateFailed || address == "" || !c.byAddress() || have.Spec[settingURL] == theAddress {
		return err
	}
	if err := c.lock.take(ctx); err != nil {
		return err
	}
	if _, err := c.helm.Apply(ctx, r.Name, c.values(address), map[string]string{Label: c.o.Config.Name}); err != nil {
		return err
	}
	return c.helm.Wait(ctx, r.Name, c.o.Tell)
}

// waitGone waits until a resource is away, with the volumes and pods that the
// chart keeps and the namespace of sessions.
func (c *Cloud) waitGone(ctx context.Context, r deploy.Resource) error {
	const pause = 300 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		left, err := c.left(ctx, r)
		if err != nil || left == "" {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Cause(ctx)
			}
			return &binnacle.Error{Code: binnacle.CodeTimeout, Op: "cluster.down", Message: "Still there: " + left + ".", Hint: "Run the same command again."}
		case <-tick.C:
		}
	}
}

// left names what of a resource is still there.
func (c *Cloud) left(ctx context.Context, r deploy.Resource) (string, error) {
	if r.Kind != KindRelease {
		_, err := c.Find(ctx, r)
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return "", nil
		}
		return r.Kind + " " + r.Name, err
	}
	ns := c.o.Config.Namespace()
	chosen := metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=binnacle,app.kubernetes.io/instance=" + r.Name}
	pods, err := c.client.CoreV1().Pods(ns).List(ctx, chosen)
	if err != nil {
		return "", explain("look at the pods", err)
	}
	if len(pods.Items) > 0 {
		return "pod " + pods.Items[0].Name, nil
	}
	// The chart keeps the database's volume when only the release goes; here all goes.
	volumes, err := c.client.CoreV1().PersistentVolumeClaims(ns).List(ctx, chosen)
	if err != nil {
		return "", explain("look at the volumes", err)
	}
	for _, v := range volumes.Items {
		if err := c.client.CoreV1().PersistentVolumeClaims(ns).Delete(ctx, v.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return "", explain("delete the volume "+v.Name, err)
		}
	}
	if len(volumes.Items) > 0 {
		return "volume " + volumes.Items[0].Name, nil
	}
	if err := c.client.CoreV1().ConfigMaps(ns).Delete(ctx, c.commitsName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return "", explain("delete what is known of commits", err)
	}
	_, err = c.client.CoreV1().Namespaces().Get(ctx, c.sessions(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return "", nil
	}
	return "namespace " + c.sessions(), explain("look at the namespace of sessions", err)
}

// foreign lists what of others is in our namespace: it would go with it.
func (c *Cloud) foreign(ctx context.Context) ([]deploy.Resource, error) {
	var out []deploy.Resource
	ns, all := c.o.Config.Namespace(), metav1.ListOptions{}
	add := func(kind string, m metav1.ObjectMeta) {
		known := c.ours(m.Labels) || m.Labels["app.kubernetes.io/instance"] == c.o.Config.Name || m.Labels["owner"] == "helm" || len(m.OwnerReferences) > 0
		if !known && !slices.Contains([]string{"kube-root-ca.crt", "default"}, m.Name) {
			out = append(out, deploy.Resource{Kind: kind, Name: m.Name, ID: string(m.UID), State: deploy.StateReady})
		}
	}
	deployments, err := c.client.AppsV1().Deployments(ns).List(ctx, all)
	if err != nil {
		return nil, explain("list deployments", err)
	}
	for _, o := range deployments.Items {
		add("deployment", o.ObjectMeta)
	}
	sets, err := c.client.AppsV1().StatefulSets(ns).List(ctx, all)
	if err != nil {
		return nil, explain("list stateful sets", err)
	}
	for _, o := range sets.Items {
		add("stateful set", o.ObjectMeta)
	}
	core := c.client.CoreV1()
	pods, err := core.Pods(ns).List(ctx, all)
	if err != nil {
		return nil, explain("list pods", err)
	}
	for _, o := range pods.Items {
		add("pod", o.ObjectMeta)
	}
	volumes, err := core.PersistentVolumeClaims(ns).List(ctx, all)
	if err != nil {
		return nil, explain("list volumes", err)
	}
	for _, o := range volumes.Items {
		add("volume", o.ObjectMeta)
	}
	secrets, err := core.Secrets(ns).List(ctx, all)
	if err != nil {
		return nil, explain("list secrets", err)
	}
	for _, o := range secrets.Items {
		add("foreign secret", o.ObjectMeta)
	}
	maps, err := core.ConfigMaps(ns).List(ctx, all)
	if err != nil {
		return nil, explain("list config maps", err)
	}
	for _, o := range maps.Items {
		add("config map", o.ObjectMeta)
	}
	return out, nil
}
