package juliaserver

import (
	"context"
	"fmt"
	"os"
)

// ExampleProject is a Project.toml for what [Example] serves.
const ExampleProject = "[deps]\nKnots = \"" + knotsUUID + "\"\n\n[compat]\njulia = \"1.5 - 1.6\"\n"

const (
	knotsUUID  = "3d0f8c1e-6c3b-4c0a-9a55-0e2f4b1c7d21"
	fathomUUID = "5b7c2f0a-1d2e-4f3a-8b9c-6d7e8f901a2b"
)

// Example offers a real Julia, the last that Debian had, with packages of ours.
// Returns [olddebian.ErrNone] when Debian's can't be had.
func Example(ctx context.Context) (*Server, error) {
	file, err := Debian(ctx)
	if err != nil {
		return nil, err
	}
	tarball, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read Julia: %w", err)
	}
	return New(
		[]Release{{Version: DebianVersion, Tarball: tarball}, {Version: "1.99.0", Tarball: []byte("not allowed")}},
		[]Package{Kernel(), {
			Name: "Knots", UUID: knotsUUID, Version: "1.1.0", Deps: map[string]string{"Fathom": fathomUUID},
			Files: map[string]string{"src/Knots.jl": "module Knots\nusing Fathom\nspeed() = 2 * Fathom.depth\nend\n"},
		}, {Name: "Fathom", UUID: fathomUUID, Version: "6.0.0", Files: map[string]string{"src/Fathom.jl": "module Fathom\nconst depth = 6\nend\n"}}},
	)
}
