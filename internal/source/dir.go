package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// resolveDir makes a directory's content its commit: the SHA-256 over each
// path, executable bit, link target and content, in order. What git keeps in
// .git does not count.
func (s *Source) resolveDir(ctx context.Context, spec binnacle.Spec, p Policy) (binnacle.Revision, error) {
	root, err := openDir(spec.Repo, p)
	if err != nil {
		return binnacle.Revision{}, err
	}
	defer root.Close()
	list, err := s.scan(ctx, root, &tally{files: s.cfg.MaxFiles, bytes: s.cfg.MaxBytes}, func(string) {})
	if err != nil {
		return binnacle.Revision{}, err
	}
	digest := sha256.New()
	for _, e := range list {
		if err := context.Cause(ctx); err != nil {
			return binnacle.Revision{}, slowDir(err)
		}
		if err := hashEntry(digest, root, e); err != nil {
			return binnacle.Revision{}, dirError(err)
		}
	}
	spec.Ref = ""
	return binnacle.Revision{Spec: spec, URL: spec.Repo, Commit: hex.EncodeToString(digest.Sum(nil))}, nil
}

// hashEntry writes a record that no other entry has: lengths come before what
// they count.
func hashEntry(w hash.Hash, root *os.Root, e entry) error {
	kind := map[entryKind]string{kindFile: "file", kindLink: "link", kindFolder: "dir"}[e.kind]
	fmt.Fprintf(w, "%s %d:%s %t %d:%s ", kind, len(e.path), e.path, e.exec, len(e.target), e.target)
	if e.kind != kindFile {
		return nil
	}
	file, _, err := openFile(root, e.path)
	if err != nil {
		return err
	}
	defer file.Close()
	content := sha256.New()
	if _, err := io.Copy(content, file); err != nil {
		return fmt.Errorf("read %s: %w", quote(e.path), err)
	}
	w.Write(content.Sum(nil))
	return nil
}

func openDir(dir string, p Policy) (*os.Root, error) {
	if !p.Local {
		return nil, &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: "source.dir",
			Message: "This hub does not read directories of its own machine.", Hint: "Paste the address of a repository.",
		}
	}
	root, err := os.OpenRoot(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &binnacle.Error{
			Code: binnacle.CodeNotFound, Op: "source.dir", Err: err,
			Message: "There is no directory " + quote(dir) + ".", Hint: "Check the spelling; a GitHub repository is written owner/repository.",
		}
	case errors.Is(err, syscall.ENOTDIR):
		return nil, invalid("Name the directory that holds the file.", quote(dir)+" is not a directory.")
	case err != nil:
		return nil, dirError(err)
	}
	return root, nil
}

func dirError(err error) error {
	if _, ok := errors.AsType[*binnacle.Error](err); ok || errors.Is(err, context.Canceled) {
		return err
	}
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "source.dir", Err: err,
		Message: "The directory cannot be read: " + printable(err.Error(), 300) + ".", Hint: "Check its permissions, and that nothing changes it meanwhile.",
	}
}

func slowDir(err error) error {
	if !errors.Is(err, errSlow) {
		return err
	}
	return &binnacle.Error{Code: binnacle.CodeTimeout, Op: "source.dir", Err: err, Message: "Reading the directory took too long.", Hint: "Take large files out of it."}
}

// scan lists a directory in order. Sockets, pipes and devices, and links that
// lead out, are left out with a line that says so; a virtual environment,
// found in many a directory, is full of such links.
func (s *Source) scan(ctx context.Context, root *os.Root, left *tally, line func(string)) ([]entry, error) {
	var list []entry
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || p == "." {
			return err
		}
		if strings.EqualFold(d.Name(), ".git") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := checkPath(p); err != nil {
			return err
		}
		e, ok, err := describe(root, p, d)
		if err != nil {
			return err
		}
		if !ok {
			line(Note + quote(p) + " is neither a file nor a link and was left out.")
			return nil
		}
		list = append(list, e)
		return left.take(e)
	})
	if err != nil {
		return nil, slowDir(dirError(err))
	}
	return dropLinks(list, "", line), nil
}

func describe(root *os.Root, p string, d fs.DirEntry) (entry, bool, error) {
	e := entry{path: p}
	switch d.Type() {
	case fs.ModeDir:
		e.kind = kindFolder
	case fs.ModeSymlink:
		target, err := root.Readlink(p)
		if err != nil {
			return e, false, fmt.Errorf("read %s: %w", quote(p), err)
		}
		e.kind, e.target = kindLink, target
	case 0:
		info, err := d.Info()
		if err != nil {
			return e, false, fmt.Errorf("read %s: %w", quote(p), err)
		}
		e.exec, e.size = info.Mode()&0o111 != 0, info.Size()
	default:
		return e, false, nil
	}
	return e, true, nil
}

// openFile opens a file without following a link that took its place and
// without waiting for a pipe that did.
func openFile(root *os.Root, p string) (*os.File, fs.FileInfo, error) {
	file, err := root.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", quote(p), err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("changed while it was read")
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("read %s: %w", quote(p), err)
	}
	return file, info, nil
}

// copyDir copies the directory of a revision. Files are copied, never linked:
// the session that gets them must not write to the person's own. (The kernel
// shares blocks where the file system can.)
func (s *Source) copyDir(ctx context.Context, rev binnacle.Revision, p Policy, dir string, left *tally, line func(string)) error {
	root, err := openDir(rev.Spec.Repo, p)
	if err != nil {
		return err
	}
	defer root.Close()
	dst, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer dst.Close()
	list, err := s.scan(ctx, root, left, line)
	if err != nil {
		return err
	}
	start := time.Now()
	for _, e := range list {
		if err := context.Cause(ctx); err != nil {
			return slowDir(err)
		}
		switch e.kind {
		case kindFolder:
			err = dst.Mkdir(e.path, 0o755)
		case kindLink:
			err = dst.Symlink(e.target, e.path)
		default:
			err = copyFile(root, dst, e)
		}
		if err != nil {
			return dirError(err)
		}
	}
	s.log.InfoContext(ctx, "directory copied", slog.Int("files", len(list)), slog.Duration("duration", time.Since(start)))
	return nil
}

func copyFile(src, dst *os.Root, e entry) error {
	in, info, err := openFile(src, e.path)
	if err != nil {
		return err
	}
	defer in.Close()
	mode := fs.FileMode(0o644)
	if e.exec {
		mode = 0o755
	}
	out, err := dst.OpenFile(e.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", quote(e.path), err)
	}
	// No more than was counted, should the file grow meanwhile.
	_, err = io.Copy(out, io.LimitReader(in, e.size))
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", quote(e.path), err)
	}
	return dst.Chtimes(e.path, info.ModTime(), info.ModTime())
}

// newest is the latest modification of a file below dir, without .git.
func newest(ctx context.Context, dir string) (time.Time, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return time.Time{}, dirError(err)
	}
	defer root.Close()
	var latest time.Time
	err = fs.WalkDir(root.FS(), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if d.Name() == ".git" {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(latest) {
			latest = info.ModTime()
		}
		return err
	})
	return latest.UTC(), err
}
