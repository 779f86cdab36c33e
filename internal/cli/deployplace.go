package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
	"github.com/binnacle-hub/binnacle/internal/deploy/cluster"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/host"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

// place is where a deployment is, open for work.
type place struct {
	config config.Config
	engine *deploy.Engine
	// hub works on the hub itself; nil with --no-hub.
	hub worker
	// plan was made when the place was opened; nil when it has yet to be made.
	plan *deploy.Plan
	// archive is the deployment's storage account; nil without one.
	archive *archive
	// domain tells what is still missing before the hub's own domain works; nil
	// when there is none.
	domain func(context.Context) error
	// waits are changes of the file that only a person can make, in words.
	waits []string
	// machines are those of the cluster, where they can be stopped; else nil.
	machines interface {
		Sleep(ctx context.Context) error
		Wake(ctx context.Context) error
	}
}

// close gives back what is held. The lock must not stay when we are told to stop.
func (p *place) close(ctx context.Context) {
	if p.hub == nil {
		return
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = p.hub.Close(ctx) // if not, it ends by itself
}

// sweep removes what a run that was killed left beside the deployment.
func (p *place) sweep(ctx context.Context) error {
	if s, ok := p.hub.(interface {
		Sweep(ctx context.Context) error
	}); ok {
		return s.Sweep(ctx)
	}
	return nil
}

// open signs in and returns the place, whose engine has no journal yet and reads
// only.
func (d *deployment) open(ctx context.Context) (*place, error) {
	i, err := d.load()
	if err != nil {
		return nil, err
	}
	d.notes(i.Notes)
	p := &place{config: i.Config, engine: &deploy.Engine{Progress: d.step, Poll: d.Poll}}
	if d.inside != nil {
		if ready, err := d.openInside(p, i); ready || err != nil {
			return p, err
		}
		i = d.asInside(i)
		p.config = i.Config
	}
	switch i.Config.Target {
	case config.TargetAzure:
		err = d.onAzure(ctx, p, i)
	case config.TargetCluster:
		err = d.onCluster(ctx, p, i)
	case config.TargetHost:
		err = d.onHost(ctx, p, i)
	default:
		err = &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: fmt.Sprintf("This version can't deploy to the target %s yet.", i.Config.Target),
			Hint: "docs/deploy/README.md says what works.",
		}
	}
	return p, err
}

func (d *deployment) onAzure(ctx context.Context, p *place, i config.Imported) error {
	cloud, err := d.azure(ctx, i)
	if err != nil {
		return err
	}
	who, err := cloud.Who(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Err, "Azure, as %s\n", clean(who))
	p.engine.Cloud, p.machines = cloud, cloud
	if i.Config.Azure.Storage {
		p.archive = &archive{connect: cloud.Archive, warn: func(text string) { fmt.Fprintln(d.Err, clean(text)) }}
	}
	if i.Config.DNS.Domain != "" {
		p.domain = func(ctx context.Context) error { return d.delegated(ctx, cloud) }
	}
	if d.noHub {
		return nil
	}
	o, err := d.clusterOptions(i)
	if err != nil {
		return err
	}
	o.Where = "the cluster " + i.Config.Name + " on Azure"
	o.Connect = func(ctx context.Context) (release.Access, error) {
		b, err := cloud.Kubeconfig(ctx)
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			err = &binnacle.Error{Code: binnacle.CodeNotFound, Op: "cli.deploy", Message: "There is no cluster " + i.Config.Name + " on Azure.", Hint: "binnacle deploy up makes it.", Err: err}
		}
		return release.Access{Kubeconfig: b}, err
	}
	if o.Domain, o.Also, err = names(ctx, cloud, i.Config); err != nil {
		return err
	}
	o.Within = "cluster/" + i.Config.Name
	// The address was created beforehand: names and certificates don't wait for it.
	o.Values = azure.ChartValues(i.Config)
	o.Values["service"] = map[string]any{"annotations": map[string]any{"service.beta.kubernetes.io/azure-pip-name": i.Config.Name}}
	if i.Config.Registry.Kind == config.RegistryAzure {
		d.acr(cloud, i, &o)
	}
	above := cluster.New(o)
	p.hub = &onCluster{above, i.Config.Name, o.Tell}
	p.engine.Cloud = &deploy.Stack{Below: cloud, Above: above, Kinds: cluster.Kinds()}
	return nil
}

// delegated tells what the zone above the hub's own domain still lacks.
func (d *deployment) delegated(ctx context.Context, cloud *azure.Cloud) error {
	r, err := cloud.Delegation(ctx)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		return nil // before the first up
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\n%s\n", clean(r.String()))
	if !r.OK() {
		fmt.Fprintf(d.Out, "Until then people reach the hub at %s. Afterwards run binnacle deploy up again; both names work then.\n", cloud.LabelHost())
	}
	return nil
}

// names are the one that the hub is known by and the others that lead to it. Its own
// domain comes first once the internet finds it; until then, and afterwards as the
// second, it is the name that the cloud gives, so that people always reach it.
func names(ctx context.Context, cloud *azure.Cloud, c config.Config) (string, []string, error) {
	label := cloud.LabelHost()
	if c.DNS.Domain == "" {
		return label, nil, nil
	}
	r, err := cloud.Delegation(ctx)
	if err != nil && binnacle.CodeOf(err) != binnacle.CodeNotFound {
		return "", nil, err
	}
	if err == nil && r.OK() {
		return c.DNS.Domain, []string{label}, nil
	}
	return label, []string{c.DNS.Domain}, nil
}

func (d *deployment) onCluster(ctx context.Context, p *place, i config.Imported) error {
	o, err := d.clusterOptions(i)
	if err != nil {
		return err
	}
	c := i.Config.Cluster
	o.Where, o.Domain = "the cluster of the context "+c.Context, i.Config.DNS.Domain
	o.Connect = func(context.Context) (release.Access, error) {
		b, err := d.kubeconfig(c.Kubeconfig)
		return release.Access{Kubeconfig: b, Context: c.Context}, err
	}
	cloud := cluster.New(o)
	p.hub = &onCluster{cloud, i.Config.Name, o.Tell}
	p.engine.Cloud, p.engine.Poll = cloud, cmp.Or(d.Poll, time.Second)
	who, err := cloud.Who(ctx)
	fmt.Fprintf(d.Err, "Kubernetes: %s\n", clean(who))
	return err
}

func (d *deployment) clusterOptions(i config.Imported) (cluster.Options, error) {
	var credentials *cluster.Credentials
	var password func(context.Context) (config.Secret, error)
	var missing error
	switch {
	case !cluster.NeedsPassword(i.Config):
	case d.inside != nil:
		credentials, password = cluster.Login(i.Config), noPassword
	default:
		credentials, missing = cluster.Password(i.Config, i.Secrets["registry.password_from"], d.Environ)
	}
	token, err := d.token(i.Config.Watch)
	if err != nil && d.inside != nil {
		return cluster.Options{}, err
	}
	return cluster.Options{
		Config: i.Config, Version: d.Version, Registry: credentials, Password: password, Missing: missing, Token: token, Inside: d.inside != nil,
		Holder: d.holder(),
		Tell:   func(text string) { fmt.Fprintf(d.Err, "  %s\n", clean(text)) },
		Log:    slog.New(slog.DiscardHandler),

		Registries: d.registries(),
	}, nil
}

// registries is the way to registries from here.
func (d *deployment) registries() http.RoundTripper {
	if d.Registries != nil {
		return d.Registries
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
}

// token is the forge's, for who follows the repository.
func (d *deployment) token(w config.Watch) (config.Secret, error) {
	if w.Repository == "" || w.TokenFrom == "" {
		return "", nil
	}
	if d.inside != nil {
		if d.inside.Token == "" {
			return "", nil // the part that needs it says so
		}
		w.TokenFrom = "file:" + d.inside.Token
	}
	return config.Resolve("watch.token_from", w.TokenFrom, d.Environ)
}

// holder says who we are, for others to read.
func (d *deployment) holder() string {
	machine, err := os.Hostname()
	if err != nil {
		machine = "this machine"
	}
	user := cmp.Or(lookup(d.Environ, "USER"), lookup(d.Environ, "LOGNAME"), "somebody")
	return fmt.Sprintf("%s on %s, process %d", user, machine, os.Getpid())
}

func (d *deployment) onHost(ctx context.Context, p *place, i config.Imported) error {
	program := d.program
	if d.inside != nil {
		program = host.Program(d.inside.Name)
	}
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return fmt.Errorf("find the program: %w", err)
		}
	}
	token, err := d.token(i.Config.Watch)
	if err != nil && d.inside != nil {
		return err
	}
	cloud := host.New(host.Options{
		Config: i.Config, Token: token, Here: d.inside != nil, Program: program, Version: d.Version, Holder: d.holder(), KeepData: d.keepData, Lookup: net.DefaultResolver.LookupHost,
	})
	p.hub = &onHost{cloud}
	p.engine.Cloud, p.engine.Poll = cloud, time.Second
	who, err := cloud.Who(ctx)
	fmt.Fprintf(d.Err, "Host: %s\n", clean(who))
	return err
}

// kubeconfig reads the file that says how to reach clusters.
func (d *deployment) kubeconfig(path string) ([]byte, error) {
	if path == "" {
		path, _, _ = strings.Cut(lookup(d.Environ, "KUBECONFIG"), string(filepath.ListSeparator))
	}
	if path == "" {
		path = filepath.Join(lookup(d.Environ, "HOME"), ".kube", "config")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		hint := "Name the file with cluster.kubeconfig, or set KUBECONFIG."
		if errors.Is(err, os.ErrNotExist) {
			hint = "There is none: get it from the cluster's provider, then name it with cluster.kubeconfig."
		}
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: fmt.Sprintf("The kubeconfig %s can't be read: %v.", path, err), Hint: hint, Err: err}
	}
	return b, nil
}
