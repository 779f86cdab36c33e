package config

import (
	"log/slog"
	"os"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// Secret is text that is never shown. Convert it to string to use it.
type Secret string

const mask = "xxxxx"

// String is a mask.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString is a mask.
func (s Secret) GoString() string { return s.String() }

// LogValue is a mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is a mask, for YAML and JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// NoToken is the error of who has to bring the forge's token to a place where it is
// not, and has none.
func (w Watch) NoToken(place string) *binnacle.Error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "deploy.token", Message: "watch.token_from: the token is not " + place + ", and there is none here.",
		Hint: "Run binnacle deploy up where " + w.TokenFrom + " has it.",
	}
}

// Resolve reads a secret from where a ..._from setting says it is. environ is
// the environment, "NAME=value". Returns invalid when nothing is there.
func Resolve(path, from string, environ []string) (Secret, error) {
	missing := func(what string) error {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "deploy.secret", Message: path + ": " + what,
			Hint: "Put the secret there, or change " + path + ".",
		}
	}
	kind, where, _ := strings.Cut(from, ":")
	switch kind {
	case "env":
		for _, e := range environ {
			if v, ok := strings.CutPrefix(e, where+"="); ok && v != "" {
				return Secret(v), nil
			}
		}
		return "", missing("the variable " + where + " is not set.")
	case "file":
		b, err := os.ReadFile(where)
		if err != nil {
			return "", missing("the file can't be read: " + err.Error() + ".")
		}
		if s := strings.TrimRight(string(b), "\r\n"); s != "" {
			return Secret(s), nil
		}
		return "", missing("the file " + where + " is empty.")
	}
	return "", missing("must be env:NAME or file:PATH.")
}
