package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// What of a repository is looked at for inline metadata.
const (
	mostScripts = 50      // scripts and notebooks of the root
	mostEntries = 2000    // names in the root
	mostCells   = 5       // the block is in one of the first cells
	inlineHead  = 4 << 20 // bytes of a notebook: pictures may be in the first cells
	scriptBytes = 256 << 10
)

// inlineBlock is the metadata of one script or notebook (PEP 723).
type inlineBlock struct {
	file     string
	line     int    // of the dependencies
	text     string // as it stands in the script
	requires string
	packages []string
}

// inlinePlan reads what scripts and notebooks in the root say of themselves; it
// counts when nothing else names packages. All of them share one environment.
// Nil when none says anything.
func (r *reader) inlinePlan() (*lockPlan, error) {
	blocks, err := r.inlineBlocks()
	if err != nil || len(blocks) == 0 {
		return nil, err
	}
	plan := &lockPlan{}
	q := &requirements{sources: map[string]bool{}}
	exact := map[string]Package{}
	seen := map[string]bool{}
	for _, b := range blocks {
		w, err := wishes(b.file, b.at("requires-python"), b.requires)
		if err != nil {
			return nil, err
		}
		plan.wishes = append(plan.wishes, w...)
		q.files = append(q.files, b.file)
		for _, text := range b.packages {
			text = strings.Join(strings.Fields(text), " ")
			at := Location{b.file, b.at(text)}
			if err := inlineConflict(exact, text, at); err != nil {
				return nil, err
			}
			if !seen[tight(text)] && text != "" {
				if err := q.requirement(text, at); err != nil {
					return nil, err
				}
			}
			seen[tight(text)] = true
		}
	}
	plan.install = func(r *reader) error {
		for _, b := range blocks {
			r.use(b.file, "names packages in its own text")
		}
		if len(q.packages) == 0 {
			return nil
		}
		const name = "scripts and notebooks"
		if q.local {
			r.add(r.pipStep(q, "pip: "+name, StageContent, ""))
			return nil
		}
		r.add(r.pipSteps(name, q)...)
		return nil
	}
	return plan, nil
}

// inlineConflict finds two files that want different versions of a package.
func inlineConflict(exact map[string]Package, text string, at Location) error {
	name, spec := splitRequirement(text)
	if !strings.HasPrefix(spec, "==") || strings.ContainsAny(spec, ",*") || strings.Contains(text, ";") {
		return nil
	}
	other, ok := exact[canonical(name)]
	if ok && strings.TrimSpace(other.Spec) != spec {
		return wrong(at.File, at.Line, fmt.Sprintf("%s wants %s %s, but %s, line %d, wants %s: they share one environment.", at.File, name, spec, other.From.File, other.From.Line, other.Spec),
			"Make the two agree, or name the packages in requirements.txt.")
	}
	exact[canonical(name)] = Package{Name: name, Spec: spec, From: at}
	return nil
}

// inlineBlocks reads the scripts and notebooks of the root, in the order of names.
func (r *reader) inlineBlocks() ([]inlineBlock, error) {
	if r.Dir != "" {
		return nil, nil
	}
	entries, err := r.names()
	if err != nil {
		return nil, err
	}
	var out []inlineBlock
	looked := 0
	for _, name := range entries {
		kind := path.Ext(name)
		if kind != ".py" && kind != ".ipynb" || strings.HasPrefix(name, ".") || !r.hasPath(name) {
			continue
		}
		if looked++; looked > mostScripts {
			r.note("", 0, "Only the first 50 scripts and notebooks were looked at for the packages they name.", "Name the packages in requirements.txt.")
			break
		}
		b, ok, err := r.inlineBlock(name, kind)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, b)
		}
	}
	return out, nil
}

// names are those in the root, as many as are looked at.
func (r *reader) names() ([]string, error) {
	f, err := r.fs.Open(".")
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, nil
	}
	entries, err := dir.ReadDir(mostEntries)
	if err != nil && len(entries) == 0 {
		return nil, nil
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return sortedNames(names), nil
}

func (r *reader) inlineBlock(file, kind string) (inlineBlock, bool, error) {
	limit := int64(scriptBytes)
	if kind == ".ipynb" {
		limit = inlineHead
	}
	b, _, err := r.bytes(file, limit)
	if err != nil {
		return inlineBlock{}, false, err
	}
	if kind == ".py" {
		text, err := decode(b)
		if err != nil {
			return inlineBlock{}, false, nil //nolint:nilerr // a file that is no text names nothing
		}
		return parseInline(file, text, text)
	}
	source := string(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")))
	for _, cell := range firstCells(b) {
		if block, ok, err := parseInline(file, cell, source); ok || err != nil {
			return block, ok, err
		}
	}
	return inlineBlock{}, false, nil
}

// parseInline finds the block of a script. source is the file, in which lines are
// counted.
func parseInline(file, script, source string) (inlineBlock, bool, error) {
	found := regexp.MustCompile(`(?m)^# /// ([a-zA-Z0-9-]+)$\n((?:^#(?: .*)?$\n?)+?)^# ///$`).FindAllStringSubmatchIndex(script, -1)
	b := inlineBlock{file: file, text: source}
	some := false
	for _, m := range found {
		if script[m[2]:m[3]] != "script" {
			continue
		}
		b.line = b.at("# /// script")
		if some {
			return b, false, wrong(file, b.line, file+" has two blocks of metadata.", "Join them into one.")
		}
		some = true
		var text strings.Builder
		for line := range strings.Lines(script[m[4]:m[5]]) {
			text.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
		}
		var f struct {
			Requires string   `toml:"requires-python"`
			Packages []string `toml:"dependencies"`
		}
		if err := toml.Unmarshal([]byte(text.String()), &f); err != nil {
			return b, false, wrong(file, b.line+tomlLine(err), "The metadata in "+file+" can't be read: "+tomlSays(err)+".", "Correct this line of the block `# /// script`.")
		}
		b.requires, b.packages = f.Requires, f.Packages
	}
	return b, some, nil
}

// at is the line that has a text; that of the block when there is none.
func (b inlineBlock) at(words string) int {
	i := 0
	for line := range strings.Lines(b.text) {
		if i++; strings.Contains(line, words) && i >= b.line {
			return i
		}
	}
	return max(1, b.line)
}

// firstCells are the sources of the first code cells of a notebook, of which only
// the beginning is here.
func firstCells(head []byte) []string {
	d := json.NewDecoder(bytes.NewReader(head))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil
		}
		if key != "cells" {
			var skipped json.RawMessage
			if d.Decode(&skipped) != nil {
				return nil
			}
			continue
		}
		if t, err := d.Token(); err != nil || t != json.Delim('[') {
			return nil
		}
		var out []string
		for n := 0; d.More() && n < mostCells; n++ {
			var cell struct {
				Type   string          `json:"cell_type"`
				Source json.RawMessage `json:"source"`
			}
			if d.Decode(&cell) != nil {
				break
			}
			var lines []string
			var whole string
			if json.Unmarshal(cell.Source, &lines) == nil {
				whole = strings.Join(lines, "")
			} else if json.Unmarshal(cell.Source, &whole) != nil {
				continue
			}
			if cell.Type == "code" {
				out = append(out, strings.ReplaceAll(whole, "\r\n", "\n"))
			}
		}
		return out
	}
	return nil
}
