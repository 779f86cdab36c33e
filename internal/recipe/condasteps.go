package recipe

import (
	_ "embed"
	"slices"
	"strings"
	"time"
)

// condaProgram solves and installs with rattler, a conda implementation that
// PyPI has, so that no other host is needed for the tool.
//
//go:embed condaenv.py
var condaProgram []byte

const (
	condaCachePath = "/run/binnacle/cache/conda"
	condaRun       = ToolDir + "/conda/bin/python -B " + InputDir + "/condaenv.py "
	// condaList is an explicit list of conda's: an address and a hash for each package.
	condaList = "conda.txt"
	// condaPip is what pip installed beside it, with hashes.
	condaPip = "conda-pip.txt"
)

func condaCache() []Cache { return []Cache{{ID: "conda", Path: condaCachePath}} }

func condaInput() Input { return Input{Name: "condaenv.py", Content: condaProgram} }

// condaPlan is an environment for conda to make: wishes to be solved, or a list
// to be installed as it is.
type condaPlan struct {
	file     string // what the step is named after
	from     []Location
	packages []Package
	wanted   *condaWanted // or
	list     []string     // addresses with hashes
	bare     bool         // not every address has a sha256
	noPython bool         // the list has none
	r        bool         // it has R and its kernel
}

// condaSteps makes the environment, and lets Jupyter join it. What is not exact
// is made exact by a lock, as of the commit's day. The first step runs nothing of
// a package, so it may have the shared cache.
func (r *reader) condaSteps(p condaPlan) error {
	conda := Step{Name: "conda: " + p.file, Stage: StageServer, Tools: []string{"conda"}, From: p.from, Packages: p.packages, Caches: condaCache()}
	at := LockDir
	switch {
	case p.wanted != nil:
		conda.Lock = r.condaSolve(p)
		conda.Inputs = []Input{condaInput()}
	case p.bare:
		conda.Lock = &Lock{
			Name: "Versions: " + p.file, Tools: conda.Tools, Caches: condaCache(), Inputs: []Input{linesInput(condaList, p.list), condaInput()},
			Script: condaRun + "pin --list " + InputDir + "/" + condaList + " --cache " + condaCachePath + " --out " + OutDir + "/" + condaList + "\n",
		}
		conda.Inputs = []Input{condaInput()}
	default:
		at = InputDir
		conda.Inputs = []Input{linesInput(condaList, append([]string{"@EXPLICIT"}, p.list...)), condaInput()}
	}
	prefix := r.condaPrefix()
	conda.Script = condaRun + "install --list " + at + "/" + condaList + " --prefix " + prefix + " --cache " + condaCachePath + " --needs " + LockStore + "/" + condaGraph + `
cp ` + at + "/" + condaList + " " + LockStore + "/" + condaList + "\n" + tidy
	r.environment()
	if r.old {
		r.jupyterStep()
		r.add(conda, r.kernelStep(p))
	} else {
		r.add(conda, r.condaJupyter(p))
	}
	r.Env["CONDA_PREFIX"], r.Env["CONDA_DEFAULT_ENV"] = prefix, prefix
	if p.r && r.Kind != "r" {
		r.rStudio(prefix+"/bin/R", `echo "rsession-ld-library-path=`+prefix+`/lib" >> /etc/rstudio/rserver.conf`)
		if slices.ContainsFunc(p.packages, func(p Package) bool { return p.Name == "r-shiny" }) {
			r.rShiny(prefix+"/bin/Rscript", r.shinyApps())
		}
	}
	return nil
}

func (r *reader) condaSolve(p condaPlan) *Lock {
	script := condaRun + "solve --file " + InputDir + "/environment.json"
	if at := r.asOf(""); !at.IsZero() {
		script += " --before " + at.Format(time.RFC3339)
	}
	return &Lock{
		Name: "Versions: " + p.file, Tools: []string{"conda"}, Caches: condaCache(), Inputs: []Input{p.wanted.input(), condaInput()},
		Script: script + " --cache " + condaCachePath + " --out " + OutDir + "/" + condaList + "\n",
	}
}

// condaJupyter lets Jupyter join. The step runs a Python of the repository's
// choice and the scripts of its packages, so it has no shared cache; what the
// author pinned stays, our lock says only what else Jupyter needs.
func (r *reader) condaJupyter(p condaPlan) Step {
	python := ""
	if p.noPython {
		python = "uv venv --quiet --allow-existing --python /usr/bin/python3 " + Prefix + "\n"
	}
	return Step{
		Name: "Jupyter", Stage: StageServer, Tools: []string{"conda", "uv"}, From: p.from,
		Inputs: []Input{
			{Name: "server.txt", Content: serverLock},
			{Name: "overrides.txt", Content: serverOverrides},
			condaInput(),
			compileInput(),
		},
		Script: uvAlone + `export UV_NO_CONFIG=1
` + condaRun + `scripts --prefix ` + Prefix + `
` + python + condaRun + `constraints --lock ` + InputDir + `/server.txt --prefix ` + Prefix + ` --all /tmp/all.txt --installed /tmp/installed.txt
jupyter="jupyterlab notebook ipykernel ipywidgets jupyterhub pip"
if ! uv pip install --quiet --python ` + Prefix + ` --only-binary :all:` + withoutSlow + `--constraint /tmp/all.txt $jupyter; then
  echo "The Jupyter we tested does not fit this environment: looking for one that does."
  uv pip install --python ` + Prefix + ` --only-binary :all:` + withoutSlow + `--constraint /tmp/installed.txt $jupyter
fi
` + keepSums("server.txt") + irKernel(p, Prefix) + r.condaSettings(Prefix) + quietLab + finish,
	}
}

// irKernel tells Jupyter of the R in an environment, unless its package did.
func irKernel(p condaPlan, prefix string) string {
	if !p.r {
		return ""
	}
	return `if [ ! -e ` + Prefix + `/share/jupyter/kernels/ir/kernel.json ]; then
  ` + prefix + `/bin/R --no-save --no-restore --silent -e "IRkernel::installspec(user = FALSE, prefix = '` + Prefix + `')"
fi
`
}

// pipPart is what pip installs into an environment of conda's.
type pipPart struct {
	file   string // that names it
	dir    string // that its paths are relative to
	lines  []Package
	dated  bool // it is loose, so it is resolved as of the commit's month
	locked bool // it is complete and exact
}

// condaPip installs what is to be had anywhere before the tree comes, and what is
// in the repository after. Only the environment itself knows which of pip's
// packages conda has installed, so this is resolved in the step and not in a lock:
// as of the commit's month, because each other date is another layer.
func (r *reader) condaPip(p pipPart) error {
	remote, local, git := r.pipLines(p), r.pipLines(p), r.pipLines(p)
	for _, wish := range p.lines {
		for _, l := range logicalLines(wish.Spec) {
			l.number = wish.From.Line
			in := include{file: wish.From.File}
			scratch, probe := *r, &requirements{sources: map[string]bool{}, dir: p.dir}
			if err := scratch.requirementLine(probe, in, l); err != nil {
				return err
			}
			into := []*requirements{remote}
			switch {
			case strings.HasPrefix(l.text, "--") && len(probe.packages) == 0:
				into = []*requirements{remote, local, git}
			case probe.local:
				into = []*requirements{local}
			case p.locked && strings.Contains(l.text, "git+"):
				into = []*requirements{git} // nothing to hash
			}
			for i, q := range into {
				to := r
				if i > 0 {
					to = &scratch // its notes are written already
				}
				if err := to.requirementLine(q, in, l); err != nil {
					return err
				}
			}
		}
	}
	if p.locked {
		for _, q := range []*requirements{remote, local, git} {
			q.flag("--no-deps")
		}
		if hashed(remote.lines) {
			remote.flag("--require-hashes")
		}
	}
	for _, q := range []*requirements{remote, git} {
		if len(q.packages) > 0 {
			r.add(r.condaPipStep(p, q))
		}
	}
	if len(local.packages) > 0 {
		r.add(r.pipStep(local, "pip: "+p.file+", the repository's own", StageContent, p.dir))
	}
	return nil
}

func (r *reader) pipLines(p pipPart) *requirements {
	return &requirements{sources: map[string]bool{}, files: []string{p.file}, dir: p.dir}
}

func hashed(lines []string) bool {
	for _, line := range lines {
		if !strings.HasPrefix(line, "-") && !strings.Contains(line, "--hash=") {
			return false
		}
	}
	return len(lines) > 0
}

func (r *reader) condaPipStep(p pipPart, q *requirements) Step {
	s := r.pipStep(q, "pip: "+p.file, StageEnvironment, "")
	s.Branch = "python"
	if r.old {
		return s
	}
	if p.locked {
		s.Script += "cat " + InputDir + "/" + lockedFile + " >> " + LockStore + "/" + condaPip + "\n"
		return s
	}
	dated := ""
	if at := r.asOf(r.Python.Value); p.dated && !at.IsZero() {
		month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
		dated = "--exclude-newer " + month.Format(time.RFC3339)
		s.Script = uvAlone + `dated="` + dated + `"
if ! uv ` + q.install("--quiet $dated") + `; then
  echo "Nothing fits that was there in the month of the commit: taking today's versions."
  dated=
  uv ` + q.install("") + `
fi
` + finish
		dated = "$dated"
	}
	const have = "uv pip freeze --quiet --python " + Prefix + " | sort"
	s.Script = strings.Replace(s.Script, uvAlone, uvAlone+"before=$("+have+")\n", 1) + `{ grep '^--' ` + InputDir + `/` + lockedFile + ` || true; ` + have + ` | comm -13 <(echo "$before") - | grep -E '^[a-z0-9-]+==' || true; } > /tmp/new.txt
uv ` + strings.Join(append([]string{"pip compile --quiet --python " + Prefix + "/bin/python --no-deps --no-header --no-annotate --generate-hashes"}, q.flags...), " ") + ` ` + dated + ` -o ` + LockStore + `/` + condaPip + ` /tmp/new.txt ||
  grep -v '^--' /tmp/new.txt > ` + LockStore + `/` + condaPip + ` || true
` + condaPipNeeds
	return s
}

// condaPipNeeds writes who needs each package below it, as uv does where it has to find
// out what is needed. What an extra needs has no such line: nobody tells.
const condaPipNeeds = `uv pip show --python ` + Prefix + ` $(sed -n 's/==.*//p' ` + LockStore + `/` + condaPip + `) 2> /dev/null > /tmp/needs.txt || true
awk 'function told() { n = split(by[last], names, ", "); for (i = 1; i <= n; i++) print "    # via " names[i] }
FILENAME == ARGV[1] { if ($1 == "Name:") name = $2; if (sub(/^Required-by: /, "")) by[name] = $0; next }
/^[a-z0-9]/ { told(); split($1, pin, "=="); last = pin[1] } { print } END { told() }' \
  /tmp/needs.txt ` + LockStore + `/` + condaPip + ` > /tmp/told.txt && cat /tmp/told.txt > ` + LockStore + `/` + condaPip + ` || true
`
