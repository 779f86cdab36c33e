package azure

import (
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
)

// clients are those of the SDK that we use.
type clients struct {
	subscriptions *armsubscriptions.Client
	groups        *armresources.ResourceGroupsClient
	resources     *armresources.Client
	providers     *armresources.ProvidersClient
	clusters      *armcontainerservice.ManagedClustersClient
	registries    *armcontainerregistry.RegistriesClient
	tokens        *armcontainerregistry.TokensClient
	addresses     *armnetwork.PublicIPAddressesClient
	network       *armnetwork.ManagementClient
	zones         *armdns.ZonesClient
	records       *armdns.RecordSetsClient
	accounts      *armstorage.AccountsClient
	usage         *armcompute.UsageClient
	sizes         *armcompute.ResourceSKUsClient
	permissions   *armauthorization.PermissionsClient
	pools         *armcontainerservice.AgentPoolsClient
}

func newClients(id string, cred azcore.TokenCredential, opt *arm.ClientOptions) (clients, error) {
	var c clients
	errs := make([]error, 16)
	c.subscriptions, errs[0] = armsubscriptions.NewClient(cred, opt)
	c.groups, errs[1] = armresources.NewResourceGroupsClient(id, cred, opt)
	c.resources, errs[2] = armresources.NewClient(id, cred, opt)
	c.providers, errs[3] = armresources.NewProvidersClient(id, cred, opt)
	c.clusters, errs[4] = armcontainerservice.NewManagedClustersClient(id, cred, opt)
	c.registries, errs[5] = armcontainerregistry.NewRegistriesClient(id, cred, opt)
	c.addresses, errs[6] = armnetwork.NewPublicIPAddressesClient(id, cred, opt)
	c.network, errs[7] = armnetwork.NewManagementClient(id, cred, opt)
	c.zones, errs[8] = armdns.NewZonesClient(id, cred, opt)
	c.records, errs[9] = armdns.NewRecordSetsClient(id, cred, opt)
	c.accounts, errs[10] = armstorage.NewAccountsClient(id, cred, opt)
	c.usage, errs[11] = armcompute.NewUsageClient(id, cred, opt)
	c.sizes, errs[12] = armcompute.NewResourceSKUsClient(id, cred, opt)
	c.tokens, errs[13] = armcontainerregistry.NewTokensClient(id, cred, opt)
	c.permissions, errs[14] = armauthorization.NewPermissionsClient(id, cred, opt)
	c.pools, errs[15] = armcontainerservice.NewAgentPoolsClient(id, cred, opt)
	return c, errors.Join(errs...)
}
