package cli

import (
	"context"
	"io"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
)

// hubAPI is what commands ask of a hub, over its unix socket.
type hubAPI interface {
	Launch(ctx context.Context, req binnacle.LaunchRequest) (binnacle.Launch, error)
	Get(ctx context.Context, id string) (binnacle.Launch, error)
	Cancel(ctx context.Context, id string) error
	Resolved(ctx context.Context, id string) ([]binnacle.Resolved, error)
	Events(ctx context.Context, id string, after int64, yield func(binnacle.Event) error) error
	Sessions(ctx context.Context) ([]binnacle.Session, error)
	Stop(ctx context.Context, id string) error
	Logs(ctx context.Context, id string, follow bool, w io.Writer) error
	Usage(ctx context.Context) (hub.Usage, error)
	Clean(ctx context.Context, req hub.CleanRequest) (hub.CleanReport, error)
}

var _ hubAPI = (*client.Client)(nil)

// dialHub speaks to the hub behind a socket.
func dialHub(socket string) (hubAPI, error) { return client.New(socket) }
