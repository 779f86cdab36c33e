package azure

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// Check looks at the subscription, the rights, the providers, the size, the quota,
// the version and the names, before anything is created.
func (c *Cloud) Check(ctx context.Context) ([]deploy.Finding, error) {
	var out []deploy.Finding
	for _, look := range []func(context.Context) ([]deploy.Finding, error){
		c.checkSubscription, c.checkRights, c.checkProviders, c.checkMachines, c.checkVersion, c.checkNames,
	} {
		found, err := look(ctx)
		if err != nil {
			return out, explain(err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func good(name, format string, args ...any) []deploy.Finding {
	return []deploy.Finding{{Name: name, OK: true, Message: fmt.Sprintf(format, args...)}}
}

func wrong(name, hint, format string, args ...any) []deploy.Finding {
	return []deploy.Finding{{Name: name, Message: fmt.Sprintf(format, args...), Hint: hint}}
}

func (c *Cloud) checkSubscription(ctx context.Context) ([]deploy.Finding, error) {
	got, err := c.clients.subscriptions.Get(ctx, c.subscription, nil)
	if err != nil {
		return nil, err
	}
	s := value(got.State)
	if s != armsubscriptions.SubscriptionStateEnabled {
		return wrong("subscription", "Look at the subscription in the portal; a disabled one takes nothing new.", "The subscription %s is %s.", value(got.DisplayName), s), nil
	}
	return good("subscription", "%s is enabled", value(got.DisplayName)), nil
}

// checkRights asks Azure what we may do in the resource group; nobody can ask that of
// a group that is not there.
func (c *Cloud) checkRights(ctx context.Context) ([]deploy.Finding, error) {
	group := c.config.Group()
	var have []*armauthorization.Permission
	for pager := c.clients.permissions.NewListForResourceGroupPager(group, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if isNotFound(err) {
			return good("rights", "the resource group %s is to be created, which takes the role Contributor on the subscription", group), nil
		}
		if err != nil {
			return nil, err
		}
		have = append(have, page.Value...)
	}
	types, err := c.types(ctx)
	if err != nil {
		return nil, err
	}
	var lacking []string
	for _, t := range types {
		if !allowed(have, t+"/write") {
			lacking = append(lacking, t)
		}
	}
	if len(lacking) > 0 {
		return wrong("rights", "Ask its owner for the role Contributor on the resource group "+group+".", "you may not create %s in %s.", strings.Join(lacking, ", "), group), nil
	}
	return good("rights", "you may create all that is needed in %s", group), nil
}

// allowed says whether one of the permissions has an action and does not take it back.
func allowed(have []*armauthorization.Permission, action string) bool {
	matches := func(pattern *string) bool {
		re := strings.ReplaceAll(regexp.QuoteMeta(value(pattern)), `\*`, ".*")
		return regexp.MustCompile("(?i)^" + re + "$").MatchString(action)
	}
	return slices.ContainsFunc(have, func(p *armauthorization.Permission) bool {
		return slices.ContainsFunc(p.Actions, matches) && !slices.ContainsFunc(p.NotActions, matches)
	})
}

// types are what Azure calls the kinds of resources that the deployment creates.
func (c *Cloud) types(ctx context.Context) (list []string, err error) {
	wanted, err := c.Wanted(ctx)
	if err != nil {
		return nil, err
	}
	of := map[string]string{
		kindRegistry: "Microsoft.ContainerRegistry/registries", kindStorage: "Microsoft.Storage/storageAccounts", kindZone: "Microsoft.Network/dnsZones",
		kindCluster: "Microsoft.ContainerService/managedClusters", kindPool: "Microsoft.ContainerService/managedClusters/agentPools", kindAddress: "Microsoft.Network/publicIPAddresses",
	}
	for _, r := range wanted {
		if t, ok := of[r.Kind]; ok {
			list = append(list, t)
		}
	}
	return list, nil
}

// providers are the namespaces of Azure that the deployment uses.
func (c *Cloud) providers(ctx context.Context) ([]string, error) {
	types, err := c.types(ctx)
	if err != nil {
		return nil, err
	}
	list := []string{"Microsoft.Compute"}
	for _, t := range types {
		namespace, _, _ := strings.Cut(t, "/")
		list = append(list, namespace)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func (c *Cloud) checkProviders(ctx context.Context) ([]deploy.Finding, error) {
	list, err := c.providers(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, namespace := range list {
		got, err := c.clients.providers.Get(ctx, namespace, nil)
		if err != nil {
			return nil, err
		}
		if value(got.RegistrationState) != "Registered" {
			missing = append(missing, namespace)
		}
	}
	if len(missing) > 0 {
		return good("providers", "%s will be registered in the subscription when first used", strings.Join(missing, ", ")), nil
	}
	return good("providers", "all %d are registered", len(list)), nil
}

// machines are nodes of one size.
type machines struct {
	config.Nodes
	path   string // of their settings
	size   *armcompute.ResourceSKU
	cores  int
	system bool // AKS runs its own pods there
}

// checkMachines holds sizes against what there is and the rules for system nodes, and
// the number of nodes against the quota.
func (c *Cloud) checkMachines(ctx context.Context) ([]deploy.Finding, error) {
	region := c.config.Azure.Region
	all := []machines{{Nodes: c.config.Azure.Nodes, path: "azure.nodes", system: true}}
	for _, p := range c.config.Azure.Pools.All() {
		all = append(all, machines{Nodes: p.Nodes, path: "azure.pools." + p.Name})
	}
	sizes, err := c.sizes(ctx)
	if err != nil {
		return nil, err
	}
	var out []deploy.Finding
	for i := range all {
		m := &all[i]
		if m.size = sizes[strings.ToLower(m.Size)]; m.size == nil {
			return wrong("size", "Choose another "+m.path+".size or azure.region.", "There is no %s in %s.", m.Size, region), nil
		}
		for _, r := range m.size.Restrictions {
			if value(r.Type) == armcompute.ResourceSKURestrictionsTypeLocation {
				return wrong("size", "Choose another "+m.path+".size or azure.region, or ask Azure's support for access.",
					"%s can't be used in %s by this subscription (%s).", m.Size, region, value(r.ReasonCode)), nil
			}
		}
		var memory int
		m.cores, memory = capability(m.size, "vCPUs"), capability(m.size, "MemoryGB")
		const leastCores, leastMemory = 4, 4
		if m.system && (m.cores < leastCores || memory < leastMemory) {
			return wrong("size", "Choose one with 4 vCPUs, such as Standard_D4s_v5.",
				"%s has %d vCPUs and %d GB; system nodes of AKS need %d and %d.", m.Size, m.cores, memory, leastCores, leastMemory), nil
		}
		out = append(out, good("size", "%s has %d vCPUs and %d GB", m.Size, m.cores, memory)...)
	}
	found, err := c.checkQuota(ctx, all)
	return append(out, found...), err
}

// sizes are the machine types of the region, by their names in lower case.
func (c *Cloud) sizes(ctx context.Context) (map[string]*armcompute.ResourceSKU, error) {
	out := map[string]*armcompute.ResourceSKU{}
	filter := "location eq '" + c.config.Azure.Region + "'"
	for pager := c.clients.sizes.NewListPager(&armcompute.ResourceSKUsClientListOptions{Filter: &filter}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Value {
			if value(s.ResourceType) == "virtualMachines" {
				out[strings.ToLower(value(s.Name))] = s
			}
		}
	}
	return out, nil
}

func capability(s *armcompute.ResourceSKU, name string) int {
	for _, p := range s.Capabilities {
		if value(p.Name) == name {
			f, _ := strconv.ParseFloat(value(p.Value), 64)
			return int(f)
		}
	}
	return 0
}

// checkQuota wants room for all nodes there may be, and one more, which an
// upgrade needs for a while. What the cluster has already counts as free.
func (c *Cloud) checkQuota(ctx context.Context, all []machines) ([]deploy.Finding, error) {
	already := map[string]int{} // vCPUs, by machine type
	if got, err := c.clients.clusters.Get(ctx, c.config.Group(), c.config.Name, nil); err == nil {
		if p := got.Properties; p != nil {
			for _, pool := range p.AgentPoolProfiles {
				for _, m := range all {
					if strings.EqualFold(value(pool.VMSize), m.Size) {
						already[strings.ToLower(m.Size)] += int(value(pool.Count)) * m.cores
						break
					}
				}
			}
		}
	} else if !isNotFound(err) {
		return nil, err
	}
	var out []deploy.Finding
	for pager := c.clients.usage.NewListPager(c.config.Azure.Region, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Value {
			if u.Name == nil {
				continue
			}
			name := value(u.Name.Value)
			counted := slices.DeleteFunc(slices.Clone(all), func(m machines) bool {
				return name != "cores" && !strings.EqualFold(name, value(m.size.Family))
			})
			if len(counted) > 0 {
				free := int(value(u.Limit)) - int(value(u.CurrentValue))
				out = append(out, room(counted, already, value(u.Name.LocalizedValue), free, int(value(u.Limit)))...)
			}
		}
	}
	return out, nil
}

// room holds machines against what is free of a quota; have are the vCPUs of those
// that are there, by machine type.
func room(ms []machines, have map[string]int, quota string, free, limit int) []deploy.Finding {
	need, most, what := 0, 0, []string{}
	had := map[string]bool{}
	for _, m := range ms {
		need, most = need+m.Max*m.cores, max(most, m.cores)
		what = append(what, fmt.Sprintf("%d nodes of %s", m.Max, m.Size))
		if key := strings.ToLower(m.Size); !had[key] {
			had[key] = true
			need -= have[key]
		}
	}
	switch {
	case free < need:
		less := "lower azure.nodes.max and those of azure.pools"
		if len(ms) == 1 {
			less = fmt.Sprintf("set %s.max to %d", ms[0].path, ms[0].Max-(need-free+most-1)/most)
		}
		return wrong("quota", fmt.Sprintf("Ask for %d vCPUs more in the portal under Quotas, or %s.", need-free, less),
			"%s need %d vCPUs; %s has %d free of %d.", strings.Join(what, " and "), need, quota, free, limit)
	case free < need+most:
		return good("quota", "%s has %d vCPUs free and %d are needed; an upgrade of the cluster at full size would need %d more", quota, free, need, most)
	}
	return good("quota", "%s has %d vCPUs free, %d are needed", quota, free, need)
}

func (c *Cloud) checkVersion(ctx context.Context) ([]deploy.Finding, error) {
	want := c.config.Azure.Kubernetes
	if want == "" {
		return nil, nil
	}
	got, err := c.clients.clusters.ListKubernetesVersions(ctx, c.config.Azure.Region, nil)
	if err != nil {
		return nil, err
	}
	var offered []string
	for _, v := range got.Values {
		if value(v.IsPreview) {
			continue
		}
		offered = append(offered, value(v.Version))
		if _, patch := v.PatchVersions[want]; patch || value(v.Version) == want {
			return good("kubernetes", "%s is offered", want), nil
		}
	}
	return wrong("kubernetes", "Offered: "+strings.Join(offered, ", ")+".", "Kubernetes %s is not offered in %s.", want, c.config.Azure.Region), nil
}

// checkNames looks whether names that must be free in the whole world are, but
// for those that are ours already.
func (c *Cloud) checkNames(ctx context.Context) ([]deploy.Finding, error) {
	wanted, err := c.Wanted(ctx)
	if err != nil {
		return nil, err
	}
	var out []deploy.Finding
	for _, r := range wanted {
		if r.Kind != kindRegistry && r.Kind != kindStorage && r.Kind != kindAddress {
			continue
		}
		have, err := c.Find(ctx, r)
		if err == nil && have.Ours {
			continue
		}
		if err != nil && binnacle.CodeOf(err) != binnacle.CodeNotFound {
			return nil, err
		}
		found, err := c.checkName(ctx, r)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func (c *Cloud) checkName(ctx context.Context, r deploy.Resource) ([]deploy.Finding, error) {
	name, setting := r.Name, "name"
	var free bool
	var why string
	switch r.Kind {
	case kindRegistry:
		got, err := c.clients.registries.CheckNameAvailability(ctx, armcontainerregistry.RegistryNameCheckRequest{Name: &name, Type: new("Microsoft.ContainerRegistry/registries")}, nil)
		if err != nil {
			return nil, err
		}
		setting, free, why = "registry.name", value(got.NameAvailable), value(got.Message)
	case kindStorage:
		got, err := c.clients.accounts.CheckNameAvailability(ctx, armstorage.AccountCheckNameAvailabilityParameters{Name: &name, Type: new("Microsoft.Storage/storageAccounts")}, nil)
		if err != nil {
			return nil, err
		}
		free, why = value(got.NameAvailable), value(got.Message)
	default:
		name = c.Label()
		got, err := c.clients.network.CheckDNSNameAvailability(ctx, c.config.Azure.Region, name, nil)
		if err != nil {
			return nil, err
		}
		setting, free, why = "dns.label", value(got.Available), "it is taken"
	}
	if !free {
		return wrong("name", "Choose another "+setting+".", "%s can't have the name %s: %s.", r.Kind, name, strings.TrimSuffix(why, ".")), nil
	}
	return good("name", "%s %s is free", r.Kind, name), nil
}
