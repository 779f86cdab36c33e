package azure

import (
	"context"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// poolLabel is on the nodes of a pool that is for one thing, as their taint is.
const poolLabel = "binnacle-pool"

// pool has the machines for builds or for sessions. What AKS runs itself stays on the
// cluster's own, the system pool.
func (c *Cloud) pool() operations {
	pools, group, cluster := c.clients.pools, c.config.Group(), c.config.Name
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := pools.Get(ctx, group, cluster, r.Name, nil)
			if err != nil {
				return r, err
			}
			return c.readPool(got.AgentPool), nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			body, err := c.poolBody(ctx, r)
			if err != nil {
				return "", err
			}
			p, err := pools.BeginCreateOrUpdate(ctx, group, cluster, r.Name, body, nil)
			return began(ctx, p, err)
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := pools.BeginDelete(ctx, group, cluster, r.Name, nil)
			return began(ctx, p, err)
		},
		waitPut:    wait[armcontainerservice.AgentPoolsClientCreateOrUpdateResponse](c),
		waitRemove: wait[armcontainerservice.AgentPoolsClientDeleteResponse](c),
	}
}

// wantedPools are the resources of the pools that the file asks for.
func (c *Cloud) wantedPools() (rs []deploy.Resource) {
	for _, p := range c.config.Azure.Pools.All() {
		rs = append(rs, deploy.Resource{
			Kind: kindPool, Name: p.Name, Spec: map[string]string{"size": p.Size, "min": strconv.Itoa(p.Min), "max": strconv.Itoa(p.Max), "disk_gb": strconv.Itoa(p.DiskGB)},
			Fixed: []string{"size", "disk_gb"}, Within: kindCluster + "/" + c.config.Name,
		})
	}
	return rs
}

func (c *Cloud) poolBody(ctx context.Context, r deploy.Resource) (armcontainerservice.AgentPool, error) {
	n := c.config.Azure.Pools.Named(r.Name)
	got, err := c.clients.pools.Get(ctx, c.config.Group(), c.config.Name, r.Name, nil)
	if err == nil && got.Properties != nil { // what others set on it stays
		p := got.Properties
		p.Tags, p.MinCount, p.MaxCount = c.tags(r), number(n.Min), number(n.Max)
		p.Count = number(min(max(int(value(p.Count)), n.Min), n.Max))
		return got.AgentPool, nil
	}
	if err != nil && !isNotFound(err) {
		return armcontainerservice.AgentPool{}, err
	}
	return armcontainerservice.AgentPool{Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
		Mode: new(armcontainerservice.AgentPoolModeUser), Type: new(armcontainerservice.AgentPoolTypeVirtualMachineScaleSets), Tags: c.tags(r),
		VMSize: &n.Size, OSType: new(armcontainerservice.OSTypeLinux), OSDiskSizeGB: number(n.DiskGB), EnableAutoScaling: new(true),
		Count: number(n.Min), MinCount: number(n.Min), MaxCount: number(n.Max),
		NodeLabels: map[string]*string{poolLabel: &r.Name}, NodeTaints: []*string{new(poolLabel + "=" + r.Name + ":NoSchedule")},
	}}, nil
}

// readPool says what a pool is, in the words of wantedPools.
func (c *Cloud) readPool(a armcontainerservice.AgentPool) deploy.Resource {
	out := deploy.Resource{ID: value(a.ID), Spec: map[string]string{}}
	if p := a.Properties; p != nil {
		out.Ours, out.Labels, out.State = c.ours(p.Tags), labels(p.Tags), state(value(p.ProvisioningState))
		if out.State == deploy.StateFailed {
			out.Reason = "Azure says that its last operation failed."
		}
		out.Spec["size"], out.Spec["disk_gb"] = value(p.VMSize), text(p.OSDiskSizeGB)
		out.Spec["min"], out.Spec["max"] = text(p.MinCount), text(p.MaxCount)
	}
	return out
}

// ourPools are those of the cluster that we made, wanted or not.
func (c *Cloud) ourPools(ctx context.Context) (out []deploy.Resource, err error) {
	for pager := c.clients.pools.NewListPager(c.config.Group(), c.config.Name, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if isNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, a := range page.Value {
			r := c.readPool(*a)
			if r.Kind, r.Name, r.Within = kindPool, value(a.Name), kindCluster+"/"+c.config.Name; r.Ours {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// ChartValues send builds and sessions to the pools that are for them.
func ChartValues(c config.Config) map[string]any {
	parts := map[string]string{config.PoolBuilds: "builders", config.PoolSessions: "sessions"}
	v := map[string]any{}
	for _, p := range c.Azure.Pools.All() {
		v[parts[p.Name]] = map[string]any{
			"nodeSelector": map[string]any{poolLabel: p.Name},
			"tolerations":  []any{map[string]any{"key": poolLabel, "operator": "Equal", "value": p.Name, "effect": "NoSchedule"}},
		}
	}
	return v
}
