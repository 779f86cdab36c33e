package backup_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/backup"
)

const (
	passphrase = "correct horse battery staple"
	quick      = backup.WorkFactor(2)
)

func manifest(secrets bool) backup.Manifest {
	return backup.Manifest{Created: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Version: "1", Deployment: "my-hub", Target: "host", Secrets: secrets}
}

// write makes a backup and returns its file.
func write(t testing.TB, secrets bool) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "backup.tar")
	err := backup.Create(name, manifest(secrets), passphrase, quick, func(w *backup.Writer) error {
		var hub bytes.Buffer
		from := tar.NewWriter(&hub)
		if err := from.WriteHeader(&tar.Header{Name: "certificates/key.pem", Size: 7, Mode: 0o600}); err != nil {
			return err
		}
		if _, err := from.Write([]byte("the-key")); err != nil {
			return err
		}
		if err := from.Close(); err != nil {
			return err
		}
		if err := w.Add("deployment/binnacle.yaml", 6, strings.NewReader("name: ")); err != nil {
			return err
		}
		return w.AddTar("hub/", &hub)
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func open(b []byte, with string) (*backup.Backup, error) {
	return backup.Open(bytes.NewReader(b), int64(len(b)), func() (string, error) { return with, nil })
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, secrets := range []bool{true, false} {
		name := write(t, secrets)
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		raw := read(t, name)
		if secrets && (bytes.Contains(raw, []byte("the-key")) || bytes.Contains(raw, []byte(passphrase))) {
			t.Error("a secret can be read in it")
		}
		b, err := open(raw, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		if err := b.Walk(func(name string, _ int64, r io.Reader) error {
			text, err := io.ReadAll(r)
			got[name] = string(text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"deployment/binnacle.yaml": "name: ", "hub/certificates/key.pem": "the-key"}, got); diff != "" {
			t.Error(diff)
		}
		var hub bytes.Buffer
		if err := b.Tar("hub/", &hub); err != nil {
			t.Fatal(err)
		}
		if h, err := tar.NewReader(&hub).Next(); err != nil || h.Name != "certificates/key.pem" {
			t.Errorf("%+v, %v", h, err)
		}
		left, err := os.ReadDir(filepath.Dir(name))
		if err != nil || len(left) != 1 {
			t.Errorf("left beside it: %v, %v", left, err)
		}
	}
}

// tar and zstd open what has no secrets.
func TestOtherProgramsOpenIt(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"tar", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `tar xOf "$1" content.tar.zst | zstd -dc | tar t`, "sh", write(t, false)).Output()
	if err != nil || string(out) != "deployment/binnacle.yaml\nhub/certificates/key.pem\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	name := write(t, true)
	raw := read(t, name)
	// Everywhere it can be cut and everywhere it can be damaged.
	for i := 0; i < len(raw); i += 97 {
		if _, err := open(raw[:i], passphrase); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Fatalf("cut at %d of %d: %v", i, len(raw), err)
		}
	}
	content := bytes.Index(raw, []byte("age-encryption.org"))
	for i := content; i < content+200; i++ {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := open(bad, passphrase); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Fatalf("damaged at %d: %v", i, err)
		}
	}
	for want, with := range map[string]string{"not that of this backup": "another", "a passphrase is needed": ""} {
		if _, err := open(raw, with); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %q: %v", with, err)
		}
	}
	if _, err := open(bytes.Replace(raw, []byte(`"format": 1`), []byte(`"format": 2`), 1), passphrase); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("newer: %v", err)
	}
	if _, err := open(bytes.Replace(raw, []byte("binnacle-backup"), []byte("binnacle-backap"), 1), passphrase); err == nil || !strings.Contains(err.Error(), "not a backup") {
		t.Errorf("foreign: %v", err)
	}
	fill := func(*backup.Writer) error { return nil }
	if err := backup.Create(name, manifest(true), passphrase, quick, fill); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("a file that is there: %v", err)
	}
	other := name + "2"
	if err := backup.Create(other, manifest(true), "", quick, fill); err == nil {
		t.Error("secrets without a passphrase")
	}
	if err := backup.Create(other, manifest(true), passphrase, quick, func(*backup.Writer) error { return io.ErrUnexpectedEOF }); err == nil {
		t.Error("a failure was not told")
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("half a backup stays")
	}
}

func FuzzOpen(f *testing.F) {
	for _, secrets := range []bool{true, false} {
		f.Add(read(f, write(f, secrets)))
	}
	f.Add([]byte("manifest.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := open(b, passphrase); err != nil && binnacle.CodeOf(err) != binnacle.CodeInvalid && binnacle.CodeOf(err) != binnacle.CodeConflict {
			t.Error(err)
		}
	})
}
