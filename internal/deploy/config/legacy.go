package config

import (
	"fmt"
	"strconv"
	"strings"
)

// text is a key whose value is taken as it is.
func text(path, env, example string, to func(*Config) *string) legacy {
	return legacy{path: path, env: env, example: example, set: func(i *Imported, v string) string {
		*to(&i.Config) = v
		return ""
	}}
}

// secret is a key whose value is kept out of the file.
func secret(path, env string, to func(*Config) *string, setting string) legacy {
	return legacy{path: path, env: env, example: `"…" (its value is not shown)`, set: func(i *Imported, v string) string {
		if v != "" {
			i.Secrets[setting] = Secret(v)
			*to(&i.Config) = "env:" + env
		}
		return ""
	}}
}

// gone is a key that has no counterpart.
func gone(path, env, note string) legacy {
	return legacy{path: path, env: env, note: note, example: "null"}
}

// flag reads true or false in the ways people write them: "false" is false.
func flag(path, env string, to func(*Config) *bool) legacy {
	return legacy{path: path, env: env, example: "false", set: func(i *Imported, v string) string {
		if v == "" {
			return ""
		}
		b, err := strconv.ParseBool(strings.ToLower(v))
		if err != nil {
			return fmt.Sprintf("%q is neither true nor false", v)
		}
		*to(&i.Config) = b
		return ""
	}}
}

// legacyKeys are all keys of binderhub-deploy 1.3.0.
func legacyKeys() []legacy {
	return []legacy{
		{path: "container_registry", env: "CONTAINER_REGISTRY", example: `"dockerhub" or "azurecr"`, set: setRegistry},
		flag("enable_https", "ENABLE_HTTPS", func(c *Config) *bool { return &c.HTTPS.Enabled }),
		text("acr.registry_name", "REGISTRY_NAME", `"myhubimages"`, func(c *Config) *string { return &c.Registry.Name }),
		{path: "acr.sku", env: "REGISTRY_SKU", example: `"Basic"`, set: func(i *Imported, v string) string {
			if v != "" {
				i.Config.Registry.SKU = v
			}
			return ""
		}},
		text("azure.subscription", "AZURE_SUBSCRIPTION", `"my subscription"`, func(c *Config) *string { return &c.Azure.Subscription }),
		text("azure.res_grp_name", "RESOURCE_GROUP_NAME", `"my-resources"`, func(c *Config) *string { return &c.Azure.ResourceGroup }),
		text("azure.location", "RESOURCE_GROUP_LOCATION", `"westeurope"`, func(c *Config) *string { return &c.Azure.Region }),
		{path: "azure.node_count", env: "AKS_NODE_COUNT", example: "3", set: setNodes},
		{path: "azure.vm_size", env: "AKS_NODE_VM_SIZE", example: `"Standard_D4s_v5"`, set: func(i *Imported, v string) string {
			if v != "" {
				i.Config.Azure.Nodes.Size = v
				return ""
			}
			return "is missing: must be the name of a machine type"
		}},
		text("azure.sp_app_id", "SP_APP_ID", `"00000000-0000-0000-0000-000000000000"`, func(c *Config) *string { return &c.Azure.Client }),
		secret("azure.sp_app_key", "SP_APP_KEY", func(c *Config) *string { return &c.Azure.SecretFrom }, "azure.secret_from"),
		text("azure.sp_tenant_id", "SP_TENANT_ID", `"00000000-0000-0000-0000-000000000000"`, func(c *Config) *string { return &c.Azure.Tenant }),
		flag("azure.log_to_blob_storage", "LOG_TO_BLOB_STORAGE", func(c *Config) *bool { return &c.Azure.Storage }),
		{path: "binderhub.name", env: "BINDERHUB_NAME", example: `"my-hub"`, set: setName},
		gone("binderhub.version", "BINDERHUB_VERSION", "names a version of BinderHub's chart; Binnacle installs its own version."),
		{path: "binderhub.image_prefix", env: "DOCKER_IMAGE_PREFIX", example: `"binder-"`, set: func(i *Imported, v string) string {
			if v != "" {
				// BinderHub put a hyphen after the prefix.
				i.Config.Registry.Prefix = strings.TrimSuffix(v, "-") + "-"
			}
			return ""
		}},
		text("docker.username", "DOCKERHUB_USERNAME", `"ada"`, func(c *Config) *string { return &c.Registry.Username }),
		secret("docker.password", "DOCKERHUB_PASSWORD", func(c *Config) *string { return &c.Registry.PasswordFrom }, "registry.password_from"),
		text("docker.org", "DOCKERHUB_ORGANISATION", `"my-institute"`, func(c *Config) *string { return &c.Registry.Organisation }),
		gone("https.certmanager_version", "CERTMANAGER_VERSION", "the hub gets certificates by itself; nothing is installed for it."),
		text("https.contact_email", "CONTACT_EMAIL", `"ada@example.org"`, func(c *Config) *string { return &c.HTTPS.Email }),
		text("https.domain_name", "DOMAIN_NAME", `"hub.example.org"`, func(c *Config) *string { return &c.DNS.Domain }),
		gone("https.nginx_version", "NGINX_VERSION", "the hub speaks HTTPS itself; nothing is installed for it."),
	}
}

func setRegistry(i *Imported, v string) string {
	switch v {
	case "dockerhub":
		i.Config.Registry.Kind = RegistryDockerHub
	case "azurecr":
		i.Config.Registry.Kind = RegistryAzure
	case "":
		return "is missing: must be dockerhub or azurecr"
	default:
		return fmt.Sprintf("must be dockerhub or azurecr, not %q", v)
	}
	return ""
}

// setNodes keeps the number as both bounds: binderhub-deploy had no scaling.
func setNodes(i *Imported, v string) string {
	if v == "" {
		return "is missing: must be a number of nodes"
	}
	n, err := atoi(v)
	if err != nil {
		return err.Error()
	}
	i.Config.Azure.Nodes.Min, i.Config.Azure.Nodes.Max = n, n
	if n > freeNodes {
		i.Config.Azure.Tier = "standard"
		i.Notes = append(i.Notes, fmt.Sprintf("azure.tier is standard, because the free tier is for at most %d nodes; it costs a little by the hour.", freeNodes))
	}
	return ""
}

func setName(i *Imported, v string) string {
	if v == "" {
		return "is missing: must be the hub's name"
	}
	name := slug(v)
	i.Config.Name = name
	if name != v {
		i.Notes = append(i.Notes, fmt.Sprintf("the name %q is written %q.", v, name))
	}
	return ""
}
