package azure

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

// Asleep says that the cluster is stopped: its machines are gone and cost nothing,
// its API does not answer. Returns not_found when there is no cluster.
func (c *Cloud) Asleep(ctx context.Context) (bool, error) {
	got, err := c.clients.clusters.Get(ctx, c.config.Group(), c.config.Name, nil)
	if err != nil {
		return false, explain(err)
	}
	p := got.Properties
	return p != nil && p.PowerState != nil && value(p.PowerState.Code) == armcontainerservice.CodeStopped, nil
}

// Sleep stops the cluster and waits until it is; one that is stopped stays so.
func (c *Cloud) Sleep(ctx context.Context) error {
	if asleep, err := c.Asleep(ctx); err != nil || asleep {
		return err
	}
	p, err := c.clients.clusters.BeginStop(ctx, c.config.Group(), c.config.Name, nil)
	if err != nil {
		return explain(err)
	}
	_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: c.poll})
	return explain(err)
}

// Wake starts the cluster and waits until its API answers; one that runs goes on.
func (c *Cloud) Wake(ctx context.Context) error {
	if asleep, err := c.Asleep(ctx); err != nil || !asleep {
		return err
	}
	p, err := c.clients.clusters.BeginStart(ctx, c.config.Group(), c.config.Name, nil)
	if err != nil {
		return explain(err)
	}
	_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: c.poll})
	return explain(err)
}

// awake returns unavailable, with [deploy.ErrAsleep] in it, while the cluster is
// stopped.
func (c *Cloud) awake(ctx context.Context) error {
	asleep, err := c.Asleep(ctx)
	if err != nil || !asleep {
		return err
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "azure.cluster", Message: "The cluster " + c.config.Name + " is stopped: it sleeps.",
		Hint: "binnacle deploy wake starts it; binnacle deploy down removes it as it is.", Err: deploy.ErrAsleep,
	}
}
