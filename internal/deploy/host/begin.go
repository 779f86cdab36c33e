package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

// tokenStart is the token of what starts the service.
const tokenStart = "start"

// Begin starts an operation. Only who holds the deployment's lock may; another
// one gets conflict.
func (c *Cloud) Begin(ctx context.Context, a deploy.Action, r deploy.Resource) (string, error) {
	if err := c.Lock(ctx); err != nil {
		return "", err
	}
	if a == deploy.ActionDelete {
		return "", c.remove(ctx, r)
	}
	var err error
	switch r.Kind {
	case KindPackage:
		_, err = c.do(ctx, nil, "package", r.Name)
	case KindData:
		_, err = c.do(ctx, nil, "data")
	case KindRelease:
		if err := c.put(ctx); err != nil {
			return "", err
		}
		f, err := c.look(ctx)
		if err != nil || !f.has("unit") || f.has("asleep") {
			return "", err
		}
		return tokenStart, nil
	case KindService:
		_, err = c.do(ctx, strings.NewReader(unit(c.o.Config.Name)), "service")
		return tokenStart, err
	case KindWatch:
		err = c.putWatch(ctx)
	default:
		err = binnacle.Errorf(binnacle.CodeInvalid, "Resources of the kind %q can't be handled.", r.Kind)
	}
	return "", err
}

// put brings program and configuration to the machine and makes them the ones
// in use.
func (c *Cloud) put(ctx context.Context) error {
	sum, err := c.program()
	if err != nil {
		return err
	}
	written, err := file(c.o.Config)
	if err != nil {
		return err
	}
	out, err := c.machine.run(ctx, nil, "facts")
	if err != nil {
		return err
	}
	if err := c.fits(read(out)); err != nil {
		return err
	}
	has, err := c.machine.run(ctx, nil, "has", sum)
	if err != nil {
		return err
	}
	if has == "" {
		f, err := os.Open(c.o.Program)
		if err != nil {
			return fmt.Errorf("read the program: %w", err)
		}
		defer f.Close()
		if _, err := c.do(ctx, f, "program", sum); err != nil {
			return err
		}
	}
	_, err = c.do(ctx, bytes.NewReader(written), "release", sum, c.version(), strconv.Itoa(keepRevisions))
	return err
}

// fits says whether the program can run there.
func (c *Cloud) fits(f facts) error {
	if there := architecture(f.one("arch")); there != c.made() {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "host.arch", Message: fmt.Sprintf("%s is %s, and this program is for %s.", c.machine.where, there, c.made()),
			Hint: "Name a binnacle for " + there + " with --program, or run this on the machine itself with host.address empty.",
		}
	}
	return nil
}

// remove deletes what is ours.
func (c *Cloud) remove(ctx context.Context, r deploy.Resource) error {
	have, err := c.Find(ctx, r)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if !have.Ours {
		return binnacle.Errorf(binnacle.CodeForbidden, "The %s %s is not ours and stays.", r.Kind, r.Name)
	}
	verb := map[string]string{KindData: "undata", KindRelease: "unrelease", KindService: "unservice", KindWatch: "unwatch"}[r.Kind]
	if verb == "" {
		return nil // packages of the system stay
	}
	_, err = c.do(ctx, nil, verb)
	return err
}

// Wait waits until the hub answers, after an operation that starts it.
func (c *Cloud) Wait(ctx context.Context, _ deploy.Resource, token string) error {
	if token != tokenStart {
		return binnacle.Errorf(binnacle.CodeNotFound, "There is no such operation.")
	}
	_, err := c.do(ctx, nil, "await", strconv.Itoa(int(c.o.Timeout/time.Second)))
	return err
}

// urlOf is the address in a configuration.
func urlOf(written string) string {
	var v struct {
		URL string `yaml:"url"`
	}
	if err := yaml.Unmarshal([]byte(written), &v); err != nil {
		return ""
	}
	return v.URL
}
