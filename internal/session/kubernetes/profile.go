package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// Toleration is a taint that does not keep sessions away.
type Toleration corev1.Toleration

// UnmarshalText reads "key=value:effect", "key:effect", "key=value" or "key".
func (t *Toleration) UnmarshalText(text []byte) error {
	taint, effect, hasEffect := strings.Cut(string(text), ":")
	key, value, hasValue := strings.Cut(taint, "=")
	*t = Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(effect)}
	if hasValue {
		t.Operator, t.Value = corev1.TolerationOpEqual, value
	}
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 || hasEffect && !slices.Contains(effects, t.Effect) {
		return fmt.Errorf("%q is not a taint such as key=value:NoSchedule", text)
	}
	return nil
}

// MarshalText is the reverse.
func (t Toleration) MarshalText() ([]byte, error) {
	s := t.Key
	if t.Operator == corev1.TolerationOpEqual {
		s += "=" + t.Value
	}
	if t.Effect != "" {
		s += ":" + string(t.Effect)
	}
	return []byte(s), nil
}

// Patch is laid over a pod: YAML of a strategic merge patch. Empty changes nothing.
type Patch string

// UnmarshalText takes what is a patch of a pod.
func (p *Patch) UnmarshalText(text []byte) error {
	*p = Patch(text)
	_, err := p.apply(&corev1.Pod{})
	return err
}

// MarshalText is the reverse.
func (p Patch) MarshalText() ([]byte, error) { return []byte(p), nil }

// TextIsYAML lets a patch be written in the configuration file as a tree.
func (p *Patch) TextIsYAML() {}

// MarshalJSON writes the patch as what it is, not as a string of it.
func (p Patch) MarshalJSON() ([]byte, error) {
	if p == "" {
		return []byte("null"), nil
	}
	b, err := yaml.YAMLToJSON([]byte(p))
	if err != nil {
		return nil, fmt.Errorf("read the patch of a pod: %w", err)
	}
	return b, nil
}

// UnmarshalJSON is the reverse.
func (p *Patch) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	return p.UnmarshalText(b)
}

func (p Patch) apply(pod *corev1.Pod) (*corev1.Pod, error) {
	if strings.TrimSpace(string(p)) == "" {
		return pod, nil
	}
	patch, err := yaml.YAMLToJSON([]byte(p))
	if err != nil {
		return nil, fmt.Errorf("read the patch of a pod: %w", err)
	}
	if err := yaml.UnmarshalStrict([]byte(p), new(onlyPod)); err != nil {
		return nil, fmt.Errorf("read the patch of a pod: %w", err)
	}
	original, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("write the pod: %w", err)
	}
	merged, err := strategicpatch.StrategicMergePatch(original, patch, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("patch the pod: %w", err)
	}
	changed := new(corev1.Pod)
	if err := json.Unmarshal(merged, changed); err != nil {
		return nil, fmt.Errorf("read the patched pod: %w", err)
	}
	return changed, nil
}

// onlyPod finds a patch that was written a level too deep.
type onlyPod struct {
	Metadata any `json:"metadata"`
	Spec     any `json:"spec"`
}

// Profile is what is different for some sessions.
type Profile struct {
	Repo          string             `json:"repo,omitempty"`   // regular expression; empty is all
	Class         string             `json:"class,omitempty"`  // empty is all
	Memory        *resource.Quantity `json:"memory,omitempty"` // instead of the launch's limit
	CPU           *resource.Quantity `json:"cpu,omitempty"`
	Disk          *resource.Quantity `json:"disk,omitempty"`
	Guarantee     *Guarantee         `json:"guarantee,omitempty"`
	Resources     map[string]string  `json:"resources,omitempty"`
	Env           map[string]string  `json:"env,omitempty"`
	NodeSelector  map[string]string  `json:"node_selector,omitempty"`
	Tolerations   []Toleration       `json:"tolerations,omitempty"`
	RuntimeClass  string             `json:"runtime_class,omitempty"`
	PriorityClass string             `json:"priority_class,omitempty"`
	Pod           Patch              `json:"pod,omitempty"`
}

// TextIsYAML lets a profile be written in the configuration file as a tree.
func (p *Profile) TextIsYAML() {}

// UnmarshalText reads YAML.
func (p *Profile) UnmarshalText(text []byte) error {
	type plain Profile // without this method
	var v plain
	if err := yaml.UnmarshalStrict(text, &v); err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	*p = Profile(v)
	return p.validate()
}

// MarshalText is the reverse.
func (p Profile) MarshalText() ([]byte, error) {
	type plain Profile
	b, err := yaml.Marshal(plain(p))
	if err != nil {
		return nil, fmt.Errorf("write the profile: %w", err)
	}
	return b, nil
}

// Classes are those that have a profile, sorted: what a launch may ask for.
func (c Config) Classes() []string {
	var out []string
	for _, p := range c.Profiles {
		if p.Class != "" {
			out = append(out, p.Class)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p Profile) matches(spec session.Spec) bool {
	if p.Class != "" && spec.Labels[session.LabelClass] != p.Class {
		return false
	}
	repo, _, _ := strings.Cut(spec.Labels[session.LabelRepo], "?") // whichever folder of it
	ok, err := regexp.MatchString(p.Repo, repo)
	return err == nil && ok
}

// profiled is the configuration and the session with its profiles applied, and
// the patches of its pod.
func (c Config) profiled(spec session.Spec) (Config, session.Spec, []Patch) {
	patches := []Patch{c.Pod}
	c.Resources, c.Env, c.NodeSelector = maps.Clone(c.Resources), maps.Clone(c.Env), maps.Clone(c.NodeSelector)
	c.Tolerations = slices.Clone(c.Tolerations)
	for _, p := range c.Profiles {
		if !p.matches(spec) {
			continue
		}
		if p.Memory != nil {
			spec.Limits.Memory = p.Memory.Value()
		}
		if p.CPU != nil {
			spec.Limits.CPU = p.CPU.AsApproximateFloat64()
		}
		if p.Disk != nil {
			spec.Limits.Disk = p.Disk.Value()
		}
		if p.Guarantee != nil {
			c.Guarantee = *p.Guarantee
		}
		merge(&c.Resources, p.Resources)
		merge(&c.Env, p.Env)
		merge(&c.NodeSelector, p.NodeSelector)
		c.Tolerations = append(c.Tolerations, p.Tolerations...)
		if p.RuntimeClass != "" {
			c.RuntimeClass = p.RuntimeClass
		}
		if p.PriorityClass != "" {
			c.PriorityClass = p.PriorityClass
		}
		patches = append(patches, p.Pod)
	}
	return c, spec, patches
}

func merge(into *map[string]string, from map[string]string) {
	if *into == nil {
		*into = map[string]string{}
	}
	maps.Copy(*into, from)
}

// errNoContainer is of a patch that takes the session out of its pod.
var errNoContainer = errors.New(`the pod has no container called "session" any more`)
