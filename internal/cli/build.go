package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
)

func (a *app) buildCommand() *cobra.Command {
	var req buildRequest
	var asJSON, fresh bool
	cmd := &cobra.Command{
		Use:   "build REPO",
		Short: "Build a repository's image and start nothing",
		Long: "Builds the image of REPO. It stays in the store of this machine, and is pushed to\n" +
			"a registry (--tag with --push) or written to a file (--output).",
		Example: "  binnacle build .\n  binnacle build . --tag registry.example.org/me/image:1 --push\n  binnacle build gh/owner/name --output image.tar",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Repo = localPath(args[0])
			if err := knownInterface(req.Interface); err != nil {
				return err
			}
			if req.Push && req.Tag == "" {
				return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.build", Message: "--push needs a name to push to.", Hint: "Add --tag registry.example.org/me/image:1."}
			}
			if req.Tag == "" && req.Output == "" {
				return a.launch(cmd.Context(), launchOptions{repo: req.Repo, ref: req.Ref, subdir: req.Subdir, path: req.Interface, asJSON: asJSON, buildOnly: true, fresh: fresh})
			}
			return a.export(cmd.Context(), req, asJSON)
		},
	}
	f := cmd.Flags()
	placeFlags(f, &req.Ref, &req.Subdir)
	f.StringVar(&req.Interface, "interface", "", interfaceHelp)
	f.StringVarP(&req.Tag, "tag", "t", "", "`name` of the image as registries write it")
	f.BoolVar(&req.Push, "push", false, "push the image to the registry in its name")
	f.BoolVar(&req.PlainHTTP, "plain-http", false, "the registry speaks http")
	f.StringVarP(&req.Output, "output", "o", "", "write the image to this `file`, an OCI archive")
	f.BoolVar(&fresh, "rebuild", false, "build anew although an image is there")
	f.BoolVar(&asJSON, "json", false, "print one JSON event per line, then the image")
	return cmd
}

// export builds an image that leaves this machine's store.
func (a *app) export(ctx context.Context, req buildRequest, asJSON bool) (err error) {
	if req.Output != "" {
		if req.Output, err = filepath.Abs(req.Output); err != nil {
			return err
		}
	}
	c, err := a.config(nil)
	if err != nil {
		return err
	}
	_, stop, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	d := a.newDisplay(ctx, asJSON)
	img, err := requestBuild(ctx, socketPath(c), req, d.event)
	d.close()
	if ctx.Err() != nil {
		return binnacle.Errorf(binnacle.CodeCanceled, "Canceled.")
	}
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.Out).Encode(img)
	}
	fmt.Fprintf(a.Out, "%s\n%s\n", img.Name, img.Digest)
	for _, place := range []string{req.Tag, req.Output} {
		if place != "" {
			fmt.Fprintln(a.Out, place)
		}
	}
	return nil
}

func requestBuild(ctx context.Context, socket string, req buildRequest, event func(binnacle.Event) error) (image.Image, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return image.Image{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://hub"+buildPath, bytes.NewReader(body))
	if err != nil {
		return image.Image{}, err
	}
	client := socketClient(socket)
	defer client.CloseIdleConnections()
	res, err := client.Do(r)
	if err != nil {
		return image.Image{}, &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "cli.build", Message: "The hub does not answer.", Err: err}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return image.Image{}, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "cli.build", Message: "The hub that runs is of another version and cannot do this.", Hint: "Restart it with this version.",
		}
	}
	return readBuild(res.Body, event)
}
