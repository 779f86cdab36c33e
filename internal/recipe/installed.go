package recipe

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// Installed is a package of an image, as the files of its LockStore tell.
type Installed struct {
	// Manager is the one of a declaration, as in Package: "pip", "npm".
	Manager string
	Name    string
	Version string
	// ID tells it from all others of its manager: some install several versions of
	// one name.
	ID string
	// Sums are of the file that it came in, as "sha256:" and hexadecimal digits.
	// Several of one kind are of several files, of which one was taken. "tree" is
	// git's SHA-1 of its directory.
	Sums []string
	// By are the IDs of packages that need it.
	By []string
	// Asked are files that ask for it, as the lock tells and from where that is;
	// one without a name is the declaration, whichever that is.
	Asked []string
	// More is what else identifies it, named as qualifiers of a package URL are.
	More map[string]string
}

// ReadInstalled reads the files of a LockStore, by name. What it can't read it
// passes over: the repository's own scripts may have written there.
func ReadInstalled(files map[string]string) []Installed {
	var out []Installed
	for _, read := range []func(map[string]string) []Installed{
		installedApt, installedPip, installedConda, installedNpm, installedDeno, installedGo, installedCargo, installedJulia, installedR, installedNix,
	} {
		out = append(out, read(files)...)
	}
	return out
}

// inventory collects what one file names.
type inventory struct {
	manager string
	list    []Installed
	at      map[string]int // places in list, by ID
	needs   [][2]string    // IDs: the first needs the second
}

// add takes a package; of several with one ID the first counts.
func (v *inventory) add(p Installed) {
	if v.at == nil {
		v.at = map[string]int{}
	}
	if _, have := v.at[p.ID]; have || p.Name == "" || p.ID == "" {
		return
	}
	p.Manager = v.manager
	v.at[p.ID] = len(v.list)
	v.list = append(v.list, p)
}

func (v *inventory) has(id string) bool {
	_, ok := v.at[id]
	return ok
}

func (v *inventory) need(id, other string) { v.needs = append(v.needs, [2]string{id, other}) }

// asked notes that a file asks for a package.
func (v *inventory) asked(id, file string) {
	if i, ok := v.at[id]; ok && !slices.Contains(v.list[i].Asked, file) {
		v.list[i].Asked = append(v.list[i].Asked, file)
	}
}

// done turns who needs what around.
func (v *inventory) done() []Installed {
	for _, n := range v.needs {
		i, ok := v.at[n[1]]
		if ok && v.has(n[0]) && n[0] != n[1] && !slices.Contains(v.list[i].By, n[0]) {
			v.list[i].By = append(v.list[i].By, n[0])
		}
	}
	return v.list
}

// integrity reads a hash as the web and npm write it: "sha512-" and base64.
func integrity(text string) []string {
	var out []string
	for word := range strings.FieldsSeq(text) {
		kind, sum, ok := strings.Cut(word, "-")
		raw, err := base64.StdEncoding.DecodeString(sum)
		if ok && err == nil && slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, kind) {
			out = append(out, kind+":"+hex.EncodeToString(raw))
		}
	}
	return out
}

// edges reads lines of two words, of which the first needs the second.
func edges(text string) [][2]string {
	var out [][2]string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) == 2 {
			out = append(out, [2]string{words[0], words[1]})
		}
	}
	return out
}
