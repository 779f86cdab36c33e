package recipe

import (
	_ "embed"
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"strings"
	"time"
)

// juliaReleases is where Julia's own builds are, with versions.json, the list of
// them; the configuration has mirrors.julia_releases for another place.
const juliaReleases = "https://julialang-s3.julialang.org/bin"

const (
	juliaDir   = "/srv/julia"
	juliaDepot = juliaDir + "/pkg"
)

// juliaProgram chooses a release and fetches it.
//
//go:embed juliarelease.py
var juliaProgram []byte

// juliaSteps installs kernel and packages; it runs in Julia.
//
//go:embed juliasteps.jl
var juliaSteps []byte

// juliaKind is a Julia project: Project.toml, and Manifest.toml which pins it.
// The Python files beside it count too, as in repo2docker.
func juliaKind() kind {
	return kind{name: "julia", has: func(r *reader) bool { return r.juliaFile() != "" || r.has("REQUIRE") }, read: readJulia}
}

func (r *reader) juliaFile() string {
	for _, name := range []string{"JuliaProject.toml", "Project.toml"} { // Julia's own order
		if r.has(name) {
			return name
		}
	}
	return ""
}

func readJulia(r *reader) error {
	name := r.juliaFile()
	if name == "" {
		return wrong(r.path("REQUIRE"), 0, "REQUIRE is how packages of Julia were named before Julia 1.0, which no Julia of today reads.",
			"Name them in a Project.toml: start Julia in this directory and run ]activate . and ]add for each, then commit Project.toml and Manifest.toml.")
	}
	text, _, err := r.julia(name)
	if err != nil {
		return err
	}
	project, err := readJuliaProject(r.path(name), text)
	if err != nil {
		return err
	}
	manifests, err := r.juliaManifests()
	if err != nil {
		return err
	}
	ranges, err := r.juliaCompat(project)
	if err != nil {
		return err
	}
	manifest, err := r.juliaManifest(project, manifests, ranges)
	if err != nil {
		return err
	}
	r.use(project.file, "Julia packages")
	if name != "Project.toml" && r.has("Project.toml") {
		r.pass(r.path("Project.toml"), "Julia prefers "+name)
	}
	if err := r.pythonSide(); err != nil {
		return err
	}
	release, err := r.juliaRelease(project, manifest, ranges)
	if err != nil {
		return err
	}
	r.juliaEnvironment()
	r.add(release, r.juliaKernel())
	return r.juliaPackages(project, manifest)
}

// juliaCompat are the versions that the project allows; nil is every one.
func (r *reader) juliaCompat(p juliaProject) ([]juliaRange, error) {
	if p.julia == "" {
		return nil, nil
	}
	line := tableLines(p.text)["compat.julia"]
	ranges, problem := juliaRanges(p.julia)
	if problem != "" {
		return nil, wrong(p.file, line, "[compat] julia = "+short(p.julia)+" can't be read. "+problem, `Write it like julia = "1.10" (this version or a later 1.x), "1.6 - 1.9" or "~1.10".`)
	}
	if m := regexp.MustCompile(`(>=|≥).*,.*<|<.*,.*(>=|≥)`).FindString(p.julia); m != "" {
		r.note(p.file, line, "In Julia a comma means “or”, so "+short(p.julia)+" allows more than it seems to.", "Write a range such as 1.6 - 1.9.")
	}
	return ranges, nil
}

// juliaManifest is the manifest that counts, if there is one.
func (r *reader) juliaManifest(p juliaProject, all []juliaManifest, ranges []juliaRange) (*juliaManifest, error) {
	chosen := -1
	for i, m := range all {
		v, _, ok := juliaExact(m.version)
		if chosen < 0 && (!ok || len(ranges) == 0 || within(ranges, v)) {
			chosen = i
		}
	}
	if chosen < 0 && len(all) > 0 {
		chosen = len(all) - 1 // it was made with a Julia that the project says it does not allow
		r.note(all[chosen].file, all[chosen].line, "It was made with Julia "+all[chosen].version+", which [compat] of "+p.file+" does not allow; that Julia is taken all the same.", "Run ]resolve with the Julia that you mean, and commit the manifest.")
	}
	for i, m := range all {
		if i != chosen {
			r.pass(m.file, all[chosen].file+" counts")
		}
	}
	if chosen < 0 {
		r.note(p.file, 0, "There is no Manifest.toml, so the packages are the newest on the day of the build: Julia's package server keeps no history.", "Commit the Manifest.toml that Julia wrote; the image's own can be downloaded.")
		return nil, nil
	}
	m := all[chosen]
	if lost, missing := m.missing(p); missing {
		return nil, wrong(p.file, lost.From.Line, path.Base(m.file)+" does not have "+lost.Name+", which this line asks for: it is older than "+path.Base(p.file)+".", "Run ]resolve in Julia and commit the manifest, or remove it.")
	}
	if len(m.outside) > 0 {
		return nil, wrong(m.file, m.outside[0].Line, "This package is a directory outside of the repository, which exists on the author's machine only.", "Add the package by its name or its git address in Julia (]add), and commit the manifest.")
	}
	r.noteStale(p, m)
	r.use(m.file, "exact versions of Julia packages")
	return &m, nil
}

func within(ranges []juliaRange, v juliaVersion) bool {
	for _, r := range ranges {
		if r.has(v) {
			return true
		}
	}
	return false
}

// juliaWanted is what the program that chooses a release reads.
type juliaWanted struct {
	Exact  string      `json:"exact,omitempty"`
	Ranges [][2]string `json:"ranges,omitempty"` // from, below; "" is no limit
	Before string      `json:"before,omitempty"` // when a release must have been there
}

// juliaRelease chooses the Julia and fetches it. The list of releases is read by
// a lock, so that the step is keyed by what was chosen.
func (r *reader) juliaRelease(p juliaProject, m *juliaManifest, ranges []juliaRange) (Step, error) {
	wanted := juliaWanted{}
	from := Location{File: p.file}
	choice := Choice{"", "the newest"}
	if len(ranges) > 0 {
		from.Line = tableLines(p.text)["compat.julia"]
		choice = Choice{p.julia, p.file + " allows it"}
	}
	if m != nil && m.version != "" {
		v, pre, ok := juliaExact(m.version)
		if !ok {
			return Step{}, wrong(m.file, m.line, "julia_version is no version: "+short(m.version)+".", "Let Julia write the manifest: ]resolve.")
		}
		from = Location{m.file, m.line}
		choice = Choice{m.version, m.file + " was made with it"}
		if strings.HasPrefix(pre, "DEV") {
			r.note(m.file, m.line, "Julia "+m.version+" was never released; a release of Julia "+v.String()[:strings.LastIndexByte(v.String(), '.')]+" is taken.", "Run ]resolve with a release, and commit the manifest.")
			ranges = []juliaRange{{v, next(v, 1)}}
		} else {
			wanted.Exact = strings.TrimSuffix(v.String()+"-"+pre, "-")
		}
	}
	if wanted.Exact == "" {
		if len(ranges) == 0 {
			ranges = []juliaRange{{juliaVersion{1}, juliaVersion{noLimit}}}
		}
		for _, a := range ranges {
			below := a.Below.String()
			if a.Below[0] == noLimit {
				below = ""
			}
			wanted.Ranges = append(wanted.Ranges, [2]string{a.From.String(), below})
		}
		if !r.opt.Date.IsZero() {
			const day = 24 * time.Hour
			wanted.Before = r.opt.Date.UTC().Truncate(day).Add(day).Format(time.RFC3339)
			if choice.Value == "" {
				choice.Why = "the newest when the commit was made"
			}
		}
	}
	if r.Versions == nil {
		r.Versions = map[string]Choice{}
	}
	r.Versions["julia"] = choice
	b, err := json.Marshal(wanted)
	if err != nil {
		return Step{}, err
	}
	program := Input{Name: "juliarelease.py", Content: juliaProgram}
	command := "/usr/bin/python3 -B " + InputDir + `/juliarelease.py --from "${BINNACLE_JULIA_RELEASES:-` + juliaReleases + `}" `
	return Step{
		Name: "Julia", Stage: StageBinary, Branch: "julia", From: []Location{from}, Inputs: []Input{program},
		Lock: &Lock{
			Name: "Version of Julia", Inputs: []Input{program, {Name: "wanted.json", Content: b}},
			Script: command + "choose --wanted " + InputDir + "/wanted.json --out " + OutDir + "/julia.json\n",
		},
		Script: command + "fetch --release " + LockDir + "/julia.json --to " + juliaDir + "\ncp " + LockDir + "/julia.json " + LockStore + "/julia.json\n" + tidy,
	}, nil
}

// juliaSetup is what every step in Julia begins with. Code is compiled for
// several generations of processors, as Julia's own builds are, so that it need
// not be compiled again on another machine.
const juliaSetup = `export JULIA_DEPOT_PATH=` + juliaDepot + ` JULIA_PKG_PRECOMPILE_AUTO=0 JUPYTER=` + Prefix + `/bin/jupyter JUPYTER_DATA_DIR=` + Prefix + `/share/jupyter PATH="` + juliaDir + `/bin:$PATH"
[ ! -r "${SSL_CERT_FILE:-}" ] || export JULIA_SSL_CA_ROOTS_PATH="$SSL_CERT_FILE"
case $(uname -m) in
x86_64) export JULIA_CPU_TARGET='generic;sandybridge,-xsaveopt,clone_all;haswell,-rdrnd,base(1)' ;;
aarch64) export JULIA_CPU_TARGET='generic;cortex-a57;thunderx2t99;carmel' ;;
esac
steps() { julia --startup-file=no "$@"; }
`

// juliaSettle gives all sources the time that files of an image have: before
// 1.11, Julia compiles again what is not as old as it was.
const juliaSettle = `mkdir -p ` + juliaDepot + `
find ` + juliaDepot + ` -type f -name '*.jl' -exec touch -d @946684800 {} +
`

const juliaTidy = `rm -rf ` + juliaDepot + `/logs ` + juliaDepot + `/scratchspaces/*/*.log
` + tidy

// juliaKernel is IJulia in Julia's own environment, which every project sees.
func (r *reader) juliaKernel() Step {
	return Step{
		Name: "Julia's kernel", Stage: StageBinary, Branch: "julia", Inputs: []Input{{Name: "juliasteps.jl", Content: juliaSteps}},
		Packages: []Package{{Manager: "julia", Name: "IJulia", Spec: "IJulia"}},
		Script: juliaSetup + `unset JULIA_PROJECT
steps ` + InputDir + `/juliasteps.jl kernel ` + quote(path.Join(RepoDir, r.Dir)) + `
` + juliaSettle + `steps -e 'import IJulia'
` + juliaTidy,
	}
}

// juliaPackages installs what the project declares. Only the two files are needed
// for it, unless they name directories of the repository.
func (r *reader) juliaPackages(p juliaProject, m *juliaManifest) error {
	dir := path.Join(RepoDir, r.Dir)
	s := Step{
		Name: "Julia packages: " + p.file, Stage: StageEnvironment, Branch: "julia", From: []Location{{File: p.file}}, Packages: p.packages,
		Inputs: []Input{{Name: "juliasteps.jl", Content: juliaSteps}},
	}
	local := p.local
	if p.isModule {
		local = append(local, Location{File: p.file})
		r.note(p.file, 0, "The project is a package itself, so its packages are installed anew for every commit.", "Keep a Project.toml without name and uuid in binder/ if that takes long.")
	}
	var place strings.Builder
	if m != nil {
		s.From = append(s.From, Location{File: m.file})
		local = append(local, m.paths...)
	}
	if len(local) > 0 {
		s.Stage, s.Branch = StageContent, ""
	} else {
		place.WriteString("mkdir -p " + quote(dir) + "\n")
		files := map[string]string{path.Base(p.file): p.text}
		if m != nil {
			text, _, err := r.julia(path.Base(m.file))
			if err != nil {
				return err
			}
			files[path.Base(m.file)] = text
		}
		for _, name := range sortedNames(files) {
			s.Inputs = append(s.Inputs, Input{Name: "project/" + name, Content: []byte(files[name])})
			place.WriteString("install -m 644 " + InputDir + "/project/" + name + " " + quote(dir) + "/" + name + "\n")
		}
	}
	program := "steps --project=" + quote(dir) + " " + InputDir + "/juliasteps.jl "
	s.Script = juliaSetup + place.String() + program + "install " + LockStore + "\n" + juliaSettle + program + "precompile\n" + juliaTidy
	r.add(s)
	return nil
}

// juliaEnvironment sets repo2docker's variables.
func (r *reader) juliaEnvironment() {
	if r.LateEnv == nil {
		r.LateEnv = map[string]string{}
	}
	maps.Copy(r.LateEnv, map[string]string{
		"JULIA_PATH": juliaDir, "JULIA_DEPOT_PATH": juliaDepot, "JULIA_PROJECT": path.Join(RepoDir, r.Dir),
		"JUPYTER": Prefix + "/bin/jupyter", "JUPYTER_DATA_DIR": Prefix + "/share/jupyter",
		"PATH": strings.Replace(r.Env["PATH"], ":/usr/local/sbin", ":"+juliaDir+"/bin:/usr/local/sbin", 1),
	})
}
