package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// settingURL is the address of the hub among the settings of a release.
const settingURL = "url"

// theAddress is the setting of a hub that is known by its load balancer's address.
const theAddress = "http:// and the load balancer's address"

// byAddress says that people reach the hub by the address that the load balancer
// has, which is only known once it is there.
func (c *Cloud) byAddress() bool {
	v := c.base()
	service, _ := v["service"].(map[string]any)
	return v[settingURL] == nil && service["type"] == "LoadBalancer"
}

// URL is how people reach the hub, given the load balancer's address; empty when
// nobody knows yet.
func (c *Cloud) URL(address string) string {
	if url, _ := c.base()[settingURL].(string); url != "" {
		return url
	}
	if c.byAddress() && address != "" {
		return "http://" + address
	}
	return ""
}

// base are the chart's values that follow from the configuration.
func (c *Cloud) base() map[string]any {
	cfg := c.o.Config
	v := map[string]any{"service": map[string]any{"type": "LoadBalancer"}}
	if len(cfg.Access.From) > 0 {
		v["service"] = map[string]any{"type": "LoadBalancer", "loadBalancerSourceRanges": texts(cfg.Access.From), "externalTrafficPolicy": "Local"}
	}
	hub := maps.Clone(cfg.Hub)
	if len(cfg.Access.Repositories) > 0 {
		hub = config.Merge(hub, map[string]any{"launch": map[string]any{"allowed_specs": texts(cfg.Access.Repositories)}})
	}
	if len(hub) > 0 {
		v["config"] = hub
	}
	if cfg.Image != "" {
		name, tag := splitImage(cfg.Image)
		v["image"] = map[string]any{"name": name, "tag": tag}
	}
	if domain := c.o.Domain; domain != "" {
		v[settingURL] = "http://" + domain
		if cfg.HTTPS.Enabled {
			acme := map[string]any{"domain": domain, "email": cfg.HTTPS.Email}
			if len(c.o.Also) > 0 {
				acme["also"] = texts(c.o.Also)
			}
			if cfg.HTTPS.Staging {
				acme["ca"] = certmagic.LetsEncryptStagingCA
			}
			v[settingURL], v["https"] = "https://"+domain, map[string]any{"acme": acme}
		}
	}
	registry := map[string]any{}
	host := cfg.Registry.Host
	if c.o.Registry != nil {
		host = c.o.Registry.Host
		registry["existingSecret"] = c.secretName()
		pull := []any{c.secretName()}
		v["sessions"] = map[string]any{"imagePullSecrets": pull}
		v = config.Merge(v, map[string]any{"image": map[string]any{"pullSecrets": pull}})
	}
	if prefix := cfg.ImagePrefix(host); prefix != "" {
		// What it ends with says how names follow: Docker Hub has no level below this one.
		registry["imagePrefix"] = strings.TrimSuffix(prefix, "/")
	}
	if len(registry) > 0 {
		v["registry"] = registry
	}
	if cfg.Watch.Repository != "" {
		v["watch"] = c.follower()
	}
	return config.Merge(config.Merge(v, c.o.Values), cfg.Values)
}

// follower is the pod that follows the repository.
func (c *Cloud) follower() map[string]any {
	in := c.o.Config.Follower()
	in.Domain, in.Also, in.Values = c.o.Domain, c.o.Also, c.o.Values
	if c.o.Registry != nil {
		in.Registry, in.Username = c.o.Registry.Host, c.o.Registry.Username
	}
	v := map[string]any{"enabled": true, "identity": c.o.Config.Watch.Identity}
	if name := c.tokenName(); name != "" {
		v["tokenSecret"], in.Token = name, "/etc/binnacle/token/"+tokenKey
	}
	b, err := json.Marshal(in)
	if err != nil {
		return nil // texts can always be written
	}
	v["settings"] = string(b)
	return v
}

// values are those of the chart, given the load balancer's address if known.
func (c *Cloud) values(address string) map[string]any {
	v := c.base()
	if url := c.URL(address); url != "" {
		v[settingURL] = url
	}
	return v
}

// withoutAddress are values whose url says that it follows the load balancer's
// address, when it does.
func (c *Cloud) withoutAddress(values map[string]any, address string) map[string]any {
	v := maps.Clone(values)
	if c.byAddress() && address != "" && v[settingURL] == "http://"+address {
		delete(v, settingURL)
	} else if c.byAddress() && v[settingURL] == nil {
		v[settingURL] = "(not yet known)"
	}
	return v
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// splitImage takes the tag, or the digest with its @, off an image's name.
func splitImage(ref string) (name, tag string) {
	if i := strings.Index(ref, "@"); i >= 0 {
		return ref[:i], ref[i:]
	}
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

// spec are values as settings, each by its path, and a digest of all, which
// tells about settings that went away.
func (c *Cloud) spec(values map[string]any, version string) (map[string]string, error) {
	b, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("write the chart's values: %w", err)
	}
	var same map[string]any
	if err := json.Unmarshal(b, &same); err != nil {
		return nil, err
	}
	out := map[string]string{"binnacle": strings.ReplaceAll(version, "+", "-")}
	if c.byAddress() && same[settingURL] == nil {
		same[settingURL] = theAddress
		if b, err = json.Marshal(same); err != nil {
			return nil, err
		}
	}
	config.Flatten(out, "", same)
	sum := sha256.Sum256(b)
	const enough = 12
	out[deploy.FieldDigest] = hex.EncodeToString(sum[:])[:enough]
	return out, nil
}

// NeedsPassword says that the configuration's registry has a password to be read.
func NeedsPassword(c config.Config) bool {
	return c.Registry.PasswordFrom != "" && (c.Registry.Kind == config.RegistryDockerHub || c.Registry.Kind == config.RegistryOther)
}
