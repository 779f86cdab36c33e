package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
)

// loginPatience is how long a registry may take until it has said whether a login
// may push: an operator waits for it, and it may be reached from the cluster only.
const loginPatience = 10 * time.Second

// login tries what the hub will sign in to its registry with. It is not tried without
// a registry, nor by a part of the deployment: who brought the secrets has done it.
func (c *Cloud) login(ctx context.Context) []deploy.Finding {
	values, _ := c.base()["registry"].(map[string]any)
	prefix, _ := values["imagePrefix"].(string)
	if prefix == "" || c.o.Inside || c.o.Registries == nil {
		return nil
	}
	f := deploy.Finding{Name: "login", OK: true}
	insecure, _ := values["insecure"].(bool)
	cfg := registry.Config{ImagePrefix: prefix, Insecure: insecure, Timeout: loginPatience}
	secret, _ := values["existingSecret"].(string)
	var login []byte
	switch {
	case c.o.Registry != nil && c.o.Registry.Password != "" && secret == c.secretName():
		login = []byte(c.o.Registry.dockerConfig())
	case secret != "":
		var err error
		if login, err = c.loginIn(ctx, secret); err != nil {
			return []deploy.Finding{c.loginLater(secret, err)}
		}
	case registry.New(cfg, c.o.Registries).Identified():
		f.Message = "the hub signs in to the registry with the identity of its pod, which is not here: not tried"
		return []deploy.Finding{f}
	}
	user, err := registry.TryPush(ctx, cfg, login, c.o.Registries)
	switch {
	case err != nil:
		f.Message = binnacle.Public(err).Message
		f.OK, f.Warning, f.Hint = c.mend(binnacle.CodeOf(err))
	case user == "":
		f.Message = fmt.Sprintf("the registry lets everybody push %s…", prefix)
	default:
		f.Message = fmt.Sprintf("the registry accepts %s, who may push %s…", user, prefix)
	}
	return []deploy.Finding{f}
}

// loginIn reads a login that the cluster keeps.
func (c *Cloud) loginIn(ctx context.Context, secret string) ([]byte, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	none := binnacle.Errorf(binnacle.CodeNotFound, "There is no Secret %s.", secret)
	s, err := c.client.CoreV1().Secrets(c.o.Config.Namespace()).Get(ctx, secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, none
	}
	if err != nil {
		return nil, explain("read the registry's login", err)
	}
	login := s.Data[corev1.DockerConfigJsonKey]
	if secret == c.secretName() && !c.wanted(login) {
		return nil, none // up makes another
	}
	return login, nil
}

// loginLater says why a login that the cluster keeps is not tried.
func (c *Cloud) loginLater(secret string, err error) deploy.Finding {
	f := deploy.Finding{Name: "login", OK: true}
	switch ours := secret == c.secretName(); {
	case ours && binnacle.CodeOf(err) == binnacle.CodeNotFound:
		f.Message = "up makes the registry's login: there is nothing to try yet"
	case binnacle.CodeOf(err) == binnacle.CodeNotFound:
		f.Warning, f.Message = true, fmt.Sprintf("the registry's login is to be in the Secret %s of the namespace %s, which is not there", secret, c.o.Config.Namespace())
		f.Hint = "Make it before up, of the type kubernetes.io/dockerconfigjson: the hub does not start without it."
	default:
		f.Warning, f.Message = true, "the registry's login is in the cluster, which does not give it: not tried. "+binnacle.Public(err).Message
		f.Hint = binnacle.Public(err).Hint
	}
	return f
}

// mend says what to do about what a registry answered. What says nothing of the login
// is a warning: the cluster may reach a registry that this machine does not.
func (c *Cloud) mend(code binnacle.Code) (ok, warning bool, hint string) {
	r := c.o.Config.Registry
	switch code {
	case binnacle.CodeUnauthorized:
		hint = "Set registry.username and registry.password_from."
		if from := r.PasswordFrom; from != "" {
			hint = fmt.Sprintf("Put a valid password or token of registry.username (%s) into %s; Docker Hub and others take access tokens only where two factors are needed.", r.Username, from)
		} else if c.o.Registry != nil {
			hint = fmt.Sprintf("Delete the Secret %s in both namespaces and run binnacle deploy up, which makes a new login.", c.secretName())
		}
	case binnacle.CodeForbidden:
		hint = "Give the account, or its token, the right to pull and push there (Docker Hub: a token with Read & Write, and a team of registry.organisation), or change registry.prefix."
	case binnacle.CodeConflict:
		hint = "Remove old images there, or have the quota raised."
	case binnacle.CodeNotFound:
		hint = "Check registry.host; some registries want the project or repository to be made first."
	case binnacle.CodeInvalid:
		hint = "Check registry.host and registry.prefix; for trying out, values: {registry: {insecure: true}} speaks http."
	default:
		return true, true, "The cluster may reach and trust it all the same. If not, check registry.host; values: {caBundle: {configMap: NAME}} names authorities of your own."
	}
	return false, false, hint
}
