package cli

import "github.com/binnacle-hub/binnacle"

// notOnKubernetes tells that this build's hub cannot be a replica on a cluster:
// what it is made of is there, but images are not yet built into a registry.
func notOnKubernetes() error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "serve.kubernetes", Message: "This version's hub runs on one machine only: kubernetes.enabled is for a later one.",
		Hint: "Leave kubernetes.enabled out, and do not install the chart with this version's image.",
	}
}
