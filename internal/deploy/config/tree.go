package config

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Merge lays the settings b over a: sections are merged, lists are replaced.
// Neither is changed.
func Merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range b {
		inner, ok := v.(map[string]any)
		have, okHave := out[k].(map[string]any)
		if ok && okHave {
			out[k] = Merge(have, inner)
			continue
		}
		out[k] = v
	}
	return out
}

// Flatten writes settings into out, each by its path behind the prefix.
func Flatten(out map[string]string, prefix string, settings map[string]any) {
	for k, v := range settings {
		switch v := v.(type) {
		case map[string]any:
			Flatten(out, prefix+k+".", v)
		case string:
			out[prefix+k] = v
		default:
			b, err := json.Marshal(v)
			if err != nil {
				b = fmt.Append(nil, v)
			}
			out[prefix+k] = string(b)
		}
	}
}
