package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strings"

	"github.com/caddyserver/certmagic"
	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// DefaultData is where the hub keeps everything.
const DefaultData = "/var/lib/binnacle"

// data is the hub's data directory.
func data(c config.Config) string {
	if c.Host.Data != "" {
		return c.Host.Data
	}
	return DefaultData
}

// listen is the address that the hub answers on.
func listen(c config.Config) string {
	switch {
	case c.Host.Listen != "":
		return c.Host.Listen
	case c.HTTPS.Enabled:
		return "0.0.0.0:443"
	default:
		return "0.0.0.0:80"
	}
}

// address is how people reach the hub unless the section hub says it.
func address(c config.Config) string {
	_, host, _ := c.Host.Split()
	scheme, usual, name := "http", "80", c.DNS.Domain
	if c.HTTPS.Enabled {
		scheme, usual = "https", "443"
	}
	if name == "" {
		name = host
	}
	if name == "" {
		name = "localhost"
	}
	_, port, err := net.SplitHostPort(listen(c))
	if err != nil || port == usual {
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		return scheme + "://" + name
	}
	return scheme + "://" + net.JoinHostPort(name, port)
}

// settings is the hub's configuration.
func settings(c config.Config) map[string]any {
	v := map[string]any{"data": data(c), "listen": listen(c), "url": address(c)}
	if c.HTTPS.Enabled {
		acme := map[string]any{"domain": c.DNS.Domain}
		if c.HTTPS.Email != "" {
			acme["email"] = c.HTTPS.Email
		}
		if c.HTTPS.Staging {
			acme["ca"] = certmagic.LetsEncryptStagingCA
		}
		v["tls"] = map[string]any{"acme": acme}
	}
	if len(c.Access.Repositories) > 0 {
		v["launch"] = map[string]any{"allowed_specs": c.Access.Repositories}
	}
	return config.Merge(v, c.Hub)
}

// file writes the hub's configuration.
func file(c config.Config) ([]byte, error) {
	b, err := yaml.Marshal(settings(c))
	if err != nil {
		return nil, fmt.Errorf("write the hub's configuration: %w", err)
	}
	return append([]byte("# Written by `binnacle deploy`, which overwrites it.\n"), b...), nil
}

// spec are settings by their paths, and a digest of all, which tells about
// settings that went away.
func spec(written []byte) map[string]string {
	out := map[string]string{}
	var v map[string]any
	if err := yaml.Unmarshal(written, &v); err != nil {
		out["configuration"] = "damaged"
		return out
	}
	config.Flatten(out, "", v)
	// In the order of its keys, however it was written.
	b, err := json.Marshal(v)
	if err != nil {
		b = written
	}
	out[deploy.FieldDigest] = digest(b)
	return out
}

func digest(b []byte) string {
	const enough = 12
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:enough]
}

// unit is the service. Its settings are those of docs/binnacle.service.
func unit(name string) string {
	return fmt.Sprintf(`# Written by binnacle deploy, which overwrites it.
[Unit]
Description=Binnacle, the hub %[1]s
Documentation=https://github.com/binnacle-hub/binnacle
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart=%[2]s/current/binnacle serve --config %[2]s/current/binnacle.yaml
Restart=always
RestartSec=2
TimeoutStopSec=30
# Sessions are kept alive by processes of their own: a restart of the hub must
# not end them, so only the hub itself is killed.
KillMode=process
# Containers get control groups below ours.
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
OOMPolicy=continue

[Install]
WantedBy=multi-user.target

[X-Binnacle]
Deployment=%[1]s
`, name, base(name))
}

// base is the directory of programs and configurations.
func base(name string) string { return "/opt/binnacle-" + name }
