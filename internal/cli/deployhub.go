package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/cluster"
	"github.com/binnacle-hub/binnacle/internal/deploy/host"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

// worker is what is done to a hub beside plans, on a cluster or a machine.
type worker interface {
	Find(ctx context.Context, r deploy.Resource) (deploy.Resource, error)
	// Lock keeps others away until Close. Returns conflict when another run has it.
	Lock(ctx context.Context) error
	Close(ctx context.Context) error
	// History has the revisions, oldest first. Returns not_found without any.
	History(ctx context.Context) ([]deploy.Revision, error)
	// Rollback makes a revision the one in use; a note is for the person.
	Rollback(ctx context.Context, revision int) (note string, err error)
	// Await waits until the hub runs.
	Await(ctx context.Context) error
	Restart(ctx context.Context, component string) error
	Sleep(ctx context.Context) error
	Wake(ctx context.Context) error
	Logs(ctx context.Context, o release.LogOptions, w io.Writer) error
	// Save writes what of the hub must survive, as a tar.
	Save(ctx context.Context, secrets bool, w io.Writer) error
	// Load replaces it by what Save wrote and starts the hub anew.
	Load(ctx context.Context, r io.Reader) error
	// Settings are those in use, as text.
	Settings(ctx context.Context) ([]byte, error)
	// Components have logs of their own.
	Components() []string
	// Secrets are to be taken out of what is shown.
	Secrets(ctx context.Context) ([]string, error)
	// Commits is what KeepCommits was given last, nothing at first: what is known of
	// the commits of the deployment's repository.
	Commits(ctx context.Context) ([]byte, error)
	KeepCommits(ctx context.Context, b []byte) error
	// Evidence is what a support bundle has beside logs.
	Evidence(ctx context.Context, note func(name string, v any, err error))
}

var (
	_ worker = (*onCluster)(nil)
	_ worker = (*onHost)(nil)
)

// current is the newest revision of a hub, or on a machine the one in use.
func current(ctx context.Context, w worker) (deploy.Revision, error) {
	list, err := w.History(ctx)
	if err != nil {
		return deploy.Revision{}, err
	}
	if i := slices.IndexFunc(list, func(r deploy.Revision) bool { return r.Current }); i >= 0 {
		return list[i], nil
	}
	return list[len(list)-1], nil
}

// previous is the newest revision before the one in use that worked.
func previous(ctx context.Context, w worker) (deploy.Revision, error) {
	list, err := w.History(ctx)
	if err != nil {
		return deploy.Revision{}, err
	}
	now, err := current(ctx, w)
	if err != nil {
		return deploy.Revision{}, err
	}
	for _, r := range slices.Backward(list) {
		if r.Number < now.Number && r.Worked {
			return r, nil
		}
	}
	return deploy.Revision{}, &binnacle.Error{
		Code: binnacle.CodeNotFound, Op: "cli.rollback", Message: "There is no earlier revision that ran.", Hint: "Change the file and run binnacle deploy up.",
	}
}

// onCluster works on a hub that is a release of the chart.
type onCluster struct {
	*cluster.Cloud

	name string
	tell func(string)
}

// History has the revisions, oldest first.
func (o *onCluster) History(ctx context.Context) ([]deploy.Revision, error) {
	helm, err := o.Helm(ctx)
	if err != nil {
		return nil, err
	}
	list, err := helm.History(o.name)
	if err != nil {
		return nil, err
	}
	out := make([]deploy.Revision, len(list))
	for i, r := range list {
		out[i] = deploy.Revision{
			Number: r.Revision, Status: r.Status, Version: r.Version, Updated: r.Updated, Note: r.Note,
			Current: i == len(list)-1, Worked: r.Deployed() || r.Superseded(),
		}
	}
	return out, nil
}

// Rollback goes back to a revision of the release.
func (o *onCluster) Rollback(ctx context.Context, revision int) (string, error) {
	helm, err := o.Helm(ctx)
	if err != nil {
		return "", err
	}
	if err := o.Lock(ctx); err != nil {
		return "", err
	}
	return "", helm.Rollback(o.name, revision)
}

// Await waits until the hub's pods run.
func (o *onCluster) Await(ctx context.Context) error {
	helm, err := o.Helm(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.DefaultTimeout)
	defer cancel()
	return helm.Wait(ctx, o.name, o.tell)
}

// Restart replaces pods.
func (o *onCluster) Restart(ctx context.Context, component string) error {
	return o.do(ctx, func(helm *release.Client) error { return helm.Restart(ctx, o.name, component, time.Now()) })
}

// Sleep removes the pods.
func (o *onCluster) Sleep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cluster.DefaultTimeout)
	defer cancel()
	return o.do(ctx, func(helm *release.Client) error { return helm.Sleep(ctx, o.name) })
}

// Wake brings them back.
func (o *onCluster) Wake(ctx context.Context) error {
	return o.do(ctx, func(helm *release.Client) error { return helm.Wake(ctx, o.name) })
}

func (o *onCluster) do(ctx context.Context, f func(*release.Client) error) error {
	helm, err := o.Helm(ctx)
	if err != nil {
		return err
	}
	return f(helm)
}

// Logs writes those of pods, or of builds, which a pod of the hub knows.
func (o *onCluster) Logs(ctx context.Context, opt release.LogOptions, w io.Writer) error {
	if there := o.Components(); opt.Component != "" && !slices.Contains(there, opt.Component) {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: fmt.Sprintf("There is no component %q; there are %s and %s.", opt.Component, strings.Join(there, ", "), componentCloud),
			Hint: "Without --component it is hub and builders.",
		}
	}
	return o.do(ctx, func(helm *release.Client) error {
		if opt.Component != componentBuilds {
			return helm.Logs(ctx, o.name, opt, w)
		}
		var in io.Reader
		if opt.Follow {
			open, hold := io.Pipe()
			defer hold.Close()
			in = open
		}
		return olderHub(helm.Exec(ctx, o.name, append([]string{podProgram}, buildLogsOf(opt).command()...), in, w))
	})
}

// podProgram is Binnacle in a pod of the hub.
const podProgram = "/usr/local/bin/binnacle"

// olderHub says in words that the hub's version does not know its builds' logs yet.
func olderHub(err error) error {
	if err == nil || !strings.Contains(err.Error(), `nknown command "build-logs"`) {
		return err
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "cli.deploy", Message: "The hub there is of an older version, which does not tell the logs of builds.",
		Hint: "binnacle deploy upgrade. Until then a launch's page has its log.", Err: err,
	}
}

// snapshot is the command that a hub's pod runs.
func snapshot(verb string, secrets bool) []string {
	words := []string{podProgram, "snapshot", verb}
	if verb == "save" && !secrets {
		words = append(words, "--without-secrets")
	}
	return words
}

// Save runs in a pod of the hub, which knows its database and its volume.
func (o *onCluster) Save(ctx context.Context, secrets bool, w io.Writer) error {
	return o.do(ctx, func(helm *release.Client) error { return helm.Exec(ctx, o.name, snapshot("save", secrets), nil, w) })
}

// Load runs in a pod of the hub; then all of them are replaced.
func (o *onCluster) Load(ctx context.Context, r io.Reader) error {
	return o.do(ctx, func(helm *release.Client) error {
		if err := helm.Exec(ctx, o.name, snapshot("load", true), r, io.Discard); err != nil {
			return err
		}
		return helm.Restart(ctx, o.name, "hub", time.Now())
	})
}

// Settings are the values of the release.
func (o *onCluster) Settings(ctx context.Context) (b []byte, err error) {
	err = o.do(ctx, func(helm *release.Client) error {
		rel, err := helm.Current(o.name)
		if err != nil {
			return err
		}
		b, err = json.MarshalIndent(rel.Values, "", "  ")
		return err
	})
	return b, err
}

// Components are the kinds of pods, and what the builders work on.
func (o *onCluster) Components() []string { return onClusters() }

func onClusters() []string {
	pods := release.Components()
	return slices.Insert(pods, slices.Index(pods, "builders")+1, componentBuilds)
}

// Secrets are those of the namespace.
func (o *onCluster) Secrets(ctx context.Context) (list []string, err error) {
	err = o.do(ctx, func(helm *release.Client) error {
		list, err = helm.Secrets(ctx)
		return err
	})
	return list, err
}

// Evidence is what the cluster says about the release.
func (o *onCluster) Evidence(ctx context.Context, note func(string, any, error)) {
	helm, err := o.Helm(ctx)
	if err != nil {
		note("cluster.json", nil, err)
		return
	}
	workloads, err := helm.Workloads(ctx, o.name)
	note("workloads.json", workloads, err)
	events, err := helm.Events(ctx)
	note("events.txt", events, err)
}

// onHost works on a hub that is a service of one machine.
type onHost struct{ *host.Cloud }

// Restart starts the service anew: it has no parts.
func (o *onHost) Restart(ctx context.Context, component string) error {
	if err := o.part(component, "hub"); err != nil {
		return err
	}
	return o.Cloud.Restart(ctx)
}

// Logs writes those of the hub's service, of its builds, or of the service that
// follows the repository.
func (o *onHost) Logs(ctx context.Context, opt release.LogOptions, w io.Writer) error {
	if err := o.part(opt.Component, append(o.Components(), componentCloud)...); err != nil {
		return err
	}
	if opt.Component == componentBuilds {
		return olderHub(o.BuildLogs(ctx, buildLogsOf(opt).command()[1:], opt.Follow, w))
	}
	return o.Cloud.Logs(ctx, host.LogOptions{Watch: opt.Component == "watch", Follow: opt.Follow, Previous: opt.Previous, Since: opt.Since, Tail: opt.Tail}, w)
}

func (o *onHost) part(component string, there ...string) error {
	if component == "" || slices.Contains(there, component) {
		return nil
	}
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: fmt.Sprintf("There is no component %q on one machine, but %s.", component, strings.Join(there, ", ")),
		Hint: "What a session's server says: binnacle ps and binnacle logs SESSION, on the machine.",
	}
}

// Components are the hub, which builds and runs sessions itself, its builds, and who
// follows the repository.
func (o *onHost) Components() []string { return []string{"hub", componentBuilds, "watch"} }

// Secrets are none that we could name.
func (o *onHost) Secrets(context.Context) ([]string, error) { return nil, nil }

// Evidence is what `check` finds.
func (o *onHost) Evidence(ctx context.Context, note func(string, any, error)) {
	found, err := o.Check(ctx)
	note("check.json", found, err)
}
