package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/binnacle-hub/binnacle"
)

var (
	errSlow    = errors.New("the registry is slow")
	errLimited = errors.New("the registry limits this hub")
)

// Action is what was asked of a registry.
type Action string

// The actions.
const (
	Read  Action = "read"
	Write Action = "write"
	// Remove is removing an image.
	Remove Action = "remove"
)

// kind of trouble with a registry.
type kind int

const (
	unknown kind = iota
	credentials
	denied
	absent
	limited
	quota
	tooLarge
	broken
	slow
	refused
	unresolved
	certificate
	plain
)

// Explain says what an error of a registry means: one of go-containerregistry's,
// or one of BuildKit's, of which only the text is left.
func (r *Registry) Explain(ctx context.Context, image string, action Action, err error) error {
	if _, ok := errors.AsType[*binnacle.Error](err); ok {
		return err
	}
	ref, bad := name.ParseReference(image)
	if bad != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	host, repo := ref.Context().RegistryStr(), ref.Context().Name()
	e := &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "registry." + string(action), Err: err}
	const operator = "Tell the operator of this hub: "
	switch k, status := classify(err); k {
	case credentials:
		e.Message, e.Hint = "The registry "+host+" does not accept this hub's credentials.", operator+"the credentials in the file of kubernetes.registry.docker_config are wrong or too old."
		if a, err := r.ResolveContext(ctx, ref.Context()); err == nil && a == authn.Anonymous {
			e.Message, e.Hint = "The registry "+host+" wants credentials, and this hub has none for it.", operator+"kubernetes.registry.docker_config names the file for them."
		}
	case denied:
		e.Message = fmt.Sprintf("The registry %s does not let this hub %s %s.", host, action, repo)
		e.Hint = operator + "the account needs the right to pull and push there, and some registries want the repository to be made first."
	case absent:
		e.Message = fmt.Sprintf("The registry %s has no repository %s.", host, repo)
		e.Hint = operator + "make it, or let the registry make repositories when something is pushed (Amazon's: a creation template)."
	case limited:
		e.Code, e.Message = binnacle.CodeLimited, "The registry "+host+" limits how often this hub may ask it."
		e.Hint = "Try again later. The operator can raise the limit with an account there, or with a mirror in mirrors.registries."
	case quota:
		e.Message, e.Hint = "The registry "+host+" is full: a quota is reached.", operator+"remove old images there, or have the quota raised."
	case tooLarge:
		e.Message, e.Hint = "The registry "+host+" refuses a layer of this size.", operator+"a proxy before the registry may have a limit for the size of requests."
	case broken:
		e.Message, e.Hint = fmt.Sprintf("The registry %s has a problem of its own (%d).", host, status), "Try again in a few minutes."
	case slow:
		e.Code, e.Message, e.Hint = binnacle.CodeTimeout, "The registry "+host+" did not answer in time.", "Try again in a few minutes."
	case refused:
		e.Message, e.Hint = "The registry "+host+" can't be reached: nothing answers there.", "Try again in a few minutes; the operator of this hub can see whether the registry runs."
	case unresolved:
		e.Message, e.Hint = "The registry "+host+" can't be found: its name has no address.", operator+"check kubernetes.registry.image_prefix and the DNS of the cluster."
	case certificate:
		e.Message, e.Hint = "The certificate of the registry "+host+" is not one this hub trusts.", operator+"ca_bundle names the file of authorities to trust."
	case plain:
		e.Message, e.Hint = "The registry "+host+" does not speak https.", operator+"kubernetes.registry.insecure allows http."
	default:
		e.Message, e.Hint = fmt.Sprintf("%s could not be %s in the registry %s.", image, map[Action]string{Read: "read", Write: "written", Remove: "removed"}[action], host), operator+"the log of the hub has the registry's answer."
	}
	return e
}

// classify finds out what is wrong, and the HTTP status if there is one.
func classify(err error) (kind, int) {
	switch {
	case errors.Is(err, errLimited):
		return limited, http.StatusTooManyRequests
	case errors.Is(err, errSlow), errors.Is(err, context.DeadlineExceeded):
		return slow, 0
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused, 0
	}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		if k := ofStatus(e.StatusCode, strings.ToLower(e.Error())); k != unknown {
			return k, e.StatusCode
		}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return unresolved, 0
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return certificate, 0
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return slow, 0
	}
	return ofText(strings.ToLower(err.Error()))
}

// ofStatus reads a registry's answer: its status, and its words in lower case.
func ofStatus(status int, text string) kind {
	switch {
	case status == http.StatusTooManyRequests, strings.Contains(text, "toomanyrequests"):
		return limited
	case status == http.StatusRequestEntityTooLarge:
		return tooLarge
	case status == http.StatusInsufficientStorage, has(text, "quota", "upper limit", "limitexceeded", "storage limit"):
		return quota
	case status == http.StatusUnauthorized:
		if has(text, "insufficient_scope", "insufficient scope") {
			return denied // it knows who we are
		}
		return credentials
	case status == http.StatusForbidden:
		return denied
	case status == http.StatusNotFound:
		return absent
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		return slow
	case status >= http.StatusInternalServerError:
		return broken
	}
	return unknown
}

// ofText reads an error in lower case that has become text on its way through
// BuildKit: "unexpected status from PUT request to https://…: 403 Forbidden".
func ofText(text string) (kind, int) {
	if m := regexp.MustCompile(`(?:status[^:]*|: ?https?://\S+|https?://\S+): ([45]\d\d)\b|\b([45]\d\d) (?:[a-z]+ ?)+$`).FindStringSubmatch(text); m != nil {
		status, err := strconv.Atoi(m[1] + m[2])
		if k := ofStatus(status, text); err == nil && k != unknown {
			return k, status
		}
	}
	for _, c := range []struct {
		kind  kind
		words []string
	}{
		{limited, []string{"toomanyrequests", "too many requests", "rate limit"}},
		{quota, []string{"quota", "upper limit", "limitexceeded"}},
		{denied, []string{"insufficient_scope", "access denied", "denied:", "403 forbidden"}},
		{credentials, []string{"401 unauthorized", "unauthorized", "authentication required", "no basic auth credentials", "failed to authorize"}},
		{absent, []string{"name_unknown", "name unknown", "repository does not exist", "404 not found"}},
		{plain, []string{"server gave http response to https client"}},
		{certificate, []string{"x509:", "tls: failed to verify"}},
		{unresolved, []string{"no such host"}},
		{refused, []string{"connection refused", "network is unreachable", "no route to host"}},
		{slow, []string{"i/o timeout", "deadline exceeded", "tls handshake timeout", "timeout awaiting"}},
	} {
		if has(text, c.words...) {
			return c.kind, 0
		}
	}
	return unknown, 0
}

func has(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
