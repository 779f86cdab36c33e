package recipe

import (
	"strings"
	"time"
)

// What a Lock of Python packages writes into OutDir.
const (
	// lockedFile holds every version with its hashes, and who asked for it.
	lockedFile = "requirements.txt"
	// datedFile holds uv's options that make it pass over what came after the
	// commit. It is there only when not everything could be locked, because it
	// makes the step that reads it depend on the date.
	datedFile = "dated.txt"
)

// pythonSettled is when a minor version had builds of the packages that
// researchers use: half a year after its release (python.org's "Status of
// Python versions"). What an older commit wants can't be resolved as of its own
// day, because there was nothing yet that runs on the Python we have.
func pythonSettled(minor string) time.Time {
	const released, settled = time.October, 6 // months
	year, ok := map[string]int{"3.9": 2020, "3.10": 2021, "3.11": 2022, "3.12": 2023, "3.13": 2024, "3.14": 2025}[minor]
	if !ok {
		return time.Time{}
	}
	return time.Date(year, released+settled, 1, 0, 0, 0, 0, time.UTC)
}

// asOf is the end of the commit's day, before which a package must have been
// published to be taken: everything that was there for the author. Zero when
// there is no date.
func (r *reader) asOf(python string) time.Time {
	if r.opt.Date.IsZero() {
		return time.Time{}
	}
	const day = 24 * time.Hour
	end := r.opt.Date.UTC().Truncate(day).Add(day)
	if settled := pythonSettled(minorOf(python)); end.Before(settled) {
		return settled
	}
	return end
}

// pythonVersion is the one the environment of Jupyter will have; empty when conda
// chooses.
func (r *reader) pythonVersion() string {
	if python := r.serverPython(); python != "" || r.isConda() {
		return python
	}
	return r.opt.BasePython
}

// pipLock resolves the lines that wheels can satisfy, as of the commit's day.
// Versions that Jupyter already has in the environment are preferred whatever
// their date, because both share it. When nothing fits as of that day, because
// the index tells no dates or the file asks for something newer, it says so and
// takes today's. It takes wheels only, which run nothing, so it may have the
// shared cache. Nil when there is nothing to resolve.
func (r *reader) pipLock(file string, q *requirements) *Lock {
	python, wheels := r.pythonVersion(), q.wheels()
	if python == "" || wheels == nil {
		return nil
	}
	dated, whole := "", "true"
	if at := r.asOf(python); !at.IsZero() {
		dated = "--exclude-newer " + at.Format(time.RFC3339) + " $(" + keepServer + ")"
	}
	if len(wheels) < len(q.lines) {
		whole = "false"
	}
	compile := append([]string{"pip compile --quiet --python /usr/bin/python3 --python-version " + python + " --only-binary :all: --no-header --generate-hashes"}, q.flags...)
	if len(q.constraints) > 0 {
		compile = append(compile, "--constraint constraints.txt")
	}
	return &Lock{
		Name: "Versions: " + file, Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: append(q.inputs("requirements.in", wheels), Input{Name: "server.txt", Content: serverLock}),
		Script: uvShared + `cd ` + InputDir + `
dated="` + dated + `"
resolve() { cp server.txt /tmp/lock.txt; uv ` + strings.Join(compile, " ") + ` "$@" -o /tmp/lock.txt requirements.in; }
whole=` + whole + `
if resolve $dated; then
  cp /tmp/lock.txt ` + OutDir + `/` + lockedFile + `
elif [ -n "$dated" ] && echo "Nothing fits that was there when the commit was made: taking today's versions." && resolve; then
  cp /tmp/lock.txt ` + OutDir + `/` + lockedFile + `
else
  echo "Not everything has a wheel that fits: the rest is installed from source."
  whole=false
fi
$whole || echo "$dated" > ` + OutDir + `/` + datedFile + "\n",
	}
}

// keepServer prints the options that let uv take the versions of our own lock,
// which are newer than most commits.
const keepServer = `sed -nE 's/^([a-z0-9][a-z0-9._-]*)==.*/--exclude-newer-package \1=2100-01-01/p' server.txt | sort -u | tr '\n' ' '`

// pipSteps installs remote requirements. The first has the shared cache and takes
// only what is locked, which are wheels and run nothing when they are installed;
// the second has no cache, builds what has no wheel, and tells what is wrong.
func (r *reader) pipSteps(file string, q *requirements) []Step {
	whole := r.pipStep(q, "pip: "+file, StageEnvironment, "")
	whole.Branch = "python"
	if r.old {
		return []Step{whole}
	}
	lock := r.pipLock(file, q)
	const locked, dated = LockDir + "/" + lockedFile, LockDir + "/" + datedFile
	if lock == nil {
		whole.Script += q.keep(locked)
		return []Step{whole}
	}
	whole.Lock = lock
	install := "uv " + q.command("pip install --python "+Prefix+" --no-deps --only-binary :all: --no-compile-bytecode", "-r "+locked)
	rest := `if [ -e ` + dated + ` ]; then
  constraint=
  [ ! -e ` + locked + ` ] || constraint="--constraint ` + locked + `"
  dated=$(cat ` + dated + `)
  if [ -z "$dated" ] || ! uv ` + q.install("$constraint $dated") + `; then
    asking ` + q.install("$constraint") + `
  fi
fi
` + finish + q.keep(locked)
	if r.isConda() {
		// A Python of the repository's choice would run while the cache is there.
		if lines := q.optionLines(); len(lines) > 0 {
			whole.Inputs = append(whole.Inputs, linesInput(optionsFile, lines))
		}
		whole.Script = asking + "if [ -e " + locked + " ]; then\n  " + install + "\nfi\n" + rest
		return []Step{whole}
	}
	whole.Script = asking + rest
	inputs := []Input{compileInput()}
	if lines := q.optionLines(); len(lines) > 0 {
		inputs = append(inputs, linesInput(optionsFile, lines))
	}
	return []Step{{
		Name: "wheels: " + file, Stage: StageBinary, Branch: "python", Tools: []string{"uv"}, Caches: uvCache(), From: whole.From, Lock: lock,
		Inputs: inputs,
		// The Python that compiles is the one the environment was made from, told
		// to look at nothing that was just installed: that may be anybody's.
		Script: uvShared + `python=$(readlink -f ` + Prefix + `/bin/python)
if [ -e ` + locked + ` ]; then
  ` + install + `
  env -i PYTHONHASHSEED=0 "$python" -s -S -B ` + InputDir + `/compile.py /srv/conda ` + Prefix + `/lib/python3*/site-packages
fi
` + tidy,
	}, whole}
}

// optionsFile has the lines that are options of pip: indexes, which may hold a
// password and so are nothing for a command line.
const optionsFile = "options.txt"

// command is one of uv's for a list of its own making, with what the author's
// file says of indexes and hosts.
func (q *requirements) command(words ...string) string {
	words = append(words, q.flags...)
	if len(q.optionLines()) > 0 {
		words = append(words, "-r "+InputDir+"/"+optionsFile)
	}
	return strings.Join(words, " ")
}

func (q *requirements) optionLines() []string {
	var out []string
	for _, line := range q.lines {
		if name, _ := splitOption(line); name != "" && name != "-e" {
			out = append(out, line)
		}
	}
	return out
}
