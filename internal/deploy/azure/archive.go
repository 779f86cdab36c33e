package azure

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/binnacle-hub/binnacle"
)

// archiveRetry is short: a run waits for the copy of its journal.
const archiveRetry = 500 * time.Millisecond

// archiveContainer is where an [Archive] keeps its blobs.
const archiveContainer = "binnacle"

// Archive is the storage account of a deployment (azure.storage). It keeps what
// whoever continues on another machine needs.
type Archive struct {
	// Account is the account's name.
	Account string

	blobs *container.Client
}

// Archive opens the storage account and makes its container. It signs in with a key
// of the account, which Azure hands out to who may write to the account and which
// nothing keeps. Returns not_found when there is no account, or none that is ours.
func (c *Cloud) Archive(ctx context.Context) (*Archive, error) {
	name, group := c.storageName(), c.config.Group()
	got, err := c.clients.accounts.GetProperties(ctx, group, name, nil)
	if err != nil {
		return nil, explain(err)
	}
	p := got.Properties
	if !c.ours(got.Tags) || p == nil || value(p.ProvisioningState) != armstorage.ProvisioningStateSucceeded || p.PrimaryEndpoints == nil || p.PrimaryEndpoints.Blob == nil {
		return nil, binnacle.Errorf(binnacle.CodeNotFound, "There is no storage account %s of this deployment that is ready.", name)
	}
	keys, err := c.clients.accounts.ListKeys(ctx, group, name, nil)
	if err != nil {
		return nil, explain(err)
	}
	if len(keys.Keys) == 0 {
		return nil, &binnacle.Error{
			Code: binnacle.CodeUnauthorized, Op: "azure.storage", Message: "The storage account " + name + " has no key to sign in with.",
			Hint: "Allow storage account key access in its configuration.",
		}
	}
	cred, err := azblob.NewSharedKeyCredential(name, value(keys.Keys[0].Value))
	if err != nil {
		return nil, binnacle.Errorf(binnacle.CodeInternal, "The key of the storage account %s can't be read.", name) // not the cause: it has the key
	}
	opt := &container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: c.transport, Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: archiveRetry}}}
	a := &Archive{Account: name}
	a.blobs, err = container.NewClientWithSharedKeyCredential(*p.PrimaryEndpoints.Blob+archiveContainer, cred, opt)
	if err == nil {
		_, err = a.blobs.Create(ctx, nil)
	}
	if err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return nil, a.explain(err)
	}
	return a, nil
}

// Put writes a blob, over one of that name.
func (a *Archive) Put(ctx context.Context, name string, data []byte) error {
	_, err := a.blobs.NewBlockBlobClient(name).UploadBuffer(ctx, data, nil)
	return a.explain(err)
}

// Get reads a blob. Returns not_found when there is none of that name.
func (a *Archive) Get(ctx context.Context, name string) ([]byte, error) {
	got, err := a.blobs.NewBlobClient(name).DownloadStream(ctx, nil)
	if err != nil {
		return nil, a.explain(err)
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, got.Body)
	return b.Bytes(), a.explain(errors.Join(err, got.Body.Close()))
}

func (a *Archive) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case bloberror.HasCode(err, bloberror.BlobNotFound, bloberror.ContainerNotFound):
		return binnacle.Errorf(binnacle.CodeNotFound, "The storage account %s has no such blob.", a.Account)
	}
	out := &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "azure.storage", Message: "The storage account " + a.Account + " can't be reached.",
		Hint: "Check that its firewall lets this machine in.", Err: err,
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		out.Message = "The storage account " + a.Account + " refuses: " + e.ErrorCode + "."
		out.Hint = "Check that it allows storage account key access, and that its firewall lets this machine in."
	}
	return out
}
