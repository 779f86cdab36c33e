package kubesim

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Process is what is run in a pod. Stdin is nil without one; it ends when whoever
// asked has gone.
type Process struct {
	Pod            string
	Command        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// exec runs [Cluster.Exec] where a pod's command would be run. It speaks SPDY, to
// which clients fall back from WebSockets.
func (c *Cluster) exec(w http.ResponseWriter, r *http.Request, pod string) {
	if c.Exec == nil || r.Header.Get("Upgrade") == "websocket" {
		refuse(w, http.StatusBadRequest, "BadRequest", "the simulator does not do that")
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return // it has been answered
	}
	type opened struct {
		httpstream.Stream

		// replied is closed when the client has been told that the stream is there.
		// A stream that ends before that is one that could not be opened.
		replied <-chan struct{}
	}
	const most = 4
	streams := make(chan opened, most)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		streams <- opened{s, replied}
		return nil
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	q := r.URL.Query()
	wanted := 1 // the one for how it ended
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		if q.Get(name) == "true" {
			wanted++
		}
	}
	p := Process{Pod: pod, Command: q["command"], Stdout: io.Discard, Stderr: io.Discard}
	var ended io.Writer
	for range wanted {
		var s opened
		select {
		case s = <-streams:
		case <-conn.CloseChan():
			return
		}
		select {
		case <-s.replied:
		case <-conn.CloseChan():
			return
		}
		switch s.Headers().Get(corev1.StreamType) {
		case corev1.StreamTypeStdin:
			p.Stdin = s
		case corev1.StreamTypeStdout:
			p.Stdout = s
		case corev1.StreamTypeStderr:
			p.Stderr = s
		default:
			ended = s
		}
	}
	status := metav1.Status{Status: metav1.StatusSuccess}
	if code := c.Exec(p); code != 0 {
		status = metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}},
		}
	}
	_ = json.NewEncoder(ended).Encode(status) // who has gone does not hear it
}

// execOf is the pod that a request wants something run in.
func execOf(parts []string) (pod string, ok bool) {
	const length = 7 // api v1 namespaces NS pods NAME exec
	if len(parts) != length || parts[4] != "pods" || parts[6] != "exec" {
		return "", false
	}
	return parts[5], slices.Equal(parts[:3], []string{"api", "v1", "namespaces"})
}
