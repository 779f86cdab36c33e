package armtemplate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/msi/armmsi"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeploymentscripts/v2"
)

// model is what the vendor's own library for Go knows of one type of resource.
type model struct {
	body func() any // what it sends to make one
	ask  func(context.Context, *arm.ClientOptions) error
}

func models() map[string]model {
	const subscription = "11111111-1111-1111-1111-111111111111"
	return map[string]model{
		"Microsoft.ManagedIdentity/userAssignedIdentities": {func() any { return new(armmsi.Identity) }, func(ctx context.Context, o *arm.ClientOptions) error {
			c, err := armmsi.NewUserAssignedIdentitiesClient(subscription, &fake.TokenCredential{}, o)
			if err == nil {
				_, err = c.Get(ctx, "g", "n", nil)
			}
			return err
		}},
		"Microsoft.Authorization/roleAssignments": {func() any { return new(armauthorization.RoleAssignmentCreateParameters) }, func(ctx context.Context, o *arm.ClientOptions) error {
			c, err := armauthorization.NewRoleAssignmentsClient(subscription, &fake.TokenCredential{}, o)
			if err == nil {
				_, err = c.Get(ctx, "scope", "n", nil)
			}
			return err
		}},
		"Microsoft.ContainerInstance/containerGroups": {func() any { return new(armcontainerinstance.ContainerGroup) }, func(ctx context.Context, o *arm.ClientOptions) error {
			c, err := armcontainerinstance.NewContainerGroupsClient(subscription, &fake.TokenCredential{}, o)
			if err == nil {
				_, err = c.Get(ctx, "g", "n", nil)
			}
			return err
		}},
		"Microsoft.Resources/deploymentScripts": {func() any { return new(armdeploymentscripts.AzureCliScript) }, func(ctx context.Context, o *arm.ClientOptions) error {
			c, err := armdeploymentscripts.NewClient(subscription, &fake.TokenCredential{}, o)
			if err == nil {
				_, err = c.Get(ctx, "g", "n", nil)
			}
			return err
		}},
	}
}

// asked is a transport that keeps which version a request is of.
type asked struct{ version string }

// Do keeps the version and goes nowhere.
func (a *asked) Do(r *http.Request) (*http.Response, error) {
	a.version = r.URL.Query().Get("api-version")
	return nil, askedError{}
}

type askedError struct{}

func (askedError) Error() string { return "this goes nowhere" }

// NonRetriable keeps the library from trying again.
func (askedError) NonRetriable() {}

// version is the one that the vendor's library speaks for a type.
func (m model) version(ctx context.Context) (string, error) {
	a := new(asked)
	err := m.ask(ctx, &arm.ClientOptions{ClientOptions: policy.ClientOptions{Transport: a}})
	if a.version == "" {
		return "", errors.Join(errors.New("the library asked nothing"), err)
	}
	return a.version, nil
}

// modelProblems decodes each resource, as Azure would get it, into the vendor's own
// model and encodes it again: what is misspelt or in a wrong place is lost then, and
// what is of a wrong type can't be decoded.
func modelProblems(resources []any) []string {
	var out []string
	for _, r := range resources {
		resource, ok := r.(map[string]any)
		if !ok {
			out = append(out, fmt.Sprintf("a resource is a %T", r))
			continue
		}
		kind := fmt.Sprint(resource["type"])
		m, ok := models()[kind]
		if !ok {
			out = append(out, "no model of "+kind+" is known here")
			continue
		}
		body := maps.Clone(resource)
		for _, key := range []string{"type", "apiVersion", "name", "dependsOn", "comments", "condition", "scope"} { // the template's own
			delete(body, key)
		}
		b, err := json.Marshal(body)
		into := m.body()
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			out = append(out, kind+": "+err.Error())
			continue
		}
		again, err := json.Marshal(into)
		if err != nil {
			out = append(out, kind+": "+err.Error())
			continue
		}
		var before, after any
		if err := errors.Join(json.Unmarshal(b, &before), json.Unmarshal(again, &after)); err != nil {
			out = append(out, kind+": "+err.Error())
			continue
		}
		for _, lost := range losses(kind, before, after) {
			out = append(out, lost+" is not what the vendor's library knows")
		}
	}
	return out
}

// losses names what of a is not in b, by its place.
func losses(at string, a, b any) []string {
	switch a := a.(type) {
	case map[string]any:
		other, _ := b.(map[string]any)
		var out []string
		for _, key := range slices.Sorted(maps.Keys(a)) {
			there, ok := other[key]
			if !ok {
				out = append(out, at+"."+key)
				continue
			}
			out = append(out, losses(at+"."+key, a[key], there)...)
		}
		return out
	case []any:
		other, _ := b.([]any)
		if len(a) != len(other) {
			return []string{at}
		}
		var out []string
		for i := range a {
			out = append(out, losses(fmt.Sprintf("%s[%d]", at, i), a[i], other[i])...)
		}
		return out
	}
	if !reflect.DeepEqual(a, b) {
		return []string{at}
	}
	return nil
}

// versionProblems compares the versions with those of the vendor's library: not one
// that is older, and no preview.
func versionProblems(resources []any) []string {
	var out []string
	for _, r := range resources {
		resource, ok := r.(map[string]any)
		if !ok {
			continue
		}
		kind, version := fmt.Sprint(resource["type"]), fmt.Sprint(resource["apiVersion"])
		m, ok := models()[kind]
		if !ok {
			continue
		}
		known, err := m.version(context.Background())
		switch {
		case err != nil:
			out = append(out, kind+": "+err.Error())
		case strings.Contains(version, "preview"):
			out = append(out, kind+": "+version+" is a preview")
		case version < known:
			out = append(out, fmt.Sprintf("%s: %s is older than the %s of the vendor's library", kind, version, known))
		}
	}
	return out
}
