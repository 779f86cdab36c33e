package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
	"github.com/binnacle-hub/binnacle/internal/deploy/cluster"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

func (d *deployment) azure(ctx context.Context, i config.Imported) (*azure.Cloud, error) {
	const setting = "azure.secret_from"
	secret := i.Secrets[setting]
	if from := i.Config.Azure.SecretFrom; secret == "" && i.Config.Azure.SignIn == "service_principal" {
		var err error
		if secret, err = config.Resolve(setting, from, d.Environ); err != nil {
			return nil, err
		}
	}
	transport, err := azure.Transport(i.Config.Azure.Cloud)
	if err != nil {
		return nil, err
	}
	cred, identity, err := azure.SignIn{
		Config: i.Config, Environ: d.Environ, Secret: secret, Transport: transport,
		Prompt: func(message string) { fmt.Fprintln(d.Err, clean(message)) },
	}.Credential()
	if err != nil {
		return nil, err
	}
	return azure.New(ctx, azure.Options{Config: i.Config, Credential: cred, Identity: identity, Transport: transport, Poll: d.Poll})
}

// acr has the credentials of the registry on Azure: those of the file, or a token
// that is made when the cluster has none yet.
func (d *deployment) acr(cloud *azure.Cloud, i config.Imported, o *cluster.Options) {
	c := i.Config.Registry
	o.Registry = &cluster.Credentials{Host: cloud.RegistryHost(), Username: c.Username}
	if d.inside != nil && c.PasswordFrom != "" {
		o.Password = noPassword
		return
	}
	if c.PasswordFrom == "" || c.Username == "" {
		o.Registry.Username, o.Password = azure.RegistryUser, cloud.RegistryPassword
		return
	}
	o.Registry.Password, o.Missing = config.Resolve("registry.password_from", c.PasswordFrom, d.Environ)
}

// journal gives the engine its journal, beside the file that describes the
// deployment. Where there is none, it is that of the deployment's storage account.
func (d *deployment) journal(ctx context.Context, p *place) (closer func(), err error) {
	dir := filepath.Join(filepath.Dir(d.file), ".binnacle", p.config.Name)
	if err := p.archive.restore(ctx, dir); err != nil {
		return nil, err
	}
	j, err := deploy.OpenJournal(dir, time.Now)
	if err != nil {
		return nil, err
	}
	p.engine.Journal = j
	return func() { j.Close() }, nil
}

// step is the progress of a run.
func (d *deployment) step(e deploy.Event) {
	what := fmt.Sprintf("%s %s %s", e.Action, e.Resource.Kind, e.Resource.Name)
	d.lasts.begin(what, e.Done)
	switch {
	case e.Done:
		fmt.Fprintf(d.Err, "  done: %s, %s\n", what, e.Took.Round(time.Second))
	case e.Resumed:
		fmt.Fprintf(d.Err, "%s (begun by an earlier run)\n", what)
	default:
		fmt.Fprintln(d.Err, what)
	}
}

// lasting is the step that a run is at, for who waits for it.
type lasting struct {
	mu    sync.Mutex
	what  string // empty between two steps
	began time.Time
}

func (l *lasting) begin(what string, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.what, l.began = what, time.Now(); done {
		l.what = ""
	}
}

// tell says each minute that the step goes on: a cluster takes many of them, and a
// cloud says nothing meanwhile. The caller ends it.
func (l *lasting) tell(w io.Writer) (end func()) {
	tick, done, ended := time.NewTicker(time.Minute), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			l.mu.Lock()
			what, took := l.what, time.Since(l.began).Round(time.Minute)
			l.mu.Unlock()
			if what != "" && took > 0 {
				fmt.Fprintf(w, "  still: %s, %s\n", what, strings.TrimSuffix(took.String(), "0s"))
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		<-ended
	}
}

func (d *deployment) json(v any) error {
	enc := json.NewEncoder(d.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// checkCloud reports what the cloud finds, all or what is not well, and is an error
// when something is wrong.
func (d *deployment) checkCloud(ctx context.Context, e *deploy.Engine, all bool) error {
	found, err := e.Check(ctx)
	if err == nil {
		err = context.Cause(ctx) // what was interrupted has found nothing out
	}
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range found {
		if f.Warning {
			fmt.Fprintf(d.Out, "warn  %-12s  %s\n        try: %s\n", f.Name, clean(f.Message), clean(f.Hint))
			continue
		}
		if f.OK {
			if all {
				fmt.Fprintf(d.Out, "ok    %-12s  %s\n", f.Name, clean(f.Message))
			}
			continue
		}
		bad++
		fmt.Fprintf(d.Out, "wrong %-12s  %s\n        try: %s\n", f.Name, clean(f.Message), clean(f.Hint))
	}
	if bad > 0 {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: fmt.Sprintf("%d of the checks failed; nothing was created.", bad), Hint: "Mend what is listed, then try again."}
	}
	return nil
}

func (d *deployment) planCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "plan", Short: "Show every resource that up would create, change or delete, and what it costs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.planned(cmd.Context(), asJSON, func(_ *place, p deploy.Plan) error { return p.WriteText(d.Out) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON")
	return cmd
}

func (d *deployment) upCommand() *cobra.Command {
	var yes bool
	var v verifying
	cmd := &cobra.Command{
		Use: "up", Short: "Create what the file describes; run it again after an interruption and it continues", Args: cobra.NoArgs,
		Long: "It checks, shows the plan and asks; then it creates, waits, and reads everything back. At the end a\n" +
			"repository is launched through the public address and a cell runs in it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer at.close(cmd.Context())
			return d.recorded(cmd.Context(), at, "up", func() error {
				if err := d.apply(cmd.Context(), at, yes); err != nil {
					return err
				}
				return d.verify(cmd.Context(), at, v)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	v.flags(cmd)
	return cmd
}

// apply brings a place to what the file says: check, plan, question, work.
func (d *deployment) apply(ctx context.Context, at *place, yes bool) error {
	done, err := d.journal(ctx, at)
	if err != nil {
		return err
	}
	defer done()
	at.engine.Journal.Copied = at.archive.copier(ctx)
	if at.plan == nil {
		p, err := at.engine.Plan(ctx)
		if err != nil {
			return err
		}
		at.plan = &p
	}
	p := *at.plan
	at.plan = nil
	if p.Writes() > 0 {
		if err := d.checkCloud(ctx, at.engine, false); err != nil {
			return err
		}
	}
	if err := p.WriteText(d.Out); err != nil {
		return err
	}
	if p.Writes() > 0 && !yes {
		if err := d.confirm(ctx, "Do it?", "yes"); err != nil {
			return err
		}
	}
	end := d.lasts.tell(d.Err)
	res, err := at.engine.Apply(ctx, p)
	end()
	err = interrupted(ctx, err)
	if err == nil && at.hub != nil && len(res.Written) == 0 {
		err = at.hub.Await(ctx) // somebody who changed it all may have been ended while it waited
	}
	if err == nil {
		err = at.sweep(ctx)
	}
	if err != nil {
		return err
	}
	at.archive.outputs(res.Resources)
	fmt.Fprintf(d.Out, "\n%d changed; everything is as wanted.\n", len(res.Written))
	for _, r := range res.Resources {
		for _, name := range sortedKeys(r.Outputs) {
			fmt.Fprintf(d.Out, "  %s, %s: %s\n", r.Kind, name, clean(r.Outputs[name]))
		}
	}
	if at.domain != nil {
		return at.domain(ctx)
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k, v := range m {
		if v != "" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// confirm wants an answer typed on a terminal.
func (d *deployment) confirm(ctx context.Context, question, answer string) error {
	refused := &binnacle.Error{Code: binnacle.CodeCanceled, Op: "cli.deploy", Message: "Nothing was done."}
	if !d.Terminal {
		refused.Code, refused.Hint = binnacle.CodeInvalid, "Where nobody can answer, --yes (up) or --confirm NAME (down) is needed."
		return refused
	}
	fmt.Fprintf(d.Err, "%s Type %s: ", question, answer)
	line, err := typed(ctx, bufio.NewReader(d.In))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if line != answer {
		return refused
	}
	return nil
}

// typed is the next line that a person types, or canceled when she presses Ctrl-C
// instead: nothing else ends reading from a terminal.
func typed(ctx context.Context, in *bufio.Reader) (string, error) {
	return unlessCanceled(ctx, func() (string, error) {
		line, err := in.ReadString('\n')
		return strings.TrimSpace(line), err
	})
}

// unlessCanceled is what read returns. When the context ends first, read goes on until
// the process does.
func unlessCanceled(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		text, err := read()
		got <- result{text, err}
	}()
	select {
	case r := <-got:
		return r.text, r.err
	case <-ctx.Done():
		return "", &binnacle.Error{Code: binnacle.CodeCanceled, Op: "cli.deploy", Message: "Interrupted. Nothing was done.", Err: context.Cause(ctx)}
	}
}

// interrupted says in words that a person ended what would have gone on.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return &binnacle.Error{
		Code: binnacle.CodeCanceled, Op: "cli.deploy", Message: "Interrupted.", Hint: "Run the same command again: it continues where this one was.", Err: err,
	}
}

// planned shows the plan, as it is or as JSON.
func (d *deployment) planned(ctx context.Context, asJSON bool, show func(*place, deploy.Plan) error) error {
	at, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer at.close(ctx)
	p, err := at.engine.Plan(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return d.json(p)
	}
	return show(at, p)
}

// state shows how a resource is, and what differs from the file.
func (d *deployment) state(s deploy.Step) {
	state := string(s.Resource.State)
	if s.Action == deploy.ActionCreate {
		state = "not there"
	}
	fmt.Fprintf(d.Out, "%-9s  %s %s\n", state, s.Resource.Kind, s.Resource.Name)
	for _, name := range sortedKeys(s.Resource.Outputs) {
		fmt.Fprintf(d.Out, "             %s: %s\n", name, clean(s.Resource.Outputs[name]))
	}
	for _, diff := range s.Shown() {
		fmt.Fprintf(d.Out, "             %s is %s, the file says %s\n", diff.Field, clean(diff.From), diff.To)
	}
}

func (d *deployment) downCommand() *cobra.Command {
	var name string
	var asJSON, withData bool
	cmd := &cobra.Command{
		Use: "down", Short: "Delete what is ours, wait, and look that nothing of it is left", Args: cobra.NoArgs,
		Long: "Only what carries the deployment's tag is deleted. A resource group that was there before, or\nthat holds something of others, stays. With the target host the data directory stays too, unless --data is given.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.keepData = !withData
			return d.down(cmd.Context(), name, asJSON)
		},
	}
	cmd.Flags().StringVar(&name, "confirm", "", "do not ask: the deployment's `name`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the receipt as JSON")
	cmd.Flags().BoolVar(&withData, "data", false, "with the target host: delete the data directory too, with launches, logs and images")
	return cmd
}

// hostStays says what down leaves on a machine.
func hostStays(data bool) string {
	if data {
		return "  the data directory stays, with launches, logs and images: binnacle deploy down --data deletes it. Packages of the system stay."
	}
	return "  packages of the system that were installed stay."
}

func (d *deployment) down(ctx context.Context, name string, asJSON bool) error {
	at, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer at.close(ctx)
	e, c := at.engine, at.config
	done, err := d.journal(ctx, at)
	if err != nil {
		return err
	}
	defer done()
	p, err := e.PlanDown(ctx)
	if err != nil {
		return err
	}
	if err := p.WriteText(d.Err); err != nil {
		return err
	}
	if len(p.Steps) > 0 && name != c.Name {
		if err := d.confirm(ctx, "What is in it is lost.", c.Name); err != nil {
			return err
		}
	}
	end := d.lasts.tell(d.Err)
	receipt, err := e.Down(ctx)
	end()
	err = interrupted(ctx, err)
	if err == nil && c.Target == config.TargetCluster {
		err = at.sweep(ctx)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return d.json(receipt)
	}
	left := "nothing"
	if len(receipt.Kept) > 0 {
		left = "nothing else"
	}
	for _, r := range receipt.Kept {
		fmt.Fprintf(d.Out, "stays, because something that is not ours is in it: %s %s\n", r.Kind, clean(r.Name))
	}
	fmt.Fprintf(d.Out, "%d deleted; %s of the deployment %s is left.\n", len(receipt.Deleted), left, c.Name)
	for _, r := range receipt.Foreign {
		fmt.Fprintf(d.Out, "  left alone, because it is not ours: %s %s\n", r.Kind, clean(r.Name))
	}
	if c.Target == config.TargetHost {
		fmt.Fprintln(d.Out, hostStays(d.keepData))
	}
	if c.Target == config.TargetAzure && c.DNS.Domain != "" && len(receipt.Deleted) > 0 {
		fmt.Fprintf(d.Out, "  remove the name servers of %s at its parent domain.\n", c.DNS.Domain)
	}
	return nil
}
