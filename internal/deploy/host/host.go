// Package host deploys to one machine: this one, or one that ssh reaches. It
// puts the running program there, writes the hub's configuration and a systemd
// service, and waits until the hub answers.
//
// What it creates carries the deployment's name: /opt/binnacle-NAME, the unit
// binnacle-NAME.service and a mark in the data directory. What does not is
// neither changed nor deleted; packages of the system that were missing are
// installed and stay.
package host

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// The kinds of resources.
const (
	KindPackage = "package"
	KindData    = "data directory"
	KindRelease = "release"
	KindService = "service"
	KindWatch   = "watch"
)

// Options are what a [Cloud] is made from.
type Options struct {
	Config config.Config
	// Token is the forge's, for who follows the repository; empty for none.
	Token config.Secret
	// Program is the binary that is put on the machine: the running one.
	Program string
	// Version of Binnacle that the program is.
	Version string
	// Holder says in words who works on the deployment, for others to read.
	Holder string
	// Here says that we run on the machine itself, whatever way leads others to it.
	Here bool
	// KeepData lets the data directory stay when the rest is removed.
	KeepData bool
	// Timeout is how long the hub may take until it answers; 0 is [DefaultTimeout].
	Timeout time.Duration
	// Lookup resolves the hub's name.
	Lookup func(ctx context.Context, name string) ([]string, error)
	// Via is another way to the machine than ssh, for tests: a command that takes
	// one more argument, a line for sh.
	Via []string
}

// DefaultTimeout is enough for a slow disk.
const DefaultTimeout = 5 * time.Minute

// keepRevisions is how far one can go back; each may have a program of 100 MB.
const keepRevisions = 5

// Cloud is one deployment on a machine.
type Cloud struct {
	o       Options
	machine *machine

	mu   sync.Mutex // guards what follows
	lock *lock
	sum  string // of the program
	seen facts
	when time.Time // seen is from then; zero when something was done since
}

// fresh is how long what was seen is believed: a plan asks for each resource,
// and each look is a connection.
const fresh = time.Second

var (
	_ deploy.Cloud      = (*Cloud)(nil)
	_ deploy.Identifier = (*Cloud)(nil)
)

// New makes a cloud; it does not connect yet. Close it.
func New(o Options) *Cloud {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	way := o.Config.Host
	if o.Here {
		way = config.Host{}
	}
	return &Cloud{o: o, machine: open(way, o.Config.Name, data(o.Config), o.Via)}
}

// Who is a line for people.
func (c *Cloud) Who(context.Context) (string, error) {
	user, _, _ := c.o.Config.Host.Split()
	if user == "" {
		return c.machine.where, nil
	}
	return c.machine.where + ", as " + user, nil
}

// Lock takes the deployment's lock; Close gives it back. Returns conflict when
// another run has it.
func (c *Cloud) Lock(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock != nil {
		return nil
	}
	l, err := c.machine.takeLock(ctx, c.o.Holder)
	c.lock = l
	return err
}

// Close gives the deployment's lock back.
func (c *Cloud) Close(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock == nil {
		return nil
	}
	err := c.lock.release()
	c.lock = nil
	return err
}

// program is the digest of the binary.
func (c *Cloud) program() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sum != "" {
		return c.sum, nil
	}
	f, err := os.Open(c.o.Program)
	if err != nil {
		return "", fmt.Errorf("read the program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read the program: %w", err)
	}
	c.sum = hex.EncodeToString(h.Sum(nil))
	return c.sum, nil
}

// packages are those of the system that the hub cannot do without.
func (c *Cloud) packages() []string {
	out := []string{"git", "ca-certificates"}
	base, _ := c.o.Config.Hub["base"].(map[string]any)
	if image, _ := base["image"].(string); image == "" {
		out = append(out, "mmdebstrap", "debian-archive-keyring")
	}
	return out
}

// The settings of a service and what they say.
const (
	settingBoot, settingRuns, settingUnit = "starts with the machine", "runs", "unit"
	yes, no                               = "yes", "no"
)

// Wanted lists the resources in the order they are created in.
func (c *Cloud) Wanted(context.Context) ([]deploy.Resource, error) {
	var rs []deploy.Resource
	if c.o.Config.Host.Packages {
		for _, p := range c.packages() {
			rs = append(rs, deploy.Resource{Kind: KindPackage, Name: p, Shared: true})
		}
	}
	rs = append(rs, deploy.Resource{Kind: KindData, Name: c.machine.data, Shared: true})
	written, err := file(c.o.Config)
	if err != nil {
		return nil, err
	}
	sum, err := c.program()
	if err != nil {
		return nil, err
	}
	name := c.o.Config.Name
	rel := deploy.Resource{Kind: KindRelease, Name: name, Spec: spec(written)}
	rel.Spec["binnacle"], rel.Spec["program"] = c.version(), short(sum)
	service := deploy.Resource{Kind: KindService, Name: serviceName(name), Spec: map[string]string{
		settingUnit: digest([]byte(unit(name))), settingBoot: yes, settingRuns: yes,
	}}
	rs = append(rs, rel, service)
	if c.o.Config.Watch.Repository == "" {
		return rs, nil
	}
	settings, err := c.follower()
	if err != nil {
		return nil, err
	}
	return append(rs, deploy.Resource{Kind: KindWatch, Name: watchName(name), Spec: map[string]string{
		settingUnit: digest([]byte(watchUnit(name))), "settings": digest(settings), "token": asWanted, "program": short(sum),
		settingBoot: yes, settingRuns: yes,
	}}), nil
}

func serviceName(name string) string { return "binnacle-" + name }

func (c *Cloud) version() string {
	if c.o.Version == "" {
		return "development"
	}
	return strings.Join(strings.Fields(c.o.Version), " ")
}

func short(sum string) string {
	const enough = 12
	return sum[:min(len(sum), enough)]
}

// look reads everything as it is.
func (c *Cloud) look(ctx context.Context) (facts, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.when.IsZero() && time.Since(c.when) < fresh {
		return c.seen, nil
	}
	out, err := c.machine.run(ctx, nil, "look", c.packages()...)
	if err != nil {
		return nil, err
	}
	c.seen, c.when = read(out), time.Now()
	return c.seen, nil
}

// do runs a verb that changes something.
func (c *Cloud) do(ctx context.Context, stdin io.Reader, verb string, args ...string) (string, error) {
	out, err := c.machine.run(ctx, stdin, verb, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.when = time.Time{}
	return out, err
}

// facts are what a verb said, in lines of a key and a value.
type facts map[string][]string

func read(out string) facts {
	f := facts{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		f[key] = append(f[key], value)
	}
	return f
}

func (f facts) one(key string) string {
	if len(f[key]) == 0 {
		return ""
	}
	return f[key][0]
}

func (f facts) has(key string) bool { return len(f[key]) > 0 }

// text is a value of more than one line.
func (f facts) text(key string) string {
	b, err := base64.StdEncoding.DecodeString(f.one(key))
	if err != nil {
		return ""
	}
	return string(b)
}

// Find reads a resource.
func (c *Cloud) Find(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
	f, err := c.look(ctx)
	if err != nil {
		return r, err
	}
	if other, taken := strings.CutPrefix(f.one("data"), "of "); taken && r.Kind == KindData {
		return r, &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "host.data", Message: fmt.Sprintf("The data directory %s belongs to the deployment %s.", r.Name, other),
			Hint: "Set host.data to another directory, and host.listen to another address.",
		}
	}
	out, ok := c.found(f, r)
	if !ok {
		return r, binnacle.Errorf(binnacle.CodeNotFound, "There is no %s %s.", r.Kind, r.Name)
	}
	return out, nil
}

// found is a resource as it is; ok is false when it is not there.
func (c *Cloud) found(f facts, r deploy.Resource) (out deploy.Resource, ok bool) {
	out = deploy.Resource{Kind: r.Kind, Name: r.Name, State: deploy.StateReady}
	switch r.Kind {
	case KindPackage:
		for _, p := range f["package"] {
			ok = ok || p == r.Name
		}
		out.ID = r.Name
	case KindData:
		ok, out.ID, out.Ours = f.has("data"), r.Name, f.one("data") == "ours"
	case KindRelease:
		ok, out.ID, out.Ours = f.has("base"), base(c.o.Config.Name), f.one("base") == "ours"
		if !ok {
			return out, false
		}
		out.Spec = spec([]byte(f.text("config")))
		out.Spec["binnacle"], out.Spec["program"] = f.one("version"), short(f.one("program"))
		out.Outputs = map[string]string{"revision": f.one("current"), "url": urlOf(f.text("config"))}
		if !f.has("current") {
			// A run was killed while it was put there.
			out.Spec, out.Outputs = map[string]string{}, nil
		}
	case KindService:
		ok, out.ID, out.Ours = f.has("unit"), "/etc/systemd/system/"+r.Name+".service", f.one("unit") == "ours"
		c.service(f, &out)
	case KindWatch:
		ok, out.ID, out.Ours = f.has("watch"), "/etc/systemd/system/"+r.Name+".service", f.one("watch") == "ours"
		c.watches(f, &out)
	}
	return out, ok
}

// service says how the service is.
func (c *Cloud) service(f facts, out *deploy.Resource) {
	out.Spec = map[string]string{settingUnit: digest([]byte(f.text("content"))), settingBoot: no, settingRuns: no}
	if f.one("enabled") == "enabled" {
		out.Spec[settingBoot] = yes
	}
	out.Outputs = map[string]string{"state": f.one("active")}
	if since := f.one("since"); f.one("active") == "active" && since != "" {
		out.Outputs["state"] = "active since " + since
	}
	if f.has("asleep") {
		// Somebody wanted that; binnacle deploy wake ends it.
		out.Spec[settingBoot], out.Spec[settingRuns], out.Outputs["state"] = yes, yes, "asleep"
		return
	}
	switch f.one("active") {
	case "active", "reloading":
		out.Spec[settingRuns] = yes
	case "activating", "deactivating":
		out.State, out.Spec[settingRuns] = deploy.StateWorking, yes
		if f.one("sub") == "auto-restart" || f.one("restarts") != "0" {
			out.State, out.Reason = deploy.StateFailed, "it ends and is started again and again:\n"+strings.TrimSpace(f.text("reason"))
		}
	case "failed":
		out.State, out.Reason = deploy.StateFailed, strings.TrimSpace(f.text("reason"))
	}
}

// List has what is ours on the machine, and what is in its place.
func (c *Cloud) List(ctx context.Context) ([]deploy.Resource, error) {
	f, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	var out []deploy.Resource
	wanted := []deploy.Resource{{Kind: KindRelease, Name: c.o.Config.Name}, {Kind: KindService, Name: serviceName(c.o.Config.Name)}, {Kind: KindWatch, Name: watchName(c.o.Config.Name)}}
	if !c.o.KeepData {
		wanted = append(wanted, deploy.Resource{Kind: KindData, Name: c.machine.data})
	}
	for _, w := range wanted {
		if r, ok := c.found(f, w); ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// architecture is Go's word for uname's.
func architecture(uname string) string {
	switch uname {
	case "x86_64":
		return "amd64"
	case "aarch64", "arm64":
		return "arm64"
	}
	return uname
}

// made is the architecture that the program is for.
func (c *Cloud) made() string {
	f, err := elf.Open(c.o.Program)
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	default:
		return strings.ToLower(strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
}
