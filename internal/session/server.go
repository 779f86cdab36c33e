package session

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/binnacle-hub/binnacle"
)

// UserID is who sessions run as, as in every image of the Binder world.
const UserID = 1000

// Home is the home directory where the image names none.
const Home = "/home/jovyan"

// CAFile is where a session finds the certificate authorities it is to trust.
const CAFile = "/etc/binnacle/ca.pem"

// labelKind is on images that our recipes made; "dockerfile" says that only the
// repository's Dockerfile knows which Jupyter server is inside, else it is new
// enough to be configured in one way.
const (
	labelKind      = "dev.binnacle.kind"
	kindDockerfile = "dockerfile"
)

// Address is where a session's server listens: a socket, or else a port on all
// of its addresses.
type Address struct {
	Socket string
	Port   int
}

// Command is the image's entry point and its command with our flags. An image
// whose command is not a Jupyter server gets JupyterLab: that is what a session
// is. The token is not in it.
func Command(c ocispec.ImageConfig, spec Spec, at Address) []string {
	cmd := c.Cmd
	if len(cmd) == 0 || !isServer(cmd[0]) {
		cmd = []string{"jupyter", "lab"}
	}
	args := slices.Concat(c.Entrypoint, withoutAddress(cmd), []string{"--no-browser"}, flags("ServerApp", spec, at))
	if kind := c.Labels[labelKind]; kind == "" || kind == kindDockerfile { // the name of before 2021
		args = append(args, flags("NotebookApp", spec, at)...)
	}
	return append(args, "--ServerApp.default_url=/lab", "--LabApp.news_url=None")
}

func flags(app string, spec Spec, at Address) []string {
	f := []string{"--" + app + ".sock=" + at.Socket, "--" + app + ".sock_mode=0600"}
	if at.Socket == "" {
		f = []string{"--" + app + ".ip=*", "--" + app + ".port=" + strconv.Itoa(at.Port), "--" + app + ".port_retries=0"}
	}
	f = append(f,
		"--"+app+".base_url="+spec.BaseURL,
		"--"+app+".allow_remote_access=True",
		"--"+app+".trust_xheaders=True",
	)
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

// TokenVariable is how the server learns its token.
const TokenVariable = "JUPYTER_TOKEN" //nolint:gosec // the name of the variable, not a token

// Environment is the image's, then ours, then the person's. The token is ours
// alone. With ca the session is told to trust the authorities in CAFile.
func Environment(c ocispec.ImageConfig, spec Spec, ca bool) map[string]string {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": Home, "USER": "jovyan", "SHELL": "/bin/bash", "LANG": "C.UTF-8",
	}
	for _, pair := range c.Env {
		k, v, _ := strings.Cut(pair, "=")
		env[k] = v
	}
	if ca {
		for _, name := range []string{
			"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "CARGO_HTTP_CAINFO",
		} {
			env[name] = CAFile
		}
	}
	maps.Copy(env, spec.Env)
	env[TokenVariable] = spec.Token
	return env
}

// Group is who the session runs as beside UserID: the image's group when that is
// a number, and never root's.
func Group(c ocispec.ImageConfig) uint32 {
	if _, group, ok := strings.Cut(c.User, ":"); ok {
		if gid, err := strconv.ParseUint(group, 10, 31); err == nil && gid > 0 {
			return uint32(gid)
		}
	}
	return UserID
}

// ValidID keeps what sessions are called harmless in names of files, containers
// and pods.
func ValidID(id string) bool {
	const longest = 50
	return id != "" && len(id) <= longest && id[0] >= 'a' && id[0] <= 'z' && !strings.ContainsFunc(id, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// CannotRun is the error of an image whose command is missing or cannot run.
func CannotRun(cause error) error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "session.start",
		Message: "The image cannot start a Jupyter server: its command is missing or cannot run.",
		Hint:    "Install jupyterlab in the image and put it on PATH.", Err: cause,
	}
}
