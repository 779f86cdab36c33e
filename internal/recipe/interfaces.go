package recipe

import (
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// proxyLock pins jupyter-server-proxy and what it needs that the server's lock
// lacks, with hashes. `make lock` renews it from proxy.in.
//
//go:embed proxy.txt
var proxyLock []byte

// program is an interface that a session may offer beside JupyterLab and
// Notebook. A new one is an entry in programs, and a file of its own when it is
// more than a package of Python.
type program struct {
	name  string // what its urlpath begins with
	title string // for people
	// packages say that the repository uses it; the first is what a link that
	// asks for it gets. Empty: only a link brings it.
	packages []string
	// theirs are packages by which a repository brings the program itself.
	theirs []string
	// find looks for what it shows of the repository; nil needs nothing of it.
	find func(r *reader) app
	// serve is how it is run; nil when the package is a Jupyter extension.
	serve func(a app) server
	// install adds what is more than a package of Python; nil otherwise.
	install func(r *reader) error
}

// app is what a program shows.
type app struct {
	file string // empty: there is none
	path string // the urlpath that opens it; empty is the program's own
	why  string
}

// server is an entry of jupyter-server-proxy's configuration: it starts the
// command at the first request, waits until it answers, and passes requests on
// that Jupyter has let in. {port}, {unix_socket} and {base_url} are its own.
type server struct {
	Command     []string          `json:"command"`
	Environment map[string]string `json:"environment,omitempty"`
	// Timeout is how long it may take to answer, in seconds.
	Timeout int `json:"timeout"`
	// Absolute hands on the whole path; else what is before the program's own is cut off.
	Absolute bool     `json:"absolute_url,omitempty"`
	Socket   bool     `json:"unix_socket,omitempty"`
	Launcher launcher `json:"launcher_entry"`
}

type launcher struct {
	Title string `json:"title"`
	Path  string `json:"path_info"`
}

// startTime is generous: a first start compiles and reads much from the disk.
const startTime = 90

// programs in the order in which people see them.
func programs() []program {
	return slices.Concat([]program{vscode(), desktop()}, pythonApps())
}

// InterfaceOf is the program that the path of a link opens and that may have to
// be installed for it; empty for what every session has, such as lab and tree.
func InterfaceOf(urlPath string) string {
	first := strings.TrimLeft(urlPath, "/")
	if i := strings.IndexAny(first, "/?#"); i >= 0 {
		first = first[:i]
	}
	if slices.Contains(InterfaceNames(), first) {
		return first
	}
	return ""
}

// InterfaceNames are all that a link may ask for.
func InterfaceNames() []string {
	names := []string{rstudio}
	for _, p := range programs() {
		names = append(names, p.name)
	}
	return names
}

// rstudio comes with R.
const rstudio = "rstudio"

// readInterfaces adds the programs that the repository implies or the link asks
// for, in one configuration of jupyter-server-proxy.
func readInterfaces(r *reader) error {
	servers := map[string]server{}
	maps.Copy(servers, r.servers)
	for _, p := range programs() {
		if r.offers(p.name) {
			continue
		}
		if by, ok := r.declared(p.theirs); ok {
			r.Interfaces = append(r.Interfaces, Interface{p.name, p.name + "/", by.why()})
			continue
		}
		a, offered, err := r.program(p)
		if err != nil {
			return err
		}
		if !offered {
			continue
		}
		if a.path == "" {
			a.path = p.name + "/"
		}
		r.Interfaces = append(r.Interfaces, Interface{p.name, a.path, a.why})
		if p.serve != nil {
			s := p.serve(a)
			s.Launcher = launcher{p.title, a.path}
			servers[p.name] = s
		}
	}
	if r.opt.Interface == rstudio && !r.offers(rstudio) {
		r.note("", 0, "The link opens RStudio, but nothing in the repository asks for R.", "Name R in a runtime.txt, such as r-"+minorOf(r.opt.BaseR)+"-2025-06-01, or its packages in environment.yml.")
	}
	if len(servers) > 0 {
		return r.serve(servers)
	}
	return nil
}

// program decides about one, and installs what the repository does not.
func (r *reader) program(p program) (a app, offered bool, err error) {
	by, declared := r.declared(p.packages)
	asked := r.opt.Interface == p.name
	if !declared && !asked {
		return app{}, false, nil
	}
	if p.find != nil {
		if a = p.find(r); a.file == "" {
			if asked {
				r.note("", 0, "The link opens "+p.title+", but there is nothing in the repository that it could show.", a.why)
			}
			return app{}, false, nil
		}
	}
	if declared {
		if a.why != "" {
			a.why = "; " + a.why
		}
		a.why = by.why() + a.why
		return a, true, nil
	}
	a.why = "the link asks for it"
	r.Asked = p.name
	if p.install != nil {
		return a, true, p.install(r)
	}
	r.askedPackage(p)
	return a, true, nil
}

// noteAsked: what a Dockerfile makes is its own, and nothing is added to it.
func noteAsked(r *reader) error {
	if r.opt.Interface != "" {
		r.note(r.Dockerfile, 0, "The link opens "+r.opt.Interface+", which is not added to the image of a Dockerfile.",
			"It opens if the Dockerfile installs it, with jupyter-server-proxy; else remove it from the link.")
	}
	return nil
}

func (r *reader) offers(name string) bool {
	return slices.ContainsFunc(r.Interfaces, func(i Interface) bool { return i.Name == name })
}

// declared is the line that asks for one of some packages.
func (r *reader) declared(names []string) (Package, bool) {
	for _, p := range r.Packages() {
		if p.Manager != "apt" && slices.Contains(names, canonical(p.Name)) {
			return p, true
		}
	}
	return Package{}, false
}

func (p Package) why() string {
	if p.From.File == "" {
		return "the repository asks for " + p.Name
	}
	return p.From.File + " asks for " + p.Name
}

// serve installs jupyter-server-proxy beside Jupyter and tells it what to run.
func (r *reader) serve(servers map[string]server) error {
	config, err := json.MarshalIndent(map[string]any{"ServerProxy": map[string]any{"servers": servers}}, "", " ")
	if err != nil {
		return err
	}
	r.joinJupyter("jupyter-server-proxy", "proxy.txt", proxyLock)
	titles := make([]string, 0, len(servers))
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		titles = append(titles, servers[name].Launcher.Title)
	}
	// Files in jupyter_server_config.d only switch extensions on and off.
	const dir = Prefix + "/etc/jupyter"
	r.add(Step{
		Name: "Interfaces: " + strings.Join(titles, ", "), Stage: StageEnvironment, Branch: "python",
		Inputs: []Input{{Name: "interfaces.json", Content: append(config, '\n')}},
		Script: "mkdir -p " + dir + "\ncp " + InputDir + "/interfaces.json " + dir + "/jupyter_server_config.json\n",
	})
	return nil
}

// joinJupyter installs a package that our lock pins, right after Jupyter: the
// same layer for every repository. An environment of conda's has its own
// versions of what the package needs.
func (r *reader) joinJupyter(name, file string, lock []byte) {
	if slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Name == name }) {
		return
	}
	step := Step{
		Name: name, Stage: StageServer, Tools: []string{"uv"}, Caches: uvCache(), Inputs: []Input{{Name: file, Content: lock}, compileInput()},
		Script: uvShared + "uv pip install --quiet --python " + Prefix + " --no-deps --only-binary :all: --require-hashes --no-compile-bytecode -r " + InputDir + "/" + file + "\n" + keepSums(file) + finish,
	}
	if r.isConda() {
		step.Tools, step.Caches = []string{"conda", "uv"}, nil
		step.Inputs = append(step.Inputs, Input{Name: "condaenv.py", Content: condaProgram})
		step.Script = uvAlone + `export UV_NO_CONFIG=1
` + ToolDir + `/conda/bin/python -B ` + InputDir + `/condaenv.py constraints --lock ` + InputDir + `/` + file + ` --prefix ` + Prefix + ` --all /tmp/all.txt --installed /tmp/installed.txt
uv pip install --quiet --python ` + Prefix + ` --only-binary :all: --constraint /tmp/all.txt ` + name + ` ||
  uv pip install --python ` + Prefix + ` --only-binary :all: --constraint /tmp/installed.txt ` + name + "\n" + keepSums(file) + finish
	}
	r.add(step)
}

// askedPackage installs the package of a program that only the link asks for.
// What the repository has already stays as it is; the rest is of the commit's day.
func (r *reader) askedPackage(p program) {
	q := &requirements{sources: map[string]bool{}, lines: []string{p.packages[0]}}
	q.packages = []Package{{Manager: "pip", Name: p.packages[0], Spec: p.packages[0]}}
	step := q.step(p.title, StageEnvironment, "")
	step.Branch, step.From = "python", nil
	step.Lock = r.pipLock(p.title, q)
	install := "uv pip install --python " + Prefix + " -r " + InputDir + "/requirements.txt"
	const locked = LockDir + "/" + lockedFile
	step.Script = uvAlone + `uv pip freeze --quiet --python ` + Prefix + ` > /tmp/have.txt
touch /tmp/new.txt
if [ -e ` + locked + ` ]; then
  awk -F'==| ' 'NR == FNR { have[$1] = 1; next } /^[a-z0-9]/ && !($1 in have) { print $1 "==" $2 }' /tmp/have.txt ` + locked + ` > /tmp/new.txt
fi
` + install + ` --constraint /tmp/new.txt || ` + install + "\n" + finish
	r.add(step)
}
