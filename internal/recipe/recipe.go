package recipe

// The places every image agrees on. They are repo2docker's, because postBuild
// scripts in the wild name them.
const (
	User    = "jovyan"
	UID     = 1000
	GID     = 1000
	Home    = "/home/jovyan"
	RepoDir = Home
	Prefix  = "/srv/conda/envs/notebook" // the environment with Jupyter and the kernel
	// KernelPrefix is the kernel's environment where its Python is too old for
	// Jupyter, as in repo2docker.
	KernelPrefix = "/srv/conda/envs/kernel"
	InputDir     = "/run/binnacle/in"    // where a step finds its Inputs
	ToolDir      = "/run/binnacle/tools" // where a step finds its Tools
	OutDir       = "/run/binnacle/out"   // where a Lock writes what it worked out
	LockDir      = "/run/binnacle/lock"  // where a step finds that
	// LockStore is where an image keeps what was resolved for it, a file for
	// each ecosystem, for people to download. Steps write there as User or root.
	LockStore = "/usr/local/share/binnacle/lock"
	// SumStore is where steps leave the hashes of what they installed, for the lists
	// that are made of what is there: AptSums, and locks of Python packages.
	SumStore = "/usr/local/share/binnacle/sums"
	AptSums  = "apt.sha256" // "hash name=version" on each line
)

// Recipe is what a repository needs, and why. It is a value: two equal recipes
// give the same environment.
type Recipe struct {
	// Kind is the one that was chosen: "python", "conda", "dockerfile".
	Kind string `json:"kind"`
	// Dir is where its files were looked for: "", "binder" or ".binder".
	Dir string `json:"dir,omitempty"`
	// Dockerfile is the path of the file to build instead of Steps; else empty.
	Dockerfile string `json:"dockerfile,omitempty"`
	// DockerfileSum is the SHA-256 of its text, in hexadecimal.
	DockerfileSum string `json:"dockerfile_sum,omitempty"`
	// Base is the image to stand on instead of the hub's; or nil.
	Base *Base `json:"base,omitempty"`
	// Python is the version the environment has, "X.Y" (or "X.Y.Z" when the
	// repository insists); empty takes the base's own.
	Python Choice `json:"python,omitzero"`
	// Versions are the other languages that were chosen, by name: "r", "julia",
	// "node", "go", "rust".
	Versions map[string]Choice `json:"versions,omitempty"`
	// Interfaces are what a session offers beside JupyterLab and Notebook.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Asked is the one of them that is there only because the link asks for it: an
	// image with it is another than the repository's own.
	Asked string `json:"asked,omitempty"`
	// Steps are executed in order; see Stage for how they are layered.
	Steps []Step `json:"steps,omitempty"`
	// Env goes into the image's configuration.
	Env map[string]string `json:"env,omitempty"`
	// LateEnv joins Env from the stage Environment on and in sessions: what a
	// language beside Python wants, so that what comes before is the same layer in
	// images without it.
	LateEnv map[string]string `json:"late_env,omitempty"`
	// Start is the path of the script the session's command is run through; or empty.
	Start string `json:"start,omitempty"`
	// Files lists every file that was recognised: used or passed over, and why.
	Files []File `json:"files,omitempty"`
	// Notes are warnings for the author.
	Notes []Note `json:"notes,omitempty"`
	// Ignore holds .dockerignore patterns in order; matching files are not in the image.
	Ignore []string `json:"ignore,omitempty"`
}

// Interface is a program with a web page of its own in a session.
type Interface struct {
	Name string `json:"name"` // "rstudio", "streamlit"
	Path string `json:"path"` // the urlpath that opens it: "rstudio/"
	Why  string `json:"why"`
}

// Choice is a decision and its reason.
type Choice struct {
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Stage says on what a step stands. Stages follow each other; steps of a
// stage run in the order given, those of different branches beside each other.
type Stage string

// The stages. All before Content know nothing of the repository but their
// Inputs and are shared between repositories; Content and PostBuild see its
// tree in RepoDir and run anew whenever it changes. A step of Outline has an
// empty RepoDir of its own, in which it makes what it needs of the tree from its
// Inputs; what it leaves there is thrown away.
const (
	StageServer      Stage = "server"      // makes Prefix with Python and Jupyter
	StageSystem      Stage = "system"      // apt; as root
	StageBinary      Stage = "binary"      // installs what needs no Debian package, beside System
	StageEnvironment Stage = "environment" // what the repository's files declare
	StageOutline     Stage = "outline"     // needs the names in the tree: pip install -e .
	StageContent     Stage = "content"     // needs the tree: pip install .
	StagePostBuild   Stage = "postbuild"
)

// Step is one thing to execute while the image is built. Any failure fails the
// build.
type Step struct {
	Name  string `json:"name"` // "pip: requirements.txt"; shown to people
	Stage Stage  `json:"stage"`
	// Script is run by bash -euo pipefail; its directory is RepoDir in the
	// stages that see the tree or its outline, / before.
	Script string `json:"script"`
	Root   bool   `json:"root,omitempty"` // else User
	// Branch names a chain of steps of Binary or Environment that runs beside the
	// stage's others, because it writes only below a directory of its own (and
	// LockStore): "python" in Prefix, "r" in /srv/rlibs. Two branches that write
	// the same file would lose one of them.
	Branch string `json:"branch,omitempty"`
	// Lock is worked out before the step, apart from it; the step finds in LockDir
	// what it wrote. The step is keyed by these files and not by how and when they
	// were worked out: the same versions on another day are the same layer.
	Lock *Lock `json:"lock,omitempty"`
	// Build fetches what the step builds with into BuildDir, like Lock.
	Build *Lock `json:"build,omitempty"`
	// Inputs are put read-only into InputDir; their content is part of the
	// step's cache key, nothing else of the repository is.
	Inputs []Input `json:"inputs,omitempty"`
	// Tools to mount into ToolDir, by name: "uv", "conda". See image.
	Tools []string `json:"tools,omitempty"`
	// Caches are directories kept between builds and shared by all
	// repositories: only for steps that run no code a repository controls.
	Caches []Cache `json:"caches,omitempty"`
	// From are the lines that asked for this step.
	From []Location `json:"from,omitempty"`
	// Packages is what it installs, for people.
	Packages []Package `json:"packages,omitempty"`
}

// Lock turns loose requirements into exact versions. It runs as User where there
// is the base and nothing else.
type Lock struct {
	Name   string   `json:"name"`   // shown to people
	Script string   `json:"script"` // writes files into OutDir
	Inputs []Input  `json:"inputs,omitempty"`
	Tools  []string `json:"tools,omitempty"`
	Caches []Cache  `json:"caches,omitempty"`
}

// Input is a file of a step.
type Input struct {
	Name    string `json:"name"` // below InputDir; slashes allowed
	Content []byte `json:"content"`
}

// Cache is a directory that outlives the build.
type Cache struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	Locked bool   `json:"locked,omitempty"` // one step at a time
}

// Location is a place in a file of the repository.
type Location struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // from 1; 0 is the whole file
}

// Package is something to be installed.
type Package struct {
	Manager string   `json:"manager"` // apt, pip, conda
	Name    string   `json:"name"`
	Spec    string   `json:"spec"` // as written
	From    Location `json:"from,omitzero"`
}

// File is a file that Binnacle recognises.
type File struct {
	Path string `json:"path"`
	Used bool   `json:"used"`
	Why  string `json:"why"`
}

// Note is a warning: nothing failed, but the author should know.
type Note struct {
	Location
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}
