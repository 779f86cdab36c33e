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

// labelKind is on images that our recipes made; "dockerfile" says that only the
// repository's Dockerfile knows which Jupyter server is inside, else it is new
// enough to be configured in one way.
const (
	labelKind      = "dev.binnacle.kind"
	kindDockerfile = "dockerfile"
)

// command is the image's entry point and its command with our flags. An image
// whose command is not a Jupyter server gets JupyterLab: that is what a session
// is.
func command(c imageConfig, spec session.Spec) []string {
	cmd := c.Cmd
	if len(cmd) == 0 || !isServer(cmd[0]) {
		cmd = []string{"jupyter", "lab"}
	}
	args := slices.Concat(c.Entrypoint, withoutAddress(cmd), []string{"--no-browser"}, flags("ServerApp", spec))
	if kind := c.Labels[labelKind]; kind == "" || kind == kindDockerfile { // the name of before 2021
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

// withoutAddress leaves out where the image wants its server to listen and whom
// it lets in: a port and a socket exclude each other, and a command that
// switches the token off would let everybody in who knows the address.
func withoutAddress(cmd []string) []string {
	var kept []string
	for i := 0; i < len(cmd); i++ {
		name, _, joined := strings.Cut(cmd[i], "=")
		_, trait, _ := strings.Cut(name, ".")
		switch {
		case name == "--port", name == "--ip":
		case strings.HasPrefix(name, "--") && slices.Contains([]string{"port", "ip", "token", "password", "sock", "base_url"}, trait):
		default:
			kept = append(kept, cmd[i])
			continue
		}
		if !joined && i+1 < len(cmd) && !strings.HasPrefix(cmd[i+1], "-") {
			i++ // its value
		}
	}
	return kept
}
