package recipe

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"strings"
)

// denoLock pins Deno, whose Jupyter kernel runs JavaScript and TypeScript.
// `make lock` renews it.
//
//go:embed deno.txt
var denoLock []byte

// denoDir is Deno's: the program, and what it downloaded. A session may add to it.
const denoDir = "/srv/deno"

// denoKind is a repository that describes JavaScript or TypeScript and nothing
// that another kind reads.
func denoKind() kind { return kind{name: "deno", has: (*reader).hasJS, read: readPython} }

// denoFile is Deno's configuration, as Deno looks for it; empty when there is none.
func (r *reader) denoFile() string {
	for _, name := range []string{"deno.json", "deno.jsonc"} {
		if r.has(name) {
			return name
		}
	}
	return ""
}

// readJS adds the kernel, the Node.js that is asked for, and the packages.
func readJS(r *reader) error {
	if err := r.chooseNode(); err != nil {
		return err
	}
	r.add(denoKernel())
	r.denoEnvironment()
	if err := r.npmPackages(); err != nil {
		return err
	}
	return r.denoPackages()
}

func (r *reader) denoEnvironment() {
	r.late("DENO_DIR", denoDir+"/cache")
	r.late("DENO_TLS_CA_STORE", "mozilla,system") // the site's authorities count, as everywhere
	r.late("DENO_NO_UPDATE_CHECK", "1")
	r.choose("deno", firstVersion(denoLock), "the one that this release has")
}

// denoKernel installs Deno and tells Jupyter of it. It is the same for all
// repositories and stands beside the environment.
func denoKernel() Step {
	return Step{
		Name: "Deno kernel", Stage: StageBinary, Branch: "deno", Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: []Input{{Name: "deno.txt", Content: denoLock}, kernelInput("deno", "Deno", "typescript", denoDir+"/bin/deno", "jupyter", "--kernel", "--conn", "{connection_file}")},
		Script: uvShared + `uv pip install --quiet --python /usr/bin/python3 --target /tmp/deno --no-deps --only-binary :all: --require-hashes -r ` + InputDir + `/deno.txt
mkdir -p ` + denoDir + `/bin ` + denoDir + `/cache
cp /tmp/deno/bin/deno ` + denoDir + `/bin/
` + installKernel("deno") + denoDir + "/bin/deno --version\n" + tidy,
	}
}

// denoPackages downloads what Deno's files name.
func (r *reader) denoPackages() error {
	name := r.denoFile()
	if name == "" {
		if r.has("deno.lock") {
			r.pass(r.path("deno.lock"), "there is no deno.json that it belongs to")
			r.note(r.path("deno.lock"), 0, "deno.lock is passed over, because there is no deno.json.", "Commit the deno.json that names the packages.")
		}
		return nil
	}
	file := r.path(name)
	text, _, err := r.text(file)
	if err != nil {
		return err
	}
	var config struct {
		Imports   map[string]string `json:"imports"`
		Workspace any               `json:"workspace"`
		Lock      any               `json:"lock"`
	}
	if err := decodeJSONC(file, text, &config); err != nil {
		return err
	}
	r.use(file, "packages for Deno")
	inputs := []Input{{Name: name, Content: []byte(text)}}
	install := denoDir + "/bin/deno install"
	from := []Location{{File: file}}
	if lock, ok, err := r.text(r.path("deno.lock")); err != nil {
		return err
	} else if ok {
		r.use(r.path("deno.lock"), "exact versions of Deno's packages")
		inputs = append(inputs, Input{Name: "deno.lock", Content: []byte(lock)})
		install += " --frozen"
		from = append(from, Location{File: r.path("deno.lock")})
	} else if len(config.Imports) > 0 {
		r.note(file, 0, "There is no deno.lock: Deno takes the versions of today.", "Commit the deno.lock that `deno install` writes.")
	}
	var packages []Package
	for _, alias := range sortedNames(config.Imports) {
		if strings.HasPrefix(config.Imports[alias], ".") || strings.HasPrefix(config.Imports[alias], "/") {
			continue // a file of the repository
		}
		packages = append(packages, Package{Manager: "deno", Name: denoName(config.Imports[alias]), Spec: config.Imports[alias], From: Location{file, r.lineOf(file, alias+`"`)}})
	}
	if config.Workspace != nil || r.has("package.json") {
		// Members are directories; with a package.json npm's packages are in place.
		dir := "."
		if r.Dir != "" {
			dir = r.Dir
		}
		r.add(Step{Name: "deno: " + file, Stage: StageContent, From: from, Packages: packages, Script: "cd " + quote(dir) + "\n" + install + "\n[ ! -e deno.lock ] || cp deno.lock " + LockStore + "/deno.lock\n" + tidy})
		return nil
	}
	r.add(Step{
		Name: "deno: " + file, Stage: StageEnvironment, Branch: "deno", From: from, Packages: packages, Inputs: inputs,
		Script: `mkdir /tmp/js
cp ` + InputDir + `/* /tmp/js/
cd /tmp/js
` + install + `
[ ! -e deno.lock ] || cp deno.lock ` + LockStore + `/deno.lock
[ ! -d node_modules ] || mv node_modules ` + RepoDir + `/node_modules
cd /
` + tidy,
	})
	return nil
}

// kernelInput describes a kernel to Jupyter.
func kernelInput(name, title, language string, argv ...string) Input {
	return kernelFile(name, map[string]any{"argv": argv, "display_name": title, "language": language})
}

// messageKernel is one that is interrupted by a message, not by a signal.
func messageKernel(name, title, language string, argv ...string) Input {
	return kernelFile(name, map[string]any{"argv": argv, "display_name": title, "language": language, "interrupt_mode": "message"})
}

// denoName is the package that an import leads to: "npm:@a/b@^1/c" is @a/b.
func denoName(spec string) string {
	name := spec[strings.Index(spec, ":")+1:]
	if m := regexp.MustCompile(`^/?((?:@[^/@]+/)?[^/@]+)`).FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return name
}

func kernelFile(name string, spec map[string]any) Input {
	b, err := json.Marshal(spec)
	if err != nil {
		panic(err) // strings always marshal
	}
	return Input{Name: name + ".json", Content: b}
}

// installKernel puts it where Jupyter looks first.
func installKernel(name string) string {
	const kernels = Prefix + "/share/jupyter/kernels/"
	return "mkdir -p " + kernels + name + "\ncp " + InputDir + "/" + name + ".json " + kernels + name + "/kernel.json\n"
}
