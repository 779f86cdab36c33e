package cli_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/deploy/button"
	"github.com/binnacle-hub/binnacle/internal/deploy/page"
	"github.com/binnacle-hub/binnacle/test/armtemplate"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

func TestDeployButton(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "button") // which is made
	args := []string{"button", "--image", "registry.example.org/binnacle:1", "--base", "https://git.example.org/hub", "--output", dir}
	code, out, log := deploy(t, "", nil, args...)
	if code != 0 || !strings.Contains(out, "](https://portal.azure.com/#create/Microsoft.Template/uri/https%3A%2F%2Fgit.example.org%2Fhub%2Fazuredeploy.json/createUIDefinitionUri/") {
		t.Fatalf("%d %s%s", code, out, log)
	}
	b, err := os.ReadFile(filepath.Join(dir, button.TemplateFile))
	if err != nil || !strings.Contains(string(b), `"registry.example.org/binnacle:1"`) {
		t.Errorf("%v %s", err, b)
	}
	if code, _, log := deploy(t, "", nil, args...); code != cli.ExitRefused && !strings.Contains(log, "is there already") {
		t.Errorf("overwritten: %d %s", code, log)
	}
	if code, _, log := deploy(t, "", nil, "button"); code != cli.ExitUsage || !strings.Contains(log, "--image") {
		t.Errorf("%d %s", code, log)
	}
}

// contained runs the button's container with an environment until it says how it
// ended, and returns that and what it printed.
func contained(t *testing.T, environ []string) (page.Result, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		said <- string(b)
	}()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, cli.Env{
			Args:    []string{"deploy", "container", "--no-hub", "--page", address, "--rights-within", "6s", "--file", filepath.Join(t.TempDir(), "binnacle.yaml")},
			Environ: environ, In: strings.NewReader(""), Out: w, Err: w, Version: "v1.2.3", Registries: registryhost.Nowhere(),
		})
	}()
	var result page.Result
	for result.State == "" || result.State == page.Running {
		select {
		case code := <-ended:
			_ = w.Close()
			t.Fatalf("it ended with %d before anybody could know\n%s", code, <-said)
		case <-time.After(20 * time.Millisecond):
		}
		if res, err := http.Get("http://" + address + "/result"); err == nil {
			err := json.NewDecoder(res.Body).Decode(&result)
			_ = res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	<-ended
	_ = w.Close()
	return result, <-said
}

// The container is started with exactly what the template gives it, and what Azure
// gives to a container with an identity.
func TestDeployContainer(t *testing.T) {
	s := azuresim.Start(t, &azuresim.Azure{Unseen: 1})
	for _, e := range s.Identity() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	template, err := armtemplate.Parse(button.Button{Image: "registry.example.org/binnacle:1", Base: "https://git.example.org"}.Template())
	if err != nil {
		t.Fatal(err)
	}
	at := armtemplate.Azure{
		Subscription: azuresim.Subscription, Group: "my-group", Location: "westeurope", ResourceManager: s.URL, Authority: s.URL,
		References: map[string]any{
			"Microsoft.ManagedIdentity/userAssignedIdentities/my-hub-deploy": map[string]any{"clientId": azuresim.Client, "principalId": "p"},
			"Microsoft.ContainerInstance/containerGroups/my-hub-setup":       map[string]any{"ipAddress": map[string]any{"fqdn": "setup.example.org"}},
		},
	}
	s.Add("my-group", "Microsoft.Resources/resourceGroups", "my-group", nil)
	values := map[string]any{"name": "my-hub", "settings": map[string]any{"azure": map[string]any{"cloud": map[string]any{"prices": s.URL + "/api/retail/prices", "ca_file": s.CAFile}}}}
	d, err := template.Deploy(at, values)
	if err != nil {
		t.Fatal(err)
	}
	_, environ, err := d.Environment()
	if err != nil {
		t.Fatal(err)
	}
	result, said := contained(t, environ)
	if diff := cmp.Diff(page.Result{State: page.Done}, result); diff != "" {
		t.Errorf("%s\n%s", diff, said)
	}
	if !strings.Contains(said, "managed identity "+azuresim.Client) || strings.Contains(said, azuresim.Secret) {
		t.Errorf("%s", said)
	}
	for name, state := range s.State() {
		if state != "Succeeded" {
			t.Errorf("%s is %s", name, state)
		}
	}
	// One plan is made, and what was done is read back; where nothing was to be done
	// there is nothing to read back.
	writes, lists := len(s.Writes()), s.Lists()
	if lists != 2 {
		t.Errorf("all was listed %d times", lists)
	}
	if result, _ := contained(t, environ); result.State != page.Done || len(s.Writes()) != writes || s.Lists() != lists+1 {
		t.Errorf("again: %+v %q, listed %d times", result, s.Writes()[writes:], s.Lists()-lists)
	}
}

// What is wrong is on the page, in words; binderhub-deploy's variables are taken.
func TestDeployContainerFails(t *testing.T) {
	for want, environ := range map[string][]string{
		button.Variable + " is not set": nil,
		"azure.region":                  {button.Variable + "=" + `{"name": "my-hub", "target": "azure", "azure": {"subscription": "x"}}`},
		"BINDERHUB_NAME":                {"BINDERHUB_CONTAINER_MODE=true"},
	} {
		if result, said := contained(t, environ); result.State != page.Failed || !strings.Contains(result.Message, want) {
			t.Errorf("%s: %+v\n%s", want, result, said)
		}
	}
}
