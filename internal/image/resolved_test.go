package image_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/image"
)

func TestInstalledPackages(t *testing.T) {
	status := "Package: git\nStatus: install ok installed\nVersion: 1:2.47.3-0+deb13u1\nPre-Depends: git (= 1)\nDepends: zlib1g (>= 1:1.2), libnone | libz:any\nDescription: fast\n Version: no\n\n" +
		"Package: curl\nStatus: install ok installed\nVersion: 8\nDepends: libz\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: zlib1g\nStatus: install ok installed\nVersion: 1.3\nProvides: libz (= 1.3), z\n"
	if diff := cmp.Diff([]string{"git=1:2.47.3-0+deb13u1 # sha256:00", "curl=8", "zlib1g=1.3", "    # via curl", "    # via git"}, image.DebianPackages(status, map[string]string{"git=1:2.47.3-0+deb13u1": "00", "curl=7": "01"})); diff != "" {
		t.Error(diff)
	}
	names := []string{"__pycache__", "typing_extensions-4.15.0.dist-info", "zope.interface-8.0.dist-info", "numpy", "numpy-2.3.1.dist-info", "old.egg-info", "broken.dist-info"}
	if diff := cmp.Diff([]string{"numpy==2.3.1", "typing-extensions==4.15.0", "zope-interface==8.0"}, image.PythonPackages(names)); diff != "" {
		t.Error(diff)
	}
	records := []string{"history", "numpy-2.3.1-py313h_0.json", "r-base-4.4.2-h1.json"}
	if diff := cmp.Diff([]string{"numpy=2.3.1=py313h_0", "r-base=4.4.2=h1"}, image.CondaPackages(records)); diff != "" {
		t.Error(diff)
	}
}

// TestWithSums: what conda installed is not the file that an index has.
func TestWithSums(t *testing.T) {
	sums := map[string][]string{"own-thing==1": {"sha256:03"}, "numpy==2.3.1": {"sha256:00"}, "typing-extensions==4.15.0": {"sha256:01", "sha256:02"}}
	have := image.WithSums([]string{"numpy==2.3.1", "own-thing==1", "typing-extensions==4.15.0"}, sums, []string{"numpy=2.3.1=py313h_0", "Own_thing=1=0"})
	want := []string{"numpy==2.3.1", "own-thing==1", "typing-extensions==4.15.0 \\\n    --hash=sha256:01 \\\n    --hash=sha256:02"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}
