package engine

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// settle writes the tar of a bootstrap so that another one of the same packages
// gives the same bytes: what was made meanwhile gets the time of the newest file
// that a package has, and passwords a fixed day.
func settle(from, to string, began time.Time) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	newest, err := newestBefore(in, began)
	if err != nil {
		return fmt.Errorf("read the bootstrapped base: %w", err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	const buffer = 1 << 20
	fast := bufio.NewWriterSize(out, buffer)
	r, w := tar.NewReader(bufio.NewReaderSize(in, buffer)), tar.NewWriter(fast)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the bootstrapped base: %w", err)
		}
		if err := settled(w, r, h, newest); err != nil {
			return fmt.Errorf("write the base, at %s: %w", h.Name, err)
		}
	}
	return errors.Join(w.Close(), fast.Flush())
}

// newestBefore is the time of the newest entry that is older than a time.
func newestBefore(in io.Reader, limit time.Time) (newest time.Time, err error) {
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return newest.Truncate(time.Second), nil
		}
		if err != nil {
			return newest, err
		}
		if h.ModTime.Before(limit) && h.ModTime.After(newest) {
			newest = h.ModTime
		}
	}
}

// passwordDay is when a password was changed last, in the third field of a line.
var passwordDay = regexp.MustCompile(`(?m)^([^:\n]*:[^:\n]*:)\d+:`)

func settled(w *tar.Writer, r io.Reader, h *tar.Header, newest time.Time) error {
	const fixed = "${1}10957:" // 2000-01-01
	h.ModTime = h.ModTime.Truncate(time.Second)
	if h.ModTime.After(newest) {
		h.ModTime = newest
	}
	h.AccessTime, h.ChangeTime, h.Format = time.Time{}, time.Time{}, tar.FormatPAX
	if name := strings.TrimPrefix(h.Name, "./"); name != "etc/shadow" && name != "etc/shadow-" {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b = passwordDay.ReplaceAll(b, []byte(fixed))
	h.Size = int64(len(b))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(b))
	return err
}
