package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	authorization "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// oldest is the first minor version of Kubernetes 1 that has what the chart uses.
const oldest = 30

// Check looks for what would go wrong: reachability, version, rights, storage,
// load balancer, registry, settings, the registry's login. It creates nothing.
func (c *Cloud) Check(ctx context.Context) ([]deploy.Finding, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	var v version.Info
	b, err := c.client.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return []deploy.Finding{{
			Name: "cluster", Message: fmt.Sprintf("%s does not answer: %v", c.o.Where, err),
			Hint: "Is this the right context? kubectl with the same context must work from here.",
		}}, nil
	}
	out := []deploy.Finding{{Name: "cluster", OK: true, Message: c.o.Where + " answers"}, versionFinding(v.Major, v.Minor, v.GitVersion)}
	for _, look := range []func(context.Context) (deploy.Finding, error){c.rights, c.storage, c.balancer, c.nodes} {
		f, err := look(ctx)
		if err != nil {
			return out, err
		}
		out = append(out, f)
	}
	f, err := c.token(ctx)
	return slices.Concat(out, f, c.CheckSettings(ctx)), err
}

// CheckSettings is the part of [Cloud.Check] that needs no cluster.
func (c *Cloud) CheckSettings(ctx context.Context) []deploy.Finding {
	registry := c.registry(ctx)
	if !registry.OK { // the chart would say so too
		return []deploy.Finding{registry}
	}
	settings := deploy.Finding{Name: "settings", OK: true, Message: "the chart takes them"}
	if err := chart.Refused(c.o.Config.Name, c.o.Config.Namespace(), c.values("")); err != nil {
		settings.OK, settings.Message, settings.Hint = false, err.Error(), "Mend it in the file's section values, or in the setting that it follows from."
	}
	return append([]deploy.Finding{registry, settings}, c.login(ctx)...)
}

// token looks for the forge's where there is none here.
func (c *Cloud) token(ctx context.Context) ([]deploy.Finding, error) {
	name := c.tokenName()
	if name == "" || c.o.Token != "" || c.o.Inside {
		return nil, nil
	}
	_, err := c.Find(ctx, deploy.Resource{Kind: KindToken, Name: name})
	if binnacle.CodeOf(err) != binnacle.CodeNotFound {
		return nil, err
	}
	e := c.o.Config.Watch.NoToken("in the cluster")
	return []deploy.Finding{{Name: "token", Message: e.Message, Hint: e.Hint}}, nil
}

func versionFinding(major, minor, full string) deploy.Finding {
	n, err := strconv.Atoi(strings.TrimRight(minor, "+"))
	f := deploy.Finding{Name: "version", OK: true, Message: "Kubernetes " + full}
	if major == "1" && err == nil && n < oldest {
		f.OK, f.Message, f.Hint = false, fmt.Sprintf("Kubernetes %s is too old: 1.%d is needed", full, oldest), "Upgrade the cluster, or name another."
	}
	return f
}

// right is something that the installation does. What stands after a slash is a
// part of the resource.
type right struct{ group, resource, namespace string }

func (c *Cloud) needed() []right {
	ns, sessions := c.o.Config.Namespace(), c.sessions()
	list := []right{
		{"", "secrets", ns},
		{"", "configmaps", ns},
		{"", "services", ns},
		{"", "serviceaccounts", ns},
		{"", "persistentvolumeclaims", ns},
		{"apps", "deployments", ns},
		{"apps", "statefulsets", ns},
		{"rbac.authorization.k8s.io", "roles", ns},
		{"rbac.authorization.k8s.io", "rolebindings", ns},
		{"networking.k8s.io", "networkpolicies", ns},
		{"policy", "poddisruptionbudgets", ns},
		{"coordination.k8s.io", "leases", ns},
		{"rbac.authorization.k8s.io", "roles", sessions},
		{"rbac.authorization.k8s.io", "rolebindings", sessions},
		{"networking.k8s.io", "networkpolicies", sessions},
		{"", "secrets", sessions},
	}
	if c.o.Inside {
		return list
	}
	return append(list, right{"", "namespaces", ""}, right{"", "pods/exec", ns}) // the last for backup and restore
}

// rights asks the cluster whether we may do what the installation does.
func (c *Cloud) rights(ctx context.Context) (deploy.Finding, error) {
	f := deploy.Finding{Name: "rights", OK: true, Message: "everything that is needed may be created"}
	var lacking []string
	_, err := c.client.CoreV1().Namespaces().Get(ctx, c.o.Config.Namespace(), metav1.GetOptions{})
	there := err == nil
	for _, r := range c.needed() {
		resource, part, _ := strings.Cut(r.resource, "/")
		review := &authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorization.ResourceAttributes{Verb: "create", Group: r.group, Resource: resource, Subresource: part, Namespace: r.namespace},
		}}
		got, err := c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return f, explain("ask which rights we have", err)
		}
		if got.Status.Allowed {
			continue
		}
		text := r.resource
		if r.namespace != "" {
			text += " in " + r.namespace
		} else if there {
			text += " (for sessions)"
		}
		lacking = append(lacking, text)
	}
	if len(lacking) > 0 {
		f.OK, f.Message = false, "you may not create "+strings.Join(lacking, ", ")
		f.Hint = fmt.Sprintf("Ask the administrators of the cluster for the role admin in the namespaces %s and %s, and for the right to create namespaces.", c.o.Config.Namespace(), c.sessions())
	}
	return f, nil
}

// storage looks for a class that gives volumes to who names none.
func (c *Cloud) storage(ctx context.Context) (deploy.Finding, error) {
	f := deploy.Finding{Name: "storage", OK: true}
	list, err := c.client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		f.Message = "storage classes may not be listed; whether there is a default one is not known"
		return f, nil
	}
	if err != nil {
		return f, explain("list storage classes", err)
	}
	var names []string
	for _, class := range list.Items {
		names = append(names, class.Name)
		if class.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			f.Message = "volumes come from the storage class " + class.Name
			return f, nil
		}
	}
	slices.Sort(names)
	f.OK, f.Message = false, "no storage class is the default"
	f.Hint = "Name one: values: {hub: {persistence: {storageClass: NAME}}, builders: {persistence: {storageClass: NAME}}}. There are: " + strings.Join(names, ", ") + "."
	if values, _ := c.base()["hub"].(map[string]any); values["persistence"] != nil {
		f.OK, f.Hint, f.Message = true, "", "no storage class is the default; the file says what the hub uses"
	}
	return f, nil
}

// balancer looks whether the cluster gives addresses to Services. One that has
// none yet may still be able to.
func (c *Cloud) balancer(ctx context.Context) (deploy.Finding, error) {
	f := deploy.Finding{Name: "address", OK: true}
	service, _ := c.base()["service"].(map[string]any)
	if service["type"] != "LoadBalancer" {
		f.Message = fmt.Sprintf("the hub's Service is of type %v; how people reach it is yours to arrange", service["type"])
		return f, nil
	}
	list, err := c.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		f.Message = "whether the cluster has a load balancer is not known; up waits for an address and says so"
		return f, nil
	}
	if err != nil {
		return f, explain("list services", err)
	}
	asked := 0
	for _, s := range list.Items {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			asked++
			if len(s.Status.LoadBalancer.Ingress) > 0 {
				f.Message = "the cluster has a load balancer"
				return f, nil
			}
		}
	}
	f.Message = "nobody asked for a load balancer yet; up waits for an address and says so"
	if asked > 0 {
		f.OK, f.Message = false, fmt.Sprintf("%d Services wait for an address and none has one: this cluster seems to have no load balancer", asked)
		f.Hint = "Set values: {service: {type: NodePort}} or {type: ClusterIP} with an ingress, or install a load balancer such as MetalLB."
	}
	return f, nil
}

// nodes adds up what machines there are.
func (c *Cloud) nodes(ctx context.Context) (deploy.Finding, error) {
	f := deploy.Finding{Name: "nodes", OK: true}
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		f.Message = "nodes may not be listed"
		return f, nil
	}
	if err != nil {
		return f, explain("list nodes", err)
	}
	ready, cores := 0, int64(0)
	for _, n := range list.Items {
		// NotReady is not Ready: binderhub-deploy counted both.
		up := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		if up && !n.Spec.Unschedulable {
			ready++
			cores += n.Status.Allocatable.Cpu().MilliValue()
		}
	}
	const thousand = 1000
	f.Message = fmt.Sprintf("%d of %d ready, with %d cores", ready, len(list.Items), cores/thousand)
	if ready == 0 {
		f.OK, f.Hint = false, "Look at kubectl describe nodes."
	}
	return f, nil
}

// registry: builders and nodes share images by one. Its password may be in the cluster
// alone: who looks at a hub that another has put there needs none.
func (c *Cloud) registry(ctx context.Context) deploy.Finding {
	v := c.base()
	registry, _ := v["registry"].(map[string]any)
	inside, _ := v["inClusterRegistry"].(map[string]any)
	builders, _ := v["builders"].(map[string]any)
	if c.o.Missing != nil && !c.keepsLogin(ctx) {
		e := binnacle.Public(c.o.Missing)
		return deploy.Finding{Name: "registry", Message: e.Message, Hint: e.Hint}
	}
	switch {
	case registry["imagePrefix"] != nil:
		return deploy.Finding{Name: "registry", OK: true, Message: fmt.Sprintf("images go to %v", registry["imagePrefix"])}
	case inside["enabled"] == true || fmt.Sprint(builders["replicas"]) == "0":
		return deploy.Finding{Name: "registry", OK: true, Message: "the file's values say where images go"}
	}
	return deploy.Finding{
		Name: "registry", Message: "a hub on Kubernetes needs a registry that builders push images to and nodes fetch them from",
		Hint: "Set registry: {kind: other, host: registry.example.org, username: ada, password_from: env:REGISTRY_PASSWORD}, or kind: dockerhub; on Azure {kind: azure} makes one.",
	}
}

// keepsLogin says that the cluster has the registry's login. One that does not answer,
// or tell, has none as far as can be seen.
func (c *Cloud) keepsLogin(ctx context.Context) bool {
	if c.o.Registry == nil || c.connect(ctx) != nil {
		return false
	}
	stored, err := c.stored(ctx)
	return err == nil && stored != ""
}

// Password reads the registry's password. Returns invalid, with the credentials but
// for it, when it is not where the configuration says.
func Password(c config.Config, known config.Secret, environ []string) (*Credentials, error) {
	if !NeedsPassword(c) {
		return nil, nil
	}
	login := Login(c)
	var err error
	if login.Password = known; known == "" {
		login.Password, err = config.Resolve("registry.password_from", c.Registry.PasswordFrom, environ)
	}
	if c.Registry.Username == "" {
		err = binnacle.Errorf(binnacle.CodeInvalid, "registry.username: is missing.")
	}
	return login, err
}

// Login is who signs in to the registry of a configuration, without the password.
func Login(c config.Config) *Credentials {
	host := c.Registry.Host
	if c.Registry.Kind == config.RegistryDockerHub {
		host = "docker.io"
	}
	return &Credentials{Host: host, Username: c.Registry.Username}
}
