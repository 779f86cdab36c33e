package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
)

// Environment identifies everything but the repository's tree: two recipes with
// the same give the same layers. Who asked for what, and in which file, does not
// matter. 64 hex digits.
func (r Recipe) Environment() string {
	type step struct {
		Stage  Stage
		Script string
		Root   bool
		Inputs []Input
		Tools  []string
		Lock   Lock
	}
	type key struct {
		Kind, Dockerfile, DockerfileSum, Python string
		Steps                                   []step
		Env                                     map[string]string
		LateEnv                                 map[string]string
		Node                                    []byte
		Base                                    *Base
	}
	k := key{Kind: r.Kind, Dockerfile: r.Dockerfile, DockerfileSum: r.DockerfileSum, Python: r.Python.Value, Env: r.Env, LateEnv: r.LateEnv, Node: nodeLock}
	if r.Base != nil {
		base := *r.Base
		base.From = Location{}
		k.Base = &base
	}
	for _, s := range r.Steps {
		if !slices.Contains([]Stage{StageOutline, StageContent, StagePostBuild}, s.Stage) {
			var lock Lock
			if s.Lock != nil {
				lock = *s.Lock
				lock.Name = "" // it names the file
			}
			k.Steps = append(k.Steps, step{s.Stage, s.Script, s.Root, s.Inputs, s.Tools, lock})
		}
	}
	b, err := json.Marshal(k)
	if err != nil {
		panic(err) // strings and bytes always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Packages is what all steps install.
func (r Recipe) Packages() []Package {
	var out []Package
	for _, s := range r.Steps {
		out = append(out, s.Packages...)
	}
	return out
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
