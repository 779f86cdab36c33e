// Package backup is the file that a hub is brought back from: a tar with a
// manifest that anybody can read, and the content, a tar compressed by zstd and
// encrypted by a passphrase in age's format unless it holds no secrets. What
// such programs can open is never locked in:
//
//	tar xOf hub.tar content.tar.zst.age | age -d | tar --zstd -t
package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/binnacle-hub/binnacle"
)

// Format is the newest form of the file that this version knows.
const Format = 1

const (
	kind           = "binnacle-backup"
	manifestName   = "manifest.json"
	contentName    = "content.tar.zst"
	encryptedName  = "content.tar.zst.age"
	largestJSON    = 1 << 20
	private        = 0o600
	largestContent = 1 << 40
)

// Manifest says what a backup is. It is not encrypted.
type Manifest struct {
	Kind       string    `json:"kind"`
	Format     int       `json:"format"`
	Created    time.Time `json:"created"`
	Version    string    `json:"version"` // of Binnacle
	Deployment string    `json:"deployment"`
	Target     string    `json:"target"`
	// Secrets says that keys and certificates are in it; it is encrypted then.
	Secrets bool   `json:"secrets"`
	Size    int64  `json:"size"` // of the content as it is in the file
	SHA256  string `json:"sha256"`
}

// WorkFactor is age's, the logarithm of what guessing a passphrase costs; 0 is
// age's own default.
type WorkFactor int

// Writer takes the content of a backup.
type Writer struct {
	tar   *tar.Writer
	now   time.Time
	names map[string]bool
}

// Add takes a file whose size is known.
func (w *Writer) Add(name string, size int64, r io.Reader) error {
	if !safe(name) || w.names[name] {
		return binnacle.Errorf(binnacle.CodeInvalid, "The name %q can't be in a backup.", name)
	}
	w.names[name] = true
	if err := w.tar.WriteHeader(&tar.Header{Name: name, Mode: private, Size: size, ModTime: w.now}); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if _, err := io.CopyN(w.tar, r, size); err != nil {
		return fmt.Errorf("write %s to the backup: %w", name, err)
	}
	return nil
}

// AddTar takes all files of a tar below the prefix.
func (w *Writer) AddTar(prefix string, r io.Reader) error {
	from := tar.NewReader(r)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what the hub sent: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := w.Add(prefix+h.Name, h.Size, from); err != nil {
			return err
		}
	}
}

// Create writes a backup that nobody else may read: fill gives the content. A
// passphrase is needed when m says that there are secrets. A file that is there
// already is never overwritten; what could not be finished is removed. Returns
// conflict when the file is there.
func Create(name string, m Manifest, passphrase string, work WorkFactor, fill func(*Writer) error) (err error) {
	if m.Secrets && passphrase == "" {
		return binnacle.Errorf(binnacle.CodeInvalid, "A backup with secrets needs a passphrase.")
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if errors.Is(err, os.ErrExist) {
		return &binnacle.Error{Code: binnacle.CodeConflict, Op: "backup.create", Message: fmt.Sprintf("The file %s is there already.", name), Hint: "--output names another.", Err: err}
	}
	if err != nil {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "backup.create", Message: fmt.Sprintf("The file %s can't be written: %v.", name, err), Err: err}
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(name) // half a backup is none
		}
	}()
	// The tar's header needs the size beforehand; what lies here is as in the end.
	spool, err := os.CreateTemp(filepath.Dir(name), ".binnacle-backup-*")
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	sum := &summer{to: spool, hash: sha256.New()}
	if err := m.content(sum, passphrase, work, fill); err != nil {
		return err
	}
	m.Kind, m.Format, m.Size, m.SHA256 = kind, Format, sum.size, hex.EncodeToString(sum.hash.Sum(nil))
	return m.assemble(out, spool)
}

// content writes the inner tar through its layers.
func (m Manifest) content(w io.Writer, passphrase string, work WorkFactor, fill func(*Writer) error) error {
	closers := []io.Closer{}
	if m.Secrets {
		recipient, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return fmt.Errorf("encrypt the backup: %w", err)
		}
		if work > 0 {
			recipient.SetWorkFactor(int(work))
		}
		sealed, err := age.Encrypt(w, recipient)
		if err != nil {
			return fmt.Errorf("encrypt the backup: %w", err)
		}
		w, closers = sealed, append(closers, sealed)
	}
	packed, err := zstd.NewWriter(w)
	if err != nil {
		return fmt.Errorf("compress the backup: %w", err)
	}
	inner := tar.NewWriter(packed)
	err = fill(&Writer{tar: inner, now: m.Created, names: map[string]bool{}})
	errs := []error{err, inner.Close(), packed.Close()}
	for _, c := range closers {
		errs = append(errs, c.Close())
	}
	if err != nil {
		return err // the others follow from it
	}
	return errors.Join(errs...)
}

// assemble writes the outer tar.
func (m Manifest) assemble(out, content *os.File) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	outer := tar.NewWriter(out)
	for _, part := range []struct {
		name string
		size int64
		r    io.Reader
	}{{manifestName, int64(len(b)), bytes.NewReader(b)}, {m.name(), m.Size, content}} {
		if err := outer.WriteHeader(&tar.Header{Name: part.name, Mode: private, Size: part.size, ModTime: m.Created}); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
		if _, err := io.CopyN(outer, part.r, part.size); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
	}
	if err := outer.Close(); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return out.Sync()
}

func (m Manifest) name() string {
	if m.Secrets {
		return encryptedName
	}
	return contentName
}

// summer counts and digests what goes through.
type summer struct {
	to   io.Writer
	hash hash.Hash
	size int64
}

// Write passes on.
func (s *summer) Write(b []byte) (int, error) {
	n, err := s.to.Write(b)
	s.hash.Write(b[:n])
	s.size += int64(n)
	return n, err
}

// safe says that a name stays where it is unpacked.
func safe(name string) bool {
	return name != "" && len(name) < 1000 && !path.IsAbs(name) && path.Clean(name) == name && name != "." && name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\x00\\")
}
