package recipe

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// feature is a use of one: its options, and where it stands.
type feature struct {
	id      string // "ghcr.io/devcontainers/features/go:1", as written
	name    string // "go"
	options map[string]any
	at      Location
}

// option is one as text; empty when it is not given.
func (f feature) option(name string) string {
	s, _ := f.options[name].(string)
	return strings.TrimSpace(s)
}

// version is the one that is asked for; empty for any.
func (f feature) version() string {
	v := strings.TrimPrefix(f.option("version"), "v")
	if slices.Contains([]string{"latest", "lts", "stable", "none", "os-provided", "system", "automatic"}, v) {
		return ""
	}
	return v
}

// features are in the order of their names: nothing here depends on another.
func (r *reader) features(file string, d devcontainer) ([]feature, error) {
	var out []feature
	for _, id := range sortedNames(d.Features) {
		f := feature{id: id, at: Location{file, r.lineOf(file, id)}}
		name, _, _ := strings.Cut(path.Base(id), "@")
		f.name, _, _ = strings.Cut(name, ":")
		if json.Unmarshal(d.Features[id], &f.options) != nil {
			var version string // the short form of {"version": …}
			if json.Unmarshal(d.Features[id], &version) != nil {
				return nil, wrong(file, f.at.Line, "The options of the feature "+short(id)+" are no object.", `Write {} or {"version": "…"}.`)
			}
			f.options = map[string]any{"version": version}
		}
		out = append(out, f)
	}
	return out, nil
}

// devPython is the Python of a feature; else that of the image.
func (r *reader) devPython(file string, d devcontainer) error {
	all, err := r.features(file, d)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.name != "python" || f.version() == "" || f.version() == "3" {
			continue
		}
		if !slices.Contains(r.opt.Pythons, minorOf(f.version())) {
			return wrong(file, f.at.Line, "Python "+short(f.version())+" can't run today's Jupyter.", "Choose one of "+strings.Join(r.opt.Pythons, ", ")+".")
		}
		r.Python, r.asks = Choice{f.version(), file + " asks for it"}, f.at
	}
	if r.Python.Value == "" && r.Base != nil {
		r.Python.Why = "the Python of the image that " + file + " names"
	}
	return nil
}

// devFeatures follows the features for which we have steps of our own. They are
// not downloaded: their scripts would fetch from anywhere, as root.
func (r *reader) devFeatures(file string, d devcontainer) error {
	all, err := r.features(file, d)
	if err != nil {
		return err
	}
	for _, f := range all {
		if strings.HasPrefix(f.id, "./") || strings.HasPrefix(f.id, "http") {
			r.noFeature(f)
			continue
		}
		if err := r.devFeature(f); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) devFeature(f feature) error {
	switch f.name {
	case "common-utils", "git", "python", "jupyterlab", "sudo": // every image has them
	case "node":
		version, exact, ok := pickNode(f.version())
		if !ok {
			return wrong(f.at.File, f.at.Line, "No Node.js that Binnacle can install fits "+short(f.version())+".", "There are versions of Node 18, 20, 22 and 24.")
		}
		if !exact {
			r.note(f.at.File, f.at.Line, "Node.js "+short(f.version())+" can't be had here; "+version+" of the same major version takes its place.", "Ask for the major version only.")
		}
		r.choose("node", version, f.at.File+" asks for it")
	case "go":
		r.add(goToolchain(f.at), goKernel())
		r.goEnvironment()
		r.chooseGo(goModules{asks: nodeAsk{f.at, goVersion(f.version())}})
	case "rust":
		if v := f.version(); v != "" && newerRust(v) {
			return rustTooOld(f.at.File, f.at.Line, v)
		}
		r.choose("rust", rustBase, "Debian's; "+f.at.File+" asks for Rust")
		r.add(debian("apt: Rust", f.at, "cargo", "rust-src", "rustc"), rustKernel())
		r.rustEnvironment()
	case "deno":
		r.add(denoKernel())
		r.denoEnvironment()
	case "git-lfs":
		r.add(debian("apt: Git LFS", f.at, "git-lfs"))
	case "github-cli":
		r.add(debian("apt: GitHub's command line", f.at, "gh"))
	case "java":
		r.add(debian("apt: Java", f.at, "default-jdk-headless"))
		if f.version() != "" {
			r.note(f.at.File, f.at.Line, "Java is the one of Debian, whatever version is asked for.", "")
		}
	case "apt-packages", "apt-get-packages", "apt", "r-apt":
		return r.aptFeature(f)
	default:
		r.noFeature(f)
	}
	return nil
}

func (r *reader) noFeature(f feature) {
	r.note(f.at.File, f.at.Line, "The feature "+short(f.id)+" is passed over: its script is not run here.", "Install what it brings in a Dockerfile that devcontainer.json names, or with an apt-packages feature.")
}

// goVersion is empty for what is no number.
func goVersion(v string) string {
	if goNumber(v) == "" {
		return ""
	}
	return v
}

// aptFeature installs Debian packages; r-apt brings R with its kernel.
func (r *reader) aptFeature(f feature) error {
	separated := strings.FieldsFunc(f.option("packages"), func(c rune) bool { return strings.ContainsRune(", \t\n", c) })
	packages, err := ParseApt(f.at.File, strings.Join(separated, "\n"))
	if err != nil {
		return wrong(f.at.File, f.at.Line, "This is not a list of Debian packages: "+short(f.option("packages"))+".", "Write names, with commas between them.")
	}
	var names []string
	for i := range packages {
		packages[i].From = f.at
		names = append(names, quote(packages[i].Spec))
	}
	if f.name == "r-apt" {
		names = append(names, "r-base-core", "r-cran-irkernel")
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	step := debian("apt: "+f.name, f.at, slices.Compact(names)...)
	step.Packages = packages
	r.add(step)
	if f.name == "r-apt" {
		r.add(Step{
			Name: "R kernel", Stage: StageEnvironment, Branch: "ir", From: []Location{f.at},
			Inputs: []Input{kernelInput("ir", "R", "R", "/usr/bin/R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}")},
			Script: installKernel("ir"),
		})
	}
	return nil
}
