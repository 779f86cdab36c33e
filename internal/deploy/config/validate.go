package config

import (
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// freeNodes is how many nodes the free tier of AKS is meant for.
const freeNodes = 10

// Validate reports every problem of a configuration that was not read from a
// file.
func (c Config) Validate() Problems {
	var ps Problems
	c.validate(&ps)
	return ps
}

func (c Config) validate(ps *Problems) {
	check(ps, "name", c.Name, required, `[a-z][a-z0-9-]{0,38}[a-z0-9]`, "must be 2 to 40 lower-case letters, digits and hyphens, beginning with a letter")
	oneOf(ps, "target", c.Target, TargetAzure, TargetCluster, TargetHost)
	switch c.Target {
	case TargetAzure:
		c.azure(ps)
	case TargetCluster:
		check(ps, "cluster.kubeconfig", c.Cluster.Kubeconfig, optional, file, "must be a file")
		check(ps, "cluster.context", c.Cluster.Context, required, `\S+`, "must name a context of the kubeconfig")
		check(ps, "cluster.namespace", c.Cluster.Namespace, optional, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, "must be lower-case letters, digits and hyphens")
	case TargetHost:
		c.host(ps)
	}
	c.registry(ps)
	c.names(ps)
	c.watch(ps)
	check(ps, "image", c.Image, optional, image, "must be the name of an image")
	check(ps, "verify.repository", c.Verify.Repository, optional, `[^\s/]+/\S*[^\s/]\S*`, "must be a repository as links name it, or its address")
	for _, from := range c.Access.From {
		if _, err := netip.ParsePrefix(from); err != nil {
			ps.add("access.from", "%q is not a range of addresses", from)
		}
	}
	for _, re := range c.Access.Repositories {
		if _, err := regexp.Compile(re); err != nil {
			ps.add("access.repositories", "%q is not a regular expression", re)
		}
	}
}

func (c Config) host(ps *Problems) {
	h := c.Host
	check(ps, "host.address", h.Address, optional, `([a-z_][a-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.:-]*`, "must be a machine that ssh reaches")
	if _, _, port := h.Split(); port != "" {
		check(ps, "host.address", port, optional, `[1-9][0-9]{0,4}`, "must end with a port")
	}
	check(ps, "host.identity", h.Identity, optional, file, "must be a file")
	check(ps, "host.known_hosts", h.KnownHosts, optional, file, "must be a file")
	check(ps, "host.data", h.Data, optional, `(/[A-Za-z0-9._-]+)+`, "must be an absolute path of letters, digits and ._-")
	const longest = 36 // sockets live below it
	if len(h.Data) > longest {
		ps.add("host.data", "must be at most %d characters long", longest)
	}
	if _, err := netip.ParseAddrPort(h.Listen); h.Listen != "" && err != nil {
		if _, err := netip.ParseAddrPort("0.0.0.0" + h.Listen); err != nil { // ":443" is every address
			ps.add("host.listen", "must be an address and a port, not %q", h.Listen)
		}
	}
	if data, ok := c.Hub["data"].(string); ok && data != h.Data {
		ps.add("hub.data", "is host.data here")
	}
	if c.Registry.Kind != RegistryNone && c.Registry.Kind != RegistryAzure { // which has its own problem
		ps.add("registry.kind", "must be none with the target host: one machine keeps its images itself")
	}
	if len(c.Access.From) > 0 {
		ps.add("access.from", "needs the target azure or cluster; on one machine that is the firewall's")
	}
	if len(c.Values) > 0 {
		ps.add("values", "are settings of the chart, which the target host does not use; the hub's own are in the section hub")
	}
}

// Forges are the kinds of forge that commit statuses are written to.
func Forges() []string { return []string{"github", "gitlab", "gitea", "azure-devops"} }

func (c Config) watch(ps *Problems) {
	w := c.Watch
	// What ssh needs, a key and the host's, is nowhere in a pod.
	address := `https?://[^\s@]+`
	rule := "must be the https address of a repository, without a user"
	if c.Target == TargetHost {
		address, rule = `(https?|ssh|file)://\S+|[\w.-]+@[\w.-]+:\S+`, "must be the address of a repository"
	}
	check(ps, "watch.repository", w.Repository, optional, address, rule)
	if w.Repository == "" {
		for path, value := range map[string]string{"watch.branch": w.Branch, "watch.token_from": w.TokenFrom, "watch.status": w.Status, "watch.identity": w.Identity} {
			if value != "" {
				ps.add(path, "needs watch.repository")
			}
		}
		return
	}
	check(ps, "watch.branch", w.Branch, optional, `[^\s~^:?*\[\\-][^\s~^:?*\[\\]*`, "must be the name of a branch")
	check(ps, "watch.path", w.Path, required, `[^\s/.][^\s]*`, "must be a path below the root of the repository")
	if strings.Contains(w.Path, "..") {
		ps.add("watch.path", "must be a path below the root of the repository, not %q", w.Path)
	}
	const shortest = 10 * time.Second
	if d, err := time.ParseDuration(w.Interval); err != nil || d < shortest {
		ps.add("watch.interval", "must be a time of at least %s, not %q", shortest, w.Interval)
	}
	where(ps, "watch.token_from", w.TokenFrom, w.Status != "")
	if w.Status != "" {
		oneOf(ps, "watch.status", w.Status, Forges()...)
	}
	check(ps, "watch.api", w.API, optional, `https?://[^\s@]+`, "must be the address of an API, without a user")
	check(ps, "watch.via", w.Via, optional, `[\w.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}`, "must be an address and a port")
	check(ps, "watch.identity", w.Identity, optional, uuid, "must be an id")
	if w.Identity != "" && c.Target != TargetAzure {
		ps.add("watch.identity", "needs the target azure")
	}
}

const (
	required = true
	optional = false
)

// check holds a text against a pattern.
func check(ps *Problems, path, value string, must bool, pattern, rule string) {
	switch {
	case value == "" && must:
		ps.add(path, "is missing: %s", rule)
	case value == "" || regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(value):
	case strings.Contains(value, "@"): // what stands before it may be secret
		ps.add(path, "%s", rule)
	default:
		ps.add(path, "%s, not %q", rule, value)
	}
}

// where holds what says where a secret is against its two forms. It is never shown:
// some write the secret itself.
func where(ps *Problems, path, value string, must bool) {
	const rule = "must say where the secret is, env:NAME or file:PATH"
	switch {
	case value == "" && must:
		ps.add(path, "is missing: %s", rule)
	case value != "" && !regexp.MustCompile(`^(?:env:[A-Za-z_][A-Za-z0-9_]*|file:`+file+`)$`).MatchString(value):
		ps.add(path, "%s; the secret itself does not belong into this file", rule)
	}
}

// file is the name of a file, image that of an image.
const (
	file  = `[^"\n\r\x00-][^"\n\r\x00]*`
	image = `[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?`
)

func oneOf(ps *Problems, path, value string, allowed ...string) {
	list := strings.Join(allowed, ", ")
	switch {
	case value == "":
		ps.add(path, "is missing: must be one of %s", list)
	case !slices.Contains(allowed, value):
		ps.add(path, "must be one of %s, not %q", list, value)
	}
}

const uuid = `[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`

func (c Config) azure(ps *Problems) {
	a := c.Azure
	check(ps, "azure.subscription", a.Subscription, required, `[^/\\<>%&?]{1,64}`, "must be the name or the id of a subscription")
	check(ps, "azure.region", a.Region, required, `[a-z]+[a-z0-9]*`, "must be the name of a region, letters and digits")
	check(ps, "azure.resource_group", a.ResourceGroup, optional, `[\w().-]{0,89}[\w()-]`, "must be at most 90 letters, digits, and ._-(), not ending with a dot")
	oneOf(ps, "azure.sign_in", a.SignIn, SignIns()...)
	check(ps, "azure.tenant", a.Tenant, optional, uuid+`|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+`, "must be the id or the domain of a tenant")
	check(ps, "azure.client", a.Client, optional, uuid, "must be an id")
	where(ps, "azure.secret_from", a.SecretFrom, a.SignIn == "service_principal")
	check(ps, "azure.service_connection", a.ServiceConnection, a.SignIn == "pipelines", uuid, "must be the id of the service connection")
	check(ps, "azure.kubernetes", a.Kubernetes, optional, `1\.\d{2}(\.\d+)?`, "must be a version")
	oneOf(ps, "azure.tier", a.Tier, "free", "standard")
	c.nodes(ps)
	c.network(ps)
	c.cloud(ps)
}

func (c Config) cloud(ps *Problems) {
	a := c.Azure
	for path, value := range map[string]string{
		"azure.cloud.resource_manager": a.Cloud.ResourceManager, "azure.cloud.authority": a.Cloud.Authority,
		"azure.cloud.audience": a.Cloud.Audience, "azure.cloud.prices": a.Cloud.Prices,
	} {
		u, err := url.Parse(value)
		switch {
		case value == "":
		case strings.Contains(value, "@"): // what stands before it may be secret
			ps.add(path, "must be an https address without a user")
		case err != nil || u.Scheme != "https" || u.Host == "":
			ps.add(path, "must be an https address, not %q", value)
		}
	}
	check(ps, "azure.cloud.ca_file", a.Cloud.CAFile, optional, file, "must be a file")
	switch {
	case a.Cloud.ResourceManager == "" && a.Cloud.Authority != "":
		ps.add("azure.cloud.resource_manager", "is missing: it and azure.cloud.authority are both needed, or none")
	case a.Cloud.ResourceManager != "" && a.Cloud.Authority == "":
		ps.add("azure.cloud.authority", "is missing: it and azure.cloud.resource_manager are both needed, or none")
	}
}

// SignIns are the ways to sign in to Azure.
func SignIns() []string {
	return []string{"cli", "device", "service_principal", "managed_identity", "workload_identity", "pipelines"}
}

func (c Config) nodes(ps *Problems) {
	n := c.Azure.Nodes
	check(ps, "azure.nodes.size", n.Size, required, machineType, "must be the name of a machine type")
	if strings.HasPrefix(n.Size, "Standard_B") {
		ps.add("azure.nodes.size", "%s is of the B series, which AKS refuses for system nodes", n.Size)
	}
	n.bounds(ps, "azure.nodes", 1)
	all := n.Max
	for i, pool := range c.Azure.Pools.both() {
		path := "azure.pools." + pool.Name
		before := len(*ps)
		check(ps, path+".size", pool.Size, optional, machineType, "must be the name of a machine type")
		pool.bounds(ps, path, 0)
		switch {
		case pool.Size != "":
			all += pool.Max
		case len(*ps) == before && pool != Default().Azure.Pools.both()[i]:
			ps.add(path+".size", "is missing: without it there is no such pool")
		}
	}
	if c.Azure.Tier == "free" && all > freeNodes && !ps.has("azure.nodes.max") {
		ps.add("azure.nodes.max", "must be at most %d with azure.tier free, pools included, not %d; set azure.tier to standard", freeNodes, all)
	}
}

const machineType = `Standard_[A-Z]+[0-9]+[A-Za-z0-9_-]*`

// bounds looks at numbers; least is how few nodes there may be.
func (n Nodes) bounds(ps *Problems, path string, least int) {
	const most = 1000
	if n.Min < least || n.Min > most {
		ps.add(path+".min", "must be %d to %d, not %d", least, most, n.Min)
	}
	switch {
	case ps.has(path + ".min"): // it is told what it may be
	case n.Max < max(n.Min, 1):
		ps.add(path+".max", "must be at least %s.min (%d), not %d", path, max(n.Min, 1), n.Max)
	case n.Max > most:
		ps.add(path+".max", "must be at most %d, not %d", most, n.Max)
	}
	const smallest, largest = 30, 2048
	if n.DiskGB < smallest || n.DiskGB > largest {
		ps.add(path+".disk_gb", "must be %d to %d, not %d", smallest, largest, n.DiskGB)
	}
}

// network refuses ranges that overlap: binderhub-deploy's own virtual network
// held the range of its services.
func (c Config) network(ps *Problems) {
	type named struct {
		path   string
		prefix netip.Prefix
	}
	seen := []named{{"the range of the nodes", netip.MustParsePrefix("10.224.0.0/12")}}
	for _, r := range []struct{ path, text string }{
		{"azure.network.pods", c.Azure.Network.Pods}, {"azure.network.services", c.Azure.Network.Services},
	} {
		p, err := netip.ParsePrefix(r.text)
		const longest = 24
		switch {
		case err != nil || !p.Addr().Is4() || p != p.Masked():
			ps.add(r.path, "must be a range of IPv4 addresses, not %q", r.text)
			continue
		case !p.Addr().IsPrivate():
			ps.add(r.path, "must be a range of private addresses, not %s", r.text)
			continue
		case p.Bits() > longest:
			ps.add(r.path, "must have at least 256 addresses (/%d), not %s", longest, r.text)
			continue
		}
		for _, s := range seen {
			if s.prefix.Overlaps(p) {
				ps.add(r.path, "%s overlaps %s (%s)", r.text, s.path, s.prefix)
			}
		}
		if !ps.has(r.path) {
			seen = append(seen, named{r.path, p})
		}
	}
}

func (c Config) registry(ps *Problems) {
	r := c.Registry
	oneOf(ps, "registry.kind", r.Kind, RegistryAzure, RegistryDockerHub, RegistryOther, RegistryNone)
	check(ps, "registry.prefix", r.Prefix, optional, `[a-z0-9]+([._/-]+[a-z0-9]+)*[._/-]*`, "must be lower-case letters, digits, dots, hyphens, underscores and slashes")
	if r.Kind == RegistryAzure {
		if c.Target != TargetAzure && c.Target != "" {
			ps.add("registry.kind", "azure needs the target azure; name one that is there with kind other")
		}
		check(ps, "registry.name", r.Name, optional, `[a-zA-Z0-9]{5,50}`, "must be 5 to 50 letters and digits")
		oneOf(ps, "registry.sku", r.SKU, "Basic", "Standard", "Premium")
	}
	needed := r.Kind == RegistryDockerHub
	check(ps, "registry.username", r.Username, needed, `\S+`, "must be a user's name")
	where(ps, "registry.password_from", r.PasswordFrom, needed || r.Username != "")
	check(ps, "registry.organisation", r.Organisation, optional, `[a-z0-9_-]{4,}`, "must be the name of an organisation on Docker Hub")
	check(ps, "registry.host", r.Host, r.Kind == RegistryOther, host+`(:[1-9][0-9]{0,4})?`, "must be the host of a registry")
}

const host = `[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*`

func (c Config) names(ps *Problems) {
	check(ps, "dns.domain", c.DNS.Domain, optional, `([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}`, "must be a domain, lower-case, without https://")
	check(ps, "dns.resolver", c.DNS.Resolver, optional, `[0-9a-fA-F.:\[\]]+`, "must be an address such as 192.0.2.53 or 192.0.2.53:53")
	check(ps, "dns.label", c.DNS.Label, optional, `[a-z][a-z0-9-]{1,61}[a-z0-9]`, "must be 3 to 63 lower-case letters, digits and hyphens, beginning with a letter")
	if a, err := mail.ParseAddress(c.HTTPS.Email); c.HTTPS.Email != "" && (err != nil || a.Address != c.HTTPS.Email) {
		ps.add("https.email", "%q is not an address of mail", c.HTTPS.Email)
	}
	if c.HTTPS.Enabled && (c.Target == TargetCluster || c.Target == TargetHost) && c.DNS.Domain == "" {
		ps.add("dns.domain", "is missing: HTTPS needs a name; set one, or https.enabled to false")
	}
}
