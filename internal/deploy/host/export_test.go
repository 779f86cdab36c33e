package host

import (
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// Unit is the service of a deployment.
func Unit(name string) string { return unit(name) }

// SSH is how ssh is called.
func SSH(h config.Host) []string { return sshCommand(h) }

// File is the hub's configuration.
func File(c config.Config) ([]byte, error) { return file(c) }
