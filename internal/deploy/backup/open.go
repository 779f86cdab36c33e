package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/binnacle-hub/binnacle"
)

// Backup is one that was looked through: all of it is there.
type Backup struct {
	Manifest Manifest

	content    *io.SectionReader
	passphrase string
}

// Open looks through a whole backup, of which nothing is used before. The
// passphrase may be a function that asks for it when it is needed. Returns
// invalid for what is no backup, is damaged or cut short, or a passphrase that
// is wrong, and conflict for one that a newer version wrote.
func Open(r io.ReaderAt, size int64, passphrase func() (string, error)) (*Backup, error) {
	b, err := readOuter(r, size)
	if err != nil {
		return nil, err
	}
	if b.Manifest.Secrets {
		if b.passphrase, err = passphrase(); err != nil {
			return nil, err
		}
	}
	return b, b.Walk(func(string, int64, io.Reader) error { return nil })
}

func foreign(err error) error {
	return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "backup.open", Message: "This file is not a backup of Binnacle.", Hint: "binnacle deploy backup writes one.", Err: err}
}

func damaged(err error) error {
	return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "backup.open", Message: "This backup is damaged or was cut short.", Hint: "Copy the file again from where it was made, or take another backup.", Err: err}
}

// counter knows how far a reader is.
type counter struct {
	r io.Reader
	n int64
}

// Read passes on.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// readOuter reads the manifest and holds the content against it.
func readOuter(r io.ReaderAt, size int64) (*Backup, error) {
	at := &counter{r: io.NewSectionReader(r, 0, size)}
	outer := tar.NewReader(at)
	h, err := outer.Next()
	if err != nil || h.Name != manifestName || h.Size > largestJSON {
		return nil, foreign(err)
	}
	text, err := io.ReadAll(outer)
	if err != nil {
		return nil, damaged(err)
	}
	b := new(Backup)
	if err := json.Unmarshal(text, &b.Manifest); err != nil || b.Manifest.Kind != kind {
		return nil, foreign(err)
	}
	m := b.Manifest
	if m.Format > Format {
		return nil, &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "backup.open", Message: fmt.Sprintf("This backup was written by a newer version of Binnacle (%s).", m.Version), Hint: "Restore it with that version.",
		}
	}
	if h, err = outer.Next(); err != nil || m.Format < 1 || h.Name != m.name() || h.Size != m.Size || m.Size > largestContent {
		return nil, damaged(err)
	}
	sum, start := sha256.New(), at.n
	if n, err := io.CopyN(sum, outer, m.Size); err != nil || n != m.Size {
		return nil, damaged(err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != m.SHA256 {
		return nil, damaged(errors.New("the checksum is another"))
	}
	const block, end = 512, 1024
	if _, err := outer.Next(); !errors.Is(err, io.EOF) || size != start+(m.Size+block-1)/block*block+end {
		return nil, damaged(err)
	}
	b.content = io.NewSectionReader(r, start, m.Size)
	return b, nil
}

// Walk calls f with each file of the content, in the order it was written in.
func (b *Backup) Walk(f func(name string, size int64, r io.Reader) error) error {
	if _, err := b.content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	var r io.Reader = b.content
	if b.Manifest.Secrets {
		identity, err := age.NewScryptIdentity(b.passphrase)
		if err != nil {
			return binnacle.Errorf(binnacle.CodeInvalid, "This backup is encrypted: a passphrase is needed.")
		}
		r, err = age.Decrypt(r, identity)
		if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
			return binnacle.Errorf(binnacle.CodeInvalid, "The passphrase is not that of this backup.")
		}
		if err != nil {
			return damaged(err)
		}
	}
	const most = 64 << 20 // of memory, whatever the file says
	unpacked, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(most), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return damaged(err)
	}
	defer unpacked.Close()
	inner := tar.NewReader(unpacked)
	seen := map[string]bool{}
	for {
		h, err := inner.Next()
		if errors.Is(err, io.EOF) {
			return rest(unpacked)
		}
		if err != nil {
			return damaged(err)
		}
		if h.Typeflag != tar.TypeReg || !safe(h.Name) || seen[h.Name] {
			return damaged(fmt.Errorf("it has %q", h.Name))
		}
		seen[h.Name] = true
		if err := f(h.Name, h.Size, inner); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, inner); err != nil { //nolint:gosec // it is thrown away, and the memory is bounded
			return damaged(err)
		}
	}
}

// rest reads to the end, so that what guards the layers is looked at too.
func rest(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return damaged(err)
	}
	return nil
}

// Read is one file of the content, nil when it is not there.
func (b *Backup) Read(name string) ([]byte, error) {
	var out []byte
	err := b.Walk(func(n string, size int64, r io.Reader) (err error) {
		if n != name || size > largestJSON {
			return nil
		}
		out, err = io.ReadAll(r)
		return err
	})
	return out, err
}

// Tar writes the files below a prefix as a tar, without it.
func (b *Backup) Tar(prefix string, w io.Writer) error {
	out := tar.NewWriter(w)
	err := b.Walk(func(name string, size int64, r io.Reader) error {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			return nil
		}
		if err := out.WriteHeader(&tar.Header{Name: rest, Mode: private, Size: size, ModTime: b.Manifest.Created}); err != nil {
			return fmt.Errorf("send the backup: %w", err)
		}
		_, err := io.Copy(out, r)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}
