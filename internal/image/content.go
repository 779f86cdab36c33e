package image

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// large is where a file gets into the layer of large files, in bytes. A commit
// that changes a notebook must not carry the data set beside it once more.
const large = 1 << 20

// content gives BuildKit the tree in two parts: the large files, and all others.
func content(dir string, ignore []string) (map[string]fsutil.FS, error) {
	all, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, fmt.Errorf("read the repository's files: %w", err)
	}
	big, err := largePaths(dir)
	if err != nil {
		return nil, fmt.Errorf("read the repository's files: %w", err)
	}
	parts := map[string]fsutil.FS{}
	for name, keep := range map[string]func(path string, s *types.Stat) bool{
		largeFiles: func(path string, _ *types.Stat) bool { return big[path] },
		otherFiles: func(path string, s *types.Stat) bool { return s.IsDir() || !big[path] },
	} {
		part, err := fsutil.NewFilterFS(all, &fsutil.FilterOpt{
			ExcludePatterns: ignore,
			Map: func(path string, s *types.Stat) fsutil.MapResult {
				if !keep(filepath.ToSlash(path), s) {
					if s.IsDir() {
						return fsutil.MapResultSkipDir
					}
					return fsutil.MapResultExclude
				}
				s.Uid, s.Gid, s.ModTime = 0, 0, 0 // who fetched it, and when, is not content
				return fsutil.MapResultKeep
			},
		})
		if err != nil {
			return nil, fmt.Errorf("the repository's ignore file: %w", err)
		}
		parts[name] = part
	}
	return parts, nil
}

// largePaths are the large regular files and the directories that lead to them.
func largePaths(dir string) (map[string]bool, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	big := map[string]bool{}
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() < large {
			return err
		}
		for ; p != "." && !strings.HasPrefix(p, "/"); p = path.Dir(p) {
			big[p] = true
		}
		return nil
	})
	return big, err
}
