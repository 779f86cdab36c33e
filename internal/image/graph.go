package image

import (
	"context"
	"maps"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client/llb"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// The names under which a build sends the tree.
const (
	largeFiles = "large"
	otherFiles = "content"
)

// environmentLayers are stages that know nothing of the repository's tree, in
// the order of their layers: the server first, because every image has the
// same; those in one row stand beside each other.
var environmentLayers = [][]recipe.Stage{{recipe.StageServer}, {recipe.StageSystem, recipe.StageBinary}, {recipe.StageEnvironment}, {recipe.StageOutline}}

// treeStages run on the tree.
var treeStages = []recipe.Stage{recipe.StageContent, recipe.StagePostBuild}

// graph is the image as a BuildKit graph.
func graph(base foundation, r recipe.Recipe, mtime time.Time) (llb.State, error) {
	g := grapher{prepared: base.prepare(), env: environment(r, base.env), late: r.LateEnv, commit: mtime}
	if !r.HasNode() {
		r.Steps = append(slices.Clone(r.Steps), recipe.Node())
	}
	state := g.prepared
	for _, stages := range environmentLayers {
		next, err := g.layer(state, branches(r.Steps, stages))
		if err != nil {
			return llb.State{}, err
		}
		state = next
	}
	state = llb.Merge([]llb.State{state, tree(largeFiles, mtime), tree(otherFiles, mtime)}, llb.WithCustomName("Files of the repository"))
	for _, stage := range treeStages {
		for _, s := range r.Steps {
			if s.Stage != stage {
				continue
			}
			next, err := g.run(state, s, recipe.RepoDir)
			if err != nil {
				return llb.State{}, err
			}
			state = next
		}
	}
	return state, nil
}

// branches are the steps of some stages as chains that may run beside each
// other, in the order in which they begin. Steps without a branch are the
// first chain of their stage.
func branches(steps []recipe.Step, stages []recipe.Stage) [][]recipe.Step {
	var names []string
	chains := map[string][]recipe.Step{}
	for _, stage := range stages {
		for _, s := range steps {
			if s.Stage != stage {
				continue
			}
			name := string(s.Stage) + "/" + s.Branch
			if chains[name] == nil {
				names = append(names, name)
			}
			chains[name] = append(chains[name], s)
		}
	}
	out := make([][]recipe.Step, 0, len(names))
	for _, name := range names {
		out = append(out, chains[name])
	}
	return out
}

// grapher is what all steps of an image share.
type grapher struct {
	prepared llb.State // where tools and locks are made
	env      map[string]string
	late     map[string]string
	commit   time.Time // of files that are made from the tree
}

// layer puts chains of steps on state. Several run beside each other, and what
// each of them changed is merged.
func (g grapher) layer(state llb.State, chains [][]recipe.Step) (llb.State, error) {
	ends := make([]llb.State, 0, len(chains))
	for _, chain := range chains {
		end := state
		for _, s := range chain {
			dir := "/"
			if s.Stage == recipe.StageOutline {
				dir = recipe.RepoDir
			}
			next, err := g.run(end, s, dir)
			if err != nil {
				return llb.State{}, err
			}
			end = next
		}
		ends = append(ends, end)
	}
	switch len(ends) {
	case 0:
		return state, nil
	case 1:
		return ends[0], nil
	}
	parts := []llb.State{ends[0]}
	for _, end := range ends[1:] {
		parts = append(parts, llb.Diff(state, end, hidden("what a branch changed")))
	}
	return llb.Merge(parts, hidden("branches")), nil
}

// preparation makes any Debian or Ubuntu image a base for us: the packages a
// base has, the user, the locale, the directories. On the base we bootstrap
// ourselves only the last three are left to do.
const preparation = `
export DEBIAN_FRONTEND=noninteractive
missing=""
for p in build-essential bzip2 ca-certificates curl gettext-base git less locales procps python3 python3-dev python3-venv unzip wget; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
  apt-get update
  apt-get install -y --no-install-recommends $missing
  rm -rf /var/lib/apt/lists/*
fi
sed -i 's/^# *en_US.UTF-8 UTF-8/en_US.UTF-8 UTF-8/' /etc/locale.gen
locale-gen >/dev/null
old=$(getent passwd 1000 | cut -d: -f1 || true)
if [ -z "$old" ]; then
  getent group 1000 >/dev/null || groupadd --gid 1000 jovyan
  useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash jovyan
elif [ "$old" != jovyan ]; then
  usermod --login jovyan --home /home/jovyan --move-home --shell /bin/bash "$old"
  groupmod --new-name jovyan "$(getent group 1000 | cut -d: -f1)"
fi
mkdir -p /srv/conda/envs /srv/npm /srv/deno /srv/go /srv/cargo /srv/rlibs /srv/julia /run/binnacle/in /run/binnacle/tools /run/binnacle/cache /run/binnacle/lock /run/binnacle/build /run/binnacle/out /usr/local/share/binnacle/lock /usr/local/share/binnacle/sums
chown 1000:1000 /srv/conda /srv/conda/envs /srv/npm /srv/deno /srv/go /srv/cargo /srv/rlibs /srv/julia /run/binnacle/cache /run/binnacle/out /usr/local/share/binnacle /usr/local/share/binnacle/lock /usr/local/share/binnacle/sums
cat > /usr/local/bin/repo2docker-entrypoint <<'ENTRYPOINT'
#!/bin/bash
# Activates what conda packages want activated, then runs the command through
# the repository's start script, if it has one.
for f in "${CONDA_PREFIX:-/none}"/etc/conda/activate.d/*.sh; do [ -r "$f" ] && . "$f"; done
if [ -x "${R2D_ENTRYPOINT:-}" ]; then exec "$R2D_ENTRYPOINT" "$@"; fi
if [ -n "${R2D_ENTRYPOINT:-}" ]; then exec bash "$R2D_ENTRYPOINT" "$@"; fi
exec "$@"
ENTRYPOINT
chmod 0755 /usr/local/bin/repo2docker-entrypoint
cat > /etc/profile.d/binnacle.sh <<'PROFILE'
# /etc/profile has replaced PATH. A login shell, as JupyterLab's terminals are, has the
# one that it was started with: the environment's, and what a start script added.
path=$(tr '\0' '\n' < /proc/$$/environ | sed -n 's/^PATH=//p')
[ -z "$path" ] || export PATH="$path"
unset path
PROFILE
# Jupyter would start npm, in every session, to ask where packages are.
mkdir -p /usr/local/etc/jupyter
echo '{"LanguageServerManager": {"node_roots": ["/home/jovyan", "/srv/npm/lib", "/srv/npm"]}}' > /usr/local/etc/jupyter/jupyter_server_config.json
rm -rf /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
`

// foundation is the image that everything stands on.
type foundation struct {
	state llb.State
	env   []string // of its configuration, as NAME=value
	// foreign says that it is the repository's, of which nothing is known.
	foreign bool
}

// ours is the hub's base.
func ours(base string) foundation {
	return foundation{state: llb.Image(base, llb.ResolveModePreferLocal, llb.WithCustomName(baseStep))}
}

// baseStep is the name under which the hub's base is fetched.
const baseStep = "Base image"

func (f foundation) prepare() llb.State {
	s := f.state.AddEnv("PATH", systemPath)
	if f.foreign {
		s = s.Run(llb.Args([]string{"/bin/sh", "-c", check}), llb.WithCustomName("Check of the image")).Root()
		return s.Run(bash(settled(preparation+sudoers, true, commitTime(0))), temporary(true), llb.WithCustomName("Base: user, locale, tools")).Root()
	}
	return s.Run(bash(settled(preparation, true, commitTime(0))), temporary(true), llb.WithCustomName("Base: user, locale, tools")).Root()
}

// check says what an image lacks that the rest would stumble over.
const check = `
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "binnacle: the image has no apt" >&2; exit 1
fi
case "$(ldd --version 2>&1)" in *[Mm]usl*) echo "binnacle: the image has no glibc" >&2; exit 1;; esac
command -v bash >/dev/null || { apt-get update && apt-get install -y --no-install-recommends bash; }
`

// sudoers lets the user do as root what it could before it was renamed: while
// the image is built, because sessions can gain no privileges.
const sudoers = `
if [ -d /etc/sudoers.d ]; then echo 'jovyan ALL=(root) NOPASSWD:ALL' > /etc/sudoers.d/jovyan; chmod 0440 /etc/sudoers.d/jovyan; fi
`

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func bash(script string) llb.RunOption {
	return llb.Args([]string{"/bin/bash", "-euo", "pipefail", "-c", script})
}

// environment is what steps and sessions see: what the image under it has,
// ours, and the recipe's own on top.
func environment(r recipe.Recipe, below []string) map[string]string {
	env := map[string]string{}
	for _, s := range below {
		name, value, _ := strings.Cut(s, "=")
		env[name] = value
	}
	maps.Copy(env, map[string]string{
		"PATH": systemPath, "HOME": recipe.Home, "USER": recipe.User, "NB_USER": recipe.User, "NB_UID": strconv.Itoa(recipe.UID),
		"npm_package_config_node_gyp_nodedir": "/srv/npm", // the headers of Node.js are there
		"REPO_DIR":                            recipe.RepoDir, "SHELL": "/bin/bash", "LANG": "en_US.UTF-8", "LC_ALL": "en_US.UTF-8", "LANGUAGE": "en_US.UTF-8",
	})
	maps.Copy(env, r.Env)
	return env
}

// run puts one step on state.
func (g grapher) run(state llb.State, s recipe.Step, dir string) (llb.State, error) {
	at := commitTime(0)
	if slices.Contains(treeStages, s.Stage) {
		at = g.commit
	}
	opts, err := g.command(settled(s.Script, s.Root, at), s.Inputs, s.Tools, s.Caches, s.Root)
	if err != nil {
		return llb.State{}, err
	}
	opts = append(opts, llb.WithCustomName(s.Name), llb.Dir(dir))
	if slices.Contains([]recipe.Stage{recipe.StageEnvironment, recipe.StageOutline, recipe.StageContent, recipe.StagePostBuild}, s.Stage) {
		for _, name := range slices.Sorted(maps.Keys(g.late)) {
			opts = append(opts, llb.AddEnv(name, g.late[name]))
		}
	}
	if s.Stage == recipe.StageOutline {
		opts = append(opts, emptyHome())
	}
	for _, made := range []struct {
		lock *recipe.Lock
		at   string
	}{{s.Lock, recipe.LockDir}, {s.Build, recipe.BuildDir}} {
		if made.lock == nil {
			continue
		}
		lock, err := g.lock(*made.lock)
		if err != nil {
			return llb.State{}, err
		}
		opts = append(opts, llb.AddMount(made.at, lock, llb.SourcePath("/out"), llb.Readonly))
	}
	return state.Run(opts...).Root(), nil
}

// settled gives what a script writes the time at, so that two machines make the
// same layer. Only what is newer than the script's beginning is touched: anything
// else would be copied into the layer. What is mounted is none of its business.
func settled(script string, root bool, at time.Time) string {
	where := "/home /srv /usr/local/share/binnacle -xdev -user " + strconv.Itoa(recipe.UID)
	if root { // others than root write there, too: apt's own user
		script = "chmod 1777 /tmp\n" + script
		where = `/ -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o`
	}
	return "touch -d '2 seconds ago' /tmp/.begin\n" + script + "\nfind " + where + " -newer /tmp/.begin \\( -type l -o -writable \\) -exec touch -h -d @" + strconv.FormatInt(at.Unix(), 10) + " {} +\n"
}

// temporary is a /tmp of the user that is thrown away after a step. It is no
// tmpfs: what is compiled there would count as memory.
func temporary(root bool) llb.RunOption {
	owner := llb.WithUIDGID(recipe.UID, recipe.GID)
	if root {
		owner = llb.WithUIDGID(0, 0)
	}
	empty := llb.Scratch().File(llb.Mkdir("/tmp", 0o777, owner, fixedTime), hidden("temporary files"))
	return llb.AddMount("/tmp", empty, llb.SourcePath("/tmp"), llb.ForceNoOutput)
}

// emptyHome stands where the repository will be, and is thrown away after a step.
func emptyHome() llb.RunOption {
	empty := llb.Scratch().File(llb.Mkdir("/home", 0o755, llb.WithUIDGID(recipe.UID, recipe.GID), fixedTime), hidden("empty home"))
	return llb.AddMount(recipe.RepoDir, empty, llb.SourcePath("/home"), llb.ForceNoOutput)
}

// lock is a directory in which /out is what a lock wrote. Mounted read-only, it
// counts by its content.
func (g grapher) lock(l recipe.Lock) (llb.State, error) {
	opts, err := g.command(l.Script, l.Inputs, l.Tools, l.Caches, false)
	if err != nil {
		return llb.State{}, err
	}
	out := llb.Scratch().File(llb.Mkdir("/out", 0o755, llb.WithUIDGID(recipe.UID, recipe.GID), fixedTime), hidden("directory of a lock"))
	run := g.prepared.Run(append(opts, llb.WithCustomName(l.Name), llb.Dir("/"))...)
	return run.AddMount(recipe.OutDir, out, llb.SourcePath("/out")), nil
}

// command is what steps and locks have in common.
func (g grapher) command(script string, in []recipe.Input, toolNames []string, caches []recipe.Cache, root bool) ([]llb.RunOption, error) {
	opts := []llb.RunOption{bash(script), temporary(root)}
	if !root {
		opts = append(opts, llb.User(recipe.User))
	}
	for _, name := range slices.Sorted(maps.Keys(g.env)) {
		if root && name == "HOME" {
			continue
		}
		opts = append(opts, llb.AddEnv(name, g.env[name]))
	}
	if root {
		opts = append(opts, llb.AddEnv("HOME", "/root"))
	}
	if len(in) > 0 {
		opts = append(opts, llb.AddMount(recipe.InputDir, inputs(in), llb.Readonly))
	}
	for _, name := range toolNames {
		t, err := tool(g.prepared, name)
		if err != nil {
			return nil, err
		}
		opts = append(opts, llb.AddMount(path.Join(recipe.ToolDir, name), t, llb.Readonly))
	}
	for _, c := range caches {
		opts = append(opts, cache(c, root))
	}
	return opts, nil
}

// inputs is a directory with just these files: the step is keyed by their
// content and by nothing else of the repository.
func inputs(files []recipe.Input) llb.State {
	s := llb.Scratch()
	made := map[string]bool{".": true}
	for _, f := range files {
		for _, dir := range parents(f.Name) {
			if !made[dir] {
				made[dir] = true
				s = s.File(llb.Mkdir(dir, 0o755, fixedTime), hidden("directory of inputs"))
			}
		}
		s = s.File(llb.Mkfile(path.Clean("/"+f.Name), 0o644, f.Content, fixedTime), hidden("input "+f.Name))
	}
	return s
}

var fixedTime = llb.WithCreatedTime(time.Unix(0, 0).UTC())

func parents(name string) []string {
	var dirs []string
	for dir := path.Dir(path.Clean(name)); dir != "." && dir != "/"; dir = path.Dir(dir) {
		dirs = append([]string{dir}, dirs...)
	}
	return dirs
}

// hidden names a vertex that people need not see; see progress.
func hidden(name string) llb.ConstraintsOpt { return llb.WithCustomName("[internal] " + name) }

// cache is a directory that is kept between builds and never part of a layer.
func cache(c recipe.Cache, root bool) llb.RunOption {
	owner := llb.WithUIDGID(0, 0)
	if !root {
		owner = llb.WithUIDGID(recipe.UID, recipe.GID)
	}
	sharing := llb.CacheMountShared
	if c.Locked {
		sharing = llb.CacheMountLocked
	}
	empty := llb.Scratch().File(llb.Mkdir("/cache", 0o755, owner, fixedTime), hidden("cache "+c.ID))
	id := strings.Join([]string{"binnacle", runtime.GOARCH, c.ID}, "-")
	return llb.AddMount(c.Path, empty, llb.SourcePath("/cache"), llb.AsPersistentCacheDir(id, sharing))
}

// tree is one part of the repository, at its place, owned by its user. The home
// is copied, because a copy keeps the time of the directory it goes into, and
// the time of making a directory in it would be in the layer.
func tree(name string, mtime time.Time) llb.State {
	at := llb.WithCreatedTime(mtime)
	// BuildKit keeps what it was sent last, of whatever repository, and asks only
	// for files of another size or time; times are not sent. So it asks for all.
	from := llb.Local(name, llb.SharedKeyHint(name), llb.Differ(llb.DiffNone, true), llb.WithCustomName("[internal] load "+name))
	home := llb.Scratch().File(llb.Mkdir("/"+path.Base(recipe.RepoDir), 0o755, at, llb.WithUIDGID(recipe.UID, recipe.GID)), hidden("home"))
	into := &llb.CopyInfo{CopyDirContentsOnly: true, CreatedTime: &mtime}
	return llb.Scratch().
		File(llb.Mkdir("/home", 0o755, at).Copy(home, "/", "/home/", into), hidden("place for "+name)).
		File(llb.Copy(from, "/", recipe.RepoDir+"/", into, llb.WithUIDGID(recipe.UID, recipe.GID)), hidden("copy "+name))
}

// marshal is the graph as BuildKit takes it.
func marshal(ctx context.Context, s llb.State) (*llb.Definition, error) {
	return s.Marshal(ctx, llb.Platform(platform()))
}
