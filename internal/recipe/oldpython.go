package recipe

import (
	"slices"
	"strings"
)

// oldPythons are those that repo2docker has and today's Jupyter does not run on. Such
// a Python is made by conda in KernelPrefix, and is a kernel beside Jupyter's own.
func oldPythons() []string { return []string{"2.7", "3.5", "3.6", "3.7", "3.8"} }

// isOld says whether a version, "X.Y" or longer, is one of them that the hub does not
// offer otherwise.
func (r *reader) isOld(version string) bool {
	minor := minorOf(version)
	return slices.Contains(oldPythons(), minor) && !slices.Contains(r.opt.Pythons, minor)
}

// pythons are all that may be asked for.
func (r *reader) pythons() string {
	old := slices.DeleteFunc(oldPythons(), func(v string) bool { return !r.isOld(v) })
	return strings.Join(append(old, r.opt.Pythons...), ", ")
}

// chooseOld makes the Python that was asked for a kernel of its own.
func (r *reader) chooseOld(c Choice, at Location) {
	r.old = true
	r.Python, r.asks = c, at
	r.note(at.File, at.Line, "Python "+c.Value+" is too old for Jupyter, so it is a kernel of its own beside it: notebooks run on it, while `python` and `pip` in scripts and terminals are Jupyter's.",
		"Scripts reach it as "+KernelPrefix+"/bin/python.")
}

// serverPython is the Python that Jupyter runs on; empty is the base's own.
func (r *reader) serverPython() string {
	if r.old {
		return r.opt.DefaultPython
	}
	return r.Python.Value
}

// condaPrefix is the environment that conda makes.
func (r *reader) condaPrefix() string {
	if r.old {
		return KernelPrefix
	}
	return Prefix
}

// condaEnvironment is a Python by conda where no file of conda's asks for it: one that
// runtime.txt or a Pipfile names, with nothing in it but its kernel and pip.
func (r *reader) condaEnvironment() error {
	if r.old && r.lock != "" {
		return wrong(r.asks.File, r.asks.Line, "Python "+r.Python.Value+" is too old for what installs "+r.lock+".", "Choose one of "+strings.Join(r.opt.Pythons, ", ")+", or list the packages in requirements.txt.")
	}
	plan := condaPlan{file: r.asks.File, from: []Location{r.asks}}
	if r.asks.File == "" {
		plan.file = r.path("postBuild") // which calls conda
		plan.from = []Location{{File: plan.file}}
	}
	if r.Python.Value != "" {
		plan.packages = []Package{{Manager: "conda", Name: "python", Spec: "python=" + r.Python.Value, From: plan.from[0]}}
	}
	wanted := r.condaWanted(plan.packages)
	wanted.Channels = []string{"conda-forge"}
	plan.wanted = &wanted
	return r.condaSteps(plan)
}

// kernelStep runs what packages of conda's do when they are installed, and tells
// Jupyter of the kernel. One of Python 2 has a name of its own, and is what a new
// notebook has.
func (r *reader) kernelStep(p condaPlan) Step {
	const python = KernelPrefix + "/bin/python"
	return Step{
		Name: "Kernel: Python " + r.Python.Value, Stage: StageServer, Tools: []string{"conda"}, From: p.from, Inputs: []Input{condaInput()},
		Script: condaRun + "scripts --prefix " + KernelPrefix + "\n" +
			python + " -c 'import ipykernel' 2> /dev/null || " + oldInstall + "ipykernel\n" +
			python + " -m ipykernel install --prefix " + Prefix + `
if [ -e ` + Prefix + `/share/jupyter/kernels/python2 ]; then
  mkdir -p ` + Prefix + `/etc/jupyter
  echo '{"MultiKernelManager": {"default_kernel_name": "python2"}}' > ` + Prefix + `/etc/jupyter/jupyter_config.json
fi
` + irKernel(p, KernelPrefix) + r.condaSettings(KernelPrefix) + finishOld,
	}
}

const (
	// pip installs: uv knows no Python that old.
	oldInstall = KernelPrefix + "/bin/python -m pip install --no-input --no-cache-dir --disable-pip-version-check --no-compile "
	// finishOld compiles. These Pythons trust a .pyc by the time of its source,
	// which a layer may make an earlier one: so it is long ago.
	finishOld = `find ` + KernelPrefix + `/lib/python*/site-packages -name '*.py' -newermt 2001-01-01 -exec touch -h -d 2000-01-01T00:00:00Z {} +
` + KernelPrefix + `/bin/python -m compileall -q ` + KernelPrefix + `/lib/python*/site-packages > /dev/null || true # code for other Pythons
` + tidy
)

// pipStep is q's step in the environment of the repository's Python.
func (r *reader) pipStep(q *requirements, name string, stage Stage, dir string) Step {
	s := q.step(name, stage, dir)
	if !r.old {
		return s
	}
	s.Tools, s.Inputs = nil, slices.DeleteFunc(s.Inputs, func(in Input) bool { return in.Name == compileInput().Name })
	s.Script = ""
	if dir != "" {
		s.Script = "cd " + quote(dir) + "\n"
	}
	s.Script += oldInstall + q.oldOptions() + "-r " + InputDir + "/requirements.txt\n"
	if stage == StageEnvironment {
		s.Script += KernelPrefix + "/bin/python -m pip list --disable-pip-version-check --format freeze | sed -E '/^(pip|setuptools|wheel)==/d' > " + LockStore + "/requirements.txt\n"
	}
	s.Script += finishOld
	return s
}

// kernelApart says that runtime.txt, a Pipfile or a pyproject.toml asks for an old
// Python, which conda brings, and not a file of conda's.
func (r Recipe) kernelApart() bool {
	return r.Env["KERNEL_PYTHON_PREFIX"] == KernelPrefix && !slices.Contains([]string{"conda", "conda-lock", "pixi"}, r.Kind)
}

// oldOptions are q's options in pip's words.
func (q *requirements) oldOptions() string {
	var out []string
	for _, f := range q.flags {
		switch {
		case f == "--prerelease allow":
			out = append(out, "--pre")
		case strings.HasPrefix(f, "--allow-insecure-host "):
			out = append(out, "--trusted-host "+strings.TrimPrefix(f, "--allow-insecure-host "))
		case !strings.HasPrefix(f, "--index-strategy"): // what pip does anyway
			out = append(out, f)
		}
	}
	if len(q.constraints) > 0 {
		out = append(out, "--constraint "+InputDir+"/constraints.txt")
	}
	return strings.Join(append(out, ""), " ")
}

// oldLockedSteps installs what a Pipfile.lock names. pip checks all hashes of a file
// or none, and an address of git has none.
func (r *reader) oldLockedSteps(file string, q *requirements) []Step {
	early, late := q.split(localLine)
	exact, loose := early.split(func(line string) bool { return !strings.Contains(line, " --hash=") })
	var out []Step
	for _, part := range []struct {
		q     *requirements
		name  string
		stage Stage
	}{{exact, file, StageEnvironment}, {loose, file + ", without hashes", StageEnvironment}, {late, file + ", the repository's own", StageContent}} {
		if len(part.q.packages) == 0 {
			continue
		}
		part.q.files, part.q.flags = []string{file}, append(slices.Clone(q.flags), "--no-deps")
		s := r.pipStep(part.q, "pip: "+part.name, part.stage, "")
		if part.stage == StageEnvironment {
			s.Branch = "python"
		}
		out = append(out, s)
	}
	return out
}

// serverRequirements installs requirements3.txt, which is for Jupyter's environment
// where the repository's Python is another, as in repo2docker.
func (r *reader) serverRequirements() error {
	if !r.old || !r.has("requirements3.txt") {
		return nil
	}
	file := r.path("requirements3.txt")
	r.use(file, "packages beside Jupyter")
	q, err := r.readRequirements(file)
	if err != nil || len(q.packages) == 0 {
		return err
	}
	stage := StageEnvironment
	if q.local {
		stage = StageContent
	}
	r.add(q.step("pip: "+file, stage, ""))
	return nil
}
