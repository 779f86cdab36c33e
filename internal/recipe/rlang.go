package recipe

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

// cranProgram resolves and fetches R packages; it runs where there is no R yet.
//
//go:embed cran.py
var cranProgram []byte

// rProgram is what steps do in R.
//
//go:embed steps.R
var rProgram []byte

// rProfile tells R, in builds and sessions, where packages come from.
//
//go:embed profile.R
var rProfile []byte

// rLibs is where packages of R are, as in repo2docker.
const rLibs = "/srv/rlibs"

// rKind is R: runtime.txt with r-…, the package that DESCRIPTION makes of the
// root, renv.lock, or install.R. The last two do not choose R in repo2docker,
// which then leaves them out without a word.
func rKind() kind { return kind{name: "r", has: (*reader).isR, read: readR} }

func (r *reader) isR() bool {
	text, ok, err := r.file("runtime.txt")
	if err != nil {
		r.err = err
		return false
	}
	if ok && rRuntime(text) || r.hasDescription() {
		return true
	}
	return (r.has("install.R") || r.has("renv.lock")) && !r.condaR()
}

// rRuntime says that a runtime.txt asks for R.
func rRuntime(text string) bool {
	name, _, _ := strings.Cut(strings.TrimSpace(text), "-")
	return strings.EqualFold(name, "r")
}

// hasDescription says whether the root is a package of R: there are other files
// that are called DESCRIPTION.
func (r *reader) hasDescription() bool {
	if r.Dir != "" || !r.has("DESCRIPTION") {
		return false
	}
	text, _, err := r.text("DESCRIPTION")
	if err != nil {
		r.err = err
		return false
	}
	return regexp.MustCompile(`(?m)^(Package|Depends|Imports|Suggests|Type)\s*:`).MatchString(text)
}

// condaR says that environment.yml brings its own R.
func (r *reader) condaR() bool {
	name := r.condaFile()
	if name == "" {
		return false
	}
	text, _, err := r.file(name)
	if err != nil {
		r.err = err
		return false
	}
	env, err := parseConda(r.path(name), text)
	return err == nil && slices.ContainsFunc(env.conda, func(p Package) bool { return strings.HasPrefix(p.Name, "r-") })
}

// rPlan is what an R image will have.
type rPlan struct {
	choice  Choice
	posit   string    // the exact version of Posit's build; else Debian's R
	date    time.Time // whose CRAN
	asked   Location  // who named the version or date
	chosen  string    // the file that makes this an image of R
	install *rScript
	desc    *description
	lock    *renvLock
	shiny   []string // directories that are applications of Shiny
	// devtools says that a script asks for it; repo2docker has it in all images of R.
	devtools bool
}

// readR reads all that says something of R, then describes the image.
func readR(r *reader) error {
	var p rPlan
	var ask rAsk
	if err := r.rRuntimeFile(&p, &ask); err != nil {
		return err
	}
	if err := r.rFiles(&p, &ask); err != nil {
		return err
	}
	var err error
	if p.choice, p.posit, err = r.chooseR(ask); err != nil {
		return err
	}
	r.Versions = map[string]Choice{"r": p.choice}
	r.rAge(p.choice, p.date, p.asked)
	if err := r.pythonSide(); err != nil {
		return err
	}
	p.shiny, p.devtools = r.shinyApps(), r.scriptsName("devtools")
	r.rSystem(p)
	r.rEnvironment(p)
	r.rKernel(p)
	r.rStudio(p.program("R"), `echo "r-libs-user=`+rLibs+`" >> /etc/rstudio/rsession.conf`)
	r.rShiny(p.program("Rscript"), p.shiny)
	r.rPackages(p)
	return nil
}

// rRuntimeFile follows runtime.txt. Without a date repo2docker passes over its R
// and installs Python: here the commit's date is taken, and said.
func (r *reader) rRuntimeFile(p *rPlan, ask *rAsk) error {
	text, ok, err := r.file("runtime.txt")
	if err != nil {
		return err
	}
	file := r.path("runtime.txt")
	if !ok || !rRuntime(text) {
		p.date, err = r.rDate(time.Time{}, file)
		return err
	}
	said, err := splitRuntime(file, text)
	if err != nil {
		return err
	}
	p.chosen, p.asked = file, Location{file, 1}
	*ask = rAsk{version: said.version, exact: true, from: p.asked}
	if p.date, err = r.rDate(said.date, file); err != nil {
		return err
	}
	if said.date.IsZero() {
		day := "the newest"
		if !p.date.IsZero() {
			day = "those of " + p.date.Format(time.DateOnly) + ", the month of the commit"
		}
		r.note(file, 1, "runtime.txt names no date: the packages of CRAN are "+day+".", "Add the day whose packages you want, as in r-"+said.version+"-2025-06-01.")
	}
	r.use(file, "R")
	return nil
}

// rFiles reads renv.lock, DESCRIPTION and install.R. A lock decides every
// version, so install.R beside it does not run.
func (r *reader) rFiles(p *rPlan, ask *rAsk) error {
	if r.has("renv.lock") {
		lock, err := r.readRenv()
		if err != nil {
			return err
		}
		p.lock, p.chosen = lock, r.path("renv.lock")
		if ask.version == "" {
			*ask = rAsk{version: lock.r, from: Location{p.chosen, lock.rLine}}
		}
	}
	if r.hasDescription() {
		d, err := r.readDescription()
		if err != nil {
			return err
		}
		p.desc, p.chosen = d, "DESCRIPTION"
		if err := r.descriptionR(d, ask); err != nil {
			return err
		}
	}
	if !r.has("install.R") {
		return nil
	}
	file := r.path("install.R")
	if p.lock != nil {
		r.pass(file, "renv.lock decides")
		r.note(file, 0, "install.R does not run, because renv.lock says which packages there are.", "Add what it installs to the lock with renv::snapshot(), or remove renv.lock.")
		return nil
	}
	s, err := r.readInstall(file)
	if err != nil {
		return err
	}
	p.install = s
	if p.chosen == "" {
		p.chosen = file
		r.note(file, 0, "install.R chooses R: repo2docker would take it only beside a runtime.txt.", "Write r-"+minorOf(r.opt.BaseR)+"-2025-06-01 in runtime.txt to fix R and the day of its packages.")
	}
	return nil
}

// scriptsName says whether a script of the repository has a word.
func (r *reader) scriptsName(word string) bool {
	return slices.ContainsFunc([]string{"install.R", "postBuild", "start"}, func(name string) bool {
		b, ok, err := r.bytes(r.path(name), maxFile)
		return ok && err == nil && regexp.MustCompile(`\b`+word+`\b`).Match(b)
	})
}

// rEnvironment has the variables of repo2docker's R images, and one that keeps
// renv from replacing the library in which everything is.
func (r *reader) rEnvironment(p rPlan) {
	home, path := p.home(), "/usr/lib/rstudio-server/bin"
	r.late("R_LIBS_USER", rLibs)
	r.late("R_HOME", home)
	r.late("LD_LIBRARY_PATH", home+"/lib")
	r.late("RENV_CONFIG_AUTOLOADER_ENABLED", "FALSE")
	r.late("R_DOC_DIR", "/usr/share/R/doc")
	if p.posit != "" {
		r.LateEnv["R_DOC_DIR"] = home + "/doc"
		path = "/opt/R/" + p.posit + "/bin:" + path
	}
	// Behind the environment of Python, which may have a conda's R.
	r.LateEnv["PATH"] = strings.Replace(r.Env["PATH"], ":/usr/local/sbin", ":"+path+":/usr/local/sbin", 1)
}

func (p rPlan) home() string {
	if p.posit != "" {
		return "/opt/R/" + p.posit + "/lib/R"
	}
	return "/usr/lib/R"
}

// program is R's, by its whole path: conda may have another R.
func (p rPlan) program(name string) string {
	if p.posit != "" {
		return "/opt/R/" + p.posit + "/bin/" + name
	}
	return "/usr/bin/" + name
}

// step is one that runs our program of R, and writes down what is installed.
func (p rPlan) step(name string, stage Stage, commands ...string) Step {
	run := p.program("Rscript") + " --no-save --no-restore " + InputDir + "/steps.R "
	var script strings.Builder
	script.WriteString(`export R_PROFILE_USER=/dev/null R_ENVIRON_USER=/dev/null BINNACLE_STORE=` + LockStore + ` BINNACLE_LOCK=` + LockDir + "\ncd " + RepoDir + "\n")
	for _, c := range commands {
		script.WriteString(run + c + "\n")
	}
	day := "latest"
	if !p.date.IsZero() {
		day = "$(cat " + LockStore + "/r-snapshot.txt 2>/dev/null || echo latest)"
	}
	s := Step{Name: name, Stage: stage, Inputs: []Input{{Name: "steps.R", Content: rProgram}}}
	if stage == StageEnvironment {
		s.Branch = "r"
	}
	s.Script = script.String() + run + `freeze "` + day + "\"\n" + tidy
	return s
}

// rPackages installs what the files declare.
func (r *reader) rPackages(p rPlan) {
	if p.lock != nil {
		s := p.step("R: "+r.path("renv.lock"), StageEnvironment, "lock "+LockDir)
		s.Lock = r.cranLock(p, "Versions: "+r.path("renv.lock"), p.lock.wanted())
		s.From, s.Packages = []Location{{File: r.path("renv.lock")}}, p.lock.packages
		r.add(s)
	}
	if p.desc != nil && p.lock == nil && len(p.desc.packages) > 0 {
		s := p.step("R: DESCRIPTION", StageEnvironment, "lock "+LockDir)
		s.Lock = r.cranLock(p, "Versions: DESCRIPTION", p.desc.wanted())
		s.From, s.Packages = []Location{{File: "DESCRIPTION"}}, p.desc.packages
		r.add(s)
	}
	r.rDay(p)
	if p.install != nil {
		r.add(p.installStep())
	}
	if p.desc != nil && p.desc.isPackage() {
		s := p.step("R: the repository itself", StageContent, "package "+RepoDir)
		s.From = []Location{{File: "DESCRIPTION"}}
		s.Packages = []Package{{Manager: "cran", Name: p.desc.name, Spec: p.desc.name, From: Location{"DESCRIPTION", 1}}}
		r.add(s)
	}
}

// cranWanted is what cran.py reads. It has no lines and no file names: equal
// environments have equal bytes.
type cranWanted struct {
	R            string       `json:"r"`
	Date         string       `json:"date,omitempty"`
	Resolve      bool         `json:"resolve,omitempty"`
	Packages     []cranLoose  `json:"packages,omitempty"`
	Locked       []cranLocked `json:"locked,omitempty"`
	Extra        []string     `json:"extra,omitempty"`
	Bioconductor string       `json:"bioconductor,omitempty"`
}

type cranLoose struct {
	Name    string `json:"name"`
	Op      string `json:"op,omitempty"`
	Version string `json:"version,omitempty"`
}

type cranLocked struct {
	Name    string            `json:"name,omitempty"`
	Version string            `json:"version,omitempty"`
	Source  string            `json:"source"` // "repository", "bioconductor", "archive"
	URL     string            `json:"url,omitempty"`
	Subdir  string            `json:"subdir,omitempty"`
	Remote  map[string]string `json:"remote,omitempty"`
}

// cranLock is the execution that turns wanted into files. It knows the commit's
// day: its step knows only the files.
func (r *reader) cranLock(p rPlan, name string, wanted cranWanted) *Lock {
	wanted.R = p.choice.Value
	switch {
	case wanted.Date != "":
	case p.asked.File == "" && !r.opt.Date.IsZero() && !r.opt.Date.Before(snapshots()):
		wanted.Date = r.opt.Date.UTC().Format(time.DateOnly)
	case !p.date.IsZero():
		wanted.Date = p.date.Format(time.DateOnly)
	}
	text, err := json.Marshal(wanted)
	if err != nil {
		panic(err) // strings always marshal
	}
	const cache = "/run/binnacle/cache/cran"
	return &Lock{
		Name: name, Caches: []Cache{{ID: "cran", Path: cache}},
		Inputs: []Input{{Name: "wanted.json", Content: text}, {Name: "cran.py", Content: cranProgram}},
		Script: "python3 -I -B " + InputDir + "/cran.py " + InputDir + "/wanted.json " + OutDir + " " + cache + "\n",
	}
}
