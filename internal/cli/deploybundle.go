package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

func (d *deployment) bundleCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use: "support-bundle", Short: "Write what somebody who helps needs into one file, without secrets", Args: cobra.NoArgs,
		Long: "It has the file of the deployment, the plan, the release's history, events, the journal and logs.\n" +
			"Values of Secrets, passwords in addresses and tokens are taken out. Addresses of people and of\n" +
			"repositories stay in the logs: look at it before you send it to strangers.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), false, func(at *place) error { return d.bundle(cmd.Context(), at, to) })
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", "support-bundle.tar.gz", "the `file` to write")
	return cmd
}

// bundle writes the archive.
func (d *deployment) bundle(ctx context.Context, at *place, to string) error {
	secrets, err := at.hub.Secrets(ctx)
	if err != nil {
		return err
	}
	archive, err := d.collect(ctx, at, hider(secrets))
	if err != nil {
		return err
	}
	const private = 0o600
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if errors.Is(err, os.ErrExist) {
		return &binnacle.Error{Code: binnacle.CodeConflict, Op: "cli.bundle", Message: fmt.Sprintf("The file %s is there already.", to), Hint: "--output names another.", Err: err}
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, archive)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "Wrote %s. Secrets were taken out; look at it before you send it on.\n", to)
	return nil
}

// collect makes the archive; what can't be had is said in its place.
func (d *deployment) collect(ctx context.Context, at *place, hide func(string) string) (*bytes.Buffer, error) {
	archive := new(bytes.Buffer)
	zip := gzip.NewWriter(archive)
	files := tar.NewWriter(zip)
	now := time.Now()
	add := func(name string, b []byte, err error) error {
		if err != nil {
			b = append(b, "\n(not complete: "+binnacle.Public(err).Message+")\n"...)
		}
		b = []byte(hide(string(b)))
		const readable = 0o600
		if err := files.WriteHeader(&tar.Header{Name: "support-bundle/" + name, Mode: readable, Size: int64(len(b)), ModTime: now}); err != nil {
			return err
		}
		_, err = files.Write(b)
		return err
	}
	errs := []error{}
	asJSON := func(name string, v any, err error) {
		if lines, ok := v.([]string); ok {
			errs = append(errs, add(name, []byte(strings.Join(lines, "\n")), err))
			return
		}
		b, failed := json.MarshalIndent(v, "", "  ")
		errs = append(errs, add(name, b, errors.Join(err, failed)))
	}
	asJSON("version.json", map[string]string{"binnacle": d.Version, "time": now.UTC().Format(time.RFC3339)}, nil)
	plan, err := at.engine.Plan(ctx)
	asJSON("plan.json", plan, err)
	history, err := at.hub.History(ctx)
	asJSON("history.json", history, err)
	at.hub.Evidence(ctx, asJSON)
	for name, path := range map[string]string{"binnacle.yaml": d.file, "journal": d.journalFile(at.config.Name)} {
		b, err := os.ReadFile(path)
		errs = append(errs, add(name, b, err))
	}
	for _, component := range at.hub.Components() {
		for _, previous := range []bool{false, true} {
			if previous && component == componentBuilds {
				continue // each is its own
			}
			const most = 5000
			var log bytes.Buffer
			err := at.hub.Logs(ctx, release.LogOptions{Component: component, Previous: previous, Tail: most}, &log)
			name := component + ".log"
			if previous {
				name = component + ".previous.log"
			}
			errs = append(errs, add(name, log.Bytes(), err))
		}
	}
	return archive, errors.Join(append(errs, files.Close(), zip.Close())...)
}

// hider takes secrets out of text: the values themselves, in base64 too, and what
// looks like a token or a password in an address.
func hider(secrets []string) func(string) string {
	const shortest = 6 // shorter ones would take words apart
	var pairs []string
	add := func(s string) {
		if len(s) >= shortest {
			pairs = append(pairs, s, base64.StdEncoding.EncodeToString([]byte(s)))
		}
	}
	for _, s := range secrets {
		add(strings.TrimSpace(s))
		var docker struct {
			Auths map[string]struct{ Auth string } `json:"auths"`
		}
		if json.Unmarshal([]byte(s), &docker) == nil {
			for _, a := range docker.Auths {
				login, err := base64.StdEncoding.DecodeString(a.Auth)
				if _, password, ok := strings.Cut(string(login), ":"); err == nil && ok {
					add(password)
				}
				add(a.Auth)
			}
		}
		if strings.Contains(s, "PRIVATE KEY") {
			for line := range strings.Lines(s) {
				add(strings.TrimSpace(line))
			}
		}
	}
	// Longer ones first: one may hold another.
	slices.SortFunc(pairs, func(a, b string) int { return len(b) - len(a) })
	var olds []string
	for _, p := range slices.Compact(pairs) {
		olds = append(olds, p, "xxxxx")
	}
	replacer := strings.NewReplacer(olds...)
	token := regexp.MustCompile(`(?i)((?:token|password|secret|api_?key)["']?\s*[=:]\s*["']?)[A-Za-z0-9_\-./+]{8,}`)
	login := regexp.MustCompile(`(://[^/\s:@]+:)[^/\s@]+@`)
	bearer := regexp.MustCompile(`(?i)((?:bearer|basic|token) )[A-Za-z0-9_\-./+=]{12,}`)
	return func(text string) string {
		text = replacer.Replace(text)
		text = token.ReplaceAllString(text, "${1}xxxxx")
		text = bearer.ReplaceAllString(text, "${1}xxxxx")
		return login.ReplaceAllString(text, "${1}xxxxx@")
	}
}
