package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/binnacle-hub/binnacle"
)

// tried is the image that TryPush begins to push.
const tried = "binnacle-check"

// TryPush asks the registry of cfg whether the login that a docker configuration has
// for it may push images below the prefix. It begins an upload and takes it back;
// some registries make an empty repository binnacle-check for it. user is who signs
// in, empty for nobody. DockerConfig and the identity of a pod are not used.
//
// go-containerregistry's CheckPushPermission does not tell a login that is not
// accepted from one that may not push, takes no context, and leaves the upload to be
// taken back in the background.
//
// Returns unauthorized when the login is not accepted, forbidden when it may not push
// there, conflict when the registry is full, not_found when there is no such place,
// invalid for a prefix that is none and a registry that speaks http only, and
// unavailable, timeout or limited when it can't be asked from here, or not now.
func TryPush(ctx context.Context, cfg Config, dockerConfig []byte, under http.RoundTripper) (user string, err error) {
	ref, err := New(cfg, under).Reference(cfg.Name(tried))
	if err != nil {
		return "", err
	}
	repo := ref.Context()
	who, err := loginOf(dockerConfig, repo)
	if err != nil {
		return "", err
	}
	login, err := authn.Authorization(ctx, who)
	if err != nil {
		return "", err
	}
	asking, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, errSlow)
	defer cancel()
	err = beginPush(asking, repo, who, under, cfg.Insecure)
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return login.Username, pushError(repo, who == authn.Anonymous, cfg.Insecure, err)
}

// loginOf is what a docker configuration has for a repository. Programs that it names
// are not run: it may be somebody else's.
func loginOf(dockerConfig []byte, repo name.Repository) (authn.Authenticator, error) {
	if len(dockerConfig) == 0 {
		return authn.Anonymous, nil
	}
	file, err := config.LoadFromReader(bytes.NewReader(dockerConfig))
	if err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "registry.push", Message: "The credentials are not a docker configuration.", Err: err}
	}
	file.CredentialsStore, file.CredentialHelpers = "", nil
	return stored(file, repo)
}

// errSignIn is the answer of a registry, or of who gives out its tokens, to a login.
var errSignIn = errors.New("sign in")

func beginPush(ctx context.Context, repo name.Repository, who authn.Authenticator, under http.RoundTripper, insecure bool) error {
	signed, err := transport.NewWithContext(ctx, repo.Registry, who, under, []string{repo.Scope(transport.PushScope)})
	if err != nil {
		return errors.Join(errSignIn, err)
	}
	client := &http.Client{Transport: signed}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s://%s/v2/%s/blobs/uploads/", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr()), nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// Private addresses are asked by http too, which builders and nodes don't do.
	if !insecure && res.Request.URL.Scheme == "http" {
		return http.ErrSchemeMismatch
	}
	if err := transport.CheckError(res, http.StatusCreated, http.StatusAccepted); err != nil {
		// Without tokens it is only here that the password is looked at.
		if scheme, _, _ := strings.Cut(res.Header.Get("WWW-Authenticate"), " "); res.StatusCode == http.StatusUnauthorized && strings.EqualFold(scheme, "basic") {
			err = errors.Join(errSignIn, err)
		}
		return err
	}
	begun, err := res.Location()
	if err != nil {
		return nil // it may be begun, which is all that was asked
	}
	if req, err = http.NewRequestWithContext(ctx, http.MethodDelete, begun.String(), nil); err != nil {
		return nil // the same
	}
	if res, err := client.Do(req); err == nil { // if not, the registry forgets it by itself
		_ = res.Body.Close()
	}
	return nil
}

// pushError says what came of beginPush.
func pushError(repo name.Repository, nobody, insecure bool, err error) error {
	if err == nil {
		return nil
	}
	host := repo.RegistryStr()
	e := &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "registry.push", Err: err}
	k, status := classify(err)
	if k == credentials || k == denied {
		k = denied
		if errors.Is(err, errSignIn) {
			k = credentials
		}
	}
	if k == plain && insecure {
		k = unknown // it was asked in both ways
	}
	switch {
	case nobody && (k == credentials || k == denied):
		e.Code, e.Message = binnacle.CodeUnauthorized, "The registry "+host+" wants a login, and there is none for it."
	case k == credentials:
		e.Code, e.Message = binnacle.CodeUnauthorized, "The registry "+host+" does not accept the user and the password."
	case k == denied:
		e.Code, e.Message = binnacle.CodeForbidden, fmt.Sprintf("The registry %s accepts the login, and does not let it push to %s.", host, repo.Name())
	case k == absent && errors.Is(err, errSignIn):
		e.Code, e.Message = binnacle.CodeNotFound, "What answers at "+host+" is no registry."
	case k == absent:
		e.Code, e.Message = binnacle.CodeNotFound, fmt.Sprintf("The registry %s has no place for %s.", host, repo.Name())
	case k == quota:
		e.Code, e.Message = binnacle.CodeConflict, "The registry "+host+" is full: a quota is reached."
	case k == plain:
		e.Code, e.Message = binnacle.CodeInvalid, "The registry "+host+" does not speak https."
	case k == limited:
		e.Code, e.Message = binnacle.CodeLimited, "The registry "+host+" limits how often it may be asked."
	case k == slow:
		e.Code, e.Message = binnacle.CodeTimeout, "The registry "+host+" does not answer here in time."
	case k == refused:
		e.Message = "The registry " + host + " can't be reached from here: nothing answers there."
	case k == unresolved:
		e.Message = "The registry " + host + " can't be reached from here: its name has no address."
	case k == certificate:
		e.Message = "The registry " + host + " has a certificate that is not trusted here."
	case k == broken:
		e.Message = fmt.Sprintf("The registry %s has a problem of its own (%d).", host, status)
	default:
		e.Message = "The registry " + host + " gives an answer that says nothing of the login."
	}
	return e
}
