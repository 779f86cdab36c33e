package containerd

import (
	"path"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle/internal/session"
)

const (
	socketDir  = "/run/binnacle"
	socketName = "jupyter.sock"
)

// labelRecipe is on images that our recipes made: their Jupyter server is new
// enough to be configured in one way.
const labelRecipe = "dev.binnacle.recipe"

// command is the image's entry point and its command with our flags. An image
// whose command is not a Jupyter server gets JupyterLab: that is what a session
// is.
func command(c imageConfig, spec session.Spec) []string {
	cmd := c.Cmd
	if len(cmd) == 0 || !isServer(cmd[0]) {
		cmd = []string{"jupyter", "lab"}
	}
	args := slices.Concat(c.Entrypoint, cmd, []string{"--no-browser"}, flags("ServerApp", spec))
	if _, ours := c.Labels[labelRecipe]; !ours { // the name of before 2021
		args = append(args, flags("NotebookApp", spec)...)
	}
	return append(args, "--ServerApp.default_url=/lab", "--LabApp.news_url=None")
}

func flags(app string, spec session.Spec) []string {
	f := []string{
		"--" + app + ".sock=" + path.Join(socketDir, socketName),
		"--" + app + ".sock_mode=0600",
		"--" + app + ".base_url=" + spec.BaseURL,
		"--" + app + ".allow_remote_access=True",
		"--" + app + ".trust_xheaders=True",
	}
	if spec.AllowOrigin != "" {
		f = append(f, "--"+app+".allow_origin="+spec.AllowOrigin)
	}
	return f
}

// isServer knows the commands that take a Jupyter server's flags.
func isServer(command string) bool {
	name := path.Base(command)
	return name == "jupyter" || strings.HasPrefix(name, "jupyter-") || strings.HasPrefix(name, "start-notebook")
}
