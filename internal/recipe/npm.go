package recipe

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
)

// npmCachePath is shared by all repositories: npm keeps what it downloads by
// the hash of its content, and steps with this cache run no scripts.
const npmCachePath = "/run/binnacle/cache/npm"

// jsManager installs what a lock of JavaScript packages names.
type jsManager struct {
	name, lock string
	// install is run where package.json and the lock are. It runs no script.
	install string
	// scripts runs the packages' own install scripts afterwards.
	scripts string
	// shared says that it may have the cache of all repositories: which program
	// it is does not depend on the repository.
	shared bool
}

const npmInstall = "npm ci --ignore-scripts --no-audit --cache " + npmCachePath

// jsManagers in the order in which their locks count.
func jsManagers() []jsManager {
	const rebuild = "npm rebuild --foreground-scripts --cache /tmp/npm"
	return []jsManager{
		{name: "npm", lock: "package-lock.json", install: npmInstall, scripts: rebuild, shared: true},
		{name: "npm", lock: "npm-shrinkwrap.json", install: npmInstall, scripts: rebuild, shared: true},
		{name: "pnpm", lock: "pnpm-lock.yaml", install: "pnpm install --frozen-lockfile --ignore-scripts --config.node-linker=hoisted --package-import-method=copy --store-dir=/tmp/store", scripts: rebuild},
		{name: "yarn", lock: "yarn.lock", install: "yarn install --frozen-lockfile --ignore-scripts --non-interactive --cache-folder=/tmp/yarn", scripts: rebuild},
	}
}

// jsLock is the lock that counts; ok is false when there is none.
func (r *reader) jsLock() (jsManager, bool) {
	for _, m := range jsManagers() {
		if r.has(m.lock) {
			return m, true
		}
	}
	return jsManager{}, false
}

// hasJS says whether the repository describes a JavaScript or TypeScript
// environment: package.json with a lock, or Deno's files. In the binder
// directory a package.json alone is explicit enough.
func (r *reader) hasJS() bool {
	if r.denoFile() != "" || r.has("deno.lock") {
		return true
	}
	_, locked := r.jsLock()
	return r.has("package.json") && (locked || r.Dir != "")
}

// npmPackages installs the packages of package.json to RepoDir/node_modules,
// where Node.js and Deno find them from every file of the repository.
func (r *reader) npmPackages() error {
	p, ok, err := r.packageJSON()
	if err != nil || !ok {
		return err
	}
	file := r.path("package.json")
	r.use(file, "JavaScript packages")
	if r.Dir == "" && r.hasPath("node_modules/.package-lock.json") {
		r.note(file, 0, "node_modules is part of the repository, so nothing is installed for package.json.", "Remove it from the repository: it is made anew from the lock.")
		return nil
	}
	m, locked := r.jsLock()
	if !locked && len(p.Dependencies)+len(p.DevDependencies)+len(p.Optional) == 0 {
		return nil
	}
	for _, other := range jsManagers() {
		if locked && other.lock != m.lock && r.has(other.lock) {
			r.pass(r.path(other.lock), m.lock+" decides")
			r.note(r.path(other.lock), 0, other.lock+" is passed over, because there is a "+m.lock+".", "Keep one lock.")
		}
	}
	packages := r.npmNames(file, p)
	if p.local() {
		return r.npmInTree(file, m, locked, packages)
	}
	step := Step{Stage: StageEnvironment, Branch: "npm", From: []Location{{File: file}}, Packages: packages}
	wanted := Input{Name: "package.json", Content: npmWanted(r, file)}
	if m.name == "yarn" { // its lock has the project, too
		wanted.Content = npmWanted(r, file, "name", "bin")
	}
	step.Inputs = []Input{wanted}
	if !locked {
		r.note(file, 0, "package.json has no lock: its versions are looked up as of the commit's day.", "Commit the package-lock.json that `npm install` writes.")
		m = jsManagers()[0]
		step.Name, step.Lock = "npm: "+file, r.npmLock(file)
		step.Caches = []Cache{{ID: "npm", Path: npmCachePath}}
		step.Script = "mkdir -p /tmp/js\ncp " + InputDir + "/package.json " + LockDir + "/package-lock.json /tmp/js/\n" + npmScript(npmInstall+r.npmFlags(), "package-lock.json")
		r.add(step, npmRebuild(file, m))
		return nil
	}
	text, _, err := r.text(r.path(m.lock))
	if err != nil {
		return err
	}
	if err := checkLock(r.path(m.lock), m, text); err != nil {
		return err
	}
	r.use(r.path(m.lock), "exact versions of JavaScript packages")
	install, err := r.jsInstall(m, p, text)
	if err != nil {
		return err
	}
	step.Name = m.name + ": " + r.path(m.lock)
	step.From = append(step.From, Location{File: r.path(m.lock)})
	step.Inputs = append(step.Inputs, Input{Name: m.lock, Content: []byte(text)})
	if m.shared {
		step.Caches = []Cache{{ID: "npm", Path: npmCachePath}}
	}
	step.Script = "mkdir -p /tmp/js\ncp " + InputDir + "/* /tmp/js/\n" + npmScript(install, m.lock)
	r.add(step)
	if !strings.Contains(m.lock, ".json") || strings.Contains(text, `"hasInstallScript"`) || !strings.Contains(text, `"lockfileVersion": `) || strings.Contains(text, `"lockfileVersion": 1`) {
		r.add(npmRebuild(r.path(m.lock), m))
	}
	return nil
}

// npmScript installs in /tmp/js and moves the result to its place: there the
// files of the repository join it later.
func npmScript(install, lock string) string {
	return `cd /tmp/js
` + install + `
[ -d node_modules ] || mkdir node_modules
rm -rf ` + RepoDir + `/node_modules
mv node_modules ` + RepoDir + `/node_modules
cp ` + lock + ` ` + LockStore + `/` + lock + `
cd /
rm -rf "$HOME/.npm"
` + tidy
}

// npmRebuild runs the scripts with which some packages build themselves. They
// are anybody's code, so there is no shared cache.
func npmRebuild(file string, m jsManager) Step {
	return Step{
		Name: "npm scripts: " + file, Stage: StageEnvironment, Branch: "npm", From: []Location{{File: file}},
		Script: `mkdir -p /tmp/js
echo '{}' > /tmp/js/package.json
mv ` + RepoDir + `/node_modules /tmp/js/
cd /tmp/js
` + m.scripts + `
mv node_modules ` + RepoDir + `/node_modules
cd /
rm -rf "$HOME/.npm"
` + tidy,
	}
}

// npmInTree installs packages some of which are directories of the repository:
// workspaces and "file:" dependencies. It runs anew with every commit.
func (r *reader) npmInTree(file string, m jsManager, locked bool, packages []Package) error {
	r.note(file, 0, "package.json names directories of the repository, so its packages are installed anew for every commit.", "Name only packages of a registry in it if that takes long.")
	install := "npm install --no-audit --cache /tmp/npm" + r.npmFlags()
	name, lock := "npm: "+file, jsManagers()[0].lock
	if locked {
		lock = m.lock
		text, _, err := r.text(r.path(m.lock))
		if err != nil {
			return err
		}
		p, _, err := r.packageJSON()
		if err != nil {
			return err
		}
		if install, err = r.jsInstall(m, p, text); err != nil {
			return err
		}
		install = strings.ReplaceAll(strings.ReplaceAll(install, " --ignore-scripts", ""), npmCachePath, "/tmp/npm")
		name = m.name + ": " + r.path(m.lock)
		r.use(r.path(m.lock), "exact versions of JavaScript packages")
	}
	dir := "."
	if r.Dir != "" {
		dir = r.Dir
	}
	script := "cd " + quote(dir) + "\n" + install + "\n[ ! -e " + lock + " ] || cp " + lock + " " + LockStore + "/" + lock + "\n"
	if r.Dir != "" {
		script += "rm -rf " + RepoDir + "/node_modules\nmv node_modules " + RepoDir + "/node_modules\n"
	}
	r.add(Step{
		Name: name, Stage: StageContent, From: []Location{{File: file}}, Packages: packages,
		Script: script + `rm -rf "$HOME/.npm"` + "\n" + tidy,
	})
	return nil
}

// npmLock looks up the versions, as of the commit's day.
func (r *reader) npmLock(file string) *Lock {
	before := ""
	if at := r.asOf("3"); !at.IsZero() {
		before = " --before=" + at.Format("2006-01-02T15:04:05Z")
	}
	return &Lock{
		Name: "Versions: " + file, Tools: []string{"npm"}, Caches: []Cache{{ID: "npm", Path: npmCachePath}},
		Inputs: []Input{{Name: "package.json", Content: npmWanted(r, file)}},
		Script: `mkdir /tmp/js
cp ` + InputDir + `/package.json /tmp/js/
cd /tmp/js
export PATH=` + ToolDir + `/npm/bin:$PATH
npm install --package-lock-only --ignore-scripts --no-audit --no-fund --cache ` + npmCachePath + before + r.npmFlags() + `
cp package-lock.json ` + OutDir + "/\n",
	}
}

// jsInstall is the command that installs by a lock. pnpm and yarn come from the
// registry in the version that package.json names, else the last that reads
// the lock.
func (r *reader) jsInstall(m jsManager, p packageFile, lock string) (string, error) {
	if m.name == "npm" {
		return m.install + r.npmFlags(), nil
	}
	name, version, install := m.name, map[string]string{"pnpm": "10.18.3", "yarn": "1.22.22"}[m.name], m.install
	if m.name == "pnpm" && regexp.MustCompile(`(?m)^lockfileVersion: '?[56]\.`).MatchString(lock) {
		version = "8.15.9"
	}
	berry := m.name == "yarn" && strings.Contains(lock, "\n__metadata:")
	if berry {
		version = "4.10.3"
	}
	if asked, rest, ok := strings.Cut(p.PackageManager, "@"); ok && asked == m.name {
		rest, _, _ = strings.Cut(rest, "+")
		if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[a-z0-9.]+)?$`).MatchString(rest) {
			return "", wrong(r.path("package.json"), r.lineOf(r.path("package.json"), "packageManager"), "packageManager is not a name with a version: "+short(p.PackageManager)+".", `Write it like "pnpm@10.18.3".`)
		}
		version = rest
		berry = m.name == "yarn" && !strings.HasPrefix(rest, "1.") && !strings.HasPrefix(rest, "0.")
	}
	if berry {
		name = "@yarnpkg/cli-dist"
		install = `[ -z "${NPM_CONFIG_REGISTRY:-}" ] || export YARN_NPM_REGISTRY_SERVER="$NPM_CONFIG_REGISTRY"
YARN_NODE_LINKER=node-modules YARN_ENABLE_GLOBAL_CACHE=false YARN_CACHE_FOLDER=/tmp/yarn YARN_ENABLE_TELEMETRY=0 yarn install --immutable --mode=skip-build`
	}
	return "npm install --silent --no-audit --ignore-scripts --cache /tmp/npm --prefix /tmp/manager " + name + "@" + version + "\nPATH=/tmp/manager/node_modules/.bin:$PATH\n" + install, nil
}

// npmFlags are the settings of a .npmrc that decide what is installed. The file
// itself is not used before the tree is there: it may name programs and tokens.
func (r *reader) npmFlags() string {
	text, ok, err := r.file(".npmrc")
	if err != nil || !ok {
		return ""
	}
	r.use(r.path(".npmrc"), "legacy-peer-deps and the like; other settings are not used in the build")
	var flags strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if value == "true" && slices.Contains([]string{"legacy-peer-deps", "strict-peer-deps", "force", "install-links"}, key) {
			flags.WriteString(" --" + key)
		}
	}
	return flags.String()
}

// npmWanted is package.json without what does not decide about packages, so
// that a new script or version number installs nothing again. More are names of
// fields that do decide.
func npmWanted(r *reader, file string, more ...string) []byte {
	text, _, err := r.text(file)
	var all map[string]any
	if err != nil || json.Unmarshal([]byte(text), &all) != nil {
		return []byte("{}") // it was read before
	}
	kept := map[string]any{}
	deciding := []string{"dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "peerDependenciesMeta", "dependenciesMeta", "bundleDependencies", "bundledDependencies", "overrides", "resolutions", "pnpm", "type"}
	for _, name := range append(deciding, more...) {
		if v, ok := all[name]; ok {
			kept[name] = v
		}
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return []byte("{}")
	}
	return b
}

// npmNames is what package.json installs, with lines, for people.
func (r *reader) npmNames(file string, p packageFile) []Package {
	var out []Package
	for _, group := range []map[string]string{p.Dependencies, p.DevDependencies, p.Optional} {
		for _, name := range sortedNames(group) {
			out = append(out, Package{Manager: "npm", Name: name, Spec: group[name], From: Location{file, r.lineOf(file, name+`"`)}})
		}
	}
	return out
}

// local says whether a package is a directory of the repository.
func (p packageFile) local() bool {
	for _, group := range []map[string]string{p.Dependencies, p.DevDependencies, p.Optional} {
		for _, spec := range group {
			for _, prefix := range []string{"file:", "link:", "portal:", "workspace:", "./", "../", "patch:"} {
				if strings.HasPrefix(spec, prefix) {
					return true
				}
			}
		}
	}
	return p.Workspaces != nil
}

// checkLock refuses what npm would answer with riddles.
func checkLock(file string, m jsManager, text string) error {
	if strings.Contains(text, "\n<<<<<<< ") {
		return wrong(file, 1+strings.Count(text[:strings.Index(text, "\n<<<<<<< ")+1], "\n"), file+" has the marks of an unfinished merge.", "Make it anew with `"+m.name+" install`.")
	}
	if m.name != "npm" {
		return nil
	}
	var lock struct {
		Version int `json:"lockfileVersion"`
	}
	if err := json.Unmarshal([]byte(text), &lock); err != nil {
		return wrong(file, jsonLine(text, err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "json: ")+".", "Make it anew with `npm install`.")
	}
	if lock.Version == 0 {
		return wrong(file, 0, file+" is not a lock that npm wrote.", "Make it anew with `npm install`.")
	}
	return nil
}

// jsonLine is where a JSON file is wrong; 0 when that is not said.
func jsonLine(text string, err error) int {
	at := int64(0)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = e.Offset
	}
	if at <= 0 || at > int64(len(text)) {
		return 0
	}
	return 1 + strings.Count(text[:at], "\n")
}
