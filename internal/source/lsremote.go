package source

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// refs is what a repository offers: full names to the commits they stand for,
// annotated tags peeled.
type refs struct {
	commits map[string]string
	head    string // what HEAD points to, as "refs/heads/main"; empty when detached or not told
}

// parseRefs reads the output of git ls-remote --symref. Names that no ref may
// have are left out; an object name that is none is an error.
func parseRefs(out []byte) (refs, error) {
	r := refs{commits: map[string]string{}}
	for line := range bytes.Lines(out) {
		value, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "\t")
		if !ok {
			return refs{}, errors.New("a line without a tab")
		}
		if target, ok := strings.CutPrefix(value, "ref: "); ok {
			if name == "HEAD" && checkRef(target) == nil {
				r.head = target
			}
			continue
		}
		if !isCommit(value) {
			return refs{}, errors.New("not an object name")
		}
		name, peeled := strings.CutSuffix(name, "^{}")
		if checkRef(name) != nil {
			continue
		}
		if _, seen := r.commits[name]; !seen || peeled {
			r.commits[name] = value
		}
	}
	return r, nil
}

// names lists branches, then tags, each sorted, without their prefixes.
func (r refs) names() []string {
	var heads, tags []string
	for full := range r.commits {
		if n, ok := strings.CutPrefix(full, "refs/heads/"); ok {
			heads = append(heads, n)
		} else if n, ok := strings.CutPrefix(full, "refs/tags/"); ok {
			tags = append(tags, n)
		}
	}
	slices.Sort(heads)
	slices.Sort(tags)
	return append(heads, tags...)
}

// near lists up to five names a person may have meant: master for main and
// the other way round first, then those that differ by little.
func (r refs) near(want string) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	lower := strings.ToLower(want)
	names := r.names()
	if len(names) > 5000 {
		names = names[:5000]
	}
	for _, name := range names {
		far := distance(lower, strings.ToLower(name))
		switch {
		case (want == "main" && name == "master") || (want == "master" && name == "main"):
			far = -1
		case far <= 2 && far < len(want):
		case len(want) > 2 && (strings.HasSuffix(strings.ToLower(name), "/"+lower) || strings.TrimPrefix(strings.ToLower(name), "v") == strings.TrimPrefix(lower, "v")):
			far = 3
		default:
			continue
		}
		found = append(found, candidate{name, far})
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.far - b.far })
	var list []string
	for _, c := range found {
		if !slices.Contains(list, c.name) && len(list) < 5 {
			list = append(list, c.name)
		}
	}
	return list
}

// distance is Levenshtein's, of the first 100 bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), 100)], b[:min(len(b), 100)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
