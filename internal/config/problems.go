package config

import (
	"errors"
	"strings"

	"gopkg.in/yaml.v3"
)

// Problems lists what is wrong with settings that are written inside another
// file: each is "path: what". The machine the settings are for is another one,
// so files they name are not looked for.
func Problems(settings map[string]any) []string {
	b, err := yaml.Marshal(settings)
	if err != nil {
		return []string{err.Error()}
	}
	c := Default()
	var out []string
	err = c.decode(b)
	if err == nil {
		c.CABundle, c.Session.CABundle, c.TLS.Cert, c.TLS.Key, c.TLS.Redirect = "", "", "", "", ""
		c.derive()
		err = errors.Join(c.Validate())
	}
	if err == nil {
		return nil
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if _, rest, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(line, "line ") {
			line = rest // of a text that nobody sees
		}
		out = append(out, line)
	}
	return out
}
