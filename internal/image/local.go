package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/config"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"

	"github.com/binnacle-hub/binnacle"
)

// one is a Pool of one BuildKit, which is there as long as this process.
type one struct{ buildkit *bkclient.Client }

// Use implements Pool.
func (o one) Use(ctx context.Context, _ string, _ func(string), f func(context.Context, *bkclient.Client) error) error {
	return f(ctx, o.buildkit)
}

// local keeps images in the runtime's own store, where sessions start from them
// without pull or copy.
type local struct{ store images.Store }

func (local) name(rev binnacle.Revision, asked string) string { return Name(rev, asked) }

func (l local) find(ctx context.Context, name string) (Image, bool, error) {
	img, err := l.store.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return Image{}, false, nil
	}
	if err != nil {
		return Image{}, false, fmt.Errorf("look for the image: %w", err)
	}
	return Image{
		Name: img.Name, Digest: img.Target.Digest.String(), Environment: img.Labels[LabelEnvironment], interfaces: img.Labels[LabelInterfaces],
	}, true, nil
}

func (local) prepare(req Request, opt *bkclient.SolveOpt) {
	opt.Exports = exports(req)
	opt.Session = []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(config.LoadDefaultConfigFile(io.Discard)),
	})}
}

func (local) attested() bool { return false }

// built keeps with the image what find must know.
func (l local) built(ctx context.Context, img Image) error {
	have, err := l.store.Get(ctx, img.Name)
	if err != nil {
		return fmt.Errorf("the image that was just built: %w", err)
	}
	have.Labels = maps.Clone(have.Labels)
	if have.Labels == nil {
		have.Labels = map[string]string{}
	}
	have.Labels[LabelEnvironment], have.Labels[LabelInterfaces] = img.Environment, img.interfaces
	if _, err := l.store.Update(ctx, have, "labels"); err != nil {
		return fmt.Errorf("label the image: %w", err)
	}
	return nil
}

func (local) explain(_ context.Context, _ string, err error) error { return err }

// exports are where the image goes: always into the runtime's own store,
// unpacked, which is why a session can start from it without pull or copy.
func exports(req Request) []bkclient.ExportEntry {
	entry := func(kind string, more map[string]string) bkclient.ExportEntry {
		all := exportAttrs()
		maps.Copy(all, more)
		return bkclient.ExportEntry{Type: kind, Attrs: all}
	}
	out := []bkclient.ExportEntry{entry(bkclient.ExporterImage, map[string]string{"name": req.Name, "unpack": "true"})}
	if req.Tag != "" && !req.Push {
		out = append(out, entry(bkclient.ExporterImage, map[string]string{"name": req.Tag}))
	}
	if req.Output != "" {
		name := req.Tag
		if name == "" {
			name = req.Name
		}
		e := entry(bkclient.ExporterOCI, map[string]string{"name": name, "tar": "true"})
		e.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(req.Output) }
		out = append(out, e)
	}
	return out
}
