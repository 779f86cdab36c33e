package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxFile is the largest declaration that is read, in bytes.
const maxFile = 1 << 20

// has says whether the declaration is there: a regular file, or a link to one.
func (r *reader) has(name string) bool { return r.hasPath(r.path(name)) }

func (r *reader) hasPath(name string) bool {
	at, err := r.resolve(name)
	if err != nil {
		if r.err == nil {
			r.err = err
		}
		return false
	}
	info, err := fs.Stat(r.fs, at)
	return err == nil && info.Mode().IsRegular()
}

// hasDir says whether there is a directory.
func (r *reader) hasDir(name string) bool {
	at, err := r.resolve(r.path(name))
	if err != nil {
		return false
	}
	info, err := fs.Stat(r.fs, at)
	return err == nil && info.IsDir()
}

// resolve follows symbolic links inside the repository. A link that leads out
// of it would make somebody else's file a declaration, so it is an error.
func (r *reader) resolve(name string) (string, error) {
	const mostLinks = 40
	outside := func() error {
		return wrong(name, 0, name+" is a symbolic link that leads out of the repository.", "Put the file itself there.")
	}
	rest, done := strings.Split(name, "/"), "."
	for links := 0; len(rest) > 0; {
		next := path.Join(done, rest[0])
		if next == ".." || strings.HasPrefix(next, "../") {
			return "", outside()
		}
		rest = rest[1:]
		info, err := fs.Lstat(r.fs, next)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			done = next // what is not there is found out when it is opened
			continue
		}
		target, err := fs.ReadLink(r.fs, next)
		if err != nil {
			return "", fmt.Errorf("read the link %s: %w", next, err)
		}
		if links++; links > mostLinks {
			return "", wrong(name, 0, name+" is a symbolic link that leads in a circle.", "Put the file itself there.")
		}
		if path.IsAbs(target) {
			return "", outside()
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// file reads a declaration as text, lines ended by \n; ok is false when it is
// not there.
func (r *reader) file(name string) (text string, ok bool, err error) {
	return r.text(r.path(name))
}

func (r *reader) text(name string) (string, bool, error) {
	b, ok, err := r.bytes(name, maxFile+1)
	if err != nil || !ok {
		return "", ok, err
	}
	if len(b) > maxFile {
		return "", false, wrong(name, 0, fmt.Sprintf("%s is larger than %d KiB.", name, maxFile>>10), "Keep only what is to be installed in it.")
	}
	text, err := decode(b)
	if err != nil {
		return "", false, wrong(name, 0, name+" is not a text file Binnacle can read: "+err.Error()+".", "Save it as UTF-8.")
	}
	return text, true, nil
}

// bytes reads at most limit bytes of a regular file.
func (r *reader) bytes(name string, limit int64) ([]byte, bool, error) {
	at, err := r.resolve(name)
	if err != nil {
		return nil, false, err
	}
	info, err := fs.Stat(r.fs, at) // before it is opened: a pipe would block
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !info.Mode().IsRegular()) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	f, err := r.fs.Open(at)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	return b, true, nil
}

// decode reads UTF-8, UTF-16 with a byte order mark, and else Latin-1, and
// makes every line end \n. Windows editors write all three.
func decode(b []byte) (string, error) {
	switch {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		b = b[3:]
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		b = utf16Text(b[2:], 0, 1)
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		b = utf16Text(b[2:], 1, 0)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return "", errors.New("it holds a zero byte")
	}
	if !utf8.Valid(b) {
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		b = []byte(string(runes))
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return string(bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))), nil
}

// utf16Text reads UTF-16 whose low byte is at lo of each pair.
func utf16Text(b []byte, lo, hi int) []byte {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i+lo])|uint16(b[i+hi])<<8)
	}
	return []byte(string(utf16.Decode(units)))
}

// quote writes a word for bash.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// short shows untrusted text on one line.
func short(s string) string {
	const longest = 80
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// inTree joins a path of the repository with one that a file there names; ok
// is false when it leads out.
func inTree(dir, name string) (string, bool) {
	target := path.Join(dir, name)
	return target, !path.IsAbs(name) && target != ".." && !strings.HasPrefix(target, "../")
}
