package kube_test

import (
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// saveBox writes the image of the registry as an archive, by another name.
func saveBox(path, box, as string) error {
	from, err := name.ParseReference(box)
	if err != nil {
		return err
	}
	image, err := remote.Image(from)
	if err != nil {
		return err
	}
	to, err := name.NewTag(as)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(path, to, image)
}
