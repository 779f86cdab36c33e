package importer

import "fmt"

// hubRules are the keys of JupyterHub's hub.
func hubRules() map[string]rule {
	return below("jupyterhub.", map[string]rule{
		"hub.**":                      not(whyOneProcess),
		"hub.baseUrl":                 different("The hub is at the root of its name, and sessions are below /user/ there."),
		"hub.resources":               different("It is one process with BinderHub: see hub.resources."),
		"hub.concurrentSpawnLimit":    to("config.launch.max_starts"),
		"hub.activeServerLimit":       by(total),
		"hub.allowNamedServers":       not(whyAlways),
		"hub.namedServerLimitPerUser": to("config.launch.per_owner"),
		"hub.extraConfig.**":          different("It is Python in JupyterHub's process. Here are settings, not hooks."),
		"hub.extraEnv.**":             different("JupyterHub's variables are not ours. See extraEnv."),
		"hub.extraFiles.**":           different("Mount files by hub.extraVolumes."),
		"hub.extraVolumes":            different("It is one pod with BinderHub: see hub.extraVolumes."), "hub.extraVolumeMounts": different("It is one pod with BinderHub: see hub.extraVolumeMounts."),
		"hub.cookieSecret": not("Replicas share one through the database."),
		"hub.db.**":        not("It has a database of its own: SQLite, or database.existingSecret."),
		"hub.db.url":       different("Our database is another one: make an empty one and name it in database.existingSecret."), "hub.db.password": different("See database.existingSecret."),
		"hub.services.**":                              different("There are no services beside the hub: its API has their uses."),
		"hub.services.binder.**":                       not("There is no second service to log in to."),
		"hub.loadRoles.**":                             different("There are no roles: see config.hub."),
		"hub.config.**":                                different("It configures JupyterHub's Python, which is not there."),
		"hub.config.JupyterHub.**":                     different("It configures JupyterHub's Python, which is not there."),
		"hub.config.JupyterHub.concurrent_spawn_limit": to("config.launch.max_starts"),
		"hub.config.JupyterHub.active_server_limit":    by(total), "hub.config.JupyterHub.allow_named_servers": not(whyAlways),
		"hub.config.JupyterHub.authenticator_class": different(whySignIn),
		"hub.config.Authenticator.**":               different(whySignIn),
		"hub.config.BinderSpawner.auth_enabled":     by(only(false, whySignIn)), "hub.config.BinderSpawner.cors_allow_origin": to("config.allow_origin"),
		"hub.config.DummyAuthenticator.**": different(whySignIn), "hub.config.GitHubOAuthenticator.**": different(whySignIn),
		"hub.redirectToServer": not(whyAlways), "hub.shutdownOnLogout": not("Nobody logs in."),
		"cull.enabled":  by(only(true, "Idle sessions end: set config.launch.idle_timeout to a long time.")),
		"cull.timeout":  by(seconds("config.launch.idle_timeout")),
		"cull.maxAge":   by(seconds("config.launch.max_age")),
		"cull.every":    not("Sessions are looked at every 15 seconds."),
		"cull.**":       not("There are no users to cull, only sessions."),
		"debug.enabled": by(level),
		"custom.**":     not("It was for Python of yours."),
		"rbac.enabled":  to("rbac.create"), "rbac.create": to("rbac.create"),
		"fullnameOverride": not("Objects are named after the release."), "nameOverride": not("Objects are named after the release."), "enabled": not("There is no JupyterHub."),
		"imagePullSecret.**": different("Make the Secret yourself and name it in image.pullSecrets and sessions.imagePullSecrets."),
		"imagePullSecrets":   by(names("image.pullSecrets")),
		"global.**":          not("It is for charts within charts."),
	})
}

// userRules are the keys of JupyterHub's singleuser: sessions.
func userRules() map[string]rule {
	const pod = "Lay it over the pods of sessions: config.kubernetes.session.pod."
	return below("jupyterhub.singleuser.", map[string]rule{
		"memory.limit":     by(memory("config.launch.limits.memory", "Sessions without a limit are not served; it is 2GiB.")),
		"memory.guarantee": by(share("jupyterhub.singleuser.memory.limit", "config.kubernetes.session.guarantee.memory", bytes)),
		"cpu.limit":        to("config.launch.limits.cpu"),
		"cpu.guarantee":    by(share("jupyterhub.singleuser.cpu.limit", "config.kubernetes.session.guarantee.cpu", number)),
		"extraResource.limits": byWhy("Requests are the same.", func(c *conversion, v any) ([]string, error) {
			m, ok := v.(map[string]any)
			if !ok {
				return nil, sentence("Its value is not keys and values: set config.kubernetes.session.resources by hand.")
			}
			if len(m) == 0 {
				return nil, nil
			}
			return []string{"config.kubernetes.session.resources"}, c.set("config.kubernetes.session.resources", texts(m))
		}),
		"extraResource.guarantees": not("They are as the limits."),
		"nodeSelector":             to("sessions.nodeSelector"),
		"extraTolerations":         to("sessions.tolerations"),
		"runtimeClassName":         to("sessions.runtimeClassName"),
		"extraLabels":              to("config.kubernetes.session.labels"),
		"extraEnv":                 by(environment),
		"image.pullSecrets":        by(names("sessions.imagePullSecrets")),
		"image.**":                 not("Images are those of repositories."),
		"startTimeout":             by(seconds("config.kubernetes.session.start_timeout")),
		"networkPolicy.enabled":    to("networkPolicy.enabled"),
		"networkPolicy.ingress":    different("The hub alone reaches sessions."), "networkPolicy.allowedIngressPorts": different("The hub alone reaches sessions."),
		"networkPolicy.**": different("Sessions reach the internet and nothing private: config.kubernetes.session.network has allow, deny and ports."),
		"networkPolicy.egressAllowRules.nonPrivateIPs":               by(only(true, "Sessions reach the internet: close it by config.kubernetes.session.network.ports or deny.")),
		"networkPolicy.egressAllowRules.privateIPs":                  by(only(false, "Private addresses are closed but for config.kubernetes.session.network.allow.")),
		"networkPolicy.egressAllowRules.cloudMetadataServer":         by(only(false, "The metadata of the cloud is never reached.")),
		"networkPolicy.egressAllowRules.dnsPortsCloudMetadataServer": not(whyAlways), "networkPolicy.egressAllowRules.dnsPortsKubeSystemNamespace": not(whyAlways),
		"networkPolicy.egressAllowRules.dnsPortsPrivateIPs": different("Name other DNS servers in config.kubernetes.session.network.dns_addresses."),
		"networkPolicy.interNamespaceAccessLabels":          not("No namespace but the hub's reaches sessions."),
		"cloudMetadata.**": not("The metadata of the cloud is never reached: a NetworkPolicy says so."),
		"networkTools.**":  not("The metadata of the cloud is never reached: a NetworkPolicy says so."),
		"storage.type":     by(only("none", "Sessions keep nothing: people save to their browser or to a repository.")),
		"storage.**":       different(pod),
		"profileList":      different("See config.kubernetes.session.profiles."),
		"cmd":              not("The image says what runs; for JupyterLab or an interface see urlpath."),
		"defaultUrl":       different("Give urlpath in links."),
		"events":           not("What Kubernetes says is told on the launch page."),
		"uid":              not("It is always 1000."), "fsGid": not("It is always the image's."), "serviceAccountName": not("Sessions have no rights in the cluster."),
		"allowPrivilegeEscalation": by(only(false, "Sessions never gain privileges.")),
		"podNameTemplate":          not("Pods are named after the session."),
		"extraAnnotations":         different(pod), "extraPodConfig.**": different(pod), "extraContainers": different(pod), "initContainers": different(pod), "lifecycleHooks.**": different(pod),
		"extraNodeAffinity.**": different(pod), "extraPodAffinity.**": different(pod), "extraPodAntiAffinity.**": different(pod), "extraFiles.**": different(pod),
		"extraEnvFrom": different(pod), "gid": not("It is always the image's."), "nodeAffinity.**": different(pod),
	})
}

func texts(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = fmt.Sprint(v)
	}
	return out
}

// proxyRules are the keys of what JupyterHub has in front of it.
func proxyRules() map[string]rule {
	const one = "One Service and one name serve hub and sessions: service, ingress, https. Names of their own for sessions are config.session_domain."
	return below("jupyterhub.", map[string]rule{
		"proxy.**":                             not("The proxy is in the hub: no configurable-http-proxy, no traefik."),
		"proxy.secretToken":                    not("There is no second service to log in to."),
		"proxy.service.**":                     not(one),
		"proxy.https.**":                       different(one),
		"proxy.https.enabled":                  different("See https: the hub speaks HTTPS itself, also for the pages of BinderHub."),
		"proxy.https.letsencrypt.contactEmail": to("https.acme.email"),
		"proxy.https.letsencrypt.acmeServer":   to("https.acme.ca"),
		"proxy.https.hosts":                    different("Give the hub's name in https.acme.domain: sessions are below it too."),
		"proxy.https.secret.name": byWhy("It has to be valid for the hub's name.", func(c *conversion, v any) ([]string, error) {
			if c.get("jupyterhub.proxy.https.type") != "secret" {
				return nil, sentence("It was not in use: proxy.https.type is not secret.")
			}
			return []string{"https.existingSecret"}, c.set("https.existingSecret", v)
		}),
		"proxy.https.manual.**": different("Put the certificate into a Secret: kubectl create secret tls hub-tls --cert=… --key=…, and name it in https.existingSecret."),
		"ingress.**":            not(one),
		"httpRoute.**":          not(one),
	})
}

// placeRules are the keys of where JupyterHub's pods go.
func placeRules() map[string]rule {
	return below("jupyterhub.", map[string]rule{
		"scheduling.userScheduler.**":                    not("Sessions are packed by their pods' affinity: config.kubernetes.session.pack."),
		"scheduling.podPriority.enabled":                 to("scheduling.podPriority.enabled"),
		"scheduling.podPriority.userPlaceholderPriority": to("scheduling.podPriority.userPlaceholderPriority"),
		"scheduling.podPriority.defaultPriority":         to("scheduling.podPriority.sessionPriority"),
		"scheduling.podPriority.**":                      not("There is no default class for the whole cluster."),
		"scheduling.userPlaceholder.enabled":             not("It follows from scheduling.userPlaceholder.replicas."),
		"scheduling.userPlaceholder.replicas": by(func(c *conversion, v any) ([]string, error) {
			if c.get("jupyterhub.scheduling.userPlaceholder.enabled") == false {
				return nil, nil
			}
			return []string{"scheduling.userPlaceholder.replicas"}, c.set("scheduling.userPlaceholder.replicas", v)
		}),
		"scheduling.userPlaceholder.resources": to("scheduling.userPlaceholder.resources"),
		"scheduling.userPlaceholder.**":        not("Placeholders run our image and do nothing."),
		"scheduling.corePods.**":               different("See hub.nodeSelector, hub.tolerations and hub.affinity."),
		"scheduling.userPods.**":               different("See sessions.nodeSelector and sessions.tolerations."),
		"scheduling.userPods.tolerations":      to("sessions.tolerations"),
		"prePuller.extraImages":                by(images),
		"prePuller.**":                         not("Images of repositories are fetched when they are asked for; see prePuller.images for popular ones."),
	})
}
