package engine_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/engine"
)

// TestSettle: two bootstraps of the same packages, at other times, give the same
// base; what packages say of their files stays.
func TestSettle(t *testing.T) {
	packed := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	made := func(began time.Time, day string) []byte {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, "raw"))
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(f)
		for _, e := range []struct {
			tar.Header
			content string
		}{
			{tar.Header{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: began.Add(time.Second)}, ""},
			{tar.Header{Name: "./etc/shadow", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 42, ModTime: began}, "root:*:" + day + ":0:99999:7:::\nsync:!:" + day + ":0:::::\n"},
			{tar.Header{Name: "./usr/bin/ping", Typeflag: tar.TypeReg, Mode: 0o755, ModTime: packed, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}}, "program"},
			{tar.Header{Name: "./usr/bin/ping4", Typeflag: tar.TypeLink, Linkname: "./usr/bin/ping", Mode: 0o755, ModTime: packed}, ""},
			{tar.Header{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: began}, ""},
			{tar.Header{Name: "./old", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: packed.Add(-time.Hour)}, "1:2:3:"},
		} {
			e.Size = int64(len(e.content))
			if err := w.WriteHeader(&e.Header); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, e.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := engine.Settle(f.Name(), filepath.Join(dir, "tar"), began); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "tar"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one := made(time.Date(2026, 11, 29, 1, 0, 0, 0, time.UTC), "20786")
	if two := made(time.Date(2027, 1, 5, 2, 0, 0, 0, time.UTC), "20823"); !bytes.Equal(one, two) {
		t.Error("two bootstraps of the same packages are not the same")
	}
	times := map[string]time.Time{}
	for r := tar.NewReader(bytes.NewReader(one)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		times[h.Name] = h.ModTime
		b, err := io.ReadAll(r)
		switch {
		case err != nil:
			t.Fatal(err)
		case h.Name == "./etc/shadow" && (string(b) != "root:*:10957:0:99999:7:::\nsync:!:10957:0:::::\n" || h.Gid != 42),
			h.Name == "./usr/bin/ping" && (h.PAXRecords["SCHILY.xattr.security.capability"] != "\x01\x00\x00\x02" || string(b) != "program"),
			h.Name == "./usr/bin/ping4" && h.Linkname != "./usr/bin/ping", h.Name == "./dev/null" && h.Devminor != 3:
			t.Errorf("%+v %q", h, b)
		}
	}
	if len(times) != 6 || !times["./etc/"].Equal(packed) || !times["./usr/bin/ping"].Equal(packed) || !times["./old"].Equal(packed.Add(-time.Hour)) {
		t.Errorf("times: %v", times)
	}
}
