package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	bkclient "github.com/moby/buildkit/client"
)

// Use is one kind of thing that takes disk space.
type Use struct {
	Name  string `json:"name"` // "layers", "archives", "build cache", "download caches"
	Bytes int64  `json:"bytes"`
	Items int    `json:"items"`
}

// Usage says what takes how much. The build cache is part of the layers: it is
// what of them no image needs.
func (e *Engine) Usage(ctx context.Context) ([]Use, error) {
	layers, archives := Use{Name: "layers"}, Use{Name: "archives"}
	snaps := e.client.SnapshotService(Snapshotter)
	err := snaps.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		usage, err := snaps.Usage(ctx, info.Name)
		if err != nil {
			return nil //nolint:nilerr // removed since the walk began
		}
		layers.Bytes += usage.Size
		layers.Items++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure the layers: %w", err)
	}
	err = e.client.ContentStore().Walk(ctx, func(info content.Info) error {
		archives.Bytes += info.Size
		archives.Items++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure the archives: %w", err)
	}
	cache, downloads := Use{Name: "build cache"}, Use{Name: "download caches"}
	records, err := e.BuildKit().DiskUsage(Clean(ctx))
	if err != nil {
		return nil, fmt.Errorf("measure the build cache: %w", err)
	}
	for _, r := range records {
		into := &cache
		if r.RecordType == bkclient.UsageRecordTypeCacheMount {
			into = &downloads
		} else if r.Shared {
			continue
		}
		into.Bytes += r.Size
		into.Items++
	}
	return []Use{layers, archives, cache, downloads}, nil
}

// Keep says which images [Engine.Prune] may take, and in which order.
type Keep struct {
	// InUse is true for an image that a session runs from.
	InUse func(image string) bool
	// LastUse orders the others; the oldest go first.
	LastUse func(image string) time.Time
}

// Prune frees space until what the engine holds fits into budget bytes: first
// what no image needs, then the images nobody used for longest, then the
// download caches, which make every later build slow. It returns how many
// bytes were freed, also with an error.
func (e *Engine) Prune(ctx context.Context, budget int64, keep Keep) (int64, error) {
	start, err := e.held(ctx)
	if err != nil {
		return 0, err
	}
	now := start
	steps := []func(ctx context.Context) (more bool, err error){
		func(ctx context.Context) (bool, error) { return false, e.pruneCache(ctx, "type!=exec.cachemount") },
		e.pruneImage(ctx, keep),
		func(ctx context.Context) (bool, error) { return false, e.pruneCache(ctx, "type==exec.cachemount") },
	}
	for _, step := range steps {
		for more := true; more && now > budget; {
			if more, err = step(ctx); err != nil {
				return start - now, err
			}
			if now, err = e.held(ctx); err != nil {
				return 0, err
			}
		}
	}
	return start - now, nil
}

// held is the sum of Usage without what it counts twice.
func (e *Engine) held(ctx context.Context) (int64, error) {
	uses, err := e.Usage(ctx)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, u := range uses {
		if u.Name == "layers" || u.Name == "archives" {
			sum += u.Bytes
		}
	}
	return sum, nil
}

func (e *Engine) pruneCache(ctx context.Context, filter string) error {
	if err := e.BuildKit().Prune(Clean(ctx), nil, bkclient.WithFilter([]string{filter})); err != nil {
		return fmt.Errorf("clear the build cache: %w", err)
	}
	return nil
}

// pruneImage removes one image at a time, the one that was not used for longest.
func (e *Engine) pruneImage(ctx context.Context, keep Keep) func(context.Context) (bool, error) {
	var queue []string
	all, err := e.client.ImageService().List(ctx)
	for _, img := range all {
		if img.Name != BaseImage && !keep.InUse(img.Name) {
			queue = append(queue, img.Name)
		}
	}
	slices.SortFunc(queue, func(a, b string) int {
		return cmp.Or(keep.LastUse(a).Compare(keep.LastUse(b)), cmp.Compare(a, b))
	})
	return func(ctx context.Context) (bool, error) {
		if err != nil {
			return false, fmt.Errorf("list the images: %w", err)
		}
		if len(queue) == 0 {
			return false, nil
		}
		name := queue[0]
		queue = queue[1:]
		// One that is gone was removed by somebody who reclaims at the same time.
		if err := e.client.ImageService().Delete(ctx, name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return false, fmt.Errorf("remove the image %s: %w", name, err)
		}
		return len(queue) > 0, e.pruneCache(ctx, "type!=exec.cachemount")
	}
}
