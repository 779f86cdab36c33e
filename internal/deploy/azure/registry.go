package azure

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// RegistryUser is the name of the registry's token that the hub signs in with.
const RegistryUser = "binnacle"

// RegistryPassword makes that token, which may push to and pull from the one
// registry and do nothing else, and a password for it that does not end by itself.
// A password made before is no longer accepted then. So no role has to be assigned
// to the cluster's identity, which would need rights that a Contributor lacks.
func (c *Cloud) RegistryPassword(ctx context.Context) (config.Secret, error) {
	group, registry := c.config.Group(), c.registryName()
	id := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerRegistry/registries/%s", c.subscription, group, registry)
	// The scope map comes with every registry; it has pulling too.
	made, err := c.clients.tokens.BeginCreate(ctx, group, registry, RegistryUser, armcontainerregistry.Token{Properties: &armcontainerregistry.TokenProperties{
		ScopeMapID: new(id + "/scopeMaps/_repositories_push"), Status: new(armcontainerregistry.TokenStatusEnabled),
	}}, nil)
	if err != nil {
		return "", explain(err)
	}
	often := &runtime.PollUntilDoneOptions{Frequency: c.poll}
	if _, err := made.PollUntilDone(ctx, often); err != nil {
		return "", explain(err)
	}
	generated, err := c.clients.registries.BeginGenerateCredentials(ctx, group, registry, armcontainerregistry.GenerateCredentialsParameters{
		TokenID: new(id + "/tokens/" + RegistryUser), Name: new(armcontainerregistry.TokenPasswordNamePassword1),
	}, nil)
	if err != nil {
		return "", explain(err)
	}
	got, err := generated.PollUntilDone(ctx, often)
	if err != nil {
		return "", explain(err)
	}
	for _, p := range got.Passwords {
		if value(p.Name) == armcontainerregistry.TokenPasswordNamePassword1 && value(p.Value) != "" {
			return config.Secret(value(p.Value)), nil
		}
	}
	return "", &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "azure.registry", Message: "Azure made a token for the registry " + registry + " and did not tell its password.",
		Hint: "Run the same command again.",
	}
}
