package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/binnacle-hub/binnacle"
)

// entry is a file, symbolic link, submodule or folder of a tree.
type entry struct {
	path   string // slashes, relative
	kind   entryKind
	exec   bool
	id     string // object name; the commit of a submodule
	size   int64  // of a file
	target string // of a link
}

type entryKind byte

const (
	kindFile entryKind = iota
	kindLink
	kindModule
	kindFolder
)

// tally is what is left of the limits while the parts of a repository
// (submodules, large files) are written one after the other.
type tally struct {
	files int
	bytes int64
}

func (t *tally) take(e entry) error {
	t.files--
	t.bytes -= e.size
	if t.files < 0 {
		return tooLarge("has more files than this hub allows")
	}
	if t.bytes < 0 {
		return tooLarge("is larger than this hub allows")
	}
	return nil
}

func tooLarge(what string) *binnacle.Error {
	return &binnacle.Error{
		Code: binnacle.CodeLimited, Op: "source.fetch", Message: "The repository " + what + ".",
		Hint: "Take what is not needed out of it, or ask the operator of this hub for a higher limit.",
	}
}

// checkPath refuses names that no honest tree holds or that some tool on the
// way to the image would trip over.
func checkPath(p string) error {
	bad := func(why string) error {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "source.fetch",
			Message: "The repository holds a file with a name that " + why + ": " + quote(p) + ".", Hint: "Rename the file.",
		}
	}
	switch {
	case !utf8.ValidString(p):
		return bad("is not UTF-8")
	case hasControl(p):
		return bad("holds a line break or another control character")
	case len(p) > 4000:
		return bad("is too long")
	case p == "" || strings.HasPrefix(p, "/"):
		return bad("leaves the repository")
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return bad("leaves the repository")
		case len(part) > 255:
			return bad("is too long")
		case strings.EqualFold(part, ".git"):
			return bad("git keeps for itself")
		}
	}
	return nil
}

// parseTree reads one record of git ls-tree -r -t -l -z, without its zero byte.
func parseTree(record string) (entry, error) {
	meta, p, ok := strings.Cut(record, "\t")
	fields := strings.Fields(meta)
	if !ok || len(fields) != 4 || !isCommit(fields[2]) {
		return entry{}, errors.New("git ls-tree: a record that cannot be read")
	}
	e := entry{path: p, id: fields[2]}
	switch fields[0] {
	case "100644", "100664", "100755":
		e.exec = fields[0] == "100755"
		n, err := strconv.ParseInt(fields[3], 10, 64)
		if err != nil || n < 0 {
			return entry{}, errors.New("git ls-tree: a size that cannot be read")
		}
		e.size = n
	case "120000":
		e.kind = kindLink
	case "160000":
		e.kind = kindModule
	case "040000":
		e.kind = kindFolder
	default:
		return entry{}, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "source.fetch",
			Message: "The repository holds " + quote(p) + ", which is neither a file nor a link.", Hint: "Remove it from the repository.",
		}
	}
	return e, checkPath(p)
}

// tree lists a commit's tree, all of it checked. It stops at the limits, so a
// tree that repeats itself a billion times is no danger.
func (m *mirror) tree(ctx context.Context, commit string, left *tally) ([]entry, error) {
	var list []entry
	seen := map[string]bool{}
	records := &recordWriter{each: func(record string) error {
		e, err := parseTree(record)
		if err == nil {
			err = left.take(e)
		}
		if err == nil && seen[e.path] {
			// Of two entries of one name one could be a link that the other's
			// files would be written through.
			err = invalid("Repair the repository; git fsck shows what is wrong with it.", "The repository holds two files of one name: "+quote(e.path)+".")
		}
		seen[e.path] = true
		list = append(list, e)
		return err
	}}
	err := m.s.git(ctx, command{gitDir: m.dir, args: []string{"ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit}, stdout: records, max: 1 << 30})
	if records.err != nil {
		return nil, records.err
	}
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	if err := m.readLinks(ctx, list); err != nil {
		return nil, err
	}
	return list, nil
}

// recordWriter calls each for what is written, cut at zero bytes.
type recordWriter struct {
	each    func(string) error
	partial []byte
	err     error
}

func (w *recordWriter) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for w.err == nil {
		record, rest, ok := bytes.Cut(w.partial, []byte{0})
		if !ok {
			break
		}
		w.err = w.each(string(record))
		w.partial = rest
	}
	if w.err == nil && len(w.partial) > 1<<16 {
		w.err = errors.New("git: a record that does not end")
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

const maxLink = 4095

// readLinks fills in where links point to.
func (m *mirror) readLinks(ctx context.Context, list []entry) error {
	var want strings.Builder
	var links []*entry
	for i := range list {
		if list[i].kind == kindLink {
			links = append(links, &list[i])
			want.WriteString(list[i].id + "\n")
		}
	}
	if len(links) == 0 {
		return nil
	}
	var out bytes.Buffer
	err := m.s.git(ctx, command{gitDir: m.dir, args: []string{"cat-file", "--batch=%(objecttype) %(objectsize)"}, stdin: strings.NewReader(want.String()), stdout: &out})
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	for _, e := range links {
		var kind string
		var size int
		if _, err := fmt.Fscanf(&out, "%s %d\n", &kind, &size); err != nil || kind != "blob" || size > out.Len() {
			return fmt.Errorf("read links: %s is not to be had", e.id)
		}
		target := make([]byte, size)
		_, _ = io.ReadFull(&out, target)
		_, _ = out.ReadByte()
		if size > maxLink || bytes.IndexByte(target, 0) >= 0 {
			target = []byte("/") // leads nowhere in the tree, so it is left out
		}
		e.target = string(target)
	}
	return nil
}

// escaping lists the links that lead out of the tree, by whatever detour.
func escaping(list []entry) []string {
	links := map[string]string{}
	for _, e := range list {
		if e.kind == kindLink {
			links[e.path] = e.target
		}
	}
	var out []string
	steps := maxLinkSteps
	for _, p := range slices.Sorted(maps.Keys(links)) {
		if leaves(links, p, &steps) {
			out = append(out, p)
		}
	}
	return out
}

// maxLinkSteps bounds the work for all links of a tree, which could be made to
// lead through each other at length. Links beyond it count as leading out.
const maxLinkSteps = 4 << 20

// leaves follows the link at p as the kernel would, within the tree. Going
// above the root, to an absolute path or through more than 40 links leaves it.
func leaves(links map[string]string, p string, steps *int) bool {
	todo := strings.Split(p, "/")
	at := ""
	for hops := 0; len(todo) > 0; {
		if *steps--; *steps < 0 || len(at) > maxLink {
			return true
		}
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return true
			}
			if at = path.Dir(at); at == "." {
				at = ""
			}
			continue
		}
		next := path.Join(at, part)
		target, ok := links[next]
		if !ok {
			at = next
			continue
		}
		if hops++; hops > 40 || strings.HasPrefix(target, "/") || target == "" {
			return true
		}
		todo = append(strings.Split(target, "/"), todo...)
		if len(todo) > 1<<14 {
			return true
		}
	}
	return false
}

// checkout writes files and links into dir, which exists and is empty. The
// index is made of the entries that were checked, so git writes nothing else.
func (m *mirror) checkout(ctx context.Context, list []entry, dir, index string) error {
	var in bytes.Buffer
	for _, e := range list {
		mode := "100644"
		switch {
		case e.kind == kindLink:
			mode = "120000"
		case e.kind != kindFile:
			continue
		case e.exec:
			mode = "100755"
		}
		fmt.Fprintf(&in, "%s %s\t%s\x00", mode, e.id, e.path)
	}
	env := []string{"GIT_INDEX_FILE=" + index, "GIT_WORK_TREE=" + dir}
	err := m.s.git(ctx, command{gitDir: m.dir, dir: dir, env: env, stdin: &in, args: []string{"update-index", "-z", "--add", "--index-info"}})
	if err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	err = m.s.git(ctx, command{gitDir: m.dir, dir: dir, env: env, args: []string{"checkout-index", "--all", "--quiet"}})
	if err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	return nil
}
