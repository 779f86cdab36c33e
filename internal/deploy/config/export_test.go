package config

// LegacyKeys are the keys of config.json, and whether each has a counterpart here.
func LegacyKeys() map[string]bool {
	out := map[string]bool{}
	for _, k := range legacyKeys() {
		out[k.path] = k.set != nil
	}
	return out
}
