package recipe

import (
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// condaLocked is a lock of conda's world, whichever tool wrote it: what there is
// for this platform.
type condaLocked struct {
	file  string
	conda []lockedPackage
	pip   []lockedPackage
	// silent says that the lock can't tell what pip installs.
	silent bool
}

// lockedPackage is one that is exactly known.
type lockedPackage struct {
	name, version string
	url           string
	hash          string // "sha256:…" or "md5:…" in hexadecimal; or empty
	editable      bool
	line          int
}

// condaLockKind is a lock without the environment.yml it was made from. What
// repo2docker reads goes first, because it does not know these.
func condaLockKind() kind {
	return kind{name: "conda-lock", has: func(r *reader) bool { return !r.declaresPython(true) && r.condaLockFile() != "" }, read: func(r *reader) error {
		lock, err := r.condaLock()
		if err != nil {
			return err
		}
		if lock == nil {
			return wrong(r.path(r.condaLockFile()), 0, r.condaLockFile()+" has no packages for "+r.subdir()+".", "Write the lock for it, too: conda-lock -p "+r.subdir()+".")
		}
		return r.condaLocked(lock, lock.file, nil)
	}}
}

// declaresPython says that repo2docker would find a description of plain Python,
// which keeps winning over what it does not know.
func (r *reader) declaresPython(project bool) bool {
	if r.has("requirements.txt") || r.has("runtime.txt") {
		return true
	}
	if r.Dir != "" {
		return false
	}
	if r.has("setup.py") {
		return true
	}
	if !project || !r.has("pyproject.toml") {
		return false
	}
	p, ok, err := r.pyproject()
	return err != nil || (ok && p.Project != nil && p.BuildSystem != nil)
}

// subdir is conda's name of the platform.
func (r *reader) subdir() string {
	if r.opt.Arch == "arm64" {
		return "linux-aarch64"
	}
	return "linux-64"
}

func (r *reader) condaLockFile() string {
	for _, name := range []string{"conda-lock.yml", "conda-" + r.subdir() + ".lock"} {
		if r.has(name) {
			return name
		}
	}
	return ""
}

// condaLock is the lock beside an environment.yml; nil when there is none for
// this platform.
func (r *reader) condaLock() (*condaLocked, error) {
	name := r.condaLockFile()
	if name == "" {
		return nil, nil
	}
	file := r.path(name)
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	parse := parseExplicit
	if strings.HasSuffix(name, ".yml") {
		parse = func(file, text string) (*condaLocked, error) { return parseCondaLock(file, text, r.subdir()) }
	}
	lock, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	if len(lock.conda) == 0 {
		r.pass(file, "it has no packages for "+r.subdir())
		r.note(file, 0, name+" has no packages for "+r.subdir()+", so it is passed over.", "Write the lock for it, too: conda-lock -p "+r.subdir()+".")
		return nil, nil
	}
	return lock, nil
}

// condaLocked installs what a lock says, and of the pip lines of the file it was
// made from what no lock can say.
func (r *reader) condaLocked(lock *condaLocked, file string, pip []Package) error {
	r.use(lock.file, strconv.Itoa(len(lock.conda)+len(lock.pip))+" exact versions")
	plan := condaPlan{file: lock.file, from: []Location{{File: lock.file}}, noPython: true}
	irkernel := false
	for _, p := range lock.conda {
		at := Location{lock.file, p.line}
		plan.packages = append(plan.packages, Package{Manager: "conda", Name: p.name, Spec: p.name + "=" + p.version, From: at})
		sum, strong := strings.CutPrefix(p.hash, "sha256:")
		if !strong {
			plan.bare = true
			sum = strings.TrimPrefix(p.hash, "md5:")
		}
		plan.list = append(plan.list, strings.TrimSuffix(p.url+"#"+sum, "#"))
		switch p.name {
		case "python":
			plan.noPython = false
			r.Python, r.asks = Choice{minorOf(p.version), lock.file + " has python " + p.version}, at
			if tooOld(p.version) && !r.isOld(p.version) {
				return wrong(lock.file, p.line, "Python "+p.version+" can't run today's Jupyter.", "Write the lock anew with one of "+r.pythons()+".")
			} else if tooOld(p.version) {
				r.chooseOld(r.Python, at)
			}
		case "r-base":
			r.chose("r", Choice{p.version, lock.file + " has r-base " + p.version})
		case "r-irkernel":
			irkernel = true
		}
	}
	if plan.noPython {
		r.Python = Choice{"", "the Python of the base image; " + lock.file + " has none"}
	}
	if plan.r = irkernel; !irkernel && r.Versions["r"].Value != "" {
		r.note(lock.file, 0, "The lock has R and no kernel for it, so notebooks can't use R.", "Add r-irkernel to "+path.Base(file)+" and write the lock anew.")
	}
	if err := r.condaSteps(plan); err != nil {
		return err
	}
	return r.lockedPip(lock, file, pip)
}

// lockedPip installs pip's part of a lock. What the lock is silent about, and the
// repository's own packages, come from the file it was made from.
func (r *reader) lockedPip(lock *condaLocked, file string, pip []Package) error {
	part := pipPart{file: lock.file, dir: r.Dir, locked: true}
	for _, p := range lock.pip {
		part.lines = append(part.lines, p.requirement(lock.file))
	}
	if err := r.condaPip(part); err != nil {
		return err
	}
	rest := pipPart{file: file, dir: r.Dir, dated: true}
	for _, p := range pip {
		option, _ := splitOption(p.Spec)
		if own := strings.HasPrefix(p.Spec, ".") || option == "-e"; lock.silent || own || (option != "" && option != "-r" && option != "-c") {
			rest.lines = append(rest.lines, p)
		}
	}
	return r.condaPip(rest)
}

// requirement is a line of requirements.txt. A file of an index is asked for by
// name, version and hash, so that the operator's mirror has it.
func (p lockedPackage) requirement(file string) Package {
	out := Package{Manager: "pip", Name: p.name, From: Location{file, p.line}}
	hash := ""
	if strings.HasPrefix(p.hash, "sha256:") {
		hash = " --hash=" + p.hash
	}
	indexed := regexp.MustCompile(`/packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/`).MatchString(p.url)
	switch {
	case strings.HasPrefix(p.url, "git+"):
		out.Spec = p.name + " @ " + p.url
	case !strings.Contains(p.url, "://") && p.url != "":
		out.Spec = "./" + strings.TrimPrefix(p.url, "./")
		if p.editable {
			out.Spec = "-e " + out.Spec
		}
	case hash != "" && p.version != "" && (indexed || p.url == ""):
		out.Spec = p.name + "==" + p.version + hash
	default:
		out.Spec = p.name + " @ " + p.url + hash
	}
	return out
}

// stale notes what the file asks for and the lock does not have.
func (l *condaLocked) stale(r *reader, packages []Package) {
	have := map[string]string{}
	for _, p := range l.conda {
		have[p.name] = p.version
	}
	const hint = "Write the lock anew after each change of the file."
	for _, p := range packages {
		version, ok := have[p.Name]
		pin := regexp.MustCompile(`^[^=<>~!|,\[]*?=+\s*(\d[\w.]*?)(?:\.?\*)?$`).FindStringSubmatch(p.Spec)
		switch {
		case !ok:
			r.note(p.From.File, p.From.Line, l.file+" is older than this line: it does not have "+p.Name+", so it is not installed.", hint)
		case pin != nil && version != pin[1] && !strings.HasPrefix(version, pin[1]+"."):
			r.note(p.From.File, p.From.Line, l.file+" is older than this line: it has "+p.Name+" "+version+", which is installed.", hint)
		}
	}
}

// parseCondaLock reads conda-lock's unified lock, for one platform. Of its
// categories, which are for developers, only main counts.
func parseCondaLock(file, text, subdir string) (*condaLocked, error) {
	var all struct {
		Version  int         `yaml:"version"`
		Packages []yaml.Node `yaml:"package"`
	}
	const again = "Write the lock anew with conda-lock."
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		return nil, wrong(file, yamlLine(err), file+" is not a lock of conda-lock: "+strings.TrimPrefix(firstLine(err.Error()), "yaml: ")+".", again)
	}
	if all.Version != 1 {
		return nil, wrong(file, 0, file+" is a lock of version "+strconv.Itoa(all.Version)+", and Binnacle reads version 1.", again)
	}
	lock := &condaLocked{file: file}
	for _, n := range all.Packages {
		var p struct {
			Name     string `yaml:"name"`
			Version  string `yaml:"version"`
			Manager  string `yaml:"manager"`
			Platform string `yaml:"platform"`
			URL      string `yaml:"url"`
			Category string `yaml:"category"`
			Hash     struct {
				SHA256 string `yaml:"sha256"`
				MD5    string `yaml:"md5"`
			} `yaml:"hash"`
		}
		if err := n.Decode(&p); err != nil {
			return nil, wrong(file, n.Line, "This package of the lock can't be read.", again)
		}
		if p.Platform != subdir || (p.Category != "" && p.Category != "main") {
			continue
		}
		l := lockedPackage{name: strings.ToLower(p.Name), version: p.Version, url: p.URL, line: n.Line}
		switch {
		case p.Hash.SHA256 != "":
			l.hash = "sha256:" + p.Hash.SHA256
		case p.Hash.MD5 != "":
			l.hash = "md5:" + p.Hash.MD5
		}
		var err error
		if p.Manager == "pip" {
			l.name = p.Name
			err = l.checkPip(file)
			lock.pip = append(lock.pip, l)
		} else {
			err = l.checkConda(file)
			lock.conda = append(lock.conda, l)
		}
		if err != nil {
			return nil, err
		}
	}
	return lock, nil
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(s, "yaml: unmarshal errors:\n"), "\n")
	return strings.TrimSpace(first)
}

// parseExplicit reads a list of addresses below @EXPLICIT, as `conda list
// --explicit` and conda-lock write it; pip's packages are comments there.
func parseExplicit(file, text string) (*condaLocked, error) {
	lock := &condaLocked{file: file, silent: true}
	explicit := false
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# pip "); ok {
			p, err := explicitPip(file, rest, i+1)
			if err != nil {
				return nil, err
			}
			lock.pip, lock.silent = append(lock.pip, p), false
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "@EXPLICIT" {
			explicit = true
			continue
		}
		address, sum, _ := strings.Cut(line, "#")
		p := lockedPackage{url: address, line: i + 1}
		sum = strings.TrimPrefix(strings.TrimPrefix(sum, "sha256:"), "md5:")
		switch {
		case len(sum) == sha256Digits:
			p.hash = "sha256:" + sum
		case sum != "":
			p.hash = "md5:" + sum
		}
		if err := p.checkConda(file); err != nil {
			return nil, err
		}
		lock.conda = append(lock.conda, p)
	}
	if !explicit {
		return nil, wrong(file, 0, file+" has no line @EXPLICIT, so it is no list of conda's.", "Write it with `conda list --explicit --sha256`, or with conda-lock.")
	}
	return lock, nil
}

// explicitPip reads "name @ address --hash=sha256:…".
func explicitPip(file, text string, line int) (lockedPackage, error) {
	p := lockedPackage{line: line}
	spec, hash, _ := strings.Cut(text, "--hash=")
	p.hash = strings.TrimSpace(hash)
	name, address, _ := strings.Cut(spec, "@")
	p.name, p.url = strings.TrimSpace(name), strings.TrimSpace(address)
	if clean, sum, ok := strings.Cut(p.url, "#sha256="); ok && p.hash == "" {
		p.url, p.hash = clean, "sha256:"+sum
	}
	return p, p.checkPip(file)
}

const (
	sha256Digits = 64
	md5Digits    = 32
)

// checkConda takes an address for what it says: name, version, build.
func (p *lockedPackage) checkConda(file string) error {
	u, err := url.Parse(p.url)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.ContainsAny(p.url, " \t\n\x00#'\"") {
		return wrong(file, p.line, "This is not the address of a conda package: "+short(p.url)+".", "Packages of a lock come from https:// addresses without a password.")
	}
	parts := strings.Split(u.EscapedPath(), "/")
	base := parts[len(parts)-1]
	stem, ok := strings.CutSuffix(base, ".conda")
	if !ok {
		stem, ok = strings.CutSuffix(base, ".tar.bz2")
	}
	m := regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.%+-]*)-([A-Za-z0-9_.!+%]+)-([A-Za-z0-9_.+%]+)$`).FindStringSubmatch(stem)
	const shortest = 3 // a channel, a platform, a file
	if !ok || m == nil || len(parts) < shortest {
		return wrong(file, p.line, "This is not the file of a conda package: "+short(base)+".", "Its name is made of name, version and build, and ends with .conda or .tar.bz2.")
	}
	p.name, p.version = strings.ToLower(m[1]), m[2]
	return p.checkHash(file)
}

func (p *lockedPackage) checkPip(file string) error {
	if nameOf(p.name) != p.name || p.name == "" || !regexp.MustCompile(`^[A-Za-z0-9.!+_-]*$`).MatchString(p.version) || strings.ContainsAny(p.url, " \t\n\x00\x1b") {
		return wrong(file, p.line, "This package of the lock can't be read: "+short(p.name+" "+p.version)+".", "Write the lock anew.")
	}
	if u, err := url.Parse(p.url); err != nil || u.User != nil && !strings.Contains(u.Scheme, "ssh") {
		return wrong(file, p.line, "This is not the address of a package: "+short(p.name)+".", "Packages of a lock come from addresses without a password.")
	}
	return p.checkHash(file)
}

func (p *lockedPackage) checkHash(file string) error {
	sum, strong := strings.CutPrefix(p.hash, "sha256:")
	want := sha256Digits
	if !strong {
		sum, want = strings.TrimPrefix(p.hash, "md5:"), md5Digits
	}
	if p.hash != "" && (len(sum) != want || !regexp.MustCompile(`^[0-9a-fA-F]+$`).MatchString(sum)) {
		return wrong(file, p.line, "The hash of "+short(p.name)+" is not one of sha256 or md5.", "Write the lock anew.")
	}
	p.hash = strings.ToLower(p.hash)
	return nil
}
