package recipe

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"
	"github.com/pelletier/go-toml/v2"
)

// maxLock is the largest lock that is read, in bytes: one of two thousand
// packages has about five million.
const maxLock = 8 << 20

// isDefaultIndex says whether an address means the index that every installer
// knows: a host called pypi in whatever domain. Where a file names it, the hub's
// own setting is meant, which may be a mirror.
func isDefaultIndex(address string) bool {
	return address == "" || regexp.MustCompile(`^https://pypi(\.[a-z]+)+/simple/*$`).MatchString(address)
}

// pin is what a lock says of one package.
type pin struct {
	name, version string
	extras        []string
	marker        string
	hashes        []string // "sha256:…"
	files         []string // names of its wheels and archives
	index         string   // where it comes from; empty is the default
	target        string   // an address instead of an index: "git+https://…@…"
	path          string   // or a path, relative to the lock
	editable      bool
	line          int
}

// requirement writes the pin as one line of a requirements file. Paths are
// relative to the root of the repository.
func (p pin) requirement(dir string) string {
	name := p.name
	if len(p.extras) > 0 {
		name += "[" + strings.Join(p.extras, ",") + "]"
	}
	var text string
	switch {
	case p.path != "":
		// A path has neither name nor marker: what leads out of the tree is refused
		// by requirements.source.
		text := "./" + path.Join(dir, p.path)
		if rest := path.Join(dir, p.path); strings.HasPrefix(rest, "../") || path.IsAbs(p.path) {
			text = p.path
		}
		if p.marker != "" && !p.editable {
			return name + " @ file:" + strings.TrimPrefix(text, "./") + " ; " + p.marker
		}
		if p.editable {
			text = "-e " + text
		}
		return text
	case p.target != "":
		text = name + " @ " + p.target
	default:
		text = name + "==" + p.version
	}
	if p.marker != "" {
		text += " ; " + p.marker
	}
	if len(p.hashes) > 0 {
		text += " --hash=" + strings.Join(p.hashes, " --hash=")
	}
	return text
}

// pinned makes requirements of what a lock names. What is from another index
// than the default brings that along.
func (r *reader) pinned(file string, pins []pin) (*requirements, error) {
	q := &requirements{sources: map[string]bool{}, files: []string{file}}
	for _, p := range pins {
		at := Location{file, p.line}
		if err := q.index(p.index, at); err != nil {
			return nil, err
		}
		text := p.requirement(r.Dir)
		if err := checkPin(p, text, at); err != nil {
			return nil, err
		}
		if rest, ok := strings.CutPrefix(text, "-e "); ok {
			if err := r.requirementOption(q, "-e", rest, at); err != nil {
				return nil, err
			}
			continue
		}
		if err := q.requirement(text, at); err != nil {
			return nil, err
		}
		last := &q.packages[len(q.packages)-1]
		last.Name = p.name
		if last.Spec, _, _ = strings.Cut(last.Spec, " --hash="); p.path != "" {
			last.Spec = p.path
		}
	}
	return q, nil
}

// index adds the option for one that is not the default.
func (q *requirements) index(address string, at Location) error {
	if isDefaultIndex(address) {
		return nil
	}
	if u, err := url.Parse(address); err != nil || !slices.Contains([]string{"https", "http"}, u.Scheme) || u.Host == "" || strings.ContainsAny(address, " \t\n\\'\"$") {
		return wrong(at.File, at.Line, "This is not the address of a package index.", "Write one that begins with https:// and needs no password from the environment.")
	}
	if line := "--extra-index-url " + address; !slices.Contains(q.lines, line) {
		q.lines = append(q.lines, line)
	}
	// The version is fixed, and each index may have it.
	q.flag("--index-strategy unsafe-best-match")
	return nil
}

// checkLine refuses what no tool wrote: it would end up on lines of its own.
func checkLine(p pin, text string, at Location) error {
	if strings.ContainsAny(text, "\n\r\x00\x1b\\") || strings.Contains(text, " #") {
		return wrong(at.File, at.Line, "This entry holds characters that no package has: "+short(p.name)+".", "Let the tool that wrote the file write it anew.")
	}
	if p.path == "" && nameOf(p.name) != p.name || p.name == "" {
		return wrong(at.File, at.Line, "This is not the name of a package: "+short(p.name)+".", "Let the tool that wrote the file write it anew.")
	}
	if strings.ContainsAny(p.target, " ;'\"") {
		return wrong(at.File, at.Line, "The address of "+p.name+" is none: "+short(shown(p.target))+".", "Let the tool that wrote the file write it anew.")
	}
	return nil
}

// checkPin refuses what is no exact version.
func checkPin(p pin, text string, at Location) error {
	if err := checkLine(p, text, at); err != nil {
		return err
	}
	if p.path == "" && p.target == "" {
		if _, err := pep440.Parse(p.version); err != nil {
			return wrong(at.File, at.Line, "The version of "+p.name+" is none: "+short(p.version)+".", "Let the tool that wrote the file write it anew.")
		}
	}
	hash := regexp.MustCompile(`^[a-z0-9]+:[0-9a-f]+$`)
	for _, h := range p.hashes {
		if !hash.MatchString(h) {
			return wrong(at.File, at.Line, "A hash of "+p.name+" is none: "+short(h)+".", "Let the tool that wrote the file write it anew.")
		}
	}
	return nil
}

// lockedSteps installs what a lock names, all of it and nothing else. What the
// repository itself has is installed when its tree is there.
func (r *reader) lockedSteps(file string, q *requirements) []Step {
	early, late := q.split(localLine)
	var out []Step
	const list = InputDir + "/" + lockedFile
	if wheels := early.wheels(); wheels != nil {
		out = append(out, wheelStep(file, list, words(q.flags), nil, linesInput(lockedFile, wheels)))
	}
	if len(early.packages) > 0 {
		s := exactStep(file, list, words(q.flags), nil, linesInput(lockedFile, early.lines))
		s.Packages = early.packages
		out = append(out, s)
	}
	if len(late.packages) > 0 {
		s := localStep(file, InputDir+"/local.txt", "--no-deps", nil, linesInput("local.txt", late.lines))
		dirs := ownDirs(late.lines)
		s.Build = r.buildTools(dirs...)
		s.Packages = late.packages
		if !slices.ContainsFunc(late.lines, func(line string) bool { return !strings.HasPrefix(line, "-") || strings.Contains(line, ";") }) {
			s = r.outlined(s, dirs)
		}
		out = append(out, s)
	}
	return out
}

// wheelStep has the shared cache and takes wheels only, whose hashes uv checks.
// When one has none, it leaves everything to the step after it. The Python that
// compiles is the one the environment was made from, told to look at nothing that
// was just installed: that may be anybody's.
func wheelStep(file, list, options string, lock *Lock, inputs ...Input) Step {
	return Step{
		Name: "wheels: " + file, Stage: StageBinary, Branch: "python", Tools: []string{"uv"}, Caches: uvCache(), From: []Location{{File: file}},
		Lock: lock, Inputs: append(inputs, compileInput()),
		Script: uvShared + `python=$(readlink -f ` + Prefix + `/bin/python)
if [ -e ` + list + ` ]; then
  uv pip install --python ` + Prefix + ` --no-deps --only-binary :all: --no-compile-bytecode` + options + ` -r ` + list + ` ||
    echo "Not everything has a wheel that fits: the next step builds it from source."
  env -i PYTHONHASHSEED=0 "$python" -s -S -B ` + InputDir + `/compile.py /srv/conda ` + Prefix + `/lib/python3*/site-packages
fi
` + tidy,
	}
}

// exactStep installs what the step before could not, builds what has no wheel, and
// has no cache. It tells what is wrong.
func exactStep(file, list, options string, lock *Lock, inputs ...Input) Step {
	return Step{
		Name: "pip: " + file, Stage: StageEnvironment, Branch: "python", Tools: []string{"uv"}, From: []Location{{File: file}},
		Lock: lock, Inputs: append(inputs, compileInput()),
		Script: uvAlone + "uv pip install --python " + Prefix + " --no-deps" + options + " -r " + list + "\n" + finish + keepList(list),
	}
}

// localStep installs packages that the repository has in its tree.
func localStep(file, list, options string, lock *Lock, inputs ...Input) Step {
	return Step{
		Name: "pip: packages of the repository", Stage: StageContent, Tools: []string{"uv"}, From: []Location{{File: file}},
		Lock: lock, Inputs: append(inputs, compileInput()),
		Script: ownPackages + "[ ! -s " + list + " ] || own --python " + Prefix + " " + options + " -r " + list + "\n" + finishOwn,
	}
}

// keepList puts what was installed where people find it.
func keepList(list string) string {
	return `[ ! -e ` + list + ` ] || cp ` + list + ` ` + LockStore + `/requirements.txt
`
}

// keep is keepList for requirements of which some are from git or an archive: only
// the environment knows the commit that came of a branch, so it is asked.
func (q *requirements) keep(list string) string {
	if len(q.sources) == 0 {
		return keepList(list)
	}
	return `{
  [ ! -e ` + list + ` ] || cat ` + list + `
  uv pip freeze --quiet --python ` + Prefix + ` | grep -E ' @ (git\+|https?:.*\.(zip|tgz|tar\.[a-z0-9]+)(#|$))' | sed -E 's#://[^/@]*@#://#' || true
} > ` + LockStore + `/requirements.txt
`
}

// words are options for a command line, each after a blank.
func words(options []string) string {
	if len(options) == 0 {
		return ""
	}
	return " " + strings.Join(options, " ")
}

// split takes some requirements apart from the rest; options go with both.
func (q *requirements) split(some func(line string) bool) (rest, apart *requirements) {
	rest, apart = &requirements{sources: map[string]bool{}}, &requirements{sources: map[string]bool{}}
	i := 0
	for _, line := range q.lines {
		if option, _ := splitOption(line); option != "" && option != "-e" {
			rest.lines, apart.lines = append(rest.lines, line), append(apart.lines, line)
			continue
		}
		side := rest
		if some(line) {
			side = apart
		}
		side.lines = append(side.lines, line)
		side.sources[line] = q.sources[line]
		side.packages = append(side.packages, q.packages[i])
		i++
	}
	return rest, apart
}

// localLine says that a requirement needs the repository's tree.
func localLine(line string) bool {
	line = strings.TrimPrefix(line, "-e ")
	return strings.HasPrefix(line, ".") || strings.Contains(line, " @ file:")
}

// lockText reads a lock; its lines end with \n.
func (r *reader) lockText(file string) (string, error) {
	b, _, err := r.bytes(file, maxLock+1)
	if err != nil {
		return "", err
	}
	if len(b) > maxLock {
		return "", wrong(file, 0, fmt.Sprintf("%s is larger than %d MiB.", file, maxLock>>20), "Lock fewer packages.")
	}
	text, err := decode(b)
	if err != nil {
		return "", wrong(file, 0, file+" is not a text file Binnacle can read: "+err.Error()+".", "Save it as UTF-8.")
	}
	return text, nil
}

// readTOML reads a lock into v.
func readTOML(file, text string, v any) error {
	if err := toml.Unmarshal([]byte(text), v); err != nil {
		return wrong(file, tomlLine(err), file+" can't be read: "+tomlSays(err)+".", "Let the tool that wrote the file write it anew.")
	}
	return nil
}

// nameLines are the lines of a lock that say `name = "x"`, by normalised name.
func nameLines(text string) map[string]int {
	lines := map[string]int{}
	i := 0
	for line := range strings.Lines(text) {
		i++
		if rest, ok := strings.CutPrefix(line, `name = "`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			if name = canonical(name); lines[name] == 0 {
				lines[name] = i
			}
		}
	}
	return lines
}

// keyLine is the line that begins with a key of TOML or JSON, or with a text in
// quotes; 0 when there is none.
func keyLine(text, key string, after int) int {
	at := regexp.MustCompile(`(?i)^\s*(?:\{\s*)?["']?` + regexp.QuoteMeta(key) + `["']?\s*[=:.\],<>!~;\[@ ]`)
	i := 0
	for line := range strings.Lines(text) {
		if i++; i > after && at.MatchString(line) {
			return i
		}
	}
	return 0
}

// keyLines are the lines after one that begin with a key of TOML or JSON; the
// first of a key counts.
func keyLines(text string, after int) map[string]int {
	key := regexp.MustCompile(`^\s*(?:\{\s*)?(?:"([^"]+)"|'([^']+)'|([^\s"'=:]+))\s*[=:]`)
	lines := map[string]int{}
	i := 0
	for line := range strings.Lines(text) {
		if i++; i <= after {
			continue
		}
		if m := key.FindStringSubmatch(line); m != nil && lines[m[1]+m[2]+m[3]] == 0 {
			lines[m[1]+m[2]+m[3]] = i
		}
	}
	return lines
}

// shown is a text for people: without the password of an address.
func shown(text string) string {
	return regexp.MustCompile(`(://)[^/@\s]+@`).ReplaceAllString(text, "$1…@")
}

// fitsPython says whether everything a lock names has a wheel for a minor version,
// or none for any Linux: what has only sources may build with each.
func fitsPython(pins []pin, minor string) bool {
	fits, some := map[string]bool{}, map[string]bool{}
	for _, p := range pins {
		for _, f := range p.files {
			tags, ok := wheelTags(f)
			if !ok || (tags.platform != "any" && !strings.Contains(tags.platform, "linux")) {
				continue
			}
			name := canonical(p.name)
			some[name] = true
			fits[name] = fits[name] || tags.fits(minor)
		}
	}
	for name := range some {
		if !fits[name] {
			return false
		}
	}
	return true
}

type tags struct{ python, abi, platform string }

// wheelTags reads the end of a wheel's name (PEP 427).
func wheelTags(file string) (tags, bool) {
	stem, ok := strings.CutSuffix(path.Base(file), ".whl")
	parts := strings.Split(stem, "-")
	const least = 5 // name, version, Python, ABI, platform
	if !ok || len(parts) < least {
		return tags{}, false
	}
	n := len(parts)
	return tags{parts[n-3], parts[n-2], parts[n-1]}, true
}

func (t tags) fits(minor string) bool {
	want, err := strconv.Atoi(strings.TrimPrefix(minor, "3."))
	if err != nil {
		return true
	}
	for python := range strings.SplitSeq(t.python, ".") {
		if python == "py3" {
			return true
		}
		kind, number := python[:min(2, len(python))], strings.TrimPrefix(strings.TrimPrefix(python, "cp3"), "py3")
		have, err := strconv.Atoi(number)
		if err != nil || (kind != "cp" && kind != "py") {
			continue
		}
		if have == want || (have < want && (kind == "py" || strings.Contains(t.abi, "abi3"))) {
			return true
		}
	}
	return false
}
