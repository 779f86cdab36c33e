package azure

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

const systemPool = "system"

func (c *Cloud) cluster() operations {
	cs := c.clients.clusters
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := cs.Get(ctx, c.config.Group(), r.Name, nil)
			if err != nil {
				return r, err
			}
			return c.readCluster(got.ManagedCluster), nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			body, err := c.clusterBody(ctx, r)
			if err != nil {
				return "", err
			}
			p, err := cs.BeginCreateOrUpdate(ctx, c.config.Group(), r.Name, body, nil)
			return began(ctx, p, err)
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := cs.BeginDelete(ctx, c.config.Group(), r.Name, nil)
			return began(ctx, p, err)
		},
		waitPut:    wait[armcontainerservice.ManagedClustersClientCreateOrUpdateResponse](c),
		waitRemove: wait[armcontainerservice.ManagedClustersClientDeleteResponse](c),
	}
}

// clusterBody is what AKS is asked for: a managed identity, because the secret
// of a service principal expires after a year and takes the cluster with it;
// pods in an overlay, because they then need no network of ours and no role in
// it; network policies enforced by Cilium.
func (c *Cloud) clusterBody(ctx context.Context, r deploy.Resource) (armcontainerservice.ManagedCluster, error) {
	got, err := c.clients.clusters.Get(ctx, c.config.Group(), r.Name, nil)
	if isNotFound(err) {
		return c.newCluster(r), nil
	}
	if err != nil {
		return armcontainerservice.ManagedCluster{}, err
	}
	// What others set on the cluster stays: only what can change of ours does.
	m, a := got.ManagedCluster, c.config.Azure
	pool := findPool(m)
	if pool == nil {
		return c.newCluster(r), nil
	}
	m.Tags, m.SKU = c.tags(r), c.tier()
	pool.MinCount, pool.MaxCount = number(a.Nodes.Min), number(a.Nodes.Max)
	// The autoscaler decides how many nodes there are, within the bounds.
	pool.Count = number(min(max(int(value(pool.Count)), a.Nodes.Min), a.Nodes.Max))
	if a.Kubernetes != "" && c.readCluster(m).Spec["kubernetes"] != a.Kubernetes {
		m.Properties.KubernetesVersion = &a.Kubernetes
		for _, pool := range m.Properties.AgentPoolProfiles {
			if c.ours(pool.Tags) || value(pool.Name) == systemPool {
				pool.OrchestratorVersion = &a.Kubernetes
			}
		}
	}
	c.identify(m.Properties)
	return m, nil
}

func (c *Cloud) tier() *armcontainerservice.ManagedClusterSKU {
	tier := armcontainerservice.ManagedClusterSKUTierFree
	if c.config.Azure.Tier == "standard" {
		tier = armcontainerservice.ManagedClusterSKUTierStandard
	}
	return &armcontainerservice.ManagedClusterSKU{Name: new(armcontainerservice.ManagedClusterSKUNameBase), Tier: new(tier)}
}

func (c *Cloud) newCluster(r deploy.Resource) armcontainerservice.ManagedCluster {
	a := c.config.Azure
	prefix, _, _ := strings.Cut(a.Network.Services, "/")
	dns := prefix[:strings.LastIndexByte(prefix, '.')] + ".10"
	p := &armcontainerservice.ManagedClusterProperties{
		DNSPrefix: new(c.config.Name), NodeResourceGroup: new(c.nodeGroup()), EnableRBAC: new(true),
		AgentPoolProfiles: []*armcontainerservice.ManagedClusterAgentPoolProfile{{
			Name: new(systemPool), Mode: new(armcontainerservice.AgentPoolModeSystem), Type: new(armcontainerservice.AgentPoolTypeVirtualMachineScaleSets),
			VMSize: &a.Nodes.Size, OSType: new(armcontainerservice.OSTypeLinux), OSDiskSizeGB: number(a.Nodes.DiskGB), EnableAutoScaling: new(true),
			Count: number(a.Nodes.Min), MinCount: number(a.Nodes.Min), MaxCount: number(a.Nodes.Max),
		}},
		NetworkProfile: &armcontainerservice.NetworkProfile{
			NetworkPlugin: new(armcontainerservice.NetworkPluginAzure), NetworkPluginMode: new(armcontainerservice.NetworkPluginModeOverlay),
			NetworkDataplane: new(armcontainerservice.NetworkDataplaneCilium), NetworkPolicy: new(armcontainerservice.NetworkPolicyCilium),
			LoadBalancerSKU: new(armcontainerservice.LoadBalancerSKUStandard), PodCidr: &a.Network.Pods, ServiceCidr: &a.Network.Services, DNSServiceIP: &dns,
		},
		AutoUpgradeProfile: &armcontainerservice.ManagedClusterAutoUpgradeProfile{
			UpgradeChannel: new(armcontainerservice.UpgradeChannelPatch), NodeOSUpgradeChannel: new(armcontainerservice.NodeOSUpgradeChannelNodeImage),
		},
		OidcIssuerProfile: &armcontainerservice.ManagedClusterOIDCIssuerProfile{Enabled: new(true)},
	}
	if a.Kubernetes != "" {
		p.KubernetesVersion = &a.Kubernetes
	}
	c.identify(p)
	return armcontainerservice.ManagedCluster{
		Location: &a.Region, Tags: c.tags(r), Properties: p, SKU: c.tier(),
		Identity: &armcontainerservice.ManagedClusterIdentity{Type: new(armcontainerservice.ResourceIdentityTypeSystemAssigned)},
	}
}

// identify lets pods be somebody in Azure, where one of ours is to be.
func (c *Cloud) identify(p *armcontainerservice.ManagedClusterProperties) {
	if c.config.Watch.Identity == "" {
		return
	}
	p.OidcIssuerProfile = &armcontainerservice.ManagedClusterOIDCIssuerProfile{Enabled: new(true)}
	if p.SecurityProfile == nil {
		p.SecurityProfile = &armcontainerservice.ManagedClusterSecurityProfile{}
	}
	p.SecurityProfile.WorkloadIdentity = &armcontainerservice.ManagedClusterSecurityProfileWorkloadIdentity{Enabled: new(true)}
}

func number(n int) *int32 { return new(int32(n)) } //nolint:gosec // validated to be small

func findPool(m armcontainerservice.ManagedCluster) *armcontainerservice.ManagedClusterAgentPoolProfile {
	if m.Properties == nil {
		return nil
	}
	for _, pool := range m.Properties.AgentPoolProfiles {
		if value(pool.Name) == systemPool {
			return pool
		}
	}
	return nil
}

// readCluster says what a cluster is, in the words of Wanted.
func (c *Cloud) readCluster(m armcontainerservice.ManagedCluster) deploy.Resource {
	out := deploy.Resource{ID: value(m.ID), Ours: c.ours(m.Tags), Labels: labels(m.Tags), Spec: map[string]string{"region": value(m.Location)}}
	if m.SKU != nil {
		out.Spec["tier"] = strings.ToLower(string(value(m.SKU.Tier)))
	}
	out.Spec["identity"] = "service principal"
	if m.Identity != nil && value(m.Identity.Type) == armcontainerservice.ResourceIdentityTypeSystemAssigned {
		out.Spec["identity"] = "managed"
	}
	p := m.Properties
	if p == nil {
		return out
	}
	out.State = state(value(p.ProvisioningState))
	if out.State == deploy.StateFailed {
		out.Reason = "Azure says that its last operation failed."
	}
	out.Outputs = map[string]string{"version": value(p.CurrentKubernetesVersion), "server": value(p.Fqdn)}
	if m.SystemData != nil && m.SystemData.CreatedAt != nil {
		out.Outputs["created"] = m.SystemData.CreatedAt.UTC().Format(time.RFC3339)
	}
	if want := c.config.Azure.Kubernetes; want != "" {
		// 1.34 is any 1.34.x; patches come by themselves.
		out.Spec["kubernetes"] = value(p.KubernetesVersion)
		if strings.HasPrefix(value(p.KubernetesVersion)+".", want+".") {
			out.Spec["kubernetes"] = want
		}
	}
	if pool := findPool(m); pool != nil {
		out.Spec["size"] = value(pool.VMSize)
		out.Spec["min"], out.Spec["max"] = text(pool.MinCount), text(pool.MaxCount)
		out.Spec["disk_gb"] = text(pool.OSDiskSizeGB)
	}
	if o := p.OidcIssuerProfile; o != nil && value(o.IssuerURL) != "" {
		out.Outputs["issuer"] = value(o.IssuerURL)
	}
	if s := p.SecurityProfile; s != nil && s.WorkloadIdentity != nil && value(s.WorkloadIdentity.Enabled) {
		out.Spec["workload identity"] = "on"
	}
	if n := p.NetworkProfile; n != nil {
		out.Spec["pods"], out.Spec["services"] = value(n.PodCidr), value(n.ServiceCidr)
		out.Spec["network"] = string(value(n.NetworkPlugin)) + " " + string(value(n.NetworkPluginMode)) + ", " + string(value(n.NetworkPolicy))
	}
	return out
}

func text(n *int32) string { return strconv.Itoa(int(value(n))) }

// Kubeconfig is how to reach the cluster, to be kept in memory only. Returns
// unavailable with [deploy.ErrAsleep] while the cluster is stopped.
func (c *Cloud) Kubeconfig(ctx context.Context) ([]byte, error) {
	if err := c.awake(ctx); err != nil {
		return nil, err
	}
	got, err := c.clients.clusters.ListClusterUserCredentials(ctx, c.config.Group(), c.config.Name, nil)
	if err != nil {
		return nil, explain(err)
	}
	if len(got.Kubeconfigs) == 0 {
		return nil, binnacle.Errorf(binnacle.CodeUnavailable, "Azure has no credentials for the cluster %s yet.", c.config.Name)
	}
	return got.Kubeconfigs[0].Value, nil
}
