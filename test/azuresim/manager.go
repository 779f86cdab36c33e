package azuresim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	typeGroup   = "Microsoft.Resources/resourceGroups"
	typeCluster = "Microsoft.ContainerService/managedClusters"
	typePool    = typeCluster + "/agentPools"
	typeAddress = "Microsoft.Network/publicIPAddresses"
	typeZone    = "Microsoft.Network/dnsZones"
	typeStorage = "Microsoft.Storage/storageAccounts"
)

// manager is Azure Resource Manager.
func (a *Azure) manager(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	parts := strings.Split(path, "/")
	switch {
	case path == "subscriptions":
		answer(w, http.StatusOK, map[string]any{"value": []any{a.subscription()}})
	case len(parts) < 2 || parts[0] != "subscriptions" || parts[1] != Subscription:
		fail(w, http.StatusNotFound, "SubscriptionNotFound", "The subscription could not be found.")
	case len(parts) == 2:
		answer(w, http.StatusOK, a.subscription())
	case strings.EqualFold(parts[2], "providers"):
		a.provider(w, r, parts[3:])
	case strings.EqualFold(parts[2], "resourceGroups") && len(parts) == 4:
		a.resource(w, r, typeGroup, parts[3], "")
	case strings.EqualFold(parts[2], "resourceGroups") && len(parts) == 5 && parts[4] == "resources":
		a.list(w, parts[3])
	case len(parts) == 7 && strings.EqualFold(parts[5]+"/"+parts[6], "Microsoft.Authorization/permissions"):
		a.permissions(w, parts[3])
	case len(parts) >= 8 && strings.EqualFold(parts[4], "providers"):
		a.inGroup(w, r, parts)
	default:
		fail(w, http.StatusNotFound, "InvalidResourceType", "The simulator has no "+r.URL.Path)
	}
}

func (a *Azure) subscription() map[string]any {
	state := "Enabled"
	if a.Disabled {
		state = "Disabled"
	}
	return map[string]any{"id": "/subscriptions/" + Subscription, "subscriptionId": Subscription, "displayName": SubscriptionName, "state": state, "tenantId": Tenant}
}

// permissions are what who asks may do in a group: the role Contributor, without what
// was taken away.
func (a *Azure) permissions(w http.ResponseWriter, group string) {
	if a.resources["/subscriptions/"+Subscription+"/resourcegroups/"+strings.ToLower(group)] == nil {
		fail(w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+group+"' could not be found.")
		return
	}
	answer(w, http.StatusOK, map[string]any{"value": []any{
		map[string]any{"actions": []string{"*/read"}, "notActions": []string{}},
		map[string]any{"actions": []string{"*"}, "notActions": append([]string{"Microsoft.Authorization/*/Write"}, a.Denied...)},
	}})
}

// inGroup answers for resources of providers; types and names take turns.
func (a *Azure) inGroup(w http.ResponseWriter, r *http.Request, parts []string) {
	typ, name := parts[5], ""
	for i := 6; i+1 < len(parts); i += 2 {
		typ, name = typ+"/"+parts[i], name+"/"+parts[i+1]
	}
	name = strings.TrimPrefix(name, "/")
	if path, ok := strings.CutSuffix(strings.ToLower(r.URL.Path), "/listclusterusercredential"); ok && r.Method == http.MethodPost {
		if a.resources[path] == nil {
			fail(w, http.StatusNotFound, "ResourceNotFound", "The cluster was not found.")
			return
		}
		answer(w, http.StatusOK, map[string]any{"kubeconfigs": []any{map[string]any{"name": "clusterUser", "value": a.Kubeconfig}}})
		return
	}
	if path, ok := strings.CutSuffix(strings.ToLower(r.URL.Path), "/listkeys"); ok && r.Method == http.MethodPost {
		if a.resources[path] == nil {
			fail(w, http.StatusNotFound, "ResourceNotFound", "The storage account was not found.")
			return
		}
		answer(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{"keyName": "key1", "permissions": "FULL", "value": a.BlobKey}}})
		return
	}
	if strings.HasPrefix(strings.ToLower(strings.Join(parts[5:], "/")), "microsoft.containerregistry/registries/") && len(parts) > 8 {
		a.registry(w, r, parts)
		return
	}
	if r.Method == http.MethodPost && len(parts) == 9 && a.power(w, parts) {
		return
	}
	if r.Method == http.MethodGet && len(parts) == 9 && strings.EqualFold(parts[8], "agentPools") {
		a.pools(w, strings.ToLower(r.URL.Path))
		return
	}
	group := "/subscriptions/" + Subscription + "/resourcegroups/" + strings.ToLower(parts[3])
	if g, ok := a.resources[group]; !ok || g.State == "Deleting" && r.Method == http.MethodPut {
		fail(w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+parts[3]+"' could not be found.")
		return
	}
	if a.Unregistered[parts[5]] && r.Method == http.MethodPut {
		fail(w, http.StatusConflict, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace '"+parts[5]+"'.")
		return
	}
	parent := ""
	if i := strings.LastIndex(name, "/"); i >= 0 {
		up := strings.Join(parts[:len(parts)-2], "/")
		if parent = strings.ToLower("/" + up); a.resources[parent] == nil {
			fail(w, http.StatusNotFound, "ParentResourceNotFound", "The parent resource could not be found.")
			return
		}
	}
	a.resource(w, r, typ, name, parent)
}

// pools lists those of a cluster that were made by themselves.
func (a *Azure) pools(w http.ResponseWriter, path string) {
	if a.resources[strings.TrimSuffix(path, "/agentpools")] == nil {
		fail(w, http.StatusNotFound, "ResourceNotFound", "The cluster was not found.")
		return
	}
	value := []any{}
	for key, res := range a.resources {
		if strings.HasPrefix(key, path+"/") {
			value = append(value, res.json())
		}
	}
	answer(w, http.StatusOK, map[string]any{"value": value})
}

func (a *Azure) resource(w http.ResponseWriter, r *http.Request, typ, name, _ string) {
	key := strings.ToLower(strings.TrimSuffix(r.URL.Path, "/"))
	res := a.look(key)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if res == nil {
			fail(w, http.StatusNotFound, notFoundCode(typ), "The "+typ+" '"+name+"' was not found.")
			return
		}
		answer(w, http.StatusOK, res.json())
	case http.MethodPut:
		a.put(w, r, typ, name, res)
	case http.MethodDelete:
		a.remove(w, typ, name, res)
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
	}
}

func notFoundCode(typ string) string {
	if typ == typeGroup {
		return "ResourceGroupNotFound"
	}
	return "ResourceNotFound"
}

// look lets time pass: each look brings an operation nearer to its end.
func (a *Azure) look(key string) *Resource {
	res := a.resources[key]
	if res == nil || res.looks == 0 {
		return res
	}
	res.looks--
	if res.looks > 0 {
		return res
	}
	switch {
	case res.State == "Deleting":
		a.drop(key)
		return nil
	case res.outcome != "":
		res.State = "Failed"
	default:
		res.State = "Succeeded"
	}
	return res
}

// drop takes a resource away with all that is below it; a cluster takes its
// machines' group with it.
func (a *Azure) drop(key string) {
	res := a.resources[key]
	delete(a.resources, key)
	for below := range a.resources {
		if strings.HasPrefix(below, key+"/") {
			delete(a.resources, below)
		}
	}
	maps.DeleteFunc(a.tokens, func(id string, _ bool) bool { return strings.HasPrefix(id, key+"/") })
	if res != nil && res.Type == typeCluster {
		if group := res.property("nodeResourceGroup"); group != "" {
			a.drop("/subscriptions/" + Subscription + "/resourcegroups/" + strings.ToLower(group))
		}
	}
}

func (r *Resource) property(name string) string {
	p, _ := r.Body["properties"].(map[string]any)
	s, _ := p[name].(string)
	return s
}

func (r *Resource) json() map[string]any {
	out := map[string]any{"id": r.ID, "name": r.Name[strings.LastIndex(r.Name, "/")+1:], "type": r.Type, "location": r.Location, "tags": r.Tags}
	maps.Copy(out, r.Body)
	props, _ := r.Body["properties"].(map[string]any)
	withState := map[string]any{"provisioningState": r.State}
	maps.Copy(withState, props)
	out["properties"] = withState
	return out
}

// put creates or changes.
func (a *Azure) put(w http.ResponseWriter, r *http.Request, typ, name string, res *Resource) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, "InvalidRequestContent", err.Error())
		return
	}
	if a.Disabled {
		fail(w, http.StatusConflict, "ReadOnlyDisabledSubscription", "The subscription is disabled and therefore marked as read only.")
		return
	}
	if res != nil && res.looks > 0 {
		fail(w, http.StatusConflict, "AnotherOperationInProgress", "Another operation on "+name+" is in progress.")
		return
	}
	if code, message := a.refuse(typ, name, body, res); code != "" {
		fail(w, http.StatusBadRequest, code, message)
		return
	}
	if a.Taken[typ] == name && res == nil {
		fail(w, http.StatusConflict, "AlreadyInUse", "The name "+name+" is already in use.")
		return
	}
	created := res == nil
	if created {
		res = &Resource{ID: strings.TrimSuffix(r.URL.Path, "/"), Name: name, Type: typ}
		a.resources[strings.ToLower(res.ID)] = res
	}
	a.writes = append(a.writes, "PUT "+typ+"/"+name)
	res.store(body)
	res.State, res.outcome, res.reason = "Succeeded", "", ""
	a.fill(res)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	if typ == typeGroup || strings.HasPrefix(typ, typeZone) {
		answer(w, status, res.json()) // these are done at once
		return
	}
	a.begin(w, res, "Creating")
	if code := a.FailCreate[typ]; code != "" {
		delete(a.FailCreate, typ)
		res.outcome, res.reason = code, "The operation failed in the simulator."
	}
	if typ == typeStorage && created {
		w.Header().Del("Azure-AsyncOperation")
		w.WriteHeader(http.StatusAccepted)
		return
	}
	answer(w, status, res.json())
}

func (r *Resource) store(body map[string]any) {
	r.Location, _ = body["location"].(string)
	r.Tags = map[string]string{}
	tags, _ := body["tags"].(map[string]any)
	for k, v := range tags {
		r.Tags[k], _ = v.(string)
	}
	r.Body = map[string]any{}
	for k, v := range body {
		if !slices.Contains([]string{"location", "tags", "id", "name", "type"}, k) {
			r.Body[k] = v
		}
	}
	if _, ok := r.Body["properties"].(map[string]any); !ok {
		r.Body["properties"] = map[string]any{}
	}
	// What only Azure decides is not taken from a body.
	if props, ok := r.Body["properties"].(map[string]any); ok {
		delete(props, "provisioningState")
	}
}

// refuse are rules that Azure holds bodies against before it begins.
func (a *Azure) refuse(typ, name string, body map[string]any, res *Resource) (code, message string) {
	if _, ok := body["location"].(string); !ok && !strings.Contains(typ, "dnsZones/") && typ != typePool {
		return "LocationRequired", "The location property is required for this definition."
	}
	props, _ := body["properties"].(map[string]any)
	switch typ {
	case typeAddress:
		dns, _ := props["dnsSettings"].(map[string]any)
		if label, _ := dns["domainNameLabel"].(string); label != "" && a.Taken["label"] == label {
			return "DnsRecordInUse", "DNS record " + label + " is already used by another public IP."
		}
	case typeCluster:
		if props["servicePrincipalProfile"] != nil || body["identity"] == nil {
			return "InvalidParameter", "The simulator takes clusters with a managed identity only."
		}
		pools, _ := props["agentPoolProfiles"].([]any)
		for _, p := range pools {
			pool, _ := p.(map[string]any)
			size, _ := pool["vmSize"].(string)
			s, ok := sizes()[size]
			if !ok || pool["mode"] == "System" && s.cores < 4 {
				return "BadRequest", "The VM size " + size + " is not allowed for system node pools."
			}
			if res != nil {
				continue
			}
			if count, _ := pool["count"].(float64); int(count)*s.cores > a.CoresFree {
				// Found out only after the creation was accepted.
				a.failNext(typeCluster, "QuotaExceeded")
			}
		}
	case typePool:
		size, _ := props["vmSize"].(string)
		if _, ok := sizes()[size]; !ok {
			return "BadRequest", "The VM size " + size + " is not allowed."
		}
	}
	_ = name
	return "", ""
}

func (a *Azure) failNext(typ, code string) {
	if a.FailCreate == nil {
		a.FailCreate = map[string]string{}
	}
	a.FailCreate[typ] = code
}

// fill adds what Azure decides.
func (a *Azure) fill(res *Resource) {
	props, _ := res.Body["properties"].(map[string]any)
	switch res.Type {
	case typeCluster:
		if props["kubernetesVersion"] == nil {
			props["kubernetesVersion"] = "1.34"
		}
		props["currentKubernetesVersion"] = "1.34.2"
		if !a.Created.IsZero() {
			res.Body["systemData"] = map[string]any{"createdAt": a.Created.Format(time.RFC3339)}
		}
		props["fqdn"] = strings.ToLower(res.Name) + ".hcp.example.org"
		group, _ := props["nodeResourceGroup"].(string)
		id := "/subscriptions/" + Subscription + "/resourceGroups/" + group
		a.resources[strings.ToLower(id)] = &Resource{
			ID: id, Name: group, Type: typeGroup, Location: res.Location, Tags: map[string]string{}, State: "Succeeded",
			Body: map[string]any{"managedBy": res.ID, "properties": map[string]any{}},
		}
	case typeAddress:
		props["ipAddress"] = cmp.Or(a.Address, "192.0.2.7")
		if dns, ok := props["dnsSettings"].(map[string]any); ok {
			dns["fqdn"] = fmt.Sprintf("%v.%s.cloudapp.azure.com", dns["domainNameLabel"], res.Location)
		}
	case typeZone:
		props["nameServers"] = []any{"ns1-01.azure-dns.example.org.", "ns2-01.azure-dns.example.org."}
	case typeStorage:
		props["primaryEndpoints"] = map[string]any{"blob": cmp.Or(a.Blobs, "https://blob.example.org") + "/" + res.Name + "/"}
	case "Microsoft.ContainerRegistry/registries":
		props["loginServer"] = strings.ToLower(res.Name) + ".azurecr.example.org"
	}
}

// power stops and starts a cluster; false when something else is asked.
func (a *Azure) power(w http.ResponseWriter, parts []string) bool {
	code, ok := map[string]string{"stop": "Stopped", "start": "Running"}[strings.ToLower(parts[8])]
	if !ok || !strings.EqualFold(parts[5]+"/"+parts[6], typeCluster) {
		return false
	}
	res := a.look(strings.ToLower("/" + strings.Join(parts[:8], "/")))
	if res == nil {
		fail(w, http.StatusNotFound, "ResourceNotFound", "The cluster was not found.")
		return true
	}
	if props, ok := res.Body["properties"].(map[string]any); ok {
		props["powerState"] = map[string]any{"code": code}
	}
	a.writes = append(a.writes, strings.ToUpper(parts[8])+" "+typeCluster+"/"+parts[7])
	a.begin(w, res, "Updating")
	w.WriteHeader(http.StatusAccepted)
	return true
}

// begin starts an operation and says where to ask about it.
func (a *Azure) begin(w http.ResponseWriter, res *Resource, state string) {
	res.State, res.looks = state, a.Looks
	op := fmt.Sprintf("op-%d", len(a.ops)+1)
	a.ops[op] = strings.ToLower(res.ID)
	w.Header().Set("Azure-AsyncOperation", a.url+"/operations/"+op+"?api-version=1")
	w.Header().Set("Location", a.url+"/operations/"+op+"?api-version=1&result=true")
	w.Header().Set("Retry-After-Ms", "2")
}

// remove deletes what is there; what is not, is gone already.
func (a *Azure) remove(w http.ResponseWriter, typ, name string, res *Resource) {
	if res == nil {
		if typ == typeGroup {
			fail(w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+name+"' could not be found.")
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	a.writes = append(a.writes, "DELETE "+typ+"/"+name)
	switch {
	case typ == typeStorage || strings.HasPrefix(typ, typeZone+"/"):
		a.drop(strings.ToLower(res.ID))
		w.WriteHeader(http.StatusOK)
	default:
		a.begin(w, res, "Deleting")
		if typ == typeGroup {
			w.Header().Del("Azure-AsyncOperation")
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

// operation answers questions about operations: their status, or with result
// the resource itself.
func (a *Azure) operation(w http.ResponseWriter, r *http.Request) {
	op := strings.TrimPrefix(r.URL.Path, "/operations/")
	key, ok := a.ops[op]
	if !ok || a.Forget {
		fail(w, http.StatusNotFound, "OperationNotFound", "The operation "+op+" is not known.")
		return
	}
	res := a.look(key)
	w.Header().Set("Retry-After-Ms", "2")
	if r.URL.Query().Get("result") != "" {
		switch {
		case res == nil:
			w.WriteHeader(http.StatusNoContent)
		case res.looks > 0:
			w.Header().Set("Location", a.url+r.URL.RequestURI())
			w.WriteHeader(http.StatusAccepted)
		default:
			answer(w, http.StatusOK, res.json())
		}
		return
	}
	switch {
	case res == nil || res.looks == 0 && res.outcome == "":
		answer(w, http.StatusOK, map[string]any{"name": op, "status": "Succeeded"})
	case res.looks == 0:
		answer(w, http.StatusOK, map[string]any{"name": op, "status": "Failed", "error": map[string]any{"code": res.outcome, "message": res.reason}})
	default:
		answer(w, http.StatusOK, map[string]any{"name": op, "status": "InProgress"})
	}
}

// list has the resources of a group; those inside others are not among them.
func (a *Azure) list(w http.ResponseWriter, group string) {
	a.lists++
	prefix := "/subscriptions/" + Subscription + "/resourcegroups/" + strings.ToLower(group)
	if a.resources[prefix] == nil {
		fail(w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+group+"' could not be found.")
		return
	}
	value := []any{}
	for key, res := range a.resources {
		if strings.HasPrefix(key, prefix+"/providers/") && !strings.Contains(res.Name, "/") {
			value = append(value, map[string]any{"id": res.ID, "name": res.Name, "type": res.Type, "location": res.Location, "tags": res.Tags})
		}
	}
	answer(w, http.StatusOK, map[string]any{"value": value})
}
