package importer_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle/internal/deploy/importer"
)

func convert(t *testing.T, text string) importer.Result {
	t.Helper()
	v, err := importer.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return importer.BinderHub(v)
}

func outcome(r importer.Result, path string) importer.Outcome {
	for _, k := range r.Keys {
		if k.Path == path {
			return k.Outcome
		}
	}
	return ""
}

func value(v map[string]any, path string) any {
	var at any = v
	for key := range strings.SplitSeq(path, ".") {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	return at
}

// nested writes a.b.c: value as YAML.
func nested(t *testing.T, path string, v any) string {
	t.Helper()
	keys := strings.Split(path, ".")
	for _, key := range slices.Backward(keys) {
		v = map[string]any{key: v}
	}
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	const taken, other, not, unknown = importer.Taken, importer.Different, importer.NotNeeded, importer.Unknown
	for _, tt := range []struct {
		path string
		v    any
		want importer.Outcome
		to   string
		set  any
	}{
		{"replicas", 1, taken, "replicas", 1},
		{"replicas", "two", other, "", nil},
		{"resources", map[string]any{"limits": map[string]any{"memory": "1Gi"}}, taken, "hub.resources.limits.memory", "1Gi"},
		{"service.type", "LoadBalancer", taken, "service.type", "LoadBalancer"},
		{"ingress.enabled", true, taken, "ingress.enabled", true},
		{"ingress.hosts", []any{"hub.example.org"}, taken, "ingress.hosts", []any{"hub.example.org"}},
		{"ingress.https.enabled", true, other, "", nil},
		{"imageBuilderType", "dind", not, "", nil},
		{"dind.daemonset.image.name", "docker", not, "", nil},
		{"dind.resources", map[string]any{"requests": map[string]any{"cpu": 1}}, taken, "builders.resources.requests.cpu", 1},
		{"registry.username", "someone", other, "", nil},
		{"registry.password", "hunter2", other, "registry.existingSecret", "binnacle-registry"},
		{"extraConfig.00-foo", "import os", other, "", nil},
		{"httpRoute.gateway", map[string]any{"name": "g"}, taken, "httpRoute.parentRefs", []any{map[string]any{"name": "g"}}},
		{"config.BinderHub.image_prefix", "registry.example.org/project/binder-", taken, "registry.imagePrefix", "registry.example.org/project/binder-"},
		{"config.BinderHub.image_prefix", "someone/binder-", taken, "registry.imagePrefix", "docker.io/someone/binder-"},
		{"config.BinderHub.use_registry", true, taken, "", nil},
		{"config.BinderHub.use_registry", false, other, "", nil},
		{"config.BinderHub.base_url", "/binder/", other, "", nil},
		{"config.BinderHub.cors_allow_origin", "*", taken, "config.allow_origin", "*"},
		{"config.BinderHub.auth_enabled", true, other, "", nil},
		{"config.BinderHub.about_message", "<p>x</p>", other, "", nil},
		{"config.BinderHub.banner_message", "maintenance", taken, "config.hub.banner", "maintenance"},
		{"config.BinderHub.per_repo_quota", 50, taken, "config.launch.per_repository", 50},
		{"config.BinderHub.pod_quota", nil, not, "", nil},
		{"config.BinderHub.pod_quota", 0, other, "", nil},
		{"config.BinderHub.build_max_age", 14400, taken, "config.launch.build_timeout", "14400s"},
		{"config.BinderHub.build_memory_limit", "3G", taken, "config.build.limits.memory", int64(3 << 30)},
		{"config.BinderHub.build_memory_limit", 0, other, "", nil},
		{"config.KubernetesBuildExecutor.memory_limit", "3G", taken, "config.build.limits.memory", int64(3 << 30)},
		{"jupyterhub.hub.baseUrl", "/jupyter/", other, "", nil},
		{"config.BinderHub.concurrent_build_limit", 32, taken, "config.launch.max_builds", 32},
		{"config.BinderHub.hub_url", "https://jupyter.example.org", not, "", nil},
		{"config.BinderHub.hub_api_token", "secret", not, "", nil},
		{"config.BinderHub.build_token_secret", "secret", not, "", nil},
		{"config.BinderHub.ban_networks", map[string]any{"192.0.2.0/24": "someone"}, other, "", nil},
		{"config.BinderHub.build_image", "repo2docker", not, "", nil},
		{"config.BinderHub.sticky_builds", true, not, "", nil},
		{"config.BinderHub.template_path", "/x", other, "", nil},
		{"config.BinderHub.tornado_settings", map[string]any{"headers": 1}, other, "", nil},
		{"config.BinderHub.debug", true, taken, "config.log.level", "debug"},
		{"config.BinderHub.no_such_trait", 1, unknown, "", nil},
		{"config.BuildExecutor.appendix", "RUN x", other, "", nil},
		{"config.KubernetesBuildExecutor.node_selector", map[string]any{"a": "b"}, taken, "builders.nodeSelector.a", "b"},
		{"config.KubernetesBuildExecutor.docker_host", "/x", not, "", nil},
		{"config.KubernetesCleaner.max_age", 3600, taken, "config.launch.build_timeout", "3600s"},
		{"config.LaunchQuota.total_quota", 300, taken, "config.launch.max_sessions", 300},
		{"config.RateLimiter.limit", 10, taken, "config.launch.address_rate", 10.0},
		{"config.Launcher.launch_timeout", 600, taken, "config.launch.start_timeout", "600s"},
		{"config.Launcher.retries", 4, not, "", nil},
		{"config.Launcher.pre_launch_hook", "f", other, "", nil},
		{"config.GitHubRepoProvider.banned_specs", []any{"^spam/.*"}, taken, "config.launch.banned_specs", []any{"^gh/(?:spam/.*)"}},
		{"config.GitHubRepoProvider.banned_specs", []any{"(?!good)"}, other, "", nil},
		{"config.GitLabRepoProvider.allowed_specs", []any{"us/.*"}, other, "config.launch.allowed_specs", []any{"^gl/(?:us/.*)"}},
		{"config.GitHubRepoProvider.access_token", "secret", not, "", nil},
		{"config.GitHubRepoProvider.hostname", "git.example.org", taken, "config.source.hosts.gh", "https://git.example.org"},
		{"config.GitRepoProvider.allowed_protocols", []any{"https"}, taken, "config.source.protocols", []any{"https"}},
		{"config.GitLabRepoProvider.private_token", "secret", other, "", nil},
		{"config.DockerRegistry.password", "secret", other, "", nil},
		{"config.ExternalRegistryHelper.service_url", "http://x", other, "", nil},
		{"config.EventLog.handlers_maker", "f", other, "", nil},
		{"jupyterhub.singleuser.memory.limit", "2G", taken, "config.launch.limits.memory", int64(2 << 30)},
		{"jupyterhub.singleuser.memory.limit", "much", other, "", nil},
		{"jupyterhub.singleuser.cpu.limit", 2, taken, "config.launch.limits.cpu", 2},
		{"jupyterhub.singleuser.nodeSelector", map[string]any{"a": "b"}, taken, "sessions.nodeSelector.a", "b"},
		{"jupyterhub.singleuser.extraEnv", map[string]any{"A": "b"}, taken, "config.kubernetes.session.env.A", "b"},
		{"jupyterhub.singleuser.extraEnv", map[string]any{"A": map[string]any{"valueFrom": 1}}, other, "", nil},
		{"jupyterhub.singleuser.storage.type", "none", taken, "", nil},
		{"jupyterhub.singleuser.storage.type", "dynamic", other, "", nil},
		{"jupyterhub.singleuser.networkPolicy.egressAllowRules.privateIPs", true, other, "", nil},
		{"jupyterhub.singleuser.cloudMetadata.blockWithIptables", true, not, "", nil},
		{"jupyterhub.singleuser.extraPodConfig.dnsPolicy", "None", other, "", nil},
		{"jupyterhub.singleuser.cmd", "jupyterhub-singleuser", not, "", nil},
		{"jupyterhub.hub.concurrentSpawnLimit", 64, taken, "config.launch.max_starts", 64},
		{"jupyterhub.hub.cookieSecret", "secret", not, "", nil},
		{"jupyterhub.hub.services.binder.apiToken", "secret", not, "", nil},
		{"jupyterhub.hub.services.other.url", "x", other, "", nil},
		{"jupyterhub.hub.config.GitHubOAuthenticator.client_secret", "secret", other, "", nil},
		{"jupyterhub.hub.db.upgrade", true, not, "", nil},
		{"jupyterhub.proxy.secretToken", "secret", not, "", nil},
		{"jupyterhub.proxy.chp.resources.requests.cpu", 1, not, "", nil},
		{"jupyterhub.proxy.https.hosts", []any{"a"}, other, "", nil},
		{"jupyterhub.cull.enabled", false, other, "", nil},
		{"jupyterhub.cull.timeout", 600, taken, "config.launch.idle_timeout", "600s"},
		{"jupyterhub.cull.maxAge", 21600, taken, "config.launch.max_age", "21600s"},
		{"jupyterhub.cull.users", true, not, "", nil},
		{"jupyterhub.scheduling.userScheduler.enabled", true, not, "", nil},
		{"jupyterhub.scheduling.userPlaceholder.replicas", 5, taken, "scheduling.podPriority.enabled", true},
		{"jupyterhub.prePuller.hook.enabled", false, not, "", nil},
		{"jupyterhub.prePuller.extraImages", map[string]any{"a": map[string]any{"name": "i", "tag": "1"}}, taken, "prePuller.images", []any{"i:1"}},
		{"jupyterhub.something", 1, unknown, "", nil},
		{"something", 1, unknown, "", nil},
		{"binderhub.replicas", 1, taken, "replicas", 1},
		{"etcJupyter", 1, unknown, "", nil},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			r := convert(t, nested(t, tt.path, tt.v))
			path := tt.path
			got := outcome(r, path)
			for got == "" && strings.Contains(path, ".") { // walked further down
				path = path[:strings.LastIndexByte(path, '.')]
				got = outcome(r, path)
			}
			if got == "" {
				for _, k := range r.Keys {
					if strings.HasPrefix(k.Path, tt.path+".") {
						got = k.Outcome
					}
				}
			}
			if got != tt.want {
				t.Errorf("%v: %s, want %s: %+v", tt.v, got, tt.want, r.Keys)
			}
			if tt.to != "" {
				if diff := cmp.Diff(tt.set, value(r.Values, tt.to)); diff != "" {
					t.Errorf("%s: %s", tt.to, diff)
				}
			}
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"hunter2", `"secret"`} {
				if strings.Contains(string(b), secret) {
					t.Errorf("a secret is told: %s", b)
				}
			}
		})
	}
}

func TestGuarantee(t *testing.T) {
	t.Parallel()
	r := convert(t, "jupyterhub: {singleuser: {memory: {limit: 2G, guarantee: 512M}, cpu: {limit: 1, guarantee: 0.05}}}")
	if got := value(r.Values, "config.kubernetes.session.guarantee"); !cmp.Equal(got, map[string]any{"memory": 0.25, "cpu": 0.05}) {
		t.Errorf("%v", got)
	}
}

func TestFilesAreMergedAsHelmDoes(t *testing.T) {
	t.Parallel()
	v, err := importer.Read(strings.NewReader("{replicas: 1, service: {type: ClusterIP, labels: {a: b}}}"), strings.NewReader("{service: {type: NodePort}}"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"replicas": 1, "service": map[string]any{"type": "NodePort", "labels": map[string]any{"a": "b"}}}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	if _, err := importer.Read(strings.NewReader("- a")); err == nil || !strings.Contains(err.Error(), "File 1 is not YAML of keys and values") {
		t.Errorf("a list: %v", err)
	}
}

// Nothing is dropped: each leaf of any values is answered for, by itself or by
// a key above it.
func FuzzEveryKeyIsAnsweredFor(f *testing.F) {
	f.Add("replicas: 2\njupyterhub: {singleuser: {memory: {limit: 1G}}}\nconfig: {BinderHub: {pod_quota: null}, GitHubRepoProvider: {banned_specs: [a]}}")
	f.Add("binderhub: {registry: {password: x}}\nother: {}")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := importer.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		r := importer.BinderHub(v)
		answered := map[string]bool{}
		for _, k := range r.Keys {
			answered[k.Path] = true
		}
		var look func(path string, v any, covered bool)
		look = func(path string, v any, covered bool) {
			covered = covered || answered[path]
			if m, ok := v.(map[string]any); ok && len(m) > 0 {
				for k, v := range m {
					look(path+"."+k, v, covered)
				}
				return
			}
			if !covered {
				t.Errorf("%s is not answered for", path)
			}
		}
		for k, one := range v {
			look(k, one, false)
		}
	})
}
