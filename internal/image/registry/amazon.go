package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
)

// amazon is the role of the pod (of its service account, or of EKS Pod Identity) or
// of the machine at Amazon, which ECR gives a password for twelve hours.
type amazon struct {
	client *http.Client
	region string

	mu             sync.Mutex
	user, password string
	until          time.Time
}

// regionOf is the region of a registry of ECR: 123456789012.dkr.ecr.eu-west-1.amazonaws.com.
func regionOf(host string) string {
	m := regexp.MustCompile(`^\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)$`).FindStringSubmatch(host)
	if m == nil {
		return ""
	}
	return m[1]
}

func (a *amazon) sign(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Now().After(a.until) {
		if err := a.renew(ctx); err != nil {
			return nil, noIdentity(target, "AWS", "its role needs ecr:GetAuthorizationToken, and to pull and push", err)
		}
	}
	return &authn.Basic{Username: a.user, Password: a.password}, nil
}

func (a *amazon) renew(ctx context.Context) error {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(a.region), config.WithHTTPClient(a.client))
	if err != nil { // AWS_CA_BUNDLE names authorities for a client that the SDK makes
		cfg, err = config.LoadDefaultConfig(ctx, config.WithRegion(a.region))
	}
	if err != nil {
		return err
	}
	answer, err := ecr.NewFromConfig(cfg).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return err
	}
	if len(answer.AuthorizationData) == 0 || answer.AuthorizationData[0].AuthorizationToken == nil {
		return errors.New("ECR gives no password")
	}
	b, err := base64.StdEncoding.DecodeString(*answer.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		return errors.New("ECR gives a password that can't be read")
	}
	a.user, a.password, _ = strings.Cut(string(b), ":")
	a.until = time.Now().Add(lasting)
	return nil
}
