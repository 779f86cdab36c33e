package registry_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/binnacle-hub/binnacle"
)

// list makes an image with what says how it was made beside it, as BuildKit pushes
// it.
func list(t *testing.T, parts ...v1.Image) v1.ImageIndex {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, p := range parts {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: p})
	}
	return index
}

func TestRemove(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	r := of(h, dockerConfig(t, h.name, basic(user, password)))
	var images []v1.Image
	for range 3 {
		img, err := random.Image(16, 1)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	// Two lists share an image; a third name is for the same as the second.
	lists := map[string]v1.ImageIndex{"x:old": list(t, images[0], images[1]), "x:new": list(t, images[0], images[2])}
	lists["x:alias"] = lists["x:new"]
	lists["y:old"] = lists["x:old"]
	for tag, l := range lists {
		ref, err := r.Reference(r.Name(tag))
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, l, r.Options(nil)...); err != nil {
			t.Fatal(err)
		}
	}
	there := func(reference string) bool {
		t.Helper()
		ref, err := name.ParseReference(r.Name(reference))
		if err != nil {
			t.Fatal(err)
		}
		_, err = remote.Get(ref, r.Options(nil)...)
		return err == nil
	}
	digest := func(repo string, of interface{ Digest() (v1.Hash, error) }) string {
		d, err := of.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return repo + "@" + d.String()
	}
	remove := func(image string, kept ...string) {
		t.Helper()
		for i := range kept {
			kept[i] = r.Name(kept[i])
		}
		if err := r.Remove(t.Context(), r.Name(image), kept); err != nil {
			t.Fatal(err)
		}
	}
	check := func(reference string, want bool) {
		t.Helper()
		if there(reference) != want {
			t.Errorf("%s is there: %v", reference, !want)
		}
	}
	remove("x:old", "x:new", "x:alias", "y:old", "x:gone")
	for reference, want := range map[string]bool{
		"x:old": false, digest("x", lists["x:old"]): false, digest("x", images[1]): false, digest("x", images[0]): true,
		"x:new": true, digest("x", images[2]): true, "y:old": true, digest("y", images[1]): true,
	} {
		check(reference, want)
	}
	remove("x:old") // is gone already
	remove("x:new", "x:alias")
	check("x:new", false)
	check("x:alias", true)
	check(digest("x", images[0]), true)
	remove("x:alias")
	check(digest("x", images[0]), false)

	for what, c := range map[string]struct {
		status int
		body   string
		code   binnacle.Code
		want   string
	}{
		"unsupported": {405, `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`, binnacle.CodeForbidden, "does not let this hub remove images"},
		"denied":      {403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, binnacle.CodeForbidden, "does not let this hub remove images"},
		"scope":       {401, `{"errors":[{"code":"UNAUTHORIZED","message":"insufficient_scope"}]}`, binnacle.CodeForbidden, "does not let this hub remove images"},
	} {
		h.set(func(w http.ResponseWriter, req *http.Request) bool {
			return req.Method == http.MethodDelete && answer(c.status, c.body)(w, req)
		})
		err := r.Remove(t.Context(), r.Name("y:old"), nil)
		if binnacle.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.set(nil)
	check("y:old", true)
}
