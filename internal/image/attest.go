package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/result"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"golang.org/x/sync/errgroup"

	"github.com/binnacle-hub/binnacle"
)

// A pushed image carries what it was made of and how (in-toto attestations, as
// BuildKit writes them): an SPDX 2.3 list of what is installed, and BuildKit's
// SLSA provenance. An image that stays here does not: provenance has times in
// it, and the same revision shall be the same image.
const predicateSPDX = "https://spdx.dev/Document"

// push builds once more, from the cache, and sends the result with its
// attestations to the registry in w.Tag.
func (b *Builder) push(ctx context.Context, w work, opt bkclient.SolveOpt) error {
	w.attested = true
	attrs := exportAttrs()
	maps.Copy(attrs, map[string]string{"name": w.Tag, "push": "true", "force-compression": "true"})
	if w.PlainHTTP {
		attrs[string(exptypes.OptKeyInsecure)] = "true"
	}
	opt.Exports = []bkclient.ExportEntry{{Type: bkclient.ExporterImage, Attrs: attrs}}
	status := make(chan *bkclient.SolveStatus)
	var drain errgroup.Group
	drain.Go(func() error {
		for range status { // every step was told when it ran
		}
		return nil
	})
	if _, err := b.solve(ctx, w, opt, status); err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "build.push", Message: "The image is built, but could not be pushed to " + w.Tag + ": " + lastCause(err) + ".",
			Hint: "Check the name, and that `docker login` or the hub's DOCKER_CONFIG has a password for this registry.", Err: err,
		}
	}
	return drain.Wait()
}

// attest adds the list of what is installed to a result of one platform.
func (b *Builder) attest(ctx context.Context, c gateway.Client, req Request, res *gateway.Result) (*gateway.Result, error) {
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	files, err := readResolved(ctx, ref)
	if err != nil {
		return nil, err
	}
	doc, err := b.sbom(req, files)
	if err != nil {
		return nil, err
	}
	state := llb.Scratch().File(llb.Mkfile("/sbom.spdx.json", 0o644, doc, fixedTime), hidden("list of packages"))
	def, err := state.Marshal(ctx, llb.Platform(platform()))
	if err != nil {
		return nil, err
	}
	made, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	list, err := made.SingleRef()
	if err != nil {
		return nil, err
	}
	p := platforms.Normalize(platform())
	id := platforms.Format(p)
	out := gateway.NewResult()
	out.AddRef(id, ref)
	out.AddMeta(exptypes.ExporterImageConfigKey+"/"+id, res.Metadata[exptypes.ExporterImageConfigKey])
	names, err := json.Marshal(exptypes.Platforms{Platforms: []exptypes.Platform{{ID: id, Platform: p}}})
	if err != nil {
		return nil, err
	}
	out.AddMeta(exptypes.ExporterPlatformsKey, names)
	out.AddAttestation(id, gateway.Attestation{
		Kind: gatewaypb.AttestationKind_InToto, Ref: list, Path: "/sbom.spdx.json", InToto: result.InTotoAttestation{PredicateType: predicateSPDX},
	})
	return out, nil
}

// sbom writes what is installed as SPDX 2.3 JSON.
func (b *Builder) sbom(req Request, files []binnacle.Resolved) ([]byte, error) {
	const document = "DOCUMENT"
	env := req.Recipe.Environment()
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: document, DocumentName: req.Name,
		DocumentNamespace: "urn:binnacle:" + env + ":" + req.Revision.Commit,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "binnacle-" + b.version}}, Created: commitTime(req.Time).Format(time.RFC3339),
		},
	}
	for _, p := range components(files) {
		p.PackageSPDXIdentifier = common.ElementID(fmt.Sprintf("Package-%d", len(doc.Packages)))
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, &spdx.Relationship{
			RefA: common.MakeDocElementID("", document), RefB: common.MakeDocElementID("", string(p.PackageSPDXIdentifier)), Relationship: "DESCRIBES",
		})
	}
	var out bytes.Buffer
	if err := spdxjson.Write(doc, &out); err != nil {
		return nil, fmt.Errorf("write the list of packages: %w", err)
	}
	return out.Bytes(), nil
}
