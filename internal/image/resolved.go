package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"google.golang.org/grpc/metadata"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// mostResolved bounds what is read of one file that tells versions, in bytes.
const mostResolved = 16 << 20

// The files that are made from what package managers keep in the image, beside
// those that steps wrote into recipe.LockStore.
const (
	aptVersions    = "apt.txt"
	pythonVersions = "python.txt"
	serverVersions = "jupyter.txt" // of Jupyter's, where the repository's Python is another
	condaVersions  = "conda-packages.txt"
)

// Resolved reads the exact versions of what is in an image: what was locked when
// it was built (recipe.LockStore), and what Debian, Python and conda say is
// installed. It reads through BuildKit, so the image may be in the store or in a
// registry.
func (b *Builder) Resolved(ctx context.Context, name string) ([]binnacle.Resolved, error) {
	state := llb.Image(name, llb.ResolveModePreferLocal, hidden("image"))
	def, err := state.Marshal(ctx, llb.Platform(platform()))
	if err != nil {
		return nil, fmt.Errorf("read the versions in %s: %w", name, err)
	}
	var out []binnacle.Resolved
	read := func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
		if err != nil {
			return nil, err
		}
		ref, err := res.SingleRef()
		if err != nil {
			return nil, err
		}
		out, err = readResolved(ctx, ref)
		return res, err
	}
	var opt bkclient.SolveOpt
	b.keeper.prepare(Request{}, &opt)
	opt.Exports, opt.CacheExports, opt.CacheImports = nil, nil, nil
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{})
	err = b.pool.Use(ctx, name, func(string) {}, func(ctx context.Context, c *bkclient.Client) error {
		_, err := c.Build(ctx, opt, "binnacle", read, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the versions in %s: %w", name, err)
	}
	return out, nil
}

func readResolved(ctx context.Context, ref gateway.Reference) ([]binnacle.Resolved, error) {
	var out []binnacle.Resolved
	names, err := readNames(ctx, ref, recipe.LockStore)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := readText(ctx, ref, path.Join(recipe.LockStore, name))
		if err != nil {
			return nil, err
		}
		out = append(out, binnacle.Resolved{Name: name, Content: text})
	}
	status, err := readText(ctx, ref, "/var/lib/dpkg/status")
	if err != nil {
		return nil, err
	}
	apt, python, err := readSums(ctx, ref, out)
	if err != nil {
		return nil, err
	}
	lists := map[string][]string{aptVersions: debianPackages(status, apt)}
	for _, prefix := range []string{recipe.KernelPrefix, recipe.Prefix} {
		found, err := readPython(ctx, ref, prefix)
		if err != nil {
			return nil, err
		}
		list := pythonVersions
		if len(lists[list]) > 0 {
			list = serverVersions
		}
		records, err := readNames(ctx, ref, prefix+"/conda-meta")
		if err != nil {
			return nil, err
		}
		lists[list] = withSums(found, python, condaPackages(records))
		lists[condaVersions] = append(lists[condaVersions], records...)
	}
	for name, lines := range lists {
		if name == condaVersions {
			lines = condaPackages(lines)
		}
		if len(lines) > 0 && !slices.Contains(names, name) {
			out = append(out, binnacle.Resolved{Name: name, Content: strings.Join(lines, "\n") + "\n"})
		}
	}
	slices.SortFunc(out, func(a, b binnacle.Resolved) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// readPython lists the Python packages in an environment; nothing when it is not there.
func readPython(ctx context.Context, ref gateway.Reference, prefix string) ([]string, error) {
	libs, err := readNames(ctx, ref, prefix+"/lib")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, lib := range libs {
		if !strings.HasPrefix(lib, "python") {
			continue
		}
		found, err := readNames(ctx, ref, path.Join(prefix, "lib", lib, "site-packages"))
		if err != nil {
			return nil, err
		}
		out = append(out, pythonPackages(found)...)
	}
	return out, nil
}

// readSums reads the hashes that steps left, by "name=version" of Debian's packages
// and "name==version" of Python's, and those in the lock of the repository's own.
func readSums(ctx context.Context, ref gateway.Reference, locks []binnacle.Resolved) (apt map[string]string, python map[string][]string, err error) {
	names, err := readNames(ctx, ref, recipe.SumStore)
	if err != nil {
		return nil, nil, err
	}
	apt, python = map[string]string{}, map[string][]string{}
	for _, name := range names {
		text, err := readText(ctx, ref, path.Join(recipe.SumStore, name))
		if err != nil {
			return nil, nil, err
		}
		if name != recipe.AptSums {
			locks = append(locks, binnacle.Resolved{Name: name, Content: text})
			continue
		}
		for line := range strings.Lines(text) {
			if sum, id, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				apt[id] = sum
			}
		}
	}
	for _, lock := range locks {
		if !strings.HasSuffix(lock.Name, ".txt") {
			continue
		}
		for _, p := range recipe.ParseLocked(lock.Content) {
			id := p.Name + "==" + p.Version
			for _, sum := range p.Sums {
				if !slices.Contains(python[id], sum) {
					python[id] = append(python[id], sum)
				}
			}
		}
	}
	return apt, python, nil
}

// withSums adds hashes to a list of Python packages, as pip reads them. What conda
// installed came in another file.
func withSums(list []string, sums map[string][]string, conda []string) []string {
	byConda := map[string]bool{}
	for _, record := range conda {
		words := strings.SplitN(record, "=", 3)
		byConda[pythonName(words[0])+"=="+words[1]] = true
	}
	var out []string
	for _, id := range list {
		words := []string{id}
		if !byConda[id] {
			for _, sum := range sums[id] {
				words = append(words, "--hash="+sum)
			}
		}
		out = append(out, strings.Join(words, " \\\n    "))
	}
	return out
}

// pythonPackages reads the names of .dist-info directories (the specification
// "Recording installed projects").
func pythonPackages(names []string) []string {
	var out []string
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, ".dist-info"); ok {
			if project, version, ok := strings.Cut(base, "-"); ok {
				out = append(out, pythonName(project)+"=="+version)
			}
		}
	}
	slices.Sort(out)
	return out
}

// pythonName writes a name as the index does (PEP 503).
func pythonName(name string) string {
	return regexp.MustCompile(`[-_.]+`).ReplaceAllString(strings.ToLower(name), "-")
}

// condaPackages reads the names of the records in conda-meta: name-version-build.json.
func condaPackages(names []string) []string {
	record := regexp.MustCompile(`^(.+)-([^-]+)-([^-]+)\.json$`)
	var out []string
	for _, name := range names {
		if m := record.FindStringSubmatch(name); m != nil {
			out = append(out, m[1]+"="+m[2]+"="+m[3])
		}
	}
	return out
}

// readNames lists a directory of an image; nothing when it is not there.
func readNames(ctx context.Context, ref gateway.Reference, dir string) ([]string, error) {
	files, err := ref.ReadDir(ctx, gateway.ReadDirRequest{Path: dir})
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, path.Base(f.GetPath()))
	}
	return names, nil
}

// readText reads a file of an image; nothing when it is not there. A link is
// followed inside the image only.
func readText(ctx context.Context, ref gateway.Reference, name string) (string, error) {
	b, err := ref.ReadFile(ctx, gateway.ReadRequest{Filename: name, Range: &gateway.FileRange{Length: mostResolved}})
	if missing(err) {
		return "", nil
	}
	if err == nil && len(b) == mostResolved {
		err = errors.New(name + " is too large to read")
	}
	return string(b), err
}

// missing says that a path is not in an image; the error's type is lost on its
// way through the gateway.
func missing(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no such file or directory")
}
