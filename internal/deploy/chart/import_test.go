package chart_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/deploy/importer"
)

// What is imported from BinderHub is what the chart takes, and the hub reads.
func TestImportedValues(t *testing.T) {
	t.Parallel()
	v, err := importer.Read(strings.NewReader(`
config:
  BinderHub: {image_prefix: registry.example.org/binder/x-, pod_quota: 100, concurrent_build_limit: 8, banner_message: hello, cors_allow_origin: "*", debug: true}
  GitHubRepoProvider: {hostname: git.example.org, banned_specs: ["^spam/.*"]}
  RateLimiter: {limit: 100}
  Launcher: {launch_timeout: 600}
registry: {username: a, password: b}
replicas: 2
service: {type: ClusterIP, labels: {a: b}}
ingress: {enabled: true, hosts: [hub.example.org], annotations: {a: b}, tls: [{hosts: [hub.example.org], secretName: tls}]}
resources: {requests: {cpu: 0.2}}
dind: {resources: {requests: {cpu: 1}}}
jupyterhub:
  singleuser:
    memory: {limit: 2G, guarantee: 450M}
    cpu: {limit: 1, guarantee: 0.01}
    nodeSelector: {pool: users}
    extraTolerations: [{key: hub.jupyter.org/dedicated, operator: Equal, value: user, effect: NoSchedule}]
    extraEnv: {A: b, C: 1}
    extraResource: {limits: {nvidia.com/gpu: 1}}
    image: {pullSecrets: [{name: pull}]}
  cull: {timeout: 600, maxAge: 21600}
  scheduling: {userPlaceholder: {replicas: 5}, podPriority: {enabled: true}}
  prePuller: {extraImages: {a: {name: registry.example.org/a, tag: 1}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	files, err := render(t, importer.BinderHub(v).Values)
	if err != nil {
		t.Fatal(err)
	}
	c := hubConfig(t, objects(t, files))
	if c.Launch.MaxSessions != 100 || c.Launch.Limits.Memory != 2<<30 || c.Kubernetes.Session.Guarantee.CPU != 0.01 || len(c.Kubernetes.Session.Tolerations) != 1 {
		t.Errorf("launch: %+v\nsession: %+v", c.Launch, c.Kubernetes.Session)
	}
}
