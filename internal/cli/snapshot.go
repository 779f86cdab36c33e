package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// The files of a snapshot.
const (
	snapshotStore        = "store.jsonl"
	snapshotCertificates = "certificates"
)

// snapshotCommand is what `deploy backup` and `deploy restore` run where the hub
// is: on its machine, or in its pod.
func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Write or read what of this hub must survive, as a tar", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var without bool
	save := &cobra.Command{
		Use: "save", Short: "Write it to standard output", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.saveSnapshot(cmd.Context(), !without) },
	}
	save.Flags().BoolVar(&without, "without-secrets", false, "leave out keys, certificates and the environment of launches")
	load := &cobra.Command{
		Use: "load", Short: "Read it from standard input and replace what is there", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.loadSnapshot(cmd.Context()) },
	}
	cmd.AddCommand(save, load)
	return cmd
}

// databaseOf opens the hub's database.
func databaseOf(ctx context.Context, c config.Config) (*store.Store, error) {
	if url := c.Kubernetes.Database; c.Kubernetes.Enabled && url != "" {
		return store.OpenPostgres(ctx, string(url))
	}
	return store.Open(ctx, filepath.Join(c.Data, "binnacle.db"))
}

// scratch is a file of the data directory that nobody else sees, and that is
// gone when it is closed.
func scratch(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".snapshot-*")
	if err != nil {
		return nil, fmt.Errorf("make a file in the data directory: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (a *app) saveSnapshot(ctx context.Context, secrets bool) (err error) {
	c, err := a.config(nil)
	if err != nil {
		return err
	}
	s, err := databaseOf(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f, err := scratch(c.Data)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.Export(ctx, f, secrets); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out := tar.NewWriter(a.Out)
	if err := addFile(out, snapshotStore, size, f); err != nil {
		return err
	}
	if secrets {
		if err := addCertificates(out, filepath.Join(c.Data, snapshotCertificates)); err != nil {
			return err
		}
	}
	return out.Close()
}

func addFile(out *tar.Writer, name string, size int64, r io.Reader) error {
	const private = 0o600
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: private, Size: size, ModTime: time.Now()}); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	if _, err := io.CopyN(out, r, size); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	return nil
}

// addCertificates adds the files that ACME made; there may be none.
func addCertificates(out *tar.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the certificates: %w", err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, ".lock") {
			return err
		}
		b, err := root.ReadFile(path)
		if err != nil {
			return err
		}
		return addFile(out, snapshotCertificates+"/"+path, int64(len(b)), strings.NewReader(string(b)))
	})
}

// loadSnapshot reads everything before it changes anything.
func (a *app) loadSnapshot(ctx context.Context) (err error) {
	c, err := a.config(nil)
	if err != nil {
		return err
	}
	f, err := scratch(c.Data)
	if err != nil {
		return err
	}
	defer f.Close()
	certificates := map[string][]byte{}
	in, found := tar.NewReader(a.In), false
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return wrongSnapshot(err)
		}
		switch path, ok := strings.CutPrefix(h.Name, snapshotCertificates+"/"); {
		case h.Name == snapshotStore && !found:
			found = true
			if _, err := io.Copy(f, in); err != nil { //nolint:gosec // the operator's own backup
				return wrongSnapshot(err)
			}
		case ok && filepath.IsLocal(path):
			if certificates[path], err = io.ReadAll(in); err != nil {
				return wrongSnapshot(err)
			}
		default:
			return wrongSnapshot(fmt.Errorf("it has %q", h.Name))
		}
	}
	if !found {
		return wrongSnapshot(errors.New("it has no database"))
	}
	s, err := databaseOf(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Import(ctx, f); err != nil {
		return err
	}
	return writeCertificates(filepath.Join(c.Data, snapshotCertificates), certificates)
}

func wrongSnapshot(err error) error {
	return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.snapshot", Message: "What arrived is not a whole snapshot of a hub; nothing was changed.", Hint: "Run the same command again.", Err: err}
}

func writeCertificates(dir string, files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	const directory, private = 0o700, 0o600
	if err := os.MkdirAll(dir, directory); err != nil {
		return fmt.Errorf("write the certificates: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write the certificates: %w", err)
	}
	defer root.Close()
	for path, b := range files {
		if err := root.MkdirAll(filepath.Dir(path), directory); err != nil {
			return fmt.Errorf("write the certificates: %w", err)
		}
		if err := root.WriteFile(path, b, private); err != nil {
			return fmt.Errorf("write the certificates: %w", err)
		}
	}
	return nil
}
