package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

// oldestSystemd has what the unit and the script use.
const oldestSystemd = 247

// Check looks for what would go wrong: the way there, root, systemd, packages,
// the hub's name, and all that `binnacle doctor` looks at, on the machine. What
// that needs there is removed again.
func (c *Cloud) Check(ctx context.Context) ([]deploy.Finding, error) {
	out, err := c.machine.run(ctx, nil, "facts", c.packages()...)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		e := binnacle.Public(err)
		return []deploy.Finding{{Name: "machine", Message: e.Message, Hint: e.Hint}}, nil
	}
	f := read(out)
	found := []deploy.Finding{{Name: "machine", OK: true, Message: fmt.Sprintf("%s is reached, Linux %s on %s", c.machine.where, f.one("kernel"), architecture(f.one("arch")))}}
	found = append(found, c.system(f), c.lacking(f), c.named(ctx, f))
	if w := c.o.Config.Watch; w.Repository != "" && w.TokenFrom != "" && c.o.Token == "" {
		there, err := c.look(ctx)
		if err != nil {
			return found, err
		}
		if c.tokenOf(there) != asWanted {
			e := w.NoToken("on the machine")
			found = append(found, deploy.Finding{Name: "token", Message: e.Message, Hint: e.Hint})
		}
	}
	if err := c.fits(f); err != nil {
		e := binnacle.Public(err)
		return append(found, deploy.Finding{Name: "program", Message: e.Message, Hint: e.Hint}), nil
	}
	doctor, err := c.doctor(ctx, f)
	return append(found, doctor...), err
}

// system wants root, systemd and a few programs.
func (c *Cloud) system(f facts) deploy.Finding {
	out := deploy.Finding{Name: "system", OK: true, Message: "systemd " + f.one("systemd") + ", as root"}
	version, err := strconv.Atoi(f.one("systemd"))
	switch {
	case f.one("root") != "0":
		out.OK, out.Message, out.Hint = false, "we are not root there", "Sign in as root, or set host.sudo to true."
	case f.one("booted") != yes || err != nil:
		out.OK, out.Message, out.Hint = false, "the machine was not started by systemd", "Use a machine with systemd, or run binnacle serve by what starts services there (docs/operate.md)."
	case version < oldestSystemd:
		out.OK, out.Message, out.Hint = false, fmt.Sprintf("systemd %d is older than %d", version, oldestSystemd), "Upgrade the machine: Debian 11, Ubuntu 22.04 or newer have it."
	case f.has("tool"):
		out.OK, out.Message, out.Hint = false, "these programs are missing: "+strings.Join(f["tool"], ", "), "apt-get install coreutils util-linux mawk"
	}
	return out
}

// lacking are packages of the system.
func (c *Cloud) lacking(f facts) deploy.Finding {
	list := strings.Join(f["lacks"], " ")
	switch {
	case list == "":
		return deploy.Finding{Name: "packages", OK: true, Message: "all that are needed are there"}
	case f.one("apt") == yes && c.o.Config.Host.Packages:
		return deploy.Finding{Name: "packages", OK: true, Message: "up installs " + list}
	case f.one("apt") == yes:
		return deploy.Finding{Name: "packages", Message: "missing: " + list, Hint: "apt-get install " + list + ", or set host.packages to true"}
	}
	return deploy.Finding{Name: "packages", Message: "missing: " + list + ", and there is no apt-get", Hint: "Install them by what the system has, and set host.packages to false."}
}

// named looks whether the hub's name leads anywhere: certificates need that.
func (c *Cloud) named(ctx context.Context, f facts) deploy.Finding {
	domain := c.o.Config.DNS.Domain
	if domain == "" {
		return deploy.Finding{Name: "name", OK: true, Message: "people reach the hub as " + address(c.o.Config)}
	}
	here := strings.Fields(f.one("addresses"))
	found, err := c.o.Lookup(ctx, domain)
	if err != nil || len(found) == 0 {
		return deploy.Finding{
			Name: "name", OK: !c.o.Config.HTTPS.Enabled, Message: domain + " is not found in the DNS",
			Hint: "Add a record for it that leads to the machine (" + strings.Join(here, ", ") + "), or set https.enabled to false for now.",
		}
	}
	out := deploy.Finding{Name: "name", OK: true, Message: fmt.Sprintf("%s leads to %s", domain, strings.Join(found, ", "))}
	if !slices.ContainsFunc(found, func(a string) bool { return slices.Contains(here, a) }) {
		out.Message += ", which the machine does not have itself: fine behind address translation only"
	}
	return out
}

// doctor runs `binnacle doctor` on the machine with the hub's configuration.
func (c *Cloud) doctor(ctx context.Context, f facts) ([]deploy.Finding, error) {
	sum, err := c.program()
	if err != nil {
		return nil, err
	}
	written, err := file(c.o.Config)
	if err != nil {
		return nil, err
	}
	has, err := c.machine.run(ctx, nil, "has", sum)
	if err != nil {
		return nil, err
	}
	var in io.Reader = strings.NewReader(string(written))
	if has == "" {
		program, err := os.Open(c.o.Program)
		if err != nil {
			return nil, fmt.Errorf("read the program: %w", err)
		}
		defer program.Close()
		in = io.MultiReader(in, program)
	}
	out, err := c.machine.run(ctx, in, "probe", sum, strconv.Itoa(len(written)))
	if err != nil {
		return nil, err
	}
	var list []struct{ Name, State, Message, Fix string }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "host.doctor", Message: "binnacle doctor can't be run on " + c.machine.where + ": " + shorten(out), Hint: "Run it there to see why.", Err: err}
	}
	installs := c.o.Config.Host.Packages && f.one("apt") == yes
	var found []deploy.Finding
	for _, d := range list {
		one := deploy.Finding{Name: d.Name, OK: d.State != "fail", Message: d.Message, Hint: d.Fix}
		if !one.OK && installs && slices.ContainsFunc(f["lacks"], func(p string) bool { return strings.Contains(d.Fix, p) }) {
			one.OK = true // it will be installed
		}
		found = append(found, one)
	}
	return found, nil
}
