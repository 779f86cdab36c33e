// Package azure deploys to Microsoft Azure: a resource group with a Kubernetes
// cluster, a registry, an address, DNS and storage, by Azure Resource Manager.
//
// It needs the right to create these in one resource group, and no other: no
// service principal is made, no role assigned, nothing asked of Entra. What it
// creates has the tag [Tag]; nothing without it is changed or deleted.
package azure

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/delegation"
)

// Tag marks what is ours; its value is the deployment's name.
const Tag = "binnacle-deployment"

// The kinds of resources.
const (
	kindGroup    = "resource group"
	kindRegistry = "registry"
	kindStorage  = "storage account"
	kindZone     = "dns zone"
	kindCluster  = "cluster"
	kindPool     = "node pool"
	kindAddress  = "public address"
	kindRecord   = "dns record"
)

// Options are what a [Cloud] is made from.
type Options struct {
	Config     config.Config
	Credential azcore.TokenCredential
	// Identity says in words who the credential is.
	Identity string
	// Transport carries every request.
	Transport policy.Transporter
	// Poll is the pause between two questions to an operation when Azure names
	// none; 0 is [DefaultPoll].
	Poll time.Duration
	// RetryDelay is the first pause after a request that may be tried again; 0 is
	// the SDK's.
	RetryDelay time.Duration
}

// DefaultPoll is often enough for operations that take minutes.
const DefaultPoll = 10 * time.Second

// Cloud is one deployment on Azure.
type Cloud struct {
	config       config.Config
	subscription string // its id
	identity     string
	poll         time.Duration
	transport    policy.Transporter
	pipeline     runtime.Pipeline
	clients      clients
}

var (
	_ deploy.Cloud      = (*Cloud)(nil)
	_ deploy.Pricer     = (*Cloud)(nil)
	_ deploy.Identifier = (*Cloud)(nil)
)

// Environment is the Azure that the configuration names.
func Environment(c config.Cloud) cloud.Configuration {
	if c.ResourceManager == "" {
		return cloud.AzurePublic
	}
	audience := c.Audience
	if audience == "" {
		audience = c.ResourceManager
	}
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: c.Authority,
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: c.ResourceManager, Audience: audience}},
	}
}

// New signs in and finds the subscription. It writes nothing. Returns
// unauthorized when the sign-in fails, not_found when there is no such
// subscription.
func New(ctx context.Context, o Options) (*Cloud, error) {
	opt := &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: Environment(o.Config.Azure.Cloud), Transport: o.Transport,
		Retry: policy.RetryOptions{RetryDelay: o.RetryDelay},
	}}
	c := &Cloud{config: o.Config, identity: o.Identity, poll: o.Poll, transport: o.Transport}
	if c.poll <= 0 {
		c.poll = DefaultPoll
	}
	base, err := arm.NewClient("binnacle/deploy", "v1.0.0", o.Credential, opt)
	if err != nil {
		return nil, explain(err)
	}
	c.pipeline = base.Pipeline()
	if c.subscription, err = findSubscription(ctx, o, opt); err != nil {
		return nil, err
	}
	c.clients, err = newClients(c.subscription, o.Credential, opt)
	return c, explain(err)
}

// findSubscription takes an id as it is and looks for a name.
func findSubscription(ctx context.Context, o Options, opt *arm.ClientOptions) (string, error) {
	want := o.Config.Azure.Subscription
	client, err := armsubscriptions.NewClient(o.Credential, opt)
	if err != nil {
		return "", explain(err)
	}
	var seen []string
	for pager := client.NewListPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return "", explain(err)
		}
		for _, s := range page.Value {
			if strings.EqualFold(value(s.SubscriptionID), want) || strings.EqualFold(value(s.DisplayName), want) {
				return value(s.SubscriptionID), nil
			}
			seen = append(seen, value(s.DisplayName))
		}
	}
	hint := "You see: " + strings.Join(seen, ", ") + "."
	if len(seen) == 0 {
		hint = "You see none. Is this the right account and tenant?"
	}
	return "", &binnacle.Error{Code: binnacle.CodeNotFound, Op: "azure.subscription", Message: "azure.subscription: you see no subscription " + want + ".", Hint: hint}
}

// Who is a line for people.
func (c *Cloud) Who(context.Context) (string, error) {
	return c.identity + ", subscription " + c.subscription, nil
}

// unique is a few characters that follow from the deployment, so that names that
// must be free in the whole world are the same in every run.
func (c *Cloud) unique() string {
	sum := sha256.Sum256([]byte(strings.ToLower(c.subscription + "/" + c.config.Group() + "/" + c.config.Name)))
	const enough = 8
	return hex.EncodeToString(sum[:])[:enough]
}

// squeezed is the deployment's name without hyphens, at most n characters.
func (c *Cloud) squeezed(n int) string {
	s := strings.ReplaceAll(c.config.Name, "-", "")
	return s[:min(n, len(s))]
}

func (c *Cloud) registryName() string {
	if c.config.Registry.Name != "" {
		return c.config.Registry.Name
	}
	const most = 42 // of 50, with 8 that make it unique
	return c.squeezed(most) + c.unique()
}

// RegistryName is that of the registry beside the cluster.
func (c *Cloud) RegistryName() string { return c.registryName() }

// RegistryHost is where that registry answers in the public Azure.
func (c *Cloud) RegistryHost() string { return strings.ToLower(c.registryName()) + ".azurecr.io" }

func (c *Cloud) storageName() string {
	const most = 16 // of 24
	return c.squeezed(most) + c.unique()
}

// Label is the name below the region's own domain.
func (c *Cloud) Label() string {
	if c.config.DNS.Label != "" {
		return c.config.DNS.Label
	}
	return c.config.Name + "-" + c.unique()
}

// LabelHost is the name that the cloud gives the hub's address: it works from the
// first minute on.
func (c *Cloud) LabelHost() string {
	return c.Label() + "." + c.config.Azure.Region + ".cloudapp.azure.com"
}

// Delegation compares the name servers of the domain's zone with what the zone above
// says. Returns not_found while the zone is not there.
func (c *Cloud) Delegation(ctx context.Context) (delegation.Report, error) {
	have, err := c.Find(ctx, deploy.Resource{Kind: kindZone, Name: c.config.DNS.Domain})
	if err != nil {
		return delegation.Report{}, err
	}
	return delegation.Checker{Resolver: c.config.DNS.Resolver}.Check(ctx, c.config.DNS.Domain, strings.Split(have.Outputs[outputServers], ","))
}

// nodeGroup is the resource group that AKS makes for its machines. The public
// address lives there, where the cluster may use it without a role assignment.
func (c *Cloud) nodeGroup() string {
	const most = 74 // of 80
	g := c.config.Group()
	return g[:min(most, len(g))] + "-nodes"
}

// Wanted lists the resources in the order they are created in.
func (c *Cloud) Wanted(context.Context) ([]deploy.Resource, error) {
	a := c.config.Azure
	region := []string{"region"}
	rs := []deploy.Resource{{Kind: kindGroup, Name: c.config.Group(), Spec: map[string]string{"region": a.Region}, Fixed: region, Shared: true, Holds: true}}
	if c.config.Registry.Kind == config.RegistryAzure {
		rs = append(rs, deploy.Resource{Kind: kindRegistry, Name: c.registryName(), Spec: map[string]string{"region": a.Region, "sku": c.config.Registry.SKU}, Fixed: region})
	}
	if a.Storage {
		rs = append(rs, deploy.Resource{Kind: kindStorage, Name: c.storageName(), Spec: map[string]string{"region": a.Region, "sku": storageSKU}, Fixed: region})
	}
	if c.config.DNS.Domain != "" {
		rs = append(rs, deploy.Resource{Kind: kindZone, Name: c.config.DNS.Domain, Spec: map[string]string{}})
	}
	cluster := deploy.Resource{
		Kind: kindCluster, Name: c.config.Name, Spec: map[string]string{
			"region": a.Region, "tier": a.Tier, "size": a.Nodes.Size, "min": strconv.Itoa(a.Nodes.Min), "max": strconv.Itoa(a.Nodes.Max), "disk_gb": strconv.Itoa(a.Nodes.DiskGB),
			"pods": a.Network.Pods, "services": a.Network.Services, "identity": "managed", "network": "azure overlay, cilium",
		},
		Fixed: []string{"region", "size", "disk_gb", "pods", "services", "identity", "network"},
	}
	if a.Kubernetes != "" {
		cluster.Spec["kubernetes"] = a.Kubernetes
	}
	if c.config.Watch.Identity != "" {
		cluster.Spec["workload identity"] = "on"
	}
	rs = append(append(rs, cluster), c.wantedPools()...)
	rs = append(rs, deploy.Resource{
		Kind: kindAddress, Name: c.config.Name, Spec: map[string]string{"region": a.Region, "label": c.Label(), "sku": "Standard"},
		Fixed: []string{"region", "sku"}, Within: kindCluster + "/" + c.config.Name,
	})
	if c.config.DNS.Domain != "" {
		rs = append(rs, deploy.Resource{
			Kind: kindRecord, Name: c.config.DNS.Domain, Spec: map[string]string{"target": strings.ToLower(c.addressID())},
			Within: kindZone + "/" + c.config.DNS.Domain,
		})
	}
	return rs, nil
}

func (c *Cloud) addressID() string {
	return "/subscriptions/" + c.subscription + "/resourceGroups/" + c.nodeGroup() + "/providers/Microsoft.Network/publicIPAddresses/" + c.config.Name
}

// operations are what is done with one kind of resource.
type operations struct {
	find func(ctx context.Context, r deploy.Resource) (deploy.Resource, error)
	// put creates or changes, remove deletes; both return the token of an
	// operation that has not ended yet.
	put, remove func(ctx context.Context, r deploy.Resource) (string, error)
	// The waits continue an operation of put and of remove.
	waitPut, waitRemove func(ctx context.Context, token string) error
}

func (c *Cloud) operations(kind string) (operations, error) {
	ops, ok := map[string]operations{
		kindGroup: c.group(), kindRegistry: c.registry(), kindStorage: c.storage(), kindZone: c.zone(),
		kindCluster: c.cluster(), kindPool: c.pool(), kindAddress: c.address(), kindRecord: c.record(),
	}[kind]
	if !ok {
		return ops, binnacle.Errorf(binnacle.CodeInvalid, "Resources of the kind %q can't be handled.", kind)
	}
	return ops, nil
}

// Find reads a resource.
func (c *Cloud) Find(ctx context.Context, r deploy.Resource) (deploy.Resource, error) {
	ops, err := c.operations(r.Kind)
	if err != nil {
		return deploy.Resource{}, err
	}
	have, err := ops.find(ctx, r)
	if err != nil {
		return deploy.Resource{}, explain(err)
	}
	have.Kind, have.Name = r.Kind, r.Name
	return have, nil
}

// The prefixes of tokens: what the operation does.
const (
	tokenPut    = "put:"
	tokenRemove = "remove:"
)

// Begin starts an operation.
func (c *Cloud) Begin(ctx context.Context, a deploy.Action, r deploy.Resource) (string, error) {
	ops, err := c.operations(r.Kind)
	if err != nil {
		return "", err
	}
	if a != deploy.ActionDelete {
		token, err := ops.put(ctx, r)
		if token != "" {
			token = tokenPut + token
		}
		return token, explain(err)
	}
	// Look again right before: what is not ours is never deleted.
	have, err := c.Find(ctx, r)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !have.Ours {
		return "", binnacle.Errorf(binnacle.CodeForbidden, "The %s %s is not ours and stays.", r.Kind, r.Name)
	}
	token, err := ops.remove(ctx, r)
	if isNotFound(err) {
		return "", nil
	}
	if token != "" {
		token = tokenRemove + token
	}
	return token, explain(err)
}

// Wait continues an operation until its end.
func (c *Cloud) Wait(ctx context.Context, r deploy.Resource, token string) error {
	ops, err := c.operations(r.Kind)
	if err != nil {
		return err
	}
	var wait func(context.Context, string) error
	rest := ""
	if t, ok := strings.CutPrefix(token, tokenPut); ok {
		rest, wait = t, ops.waitPut
	} else if t, ok := strings.CutPrefix(token, tokenRemove); ok {
		rest, wait = t, ops.waitRemove
	}
	if wait == nil {
		return binnacle.Errorf(binnacle.CodeNotFound, "There is no such operation.")
	}
	return explain(wait(ctx, rest))
}

// began turns the start of an operation into a token; "" when it ended at once.
func began[T any](ctx context.Context, p *runtime.Poller[T], err error) (string, error) {
	if err != nil {
		return "", err
	}
	if p.Done() {
		_, err := p.Result(ctx)
		return "", err
	}
	return p.ResumeToken()
}

// wait continues the operation of a token. Returns not_found for a token that is
// none.
func wait[T any](c *Cloud) func(context.Context, string) error {
	return func(ctx context.Context, token string) error {
		p, err := runtime.NewPollerFromResumeToken[T](token, c.pipeline, nil)
		if err != nil {
			return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "azure.wait", Message: "There is no such operation.", Err: err}
		}
		_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: c.poll})
		return err
	}
}

// isNotFound says that Azure does not have it.
func isNotFound(err error) bool {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && e.StatusCode == http.StatusNotFound
}

// state is a provisioning state in our words.
func state(provisioning string) deploy.State {
	switch provisioning {
	case "Succeeded", "":
		return deploy.StateReady
	case "Failed", "Canceled":
		return deploy.StateFailed
	case "Deleting":
		return deploy.StateDeleting
	default:
		return deploy.StateWorking
	}
}

// tags are ours and those that others put on what is there.
func (c *Cloud) tags(r deploy.Resource) map[string]*string {
	tags := map[string]*string{}
	for name, v := range r.Labels {
		tags[name] = &v
	}
	tags[Tag] = new(c.config.Name)
	return tags
}

// labels are the tags of something as we keep them.
func labels(tags map[string]*string) map[string]string {
	out := map[string]string{}
	for name, v := range tags {
		out[name] = value(v)
	}
	return out
}

// ours looks for the tag.
func (c *Cloud) ours(tags map[string]*string) bool {
	for name, v := range tags { // names of tags have no case
		if strings.EqualFold(name, Tag) && value(v) == c.config.Name {
			return true
		}
	}
	return false
}

// value is what p points at, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
