package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// Transport reaches Azure, trusting the authorities of the configuration.
func Transport(c config.Cloud) (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "azure.ca_file", Message: fmt.Sprintf("azure.cloud.ca_file: %v.", err), Err: err}
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, binnacle.Errorf(binnacle.CodeInvalid, "azure.cloud.ca_file: there is no certificate in %s.", c.CAFile)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Transport: t}, nil
}

// SignIn is who we are for Azure.
type SignIn struct {
	Config    config.Config
	Environ   []string
	Secret    config.Secret // of a service principal
	Transport policy.Transporter
	// Prompt shows a person what to do (device codes).
	Prompt func(message string)
}

// Credential makes exactly the credential that azure.sign_in names: falling
// through to another account would create things in the wrong place. identity
// says in words who it is. Returns invalid when something is missing.
func (s SignIn) Credential() (cred azcore.TokenCredential, identity string, err error) {
	a := s.Config.Azure
	opt := policy.ClientOptions{Cloud: Environment(a.Cloud), Transport: s.Transport}
	custom := a.Cloud.Authority != ""
	tenant, client := s.setting(a.Tenant, "AZURE_TENANT_ID"), s.setting(a.Client, "AZURE_CLIENT_ID")
	need := func(pairs ...string) error {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == "" {
				return binnacle.Errorf(binnacle.CodeInvalid, "%s: is missing: the sign-in %s needs it.", pairs[i], a.SignIn)
			}
		}
		return nil
	}
	switch a.SignIn {
	case "device":
		cred, err = azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
			ClientOptions: opt, TenantID: tenant, ClientID: client, DisableInstanceDiscovery: custom,
			UserPrompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error {
				s.Prompt(m.Message)
				return nil
			},
		})
		identity = "you, by device code"
	case "service_principal":
		if err := need("azure.tenant", tenant, "azure.client", client, "azure.secret_from", string(s.Secret)); err != nil {
			return nil, "", err
		}
		cred, err = azidentity.NewClientSecretCredential(tenant, client, string(s.Secret), &azidentity.ClientSecretCredentialOptions{ClientOptions: opt, DisableInstanceDiscovery: custom})
		identity = "service principal " + client
	case "managed_identity":
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: opt}
		identity = "the machine's own identity"
		if client != "" {
			o.ID, identity = azidentity.ClientID(client), "managed identity "+client
		}
		cred, err = azidentity.NewManagedIdentityCredential(o)
	case "workload_identity":
		cred, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: opt, TenantID: tenant, ClientID: client, DisableInstanceDiscovery: custom,
		})
		identity = "workload identity " + client
	case "pipelines":
		token := s.setting("", "SYSTEM_ACCESSTOKEN")
		if err := need("azure.tenant", tenant, "azure.client", client, "SYSTEM_ACCESSTOKEN of the environment", token); err != nil {
			return nil, "", err
		}
		cred, err = azidentity.NewAzurePipelinesCredential(tenant, client, a.ServiceConnection, token, &azidentity.AzurePipelinesCredentialOptions{
			ClientOptions: opt, DisableInstanceDiscovery: custom,
		})
		identity = "service connection " + a.ServiceConnection
	default:
		cred, err = azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: tenant})
		identity = "whom az is signed in as"
	}
	if err != nil {
		return nil, "", &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "azure.sign_in", Message: "azure.sign_in: " + a.SignIn + " can't be used here: " + strings.TrimSuffix(err.Error(), ".") + ".",
			Hint: "Another azure.sign_in may do.", Err: err,
		}
	}
	return cred, identity, nil
}

// setting takes a value of the file, else a variable.
func (s SignIn) setting(configured, name string) string {
	if configured != "" {
		return configured
	}
	for _, e := range s.Environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
