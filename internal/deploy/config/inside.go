package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
)

// Inside is what the part of a deployment that follows the repository is told by
// the person's `up`: it sees neither her kubeconfig nor her cloud. Nothing of it
// is secret.
type Inside struct {
	Name      string `json:"name"`
	Target    string `json:"target"`
	Namespace string `json:"namespace,omitempty"`
	// What is followed, as [Watch] has it; Token is the file that has it.
	Repository string `json:"repository"`
	Branch     string `json:"branch,omitempty"`
	Path       string `json:"path"`
	Interval   string `json:"interval"`
	Status     string `json:"status,omitempty"`
	API        string `json:"api,omitempty"`
	Token      string `json:"token,omitempty"`
	// Domain, Also, Registry, Username and Values are what the cloud said.
	Domain   string         `json:"domain,omitempty"`
	Also     []string       `json:"also,omitempty"`
	Registry string         `json:"registry,omitempty"`
	Username string         `json:"username,omitempty"`
	Values   map[string]any `json:"values,omitempty"`
	// Around is [Config.Around] of the file that `up` was run with.
	Around map[string]string `json:"around,omitempty"`
}

// Follower is what follows the repository of c; Token and what the cloud says are
// the caller's to fill in.
func (c Config) Follower() Inside {
	w := c.Watch
	in := Inside{
		Name: c.Name, Target: c.Target,
		Repository: w.Repository, Branch: w.Branch, Path: w.Path, Interval: w.Interval, Status: w.Status, API: w.API, Around: c.Around(),
	}
	if c.Target != TargetHost {
		in.Namespace = c.Namespace()
	}
	return in
}

// ReadInside reads what [Config.Follower] is written as.
func ReadInside(b []byte) (Inside, time.Duration, error) {
	var in Inside
	err := json.Unmarshal(b, &in)
	if err != nil {
		return in, 0, fmt.Errorf("read what is to be followed: %w", err)
	}
	every, err := time.ParseDuration(in.Interval)
	if err != nil {
		return in, 0, fmt.Errorf("read what is to be followed: %w", err)
	}
	return in, every, nil
}

// Fits says whether a file describes the deployment that this is a part of.
// Returns invalid when it does not: another name would be another hub.
func (in Inside) Fits(c Config) error {
	other := c.Name != in.Name || c.Target != in.Target || c.Target != TargetHost && c.Namespace() != in.Namespace
	if !other {
		return nil
	}
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "deploy.inside", Message: fmt.Sprintf("The file describes another deployment: %s (target %s), and this is %s (target %s).", c.Name, c.Target, in.Name, in.Target),
		Hint: "Change name, target and namespace back, or run binnacle deploy up with the file yourself.",
	}
}

// Keep is a configuration with the settings around the hub as `up` had them.
func (in Inside) Keep(c Config) Config {
	for _, f := range plainFields(&c) {
		if was, ok := in.Around[f.Path]; ok {
			set(f.Value, &yaml.Node{Kind: yaml.ScalarNode, Value: was})
		}
	}
	return c
}

// Moved lists the settings around the hub that a file has otherwise than the one
// that `up` was run with.
func (in Inside) Moved(c Config) []string {
	var out []string
	now := c.Around()
	for path, value := range now {
		if was := in.Around[path]; was != value {
			out = append(out, fmt.Sprintf("%s %q → %q", path, was, value))
		}
	}
	slices.Sort(out)
	return out
}
