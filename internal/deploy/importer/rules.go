package importer

import "maps"

const (
	whyOneProcess = "Hub, proxy and BinderHub are one process here: see hub.* for its pods."
	whyHTML       = "Pages take no HTML or scripts of others: they are where people's sessions start. See config.hub.title, banner and about."
	whyPython     = "It is Python in BinderHub's process. Here are settings, not hooks."
	whyRegistry   = "Put the login into a Secret: kubectl create secret docker-registry binnacle-registry --docker-server=… --docker-username=… --docker-password=…"
	whyAlways     = "It is always so."
	whyBuilder    = "Images are built by BuildKit in builders of ours: no Docker, no repo2docker, no build pods."
	whyStep       = "It is of one step of a build; builders.resources is of all builds of a builder."
	noStep        = "Steps of a build without a limit are not run; see config.build.limits.memory."
	whySignIn     = "People are not asked to sign in yet: put a reverse proxy that does in front of it."
)

// rules of every key, by path. A path that ends in ** answers for all below it
// that have no rule of their own.
func rules() map[string]rule {
	all := map[string]rule{}
	for _, group := range []map[string]rule{chartRules(), binderRules(), classRules(), providerRules(), hubRules(), userRules(), proxyRules(), placeRules()} {
		maps.Copy(all, group)
	}
	return all
}

func same(path string) rule                { return rule{outcome: Taken, to: path} }
func to(path string) rule                  { return rule{outcome: Taken, to: path} }
func not(why string) rule                  { return rule{outcome: NotNeeded, why: why} }
func different(why string) rule            { return rule{outcome: Different, why: why} }
func by(f convertFunc) rule                { return rule{outcome: Taken, convert: f} }
func byWhy(why string, f convertFunc) rule { return rule{outcome: Taken, why: why, convert: f} }

type convertFunc = func(*conversion, any) ([]string, error)

// chartRules are the keys of BinderHub's chart beside config.
func chartRules() map[string]rule {
	r := map[string]rule{
		"registry.password": {
			outcome: Different, why: whyRegistry,
			convert: func(c *conversion, _ any) ([]string, error) {
				if err := c.set("registry.existingSecret", "binnacle-registry"); err != nil {
					return nil, err
				}
				return []string{"registry.existingSecret"}, sentence(whyRegistry)
			},
		},
		"registry.username": different(whyRegistry), "registry.url": not("It follows from registry.imagePrefix."), "registry.auth_config_url": not("It follows from registry.imagePrefix."),
		"registry.**":       not("BuildKit and the hub read a docker config.json: see registry.existingSecret."),
		"image.name":        not("It is our image."),
		"image.tag":         not("It is our image."),
		"image.pullSecrets": by(names("image.pullSecrets")), "imagePullSecrets": by(names("image.pullSecrets")),
		"image.pullSecret.**": different("Make the Secret yourself and name it in image.pullSecrets."),
		"resources":           to("hub.resources"), "nodeSelector": to("hub.nodeSelector"), "tolerations": to("hub.tolerations"), "affinity": to("hub.affinity"),
		"podAnnotations": to("hub.annotations"), "annotations": to("hub.annotations"), "extraVolumes": to("hub.extraVolumes"), "extraVolumeMounts": to("hub.extraVolumeMounts"),
		"extraEnv":       different("BinderHub's variables are not ours; settings are in config. See extraEnv for secrets."),
		"extraConfig.**": different(whyPython), "extraFiles.**": different("Mount files by hub.extraVolumes."), "extraPodSpec.**": different("See hub.* for what a pod may have."),
		"initContainers": different("There are none in the hub's pod."), "deploymentStrategy.**": not("Replicas are replaced one by one without a gap."),
		"rbac.enabled": to("rbac.create"), "networkPolicy.**": different("Policies are the chart's own: networkPolicy.enabled, config.kubernetes.session.network."),
		"imageBuilderType": not(whyBuilder), "dind.**": not(whyBuilder), "pink.**": not(whyBuilder), "dind.resources": to("builders.resources"), "pink.resources": to("builders.resources"),
		"imageCleaner.**":            not("The builders' caches and the nodes' images are bounded by BuildKit and the kubelet."),
		"containerBuilder.**":        not(whyBuilder),
		"containerRegistryHelper.**": different("Registries are spoken to directly, with a docker config.json: registry.existingSecret."),
		"ingress.https.**":           different("Set ingress.tls, and the annotations that your certificates need."),
		"ingress.pathSuffix":         different("The hub is at the root of its name."),
		"ingress.extraPaths":         different("Write a second Ingress for other services."),
		"httpRoute.gateway":          by(gateway),
		"service.https.**":           not("See https."),
		"pdb.minAvailable":           different("Set pdb.maxUnavailable."),
		"cors.allowOrigin":           to("config.allow_origin"),
		"fullnameOverride":           not("Objects are named after the release."), "nameOverride": not("Objects are named after the release."),
		"global.**": not("It is for charts within charts."), "enabled": not("It is for charts within charts."),
		"serviceAccount.create": same("serviceAccount.create"), "serviceAccount.name": same("serviceAccount.name"), "serviceAccount.annotations": same("serviceAccount.annotations"),
		"hpa.**": different("See autoscaling."), "horizontalPodAutoscaler.**": different("See autoscaling."),
		"deployment.labels": to("hub.labels"), "deployment.**": not("The hub's probes are the chart's own."), "lifecycle.**": not("The hub drains by itself: hub.drainSeconds."),
		"livenessProbe.**": not("The hub's probes are the chart's own."), "readinessProbe.**": not("The hub's probes are the chart's own."), "startupProbe.**": not("The hub's probes are the chart's own."),
	}
	for _, path := range []string{
		"replicas", "image.pullPolicy", "service.type", "service.labels", "service.annotations", "service.nodePort", "service.loadBalancerIP",
		"service.loadBalancerSourceRanges", "ingress.enabled", "ingress.hosts", "ingress.ingressClassName", "ingress.annotations", "ingress.pathType", "ingress.tls",
		"httpRoute.enabled", "httpRoute.hostnames", "httpRoute.annotations", "httpRoute.parentRefs", "pdb.enabled", "pdb.maxUnavailable", "networkPolicy.enabled",
	} {
		r[path] = same(path)
	}
	sessions := "Sessions come through it too: their WebSockets, events and uploads want annotations and config.trusted_proxies (\"Ways in\" of docs/kubernetes.md)."
	r["ingress.enabled"] = rule{outcome: Taken, to: "ingress.enabled", why: sessions}
	return r
}

// binderRules are the traits of BinderHub itself.
func binderRules() map[string]rule {
	r := map[string]rule{
		"image_prefix":            byWhy("Names of images within it are ours.", prefix),
		"use_registry":            by(only(true, "On a cluster images go through a registry: set registry.imagePrefix.")),
		"base_url":                by(only("/", "The hub is at the root of its name.")),
		"badge_base_url":          to("url"),
		"cors_allow_origin":       to("config.allow_origin"),
		"auth_enabled":            by(only(false, whySignIn)),
		"about_message":           by(plain("config.hub.about")),
		"banner_message":          by(plain("config.hub.banner")),
		"default_opengraph_title": by(plain("config.hub.title")),
		"per_repo_quota":          to("config.launch.per_repository"),
		"per_repo_quota_higher":   different("There is one quota for all repositories: config.launch.per_repository."),
		"pod_quota":               by(total),
		"build_max_age":           by(seconds("config.launch.build_timeout")),
		"build_node_selector":     to("builders.nodeSelector"),
		"concurrent_build_limit": byWhy("It counts builds, not people who watch them.", func(c *conversion, v any) ([]string, error) {
			return []string{"config.launch.max_builds"}, c.set("config.launch.max_builds", v)
		}),
		"debug":                by(level),
		"ban_networks":         different("There is no list of banned networks: service.loadBalancerSourceRanges or the firewall has it."),
		"appendix":             different("Nothing is appended to other people's images: set config.base.image instead."),
		"repo_providers":       different("All providers are there; config.launch.allowed_specs limits what may be launched."),
		"enable_api_only_mode": by(only(false, "The pages are always there.")),
		"tornado_settings":     different("It is for BinderHub's web server; config.allow_origin sets the header for embedding."),
		"hub_api_token":        not("There is no second service to log in to."), "hub_url": not("Sessions are below the hub's own name, or below config.session_domain."),
		"hub_url_local": not("There is no second service."), "build_token_secret": not("Replicas share one through the database."),
		"sticky_builds": not(whyAlways + " The same environment goes to the same builder."),
	}
	for _, key := range []string{"extra_header_html", "extra_footer_scripts", "template_path", "template_variables", "extra_static_path", "extra_static_url_prefix", "google_analytics_code", "google_analytics_domain"} {
		r[key] = different(whyHTML)
	}
	for _, key := range []string{
		"build_image", "build_namespace", "build_docker_host", "build_docker_config", "build_memory_request", "build_class", "build_cleaner_class",
		"registry_class", "push_secret", "build_cleanup_interval", "log_tail_lines", "builder_required", "executor_threads",
	} {
		r[key] = not(whyBuilder)
	}
	r["build_memory_limit"] = byWhy(whyStep, memory("config.build.limits.memory", noStep))
	for _, key := range []string{"port", "config_file", "normalized_origin", "health_handler_class", "launch_quota_class", "build_token_check_origin", "build_token_expires_seconds"} {
		r[key] = not(whyAlways)
	}
	return below("config.BinderHub.", r)
}

func below(prefix string, rules map[string]rule) map[string]rule {
	out := map[string]rule{}
	for k, r := range rules {
		out[prefix+k] = r
	}
	return out
}

// classRules are the traits of BinderHub's other classes.
func classRules() map[string]rule {
	return below("config.", map[string]rule{
		"BuildExecutor.**":                               not(whyBuilder),
		"BuildExecutor.appendix":                         different("Nothing is appended to other people's images: set config.base.image instead."),
		"BuildExecutor.git_credentials":                  different("Private repositories are not served to the public."),
		"BuildExecutor.repo2docker_extra_args":           different("Images are not built by repo2docker: see config.build and config.base."),
		"BuildExecutor.registry_credentials":             different(whyRegistry),
		"KubernetesBuildExecutor.**":                     not(whyBuilder),
		"KubernetesBuildExecutor.memory_limit":           byWhy(whyStep, memory("config.build.limits.memory", noStep)),
		"KubernetesBuildExecutor.node_selector":          to("builders.nodeSelector"),
		"KubernetesBuildExecutor.extra_envs":             different("Variables of build steps are in config.build.env; proxies in config.outbound_proxy."),
		"KubernetesBuildExecutor.repo2docker_extra_args": different("Images are not built by repo2docker: see config.build and config.base."),
		"KubernetesBuildExecutor.resources":              different("Builds run in builders: set builders.resources."),
		"LocalRepo2dockerBuild.**":                       not(whyBuilder),
		"KubernetesCleaner.max_age":                      by(seconds("config.launch.build_timeout")), "KubernetesCleaner.namespace": not(whyBuilder),
		"LaunchQuota.total_quota": by(total), "KubernetesLaunchQuota.total_quota": by(total), "KubernetesLaunchQuota.namespace": not("It follows from sessions.namespace."),
		"RateLimiter.limit":          byWhy("It refills by and by, not once a period.", rate),
		"RateLimiter.period_seconds": not("config.launch.address_rate is per hour; it was reckoned in."), "RateLimiter.clean_seconds": not(whyAlways),
		"Launcher.launch_timeout": by(seconds("config.launch.start_timeout")),
		"Launcher.retries":        not("A launch is taken up again by another replica."), "Launcher.retry_delay": not("A launch is taken up again by another replica."),
		"Launcher.pre_launch_hook":     different(whyPython),
		"Launcher.allow_named_servers": not(whyAlways), "Launcher.named_server_limit_per_user": to("config.launch.per_owner"),
		"EventLog.**":             different("Launches are in the database and in the log."),
		"DockerRegistry.password": different(whyRegistry), "DockerRegistry.username": different(whyRegistry),
		"DockerRegistry.**":               not("It follows from registry.imagePrefix and registry.existingSecret."),
		"ExternalRegistryHelper.**":       different("Registries are spoken to directly, with a docker config.json: registry.existingSecret."),
		"BinderSpawner.cors_allow_origin": to("config.allow_origin"), "BinderSpawner.auth_enabled": by(only(false, whySignIn)),
		"Application.log_level": not("See config.log.level."),
	})
}

// providerRules are the traits of the providers.
func providerRules() map[string]rule {
	out := map[string]rule{}
	for class, provider := range map[string]string{
		"RepoProvider": "[a-z]+", "GitHubRepoProvider": "gh", "GistRepoProvider": "gist", "GitLabRepoProvider": "gl", "GitRepoProvider": "git",
		"ZenodoProvider": "zenodo", "FigshareProvider": "figshare", "HydroshareProvider": "hydroshare", "DataverseProvider": "dataverse", "CKANProvider": "ckan",
	} {
		maps.Copy(out, below("config."+class+".", map[string]rule{
			"banned_specs":     by(specs(provider, "config.launch.banned_specs")),
			"allowed_specs":    by(specs(provider, "config.launch.allowed_specs")),
			"high_quota_specs": different("There is one quota for all repositories: config.launch.per_repository."),
			"spec_config":      different("See config.kubernetes.session.profiles for resources of a repository."),
			"git_credentials":  different("Private repositories are not served to the public."),
		}))
	}
	maps.Copy(out, below("config.", map[string]rule{
		"GitHubRepoProvider.hostname": by(host("gh")), "GitLabRepoProvider.hostname": by(host("gl")), "GistRepoProvider.hostname": by(host("gist")),
		"GitRepoProvider.allowed_protocols":  to("config.source.protocols"),
		"GistRepoProvider.allow_secret_gist": not("Who knows the address of a gist may launch it."),
		"GitLabRepoProvider.access_token":    different("Private repositories are not served to the public."), "GitLabRepoProvider.private_token": different("Private repositories are not served to the public."),
	}))
	for _, class := range []string{"GitHubRepoProvider", "GistRepoProvider"} {
		for _, key := range []string{"client_id", "client_secret", "access_token", "api_base_path"} {
			out["config."+class+"."+key] = not("Commits are asked of git itself: no API, no rate limit.")
		}
	}
	return out
}
