package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/cluster"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/host"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

// account is where Kubernetes puts a pod's own.
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// podAccess is how a pod reaches the cluster it is in. The token is read anew each
// time: it is replaced every hour.
func podAccess(environ []string) (release.Access, error) {
	host, port := lookup(environ, "KUBERNETES_SERVICE_HOST"), lookup(environ, "KUBERNETES_SERVICE_PORT")
	if host == "" {
		return release.Access{}, binnacle.Errorf(binnacle.CodeInvalid, "This is no pod of a cluster: KUBERNETES_SERVICE_HOST is not set.")
	}
	const name = "inside"
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": "https://" + net.JoinHostPort(host, cmp.Or(port, "443")), "certificate-authority": account + "ca.crt",
		}}},
		"users":    []any{map[string]any{"name": name, "user": map[string]any{"tokenFile": account + "token"}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name}}},
	})
	return release.Access{Kubeconfig: b, Context: name}, err
}

// openInside opens a place as a part of it. What is around the cluster is not
// touched: what of it the file changes waits for a person, unless we have an
// identity for that, when ready is false.
func (d *deployment) openInside(p *place, i config.Imported) (ready bool, err error) {
	in := d.inside
	if err := in.Fits(i.Config); err != nil {
		return false, err
	}
	if in.Target == config.TargetHost {
		return false, nil
	}
	moved := in.Moved(i.Config)
	if len(moved) > 0 && lookup(d.Environ, "AZURE_FEDERATED_TOKEN_FILE") != "" {
		return false, nil
	}
	if in.Target == config.TargetAzure {
		p.waits = moved
	}
	for _, text := range p.waits {
		fmt.Fprintf(d.Err, "waits for a person who runs binnacle deploy up: %s\n", clean(text))
	}
	i.Config = in.Keep(i.Config)
	o, err := d.insideOptions(i)
	if err != nil {
		return false, err
	}
	p.config = i.Config
	cloud := cluster.New(o)
	p.hub = &onCluster{cloud, in.Name, o.Tell}
	p.engine.Cloud, p.engine.Poll = cloud, time.Second
	return true, nil
}

// insideOptions are those of a cluster that we are a part of.
func (d *deployment) insideOptions(i config.Imported) (cluster.Options, error) {
	in := d.inside
	o, err := d.clusterOptions(i)
	if err != nil {
		return o, err
	}
	o.Where = "the cluster that this runs in"
	o.Connect = func(context.Context) (release.Access, error) { return podAccess(d.Environ) }
	o.Domain = i.Config.DNS.Domain
	if in.Target == config.TargetAzure {
		o.Domain, o.Also, o.Values, o.Within = in.Domain, in.Also, in.Values, "cluster/"+in.Name
	}
	if i.Config.Registry.Kind == config.RegistryAzure {
		o.Registry = &cluster.Credentials{Host: in.Registry, Username: in.Username}
		o.Password = noPassword
	}
	return o, nil
}

// noPassword is where a part of the deployment would get a password that the cluster
// does not have.
func noPassword(context.Context) (config.Secret, error) {
	return "", &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "cli.inside", Message: "registry: the cluster has no password for what the file says.",
		Hint: "A person who has it runs binnacle deploy up.",
	}
}

// asInside is what a file means for who has an identity in its cloud.
func (d *deployment) asInside(i config.Imported) config.Imported {
	if d.inside.Target == config.TargetAzure {
		i.Config.Azure.SignIn, i.Config.Azure.Tenant, i.Config.Azure.Client = "workload_identity", "", ""
	}
	return i
}

// ownPlace works on the hub that we are a part of, without its file.
func (d *deployment) ownPlace(context.Context) (worker, error) {
	in := d.inside
	c := config.Default()
	c.Name, c.Target, c.Cluster.Namespace = in.Name, in.Target, in.Namespace
	if in.Target == config.TargetHost {
		return &onHost{host.New(host.Options{Config: c, Here: true, Version: d.Version, Holder: d.holder()})}, nil
	}
	o, err := d.insideOptions(config.Imported{Config: c})
	if err != nil {
		return nil, err
	}
	return &onCluster{cluster.New(o), in.Name, o.Tell}, nil
}

// way is how the hub is reached to be verified: from within a cluster its public
// address may lead nowhere. Nil is the usual one.
func (d *deployment) way(c config.Config) http.RoundTripper {
	if d.inside == nil || c.Watch.Via == "" {
		return nil
	}
	dialer := new(net.Dialer)
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, c.Watch.Via)
	}}
}
