package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/binnacle-hub/binnacle"
)

// Exec runs a command in a pod of the hub that is ready. stdin may be nil.
// Returns unavailable when there is no such pod or the command fails, with what
// it said.
func (c *Client) Exec(ctx context.Context, name string, command []string, stdin io.Reader, stdout io.Writer) error {
	pods, err := c.pods(ctx, name, "hub")
	if err != nil {
		return err
	}
	ready := func(p corev1.Pod) bool {
		return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	}
	i := slices.IndexFunc(pods, ready)
	if i < 0 {
		return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "release.exec", Message: "No pod of the hub is ready.", Hint: "binnacle deploy info shows why; after binnacle deploy sleep, wake it."}
	}
	options := &corev1.PodExecOptions{Container: "hub", Command: command, Stdin: stdin != nil, Stdout: true, Stderr: true}
	url := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.namespace).Name(pods[i].Name).
		SubResource("exec").VersionedParams(options, scheme.ParameterCodec).URL()
	old, err := remotecommand.NewSPDYExecutor(c.config, "POST", url)
	if err != nil {
		return fmt.Errorf("reach the pod: %w", err)
	}
	fresh, err := remotecommand.NewWebSocketExecutor(c.config, "GET", url.String())
	if err != nil {
		return fmt.Errorf("reach the pod: %w", err)
	}
	executor, err := remotecommand.NewFallbackExecutor(fresh, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return fmt.Errorf("reach the pod: %w", err)
	}
	var log bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: &log})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, failed := errors.AsType[exec.CodeExitError](err); failed {
		return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "release.exec", Message: "The hub's pod: " + strings.TrimSpace(log.String()), Hint: "binnacle deploy logs --component hub shows more.", Err: err}
	}
	return explain("run a command in the hub's pod", err)
}
