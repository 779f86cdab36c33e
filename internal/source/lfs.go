package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Files of Git LFS are fetched by ourselves, not by git-lfs: that program
// connects to loopback addresses past any proxy, which a server of the
// repository's choice could make use of.

const (
	pointerStart = "version https://git-lfs.github.com/spec/v1\n"
	maxPointer   = 1024
	lfsType      = "application/vnd.git-lfs+json"
	maxBatch     = 100
	maxAnswer    = 8 << 20
)

// pointer stands for a large file.
type pointer struct {
	OID  string `json:"oid"`
	Size int64  `json:"size"`
}

// parsePointer reads a pointer file; false when it is an ordinary file.
func parsePointer(text string) (pointer, bool) {
	rest, ok := strings.CutPrefix(text, pointerStart)
	if !ok || len(text) > maxPointer {
		return pointer{}, false
	}
	p := pointer{Size: -1}
	for line := range strings.Lines(rest) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "oid":
			p.OID = strings.TrimPrefix(value, "sha256:")
		case "size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return pointer{}, false
			}
			p.Size = n
		}
	}
	return p, len(p.OID) == 64 && isHex(p.OID) && p.Size >= 0
}

// large replaces the pointer files of a checked-out tree. What cannot be had
// is reported and stays a pointer: most notebooks run without their data.
func (f *fetching) large(ctx context.Context, n *network, list []entry, dir, prefix string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("large files: %w", err)
	}
	defer root.Close()
	files, err := pointers(root, list)
	if err != nil || len(files) == 0 {
		return err
	}
	note := func(why string) {
		const some = 3
		names := slices.Sorted(maps.Keys(files))
		for i, name := range names[:min(some, len(names))] {
			names[i] = quote(prefix + name)
		}
		more := ""
		if n := len(names) - some; n > 0 {
			names, more = names[:some], fmt.Sprintf(" and %d more", n)
		}
		f.line(Note + "Pointers of Git LFS stand where these files should be: " + strings.Join(names, ", ") + more + ". They were not fetched: " + why +
			". A notebook that reads them fails; commit small files without LFS, and download large ones from an archive in postBuild.")
	}
	if !f.s.cfg.LFS {
		note("this hub does not fetch large files")
		return nil
	}
	endpoint, ok := lfsEndpoint(n.remote)
	if !ok || (n.proxy == nil && !f.policy.Local) { // the public's ssh has no proxy to guard it
		note("large files are fetched over HTTPS only")
		return nil
	}
	client, err := f.s.httpClient(n)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	m := f.s.mirror(n.remote, f.policy, 40)
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	l := &lfs{client: client, endpoint: endpoint, store: filepath.Join(m.dir, "lfs"), left: f.left}
	f.line(fmt.Sprintf("Fetching %d large files", len(files)))
	if err := l.replace(ctx, root, files); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errTooBig) {
			return tooLarge("is, with its large files, larger than this hub allows")
		}
		note(printable(err.Error(), 300))
	}
	return nil
}

// pointers finds the pointer files. Without a filter in some .gitattributes
// there are none, and no file is opened.
func pointers(root *os.Root, list []entry) (map[string]pointer, error) {
	uses := false
	for _, e := range list {
		if e.kind == kindFile && (e.path == ".gitattributes" || strings.HasSuffix(e.path, "/.gitattributes")) && e.size < maxAnswer {
			text, err := root.ReadFile(e.path)
			if err != nil {
				return nil, fmt.Errorf("large files: %w", err)
			}
			uses = uses || bytes.Contains(text, []byte("filter=lfs"))
		}
	}
	if !uses {
		return nil, nil
	}
	found := map[string]pointer{}
	for _, e := range list {
		if e.kind != kindFile || e.size > maxPointer || e.size < int64(len(pointerStart)) {
			continue
		}
		text, err := root.ReadFile(e.path)
		if err != nil {
			return nil, fmt.Errorf("large files: %w", err)
		}
		if p, ok := parsePointer(string(text)); ok {
			found[e.path] = p
		}
	}
	return found, nil
}

// lfsEndpoint follows the convention: the repository's address, .git, info/lfs.
func lfsEndpoint(r remote) (string, bool) {
	switch r.scheme {
	case "ssh":
		r = remote{scheme: "https", host: r.host, path: r.path}
	case "https", "http":
	default:
		return "", false
	}
	return strings.TrimSuffix(r.String(), ".git") + ".git/info/lfs/objects/batch", true
}

// httpClient goes where git would go: through the guarding proxy for the public.
func (s *Source) httpClient(n *network) (*http.Client, error) {
	t := &http.Transport{ResponseHeaderTimeout: headerTimeout, ForceAttemptHTTP2: true}
	proxy := s.cfg.Proxy
	if n.proxy != nil {
		proxy = n.proxy.url()
	}
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil {
			return nil, errors.New("large files: the proxy is not an address")
		}
		t.Proxy = http.ProxyURL(u)
	}
	if s.cfg.CAFile != "" {
		pem, err := os.ReadFile(s.cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("large files: %w", err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t}, nil
}

// lfs fetches objects of one repository into a store beside its mirror.
type lfs struct {
	client   *http.Client
	endpoint string
	store    string
	left     *tally
}

// action is where an object can be fetched.
type action struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header"`
}

func (l *lfs) replace(ctx context.Context, root *os.Root, files map[string]pointer) error {
	if err := os.MkdirAll(l.store, 0o700); err != nil {
		return fmt.Errorf("keep large files: %w", err)
	}
	var missing []pointer
	seen := map[string]bool{}
	for _, p := range files {
		if l.left.bytes -= p.Size; l.left.bytes < 0 {
			return errTooBig
		}
		if _, err := os.Stat(filepath.Join(l.store, p.OID)); err != nil && !seen[p.OID] {
			missing = append(missing, p)
			seen[p.OID] = true
		}
	}
	for len(missing) > 0 {
		n := min(len(missing), maxBatch)
		if err := l.batch(ctx, missing[:n]); err != nil {
			return err
		}
		missing = missing[n:]
	}
	for path, p := range files {
		if err := l.place(root, path, p); err != nil {
			return err
		}
	}
	return nil
}

// batch asks where objects are and downloads them.
func (l *lfs) batch(ctx context.Context, objects []pointer) error {
	body, err := json.Marshal(map[string]any{"operation": "download", "transfers": []string{"basic"}, "objects": objects})
	if err != nil {
		return fmt.Errorf("ask for large files: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask for large files: %w", err)
	}
	req.Header.Set("Accept", lfsType)
	req.Header.Set("Content-Type", lfsType)
	resp, err := l.client.Do(req)
	if err != nil {
		return errors.New("the server of large files cannot be reached")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server of large files answered %d", resp.StatusCode)
	}
	var answer struct {
		Objects []struct {
			pointer
			Actions map[string]action `json:"actions"`
		} `json:"objects"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return errors.New("the server of large files gave an answer that cannot be read")
	}
	where := map[string]action{}
	for _, o := range answer.Objects {
		where[o.OID] = o.Actions["download"]
	}
	for _, o := range objects {
		if err := l.download(ctx, o, where[o.OID]); err != nil {
			return err
		}
	}
	return nil
}

// download keeps an object whose size and digest are right.
func (l *lfs) download(ctx context.Context, o pointer, from action) error {
	u, err := url.Parse(from.Href)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return fmt.Errorf("the server does not have the object %.12s", o.OID)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("the server gave an address that cannot be read")
	}
	for k, v := range from.Header {
		if !strings.HasPrefix(strings.ToLower(k), "proxy-") {
			req.Header.Set(k, v)
		}
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return fmt.Errorf("the object %.12s cannot be reached", o.OID)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %d for the object %.12s", resp.StatusCode, o.OID)
	}
	tmp, err := os.CreateTemp(l.store, "tmp_*")
	if err != nil {
		return fmt.Errorf("keep a large file: %w", err)
	}
	defer os.Remove(tmp.Name())
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(resp.Body, o.Size+1))
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err != nil || n != o.Size || hex.EncodeToString(sum.Sum(nil)) != o.OID {
		return fmt.Errorf("the object %.12s arrived damaged", o.OID)
	}
	return os.Rename(tmp.Name(), filepath.Join(l.store, o.OID))
}

// place writes an object over its pointer file.
func (l *lfs) place(root *os.Root, path string, p pointer) error {
	in, err := os.Open(filepath.Join(l.store, p.OID))
	if err != nil {
		return fmt.Errorf("place a large file: %w", err)
	}
	defer in.Close()
	out, err := root.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("place a large file: %w", err)
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}
