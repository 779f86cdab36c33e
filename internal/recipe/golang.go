package recipe

import (
	"errors"
	"path"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// goDir is GOPATH in images: the kernel, the module cache, the build cache.
const goDir = "/srv/go"

// goBase is Debian's release, which fetches a newer one when a module asks.
const goBase = "1.24.4"

// goKind is a repository that is a Go module or workspace and nothing else.
func goKind() kind { return kind{name: "go", has: (*reader).hasGo, read: readPython} }

func (r *reader) hasGo() bool { return r.has("go.mod") || r.has("go.work") }

// readGo adds the kernel, and the modules that the repository requires.
func readGo(r *reader) error {
	m := goModules{}
	for _, read := range []func(*reader) error{m.work, m.module} {
		if err := read(r); err != nil {
			return err
		}
	}
	r.add(goToolchain(m.from[0]), goKernel())
	r.goEnvironment()
	r.chooseGo(m)
	r.goDownload(m)
	return nil
}

func (r *reader) goEnvironment() {
	r.late("GOPATH", goDir)
	r.late("GOCACHE", goDir+"/cache")
	r.late("GOFLAGS", "-modcacherw")
	r.latePath(goDir + "/bin")
}

// goToolchain is Debian's Go, which compiles cells in every session.
func goToolchain(from Location) Step { return debian("apt: Go", from, "golang-go", "gopls") }

// goKernel copies the kernel, made once for all repositories, and tells Jupyter.
// What is in the module cache comes first where cells look for modules: an
// import takes the version that go.mod requires, and needs no network. Its hash
// is that of go.sum, so nobody else need be asked.
func goKernel() Step {
	const wrapper = `#!/bin/sh
export GOPROXY="file://` + goDir + `/pkg/mod/cache/download,$(go env GOPROXY)"
[ ! -s ` + goDir + `/verified ] || export GONOSUMDB="$(cat ` + goDir + `/verified)${GONOSUMDB:+,$GONOSUMDB}"
date +%s > ` + goDir + `/cache/trim.txt # else Go drops what looks old, which is all of it
exec ` + goDir + `/bin/gonb --kernel "$1"
`
	return Step{
		Name: "Go kernel", Stage: StageBinary, Branch: "go", Tools: []string{"gonb"},
		Inputs: []Input{messageKernel("gonb", "Go", "go", goDir+"/bin/gonb-kernel", "{connection_file}"), {Name: "gonb-kernel", Content: []byte(wrapper)}},
		Script: `mkdir -p ` + goDir + `/bin
cp -r ` + ToolDir + `/gonb/cache ` + goDir + `/
cp ` + ToolDir + `/gonb/bin/* ` + InputDir + `/gonb-kernel ` + goDir + `/bin/
chmod 0755 ` + goDir + `/bin/*
` + installKernel("gonb"),
	}
}

// goModules is what go.mod and go.work declare.
type goModules struct {
	from   []Location
	inputs []Input
	asks   nodeAsk // the newest Go that is asked for
	direct []string
	local  bool // names directories that only the tree has
	pkgs   []Package
}

func (m *goModules) ask(file string, line int, version string) {
	version = strings.TrimPrefix(version, "go")
	if version != "" && semver.Compare("v"+goNumber(version), "v"+goNumber(m.asks.want)) > 0 {
		m.asks = nodeAsk{Location{file, line}, version}
	}
}

// goNumber makes a version of Go comparable: "1.25rc1" and "1.25" are of 1.25.0.
func goNumber(version string) string {
	n := regexp.MustCompile(`^\d+(\.\d+){0,2}`).FindString(version)
	if strings.Count(n, ".") == 1 {
		n += ".0"
	}
	return n
}

// work reads go.work and the modules that it uses.
func (m *goModules) work(r *reader) error {
	file := r.path("go.work")
	text, ok, err := r.text(file)
	if err != nil || !ok {
		return err
	}
	w, err := modfile.ParseWork(file, []byte(text), nil)
	if err != nil {
		return goWrong(file, err)
	}
	r.use(file, "a workspace of Go modules")
	m.from = append(m.from, Location{File: file})
	m.inputs = append(m.inputs, Input{Name: "go.work", Content: []byte(text)})
	if sum, ok, err := r.text(r.path("go.work.sum")); err != nil {
		return err
	} else if ok {
		m.inputs = append(m.inputs, Input{Name: "go.work.sum", Content: []byte(sum)})
	}
	if w.Go != nil {
		m.ask(file, w.Go.Syntax.Start.Line, w.Go.Version)
	}
	if w.Toolchain != nil {
		m.ask(file, w.Toolchain.Syntax.Start.Line, w.Toolchain.Name)
	}
	m.replaces(w.Replace)
	const mostModules = 100
	for i, use := range w.Use {
		dir, inside := inTree(r.Dir, use.Path)
		if !inside || i >= mostModules {
			return wrong(file, use.Syntax.Start.Line, "This directory of go.work is not in the repository: "+short(use.Path)+".", "Name directories below go.work.")
		}
		if r.Dir != "" {
			m.local = true
			continue
		}
		if err := m.read(r, path.Join(dir, "go.mod"), path.Join(use.Path, "go.mod")); err != nil {
			return err
		}
	}
	return nil
}

func (m *goModules) module(r *reader) error {
	file := r.path("go.mod")
	if !r.has("go.mod") {
		return nil
	}
	for _, have := range m.inputs {
		if have.Name == "go.mod" {
			return nil // the workspace uses it
		}
	}
	return m.read(r, file, "go.mod")
}

// read adds one module, whose go.mod becomes the input of that name.
func (m *goModules) read(r *reader, file, name string) error {
	text, ok, err := r.text(file)
	if err != nil {
		return err
	}
	if !ok {
		return wrong(r.path("go.work"), 0, "go.work uses "+path.Dir(file)+", but there is no go.mod.", "Run `go mod init` there, or remove the line.")
	}
	mod, err := modfile.Parse(file, []byte(text), nil)
	if err != nil {
		return goWrong(file, err)
	}
	r.use(file, "Go modules")
	m.from = append(m.from, Location{File: file})
	m.inputs = append(m.inputs, Input{Name: name, Content: []byte(text)})
	if mod.Go != nil {
		m.ask(file, mod.Go.Syntax.Start.Line, mod.Go.Version)
	}
	if mod.Toolchain != nil {
		m.ask(file, mod.Toolchain.Syntax.Start.Line, mod.Toolchain.Name)
	}
	m.replaces(mod.Replace)
	for _, q := range mod.Require {
		if !q.Indirect {
			m.direct = append(m.direct, q.Mod.Path)
			m.pkgs = append(m.pkgs, Package{Manager: "go", Name: q.Mod.Path, Spec: q.Mod.Path + "@" + q.Mod.Version, From: Location{file, q.Syntax.Start.Line}})
		}
	}
	sums := path.Join(path.Dir(file), "go.sum")
	sum, ok, err := r.text(sums)
	if err != nil {
		return err
	}
	if ok {
		r.use(sums, "hashes of Go modules")
		m.inputs = append(m.inputs, Input{Name: path.Join(path.Dir(name), "go.sum"), Content: []byte(sum)})
	} else if len(mod.Require) > 0 {
		r.note(file, 0, file+" has no go.sum beside it, so nothing says what its modules must contain.", "Run `go mod tidy` and commit go.sum.")
	}
	return nil
}

func (m *goModules) replaces(list []*modfile.Replace) {
	for _, r := range list {
		m.local = m.local || r.New.Version == ""
	}
}

// chooseGo: the lines of go.mod are the least that is needed; what Debian has
// not is fetched as a module.
func (r *reader) chooseGo(m goModules) {
	want := goNumber(m.asks.want)
	if want == "" || semver.Compare("v"+want, "v"+goBase) <= 0 {
		why := "Debian's"
		if m.asks.want != "" {
			why += "; " + m.asks.File + " asks for " + m.asks.want + " or newer"
		}
		r.choose("go", goBase, why)
		return
	}
	if m.asks.want != goNumber(m.asks.want) && strings.ContainsAny(m.asks.want, "abcdefghijklmnopqrstuvwxyz") {
		want = m.asks.want // a release candidate has its own name
	}
	r.choose("go", want, m.asks.File+" asks for "+m.asks.want)
	r.late("GOTOOLCHAIN", "go"+want+"+auto")
	r.add(Step{
		Name: "Go " + want, Stage: StageEnvironment, Branch: "go", From: []Location{m.asks.Location},
		Script: "go version\n", // fetches it, verified as every module is
	})
}

// goDownload fills the module cache. It is keyed by go.mod and go.sum alone,
// compiles what modules have to offer, and runs nothing of it.
func (r *reader) goDownload(m goModules) {
	if len(m.pkgs) == 0 && !m.local {
		return
	}
	const record = `go list -m -f '{{if .Version}}{{.Path}}{{end}}' all | sort -u | paste -sd, > ` + goDir + `/verified
go mod graph > ` + LockStore + `/` + goGraph + `
for f in go.sum go.work.sum; do [ ! -e $f ] || cp $f ` + LockStore + `/$f; done
`
	step := Step{
		Name: "go: " + m.from[0].File, Stage: StageEnvironment, Branch: "go", From: m.from, Packages: m.pkgs, Inputs: m.inputs,
		Script: `mkdir /tmp/module
cp -r ` + InputDir + `/. /tmp/module/
cd /tmp/module
go mod download
` + record,
	}
	if m.local {
		dir := "."
		if r.Dir != "" {
			dir = r.Dir
		}
		r.note(m.from[0].File, 0, "A directory of the repository takes the place of a module, so the modules are looked at anew for every commit.", "")
		step.Stage, step.Branch, step.Inputs, step.Script = StageContent, "", nil, "cd "+quote(dir)+"\ngo mod download\n"+record
		r.add(step)
		return
	}
	for _, module := range m.direct {
		step.Script += "go build -o /dev/null " + quote(module) + " 2>/dev/null || true # for the build cache\n"
	}
	step.Script += "cd /\n" + tidy
	r.add(step)
}

func goWrong(file string, err error) error {
	line, message := 0, err.Error()
	if list, ok := errors.AsType[modfile.ErrorList](err); ok && len(list) > 0 {
		line, message = list[0].Pos.Line, list[0].Error()
	}
	if _, after, ok := strings.Cut(message, ": "); ok {
		message = after
	}
	return wrong(file, line, file+" can't be read: "+short(message)+".", "Run `go mod tidy`, which says what is wrong.")
}
