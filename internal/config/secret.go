package config

import (
	"log/slog"
	"maps"
	"net/url"
	"slices"
)

// Secret is text that is never shown: of an address only the credentials are
// hidden, of anything else all. Convert it to string to use it.
type Secret string

const mask = "xxxxx"

// String is the masked form.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(string(s))
	if err != nil || u.Host == "" {
		return mask
	}
	if u.User != nil {
		u.User = url.User(mask)
	}
	u.RawQuery, u.Fragment = "", ""
	return u.String()
}

// LogValue is the masked form.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is the masked form, for YAML and JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// Secrets are the texts of a configuration that must not be shown, for taking them
// out of what others wrote: of an address the password and the query.
func Secrets(c Config) []string {
	var out []string
	for _, f := range fields(&c) {
		var list []Secret
		switch v := f.value.Interface().(type) {
		case Secret:
			list = []Secret{v}
		case []Secret:
			list = v
		case map[string]Secret:
			list = slices.Collect(maps.Values(v))
		}
		for _, s := range list {
			u, err := url.Parse(string(s))
			if err != nil || u.Host == "" {
				out = append(out, string(s))
				continue
			}
			password, _ := u.User.Password()
			out = append(out, password, u.RawQuery)
		}
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}
