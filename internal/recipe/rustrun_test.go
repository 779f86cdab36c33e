package recipe_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/test/crates"
)

// TestCrates fetches crates with a real Cargo from the operator's index, and
// compiles with what was fetched.
func TestCrates(t *testing.T) {
	m := newMachine(t)
	if _, err := exec.LookPath("cargo"); err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	index, err := crates.Start(crates.Crate{Name: "harbour", Version: "1.2.0", Code: "pub fn depth() -> u32 { 6 }\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(index.Close)
	const manifest = "[package]\nname = \"tide\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nharbour = \"1\"\n"
	lock := "version = 3\n\n[[package]]\nname = \"harbour\"\nversion = \"1.2.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"" + index.Sum("harbour") +
		"\"\n\n[[package]]\nname = \"tide\"\nversion = \"0.1.0\"\ndependencies = [\n \"harbour\",\n]\n"
	for name, files := range map[string]map[string]string{
		"locked":    {"Cargo.toml": manifest, "Cargo.lock": lock, "src/main.rs": "fn main() { println!(\"{} fathoms\", harbour::depth()) }\n"},
		"no lock":   {"Cargo.toml": manifest, "src/main.rs": "fn main() { println!(\"{} fathoms\", harbour::depth()) }\n"},
		"workspace": {"Cargo.toml": manifest + "\n[workspace]\n", "src/main.rs": "fn main() { println!(\"{} fathoms\", harbour::depth()) }\n"},
	} {
		t.Run(name, func(t *testing.T) {
			home, cargo := filepath.Join(m.dir, "home"), filepath.Join(m.dir, "cargo")
			write(t, home, files)
			write(t, cargo, map[string]string{"empty": ""})
			m.env = []string{"CARGO_HOME=" + cargo, "RUSTUP_HOME=" + rustup(), "BINNACLE_CRATES=" + index.URL}
			r := read(t, files)
			i := slices.IndexFunc(r.Steps, func(s recipe.Step) bool { return strings.HasPrefix(s.Name, "cargo: ") })
			if i < 0 {
				t.Fatalf("no step fetches crates: %+v", r.Steps)
			}
			if out, err := m.step(t, r.Steps[i]); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if kept, err := os.ReadFile(filepath.Join(m.dir, "store/Cargo.lock")); err != nil || !strings.Contains(string(kept), index.Sum("harbour")) {
				t.Errorf("the image's lock is %q, %v", kept, err)
			}
			// The sessions' Cargo looks where Cargo.toml says; told of the mirror, it needs nothing more of it.
			config := `source.crates-io.replace-with="mirror"`
			out := m.must(t, home, "cargo", "--config", config, "--config", `source.mirror.registry="`+index.URL+`"`, "run", "--quiet", "--offline")
			if out != "6 fathoms\n" {
				t.Errorf("the program says %q", out)
			}
		})
	}
	if asked := index.Asked(); !slices.Contains(asked, "/crates/harbour/1.2.0/download") {
		t.Errorf("the index was asked for %q", asked)
	}
}

// rustup is where the machine's toolchains are, for a Cargo that rustup brought: it
// would look for them in the test's home.
func rustup() string {
	if dir := os.Getenv("RUSTUP_HOME"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".rustup")
}
