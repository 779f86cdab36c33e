package azure

import (
	"context"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

const storageSKU = "Standard_LRS"

// outputServers are the name servers of a zone, with commas.
const outputServers = "name servers"

func (c *Cloud) group() operations {
	g := c.clients.groups
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := g.Get(ctx, r.Name, nil)
			if err != nil {
				return r, err
			}
			out := deploy.Resource{ID: value(got.ID), Ours: c.ours(got.Tags), Labels: labels(got.Tags), Spec: map[string]string{"region": value(got.Location)}}
			if got.Properties != nil {
				out.State = state(value(got.Properties.ProvisioningState))
			}
			return out, nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			_, err := g.CreateOrUpdate(ctx, r.Name, armresources.ResourceGroup{Location: &c.config.Azure.Region, Tags: c.tags(r)}, nil)
			return "", err
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := g.BeginDelete(ctx, r.Name, nil)
			return began(ctx, p, err)
		},
		waitRemove: wait[armresources.ResourceGroupsClientDeleteResponse](c),
	}
}

func (c *Cloud) registry() operations {
	rs := c.clients.registries
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := rs.Get(ctx, c.config.Group(), r.Name, nil)
			if err != nil {
				return r, err
			}
			out := deploy.Resource{ID: value(got.ID), Ours: c.ours(got.Tags), Labels: labels(got.Tags), Spec: map[string]string{"region": value(got.Location)}}
			if got.SKU != nil {
				out.Spec["sku"] = string(value(got.SKU.Name))
			}
			if p := got.Properties; p != nil {
				out.State = state(string(value(p.ProvisioningState)))
				out.Outputs = map[string]string{"host": value(p.LoginServer)}
			}
			return out, nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := rs.BeginCreate(ctx, c.config.Group(), r.Name, armcontainerregistry.Registry{
				Location: &c.config.Azure.Region, Tags: c.tags(r), SKU: &armcontainerregistry.SKU{Name: new(armcontainerregistry.SKUName(r.Spec["sku"]))},
				Properties: &armcontainerregistry.RegistryProperties{AdminUserEnabled: new(false)},
			}, nil)
			return began(ctx, p, err)
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := rs.BeginDelete(ctx, c.config.Group(), r.Name, nil)
			return began(ctx, p, err)
		},
		waitPut:    wait[armcontainerregistry.RegistriesClientCreateResponse](c),
		waitRemove: wait[armcontainerregistry.RegistriesClientDeleteResponse](c),
	}
}

func (c *Cloud) storage() operations {
	as := c.clients.accounts
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := as.GetProperties(ctx, c.config.Group(), r.Name, nil)
			if err != nil {
				return r, err
			}
			out := deploy.Resource{ID: value(got.ID), Ours: c.ours(got.Tags), Labels: labels(got.Tags), Spec: map[string]string{"region": value(got.Location)}}
			if got.SKU != nil {
				out.Spec["sku"] = string(value(got.SKU.Name))
			}
			if got.Properties != nil {
				out.State = state(string(value(got.Properties.ProvisioningState)))
			}
			return out, nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := as.BeginCreate(ctx, c.config.Group(), r.Name, armstorage.AccountCreateParameters{
				Kind: new(armstorage.KindStorageV2), Location: &c.config.Azure.Region, SKU: &armstorage.SKU{Name: new(armstorage.SKUName(r.Spec["sku"]))}, Tags: c.tags(r),
				Properties: &armstorage.AccountPropertiesCreateParameters{
					AllowBlobPublicAccess: new(false), EnableHTTPSTrafficOnly: new(true), MinimumTLSVersion: new(armstorage.MinimumTLSVersionTLS12),
				},
			}, nil)
			return began(ctx, p, err)
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			_, err := as.Delete(ctx, c.config.Group(), r.Name, nil)
			return "", err
		},
		waitPut: wait[armstorage.AccountsClientCreateResponse](c),
	}
}

func (c *Cloud) zone() operations {
	zs := c.clients.zones
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := zs.Get(ctx, c.config.Group(), r.Name, nil)
			if err != nil {
				return r, err
			}
			out := deploy.Resource{ID: value(got.ID), Ours: c.ours(got.Tags), Labels: labels(got.Tags), Spec: map[string]string{}, State: deploy.StateReady, Outputs: map[string]string{}}
			if got.Properties != nil {
				var servers []string
				for _, s := range got.Properties.NameServers {
					servers = append(servers, strings.TrimSuffix(value(s), "."))
				}
				out.Outputs[outputServers] = strings.Join(servers, ", ")
			}
			return out, nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			_, err := zs.CreateOrUpdate(ctx, c.config.Group(), r.Name, armdns.Zone{Location: new("global"), Tags: c.tags(r)}, nil)
			return "", err
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := zs.BeginDelete(ctx, c.config.Group(), r.Name, nil)
			return began(ctx, p, err)
		},
		waitRemove: wait[armdns.ZonesClientDeleteResponse](c),
	}
}

func (c *Cloud) address() operations {
	as := c.clients.addresses
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := as.Get(ctx, c.nodeGroup(), r.Name, nil)
			if err != nil {
				return r, err
			}
			out := deploy.Resource{ID: value(got.ID), Ours: c.ours(got.Tags), Labels: labels(got.Tags), Spec: map[string]string{"region": value(got.Location)}}
			if got.SKU != nil {
				out.Spec["sku"] = string(value(got.SKU.Name))
			}
			if p := got.Properties; p != nil {
				out.State = state(string(value(p.ProvisioningState)))
				out.Outputs = map[string]string{"address": value(p.IPAddress)}
				if p.DNSSettings != nil {
					out.Spec["label"] = value(p.DNSSettings.DomainNameLabel)
					out.Outputs["name"] = value(p.DNSSettings.Fqdn)
				}
			}
			return out, nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := as.BeginCreateOrUpdate(ctx, c.nodeGroup(), r.Name, armnetwork.PublicIPAddress{
				Location: &c.config.Azure.Region, Tags: c.tags(r), SKU: &armnetwork.PublicIPAddressSKU{Name: new(armnetwork.PublicIPAddressSKUNameStandard)},
				Properties: &armnetwork.PublicIPAddressPropertiesFormat{
					PublicIPAllocationMethod: new(armnetwork.IPAllocationMethodStatic), PublicIPAddressVersion: new(armnetwork.IPVersionIPv4),
					DNSSettings: &armnetwork.PublicIPAddressDNSSettings{DomainNameLabel: new(r.Spec["label"])},
				},
			}, nil)
			return began(ctx, p, err)
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			p, err := as.BeginDelete(ctx, c.nodeGroup(), r.Name, nil)
			return began(ctx, p, err)
		},
		waitPut:    wait[armnetwork.PublicIPAddressesClientCreateOrUpdateResponse](c),
		waitRemove: wait[armnetwork.PublicIPAddressesClientDeleteResponse](c),
	}
}

// record is the address record at the top of the zone. It points at the public
// address itself, so that it follows it.
func (c *Cloud) record() operations {
	rs := c.clients.records
	const top, ttl = "@", int64(300)
	return operations{
		find: func(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
			got, err := rs.Get(ctx, c.config.Group(), r.Name, top, armdns.RecordTypeA, nil)
			if err != nil {
				return r, err
			}
			out := deploy.Resource{ID: value(got.ID), Spec: map[string]string{}, State: deploy.StateReady}
			if p := got.Properties; p != nil {
				out.Ours = c.ours(p.Metadata)
				if p.TargetResource != nil {
					out.Spec["target"] = strings.ToLower(value(p.TargetResource.ID))
				}
			}
			return out, nil
		},
		put: func(ctx context.Context, r deploy.Resource) (string, error) {
			_, err := rs.CreateOrUpdate(ctx, c.config.Group(), r.Name, top, armdns.RecordTypeA, armdns.RecordSet{
				Properties: &armdns.RecordSetProperties{TTL: new(ttl), Metadata: c.tags(r), TargetResource: &armdns.SubResource{ID: new(c.addressID())}},
			}, nil)
			return "", err
		},
		remove: func(ctx context.Context, r deploy.Resource) (string, error) {
			_, err := rs.Delete(ctx, c.config.Group(), r.Name, top, armdns.RecordTypeA, nil)
			return "", err
		},
	}
}

// kinds are the types of Azure that are ours to make.
func kinds() map[string]string {
	return map[string]string{
		"microsoft.containerregistry/registries": kindRegistry, "microsoft.storage/storageaccounts": kindStorage,
		"microsoft.network/dnszones": kindZone, "microsoft.containerservice/managedclusters": kindCluster,
	}
}

// List has the resource group, all that is in it, and what of ours lives
// elsewhere: the address in the cluster's own group and the record in the zone.
func (c *Cloud) List(ctx context.Context) ([]deploy.Resource, error) {
	var out []deploy.Resource
	group := deploy.Resource{Kind: kindGroup, Name: c.config.Group()}
	have, err := c.group().find(ctx, group)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	have.Kind, have.Name, have.Holds = group.Kind, group.Name, true
	out = append(out, have)
	for pager := c.clients.resources.NewListByResourceGroupPager(group.Name, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, explain(err)
		}
		for _, r := range page.Value {
			kind, known := kinds()[strings.ToLower(value(r.Type))]
			if !known {
				kind = value(r.Type)
			}
			out = append(out, deploy.Resource{Kind: kind, Name: value(r.Name), ID: value(r.ID), Ours: known && c.ours(r.Tags), State: state(value(r.ProvisioningState))})
		}
	}
	wanted, err := c.Wanted(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range wanted {
		if w.Within == "" || w.Kind == kindPool {
			continue
		}
		have, err := c.Find(ctx, w)
		if err != nil {
			if binnacle.CodeOf(err) == binnacle.CodeNotFound {
				continue
			}
			return nil, err
		}
		have.Within = w.Within
		out = append(out, have)
	}
	pools, err := c.ourPools(ctx)
	return append(out, pools...), explain(err)
}
