package release

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/binnacle-hub/binnacle"
)

// Access says how a cluster is reached.
type Access struct {
	// Kubeconfig is the content of a kubeconfig; files of the person are never
	// read or written behind her back.
	Kubeconfig []byte
	// Context of it; empty is its current one.
	Context string
}

// getter is what Helm asks for clients.
type getter struct {
	config *rest.Config
	loader clientcmd.ClientConfig
	cache  discovery.CachedDiscoveryInterface
}

func (a Access) getter(namespace string) (*getter, error) {
	file, err := clientcmd.Load(a.Kubeconfig)
	if err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "release.access", Message: "The kubeconfig can't be read: " + err.Error() + ".", Hint: "Name another with cluster.kubeconfig.", Err: err}
	}
	if _, ok := file.Contexts[a.Context]; a.Context != "" && !ok {
		return nil, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "release.access", Message: fmt.Sprintf("cluster.context: the kubeconfig has no context %q.", a.Context),
			Hint: "It has: " + strings.Join(contexts(file), ", ") + ".",
		}
	}
	loader := clientcmd.NewNonInteractiveClientConfig(*file, a.Context, &clientcmd.ConfigOverrides{Context: clientapi.Context{Namespace: namespace}}, nil)
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "release.access", Message: "The kubeconfig does not say how to reach the cluster: " + err.Error() + ".", Err: err}
	}
	const perSecond, burst = 50, 200 // a plan asks for dozens of objects at once
	config.QPS, config.Burst, config.UserAgent = perSecond, burst, "binnacle"
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	return &getter{config: config, loader: loader, cache: memory.NewMemCacheClient(client)}, nil
}

func contexts(file *clientapi.Config) []string {
	var out []string
	for name := range file.Contexts {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// ToRESTConfig is for Helm.
func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

// ToDiscoveryClient is for Helm.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.cache, nil
}

// ToRESTMapper is for Helm.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	return restmapper.NewDeferredDiscoveryRESTMapper(g.cache), nil
}

// ToRawKubeConfigLoader is for Helm.
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.loader }

// plain is a copy of values as a file would have them.
func plain(values map[string]any) (map[string]any, error) {
	b, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("write the chart's values: %w", err)
	}
	out := map[string]any{}
	return out, json.Unmarshal(b, &out)
}

func sortByRevision(list []Release) {
	slices.SortFunc(list, func(a, b Release) int { return cmp.Compare(a.Revision, b.Revision) })
}

// explain says in words what the cluster or Helm answered.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*binnacle.Error](err); ours {
		return err
	}
	e := &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "release", Message: fmt.Sprintf("It was not possible to %s: %v.", doing, err), Hint: "Mend the cause and run the same command again.", Err: err}
	switch {
	case apierrors.IsForbidden(err):
		e.Code, e.Hint = binnacle.CodeForbidden, "Ask the administrators of the cluster for this right; binnacle deploy check lists all that are missing."
	case apierrors.IsUnauthorized(err):
		e.Code, e.Hint = binnacle.CodeUnauthorized, "Sign in to the cluster again: the kubeconfig's credentials are not accepted."
	case strings.Contains(err.Error(), "another operation"):
		e.Code, e.Hint = binnacle.CodeConflict, "Somebody else is working on it. Run the same command again in a minute."
	case strings.Contains(err.Error(), "values don't meet the specifications"), strings.Contains(err.Error(), "execution error at"):
		e.Code, e.Hint = binnacle.CodeInvalid, "Mend what is named, in the file's section values or the setting it follows from."
	}
	return e
}
