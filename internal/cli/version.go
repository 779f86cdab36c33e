package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Tell the version of this build and of the parts inside", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"binnacle": a.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, dep := range info.Deps {
					switch dep.Path {
					case "github.com/containerd/containerd/v2":
						v["containerd"] = dep.Version
					case "github.com/moby/buildkit":
						v["buildkit"] = dep.Version
					}
				}
			}
			if asJSON {
				return json.NewEncoder(a.Out).Encode(v)
			}
			for _, name := range []string{"binnacle", "containerd", "buildkit", "go", "platform"} {
				if v[name] != "" {
					fmt.Fprintf(a.Out, "%-11s %s\n", name, v[name])
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// BuildVersion is the version that the Go toolchain stamped into this program.
func BuildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "development"
	}
	return info.Main.Version
}
