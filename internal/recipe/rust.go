package recipe

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// cargoHome is CARGO_HOME in images: the kernel and the crates.
const cargoHome = "/srv/cargo"

// rustBase is the release that Debian has. No other is to be had from it.
const rustBase = "1.85"

// rustKind is a repository that is a Rust package or workspace and nothing else.
func rustKind() kind { return kind{name: "rust", has: (*reader).hasRust, read: readPython} }

func (r *reader) hasRust() bool { return r.has("Cargo.toml") }

// cargoFile is what of a Cargo.toml counts.
type cargoFile struct {
	Package *struct {
		Name        string `toml:"name"`
		Version     any    `toml:"version"`
		Edition     any    `toml:"edition"`
		RustVersion any    `toml:"rust-version"` // text, or {workspace = true}
	} `toml:"package"`
	Workspace *struct {
		Package map[string]any `toml:"package"`
	} `toml:"workspace"`
}

// readRust adds the kernel, and the crates that the repository requires.
func readRust(r *reader) error {
	file := r.path("Cargo.toml")
	text, _, err := r.file("Cargo.toml")
	if err != nil {
		return err
	}
	var all map[string]any
	var cargo cargoFile
	for _, into := range []any{&cargo, &all} {
		if err := toml.Unmarshal([]byte(text), into); err != nil {
			return wrong(file, tomlLine(err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "toml: ")+".", "Correct this line; `cargo metadata` reads it too.")
		}
	}
	r.use(file, "Rust crates")
	if err := r.chooseRust(file, cargo); err != nil {
		return err
	}
	r.add(debian("apt: Rust", Location{File: file}, "cargo", "rust-src", "rustc"), rustKernel())
	r.rustEnvironment()
	return r.cargoFetch(file, cargo, all)
}

func (r *reader) rustEnvironment() {
	r.late("CARGO_HOME", cargoHome)
	r.latePath(cargoHome + "/bin")
}

// chooseRust checks that Debian's Rust will do. It compiles everything that was
// written for an older one.
func (r *reader) chooseRust(file string, cargo cargoFile) error {
	r.choose("rust", rustBase, "Debian's")
	if cargo.Package != nil {
		if v, ok := cargo.Package.RustVersion.(string); ok && newerRust(v) {
			return rustTooOld(file, r.lineOf(file, "rust-version"), v)
		}
	}
	for _, name := range []string{"rust-toolchain.toml", "rust-toolchain"} {
		text, ok, err := r.file(name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		channel, err := rustChannel(r.path(name), text)
		if err != nil {
			return err
		}
		line := max(1, r.lineOf(r.path(name), "channel"))
		r.use(r.path(name), "which Rust")
		switch {
		case channel == "":
		case channel == "stable", minorOf(channel) == rustBase:
			r.choose("rust", rustBase, r.path(name)+" asks for "+channel+", and Debian has it")
		case regexp.MustCompile(`^\d+\.\d+(\.\d+)?$`).MatchString(channel) && !newerRust(channel):
			r.note(r.path(name), line, "Rust "+channel+" can't be had here; Debian's "+rustBase+" takes its place, which compiles what was written for it.", "Leave the channel out, or bring your own toolchain with a Dockerfile.")
			r.choose("rust", rustBase, "Debian's; "+r.path(name)+" asks for "+channel)
		default:
			return rustTooOld(r.path(name), line, channel)
		}
		return nil
	}
	return nil
}

func rustTooOld(file string, line int, want string) error {
	return wrong(file, line, "Rust "+short(want)+" can't be had here: Debian has "+rustBase+", and toolchains of other places are not fetched.",
		"Ask for "+rustBase+" or older, or bring your own toolchain with a Dockerfile.")
}

// newerRust says whether a version is newer than Debian's.
func newerRust(version string) bool {
	_, have, _ := strings.Cut(rustBase, ".")
	m := regexp.MustCompile(`^1\.(\d+)`).FindStringSubmatch(version)
	if m == nil {
		return !strings.HasPrefix(version, "0.") && version != "1"
	}
	n, err := strconv.Atoi(m[1])
	h, _ := strconv.Atoi(have)
	return err != nil || n > h
}

// rustChannel reads rust-toolchain.toml, or the older form: a line with a name.
func rustChannel(file, text string) (string, error) {
	if trimmed := strings.TrimSpace(text); !strings.HasSuffix(file, ".toml") && !strings.ContainsAny(trimmed, "[=\n") {
		return trimmed, nil
	}
	var t struct {
		Toolchain struct {
			Channel string `toml:"channel"`
			Path    string `toml:"path"`
		} `toml:"toolchain"`
	}
	if err := toml.Unmarshal([]byte(text), &t); err != nil {
		return "", wrong(file, tomlLine(err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "toml: ")+".", "Correct this line.")
	}
	if t.Toolchain.Path != "" {
		return "", wrong(file, 0, file+" names a toolchain by its path, which is not in the image.", `Write channel = "stable" instead.`)
	}
	return t.Toolchain.Channel, nil
}

// rustKernel copies the kernel, made once for all repositories, and tells
// Jupyter. Its rustc uses the standard library that was made for it. Every kernel
// works in a directory of its own, in which its cargo begins with the
// repository's Cargo.lock, so that a `:dep` takes the version that is locked.
func rustKernel() Step {
	const kernel = `#!/bin/sh
EVCXR_TMPDIR=$(mktemp -d)
export EVCXR_TMPDIR PATH="` + cargoHome + `/evcxr:$PATH"
trap 'rm -rf "$EVCXR_TMPDIR"' EXIT
` + cargoHome + `/bin/evcxr_jupyter --control_file "$1"
`
	const rustc = `#!/bin/sh
exec /usr/bin/rustc --sysroot ` + cargoHome + `/sysroot "$@"
`
	const cargo = `#!/bin/sh
if [ "$PWD" = "$EVCXR_TMPDIR" ] && [ -e ` + cargoHome + `/Cargo.lock ] && ! cmp -s Cargo.toml .locked; then
  cp Cargo.toml .locked
  cp ` + cargoHome + `/Cargo.lock Cargo.lock
fi
exec /usr/bin/cargo "$@"
`
	return Step{
		Name: "Rust kernel", Stage: StageBinary, Branch: "rust", Tools: []string{"evcxr"},
		Inputs: []Input{
			messageKernel("rust", "Rust", "rust", cargoHome+"/bin/evcxr-kernel", "{connection_file}"),
			{Name: "evcxr-kernel", Content: []byte(kernel)},
			{Name: "rustc", Content: []byte(rustc)},
			{Name: "cargo", Content: []byte(cargo)},
		},
		Script: `mkdir -p ` + cargoHome + `/bin ` + cargoHome + `/evcxr
cp ` + ToolDir + `/evcxr/bin/evcxr_jupyter ` + InputDir + `/evcxr-kernel ` + cargoHome + `/bin/
cp ` + InputDir + `/rustc ` + InputDir + `/cargo ` + cargoHome + `/evcxr/
chmod 0755 ` + cargoHome + `/bin/* ` + cargoHome + `/evcxr/*
cp -r ` + ToolDir + `/evcxr/sysroot ` + cargoHome + `/
` + installKernel("rust"),
	}
}

// cargoMirror makes Cargo heed the hub's mirror, for which it has no variable.
const cargoMirror = `cargo() {
  if [ -z "${BINNACLE_CRATES:-}" ]; then command cargo "$@"; return; fi
  command cargo --config 'source.crates-io.replace-with="mirror"' --config "source.mirror.registry=\"$BINNACLE_CRATES\"" "$@"
}
`

// cargoFetch downloads the crates. A package that stands alone needs only its
// own two files for that; a workspace needs the tree.
func (r *reader) cargoFetch(file string, cargo cargoFile, all map[string]any) error {
	packages, local := r.crates(file, all)
	lock, locked, err := r.file("Cargo.lock")
	if err != nil {
		return err
	}
	fetch, from := cargoMirror+"cargo fetch", []Location{{File: file}}
	if locked {
		r.use(r.path("Cargo.lock"), "exact versions of crates")
		fetch, from = cargoMirror+"cargo fetch --locked", append(from, Location{File: r.path("Cargo.lock")})
	} else if len(packages) > 0 {
		r.note(file, 0, "There is no Cargo.lock: cargo takes the versions of today.", "Commit the Cargo.lock that `cargo build` writes.")
	}
	const keep = "cp Cargo.lock " + LockStore + "/Cargo.lock\ncp Cargo.lock " + cargoHome + "/Cargo.lock\n"
	name := "cargo: " + from[len(from)-1].File
	if cargo.Workspace != nil || cargo.Package == nil || local {
		dir := "."
		if r.Dir != "" {
			dir = r.Dir
		}
		r.note(file, 0, "Cargo.toml names directories of the repository, so its crates are looked at anew for every commit.", "")
		r.add(Step{Name: name, Stage: StageContent, From: from, Packages: packages, Script: "cd " + quote(dir) + "\n" + fetch + "\n" + keep})
		return nil
	}
	if len(packages) == 0 {
		return nil
	}
	manifest, err := cargoManifest(all)
	if err != nil {
		return wrong(file, 0, file+" can't be read: "+short(err.Error())+".", "`cargo metadata` says what is wrong.")
	}
	inputs := []Input{{Name: "Cargo.toml", Content: manifest}}
	if locked {
		inputs = append(inputs, Input{Name: "Cargo.lock", Content: []byte(lock)})
	}
	r.add(Step{
		Name: name, Stage: StageEnvironment, Branch: "rust", From: from, Packages: packages, Inputs: inputs,
		Script: `mkdir -p /tmp/crate/src
cp ` + InputDir + `/* /tmp/crate/
cd /tmp/crate
touch src/lib.rs
` + fetch + "\n" + keep + "cd /\n" + tidy,
	})
	return nil
}

// cargoManifest is Cargo.toml with what decides about crates and nothing that
// names files: those come later.
func cargoManifest(all map[string]any) ([]byte, error) {
	kept := map[string]any{}
	for name, value := range all {
		switch name {
		case "dependencies", "dev-dependencies", "build-dependencies", "target", "features", "patch", "replace":
			kept[name] = value
		}
	}
	pack := map[string]any{}
	if p, ok := all["package"].(map[string]any); ok {
		for _, name := range []string{"name", "version", "edition", "resolver", "rust-version"} {
			if v, ok := p[name]; ok {
				pack[name] = v
			}
		}
	}
	kept["package"] = pack
	return toml.Marshal(kept)
}

// crates are the dependencies, and whether some are directories.
func (r *reader) crates(file string, all map[string]any) (out []Package, local bool) {
	for _, table := range []string{"dependencies", "dev-dependencies", "build-dependencies"} {
		deps, _ := all[table].(map[string]any)
		for _, name := range sortedNames(deps) {
			spec, _ := deps[name].(string)
			if t, ok := deps[name].(map[string]any); ok {
				spec, _ = t["version"].(string)
				_, isPath := t["path"]
				inherits, _ := t["workspace"].(bool)
				local = local || isPath || inherits
			}
			out = append(out, Package{Manager: "cargo", Name: name, Spec: strings.TrimSpace(name + " " + spec), From: Location{file, r.lineOf(file, name)}})
		}
	}
	if patch, ok := all["patch"]; ok && patch != nil {
		local = true
	}
	return out, local
}
