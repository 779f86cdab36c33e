package azuresim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

type size struct {
	cores, memory int
	family        string
	restricted    bool
}

func sizes() map[string]size {
	return map[string]size{
		"Standard_D4s_v5": {cores: 4, memory: 16, family: "standardDSv5Family"},
		"Standard_D8s_v5": {cores: 8, memory: 32, family: "standardDSv5Family"},
		"Standard_D2s_v5": {cores: 2, memory: 8, family: "standardDSv5Family"},
		"Standard_D4s_v3": {cores: 4, memory: 16, family: "standardDSv3Family"},
		"Standard_E4s_v5": {cores: 4, memory: 32, family: "standardESv5Family", restricted: true},
	}
}

// provider answers for what belongs to the subscription and not to a group.
func (a *Azure) provider(w http.ResponseWriter, r *http.Request, parts []string) {
	rest := strings.ToLower(strings.Join(parts, "/"))
	switch {
	case len(parts) == 1:
		state := "Registered"
		if a.Unregistered[parts[0]] {
			state = "NotRegistered"
		}
		answer(w, http.StatusOK, map[string]any{"namespace": parts[0], "registrationState": state})
	case len(parts) == 2 && parts[1] == "register":
		a.writes = append(a.writes, "REGISTER "+parts[0])
		delete(a.Unregistered, parts[0])
		answer(w, http.StatusOK, map[string]any{"namespace": parts[0], "registrationState": "Registering"})
	case rest == "microsoft.compute/skus":
		var list []any
		for name, s := range sizes() {
			restrictions := []any{}
			if s.restricted {
				restrictions = append(restrictions, map[string]any{"type": "Location", "reasonCode": "NotAvailableForSubscription"})
			}
			list = append(list, map[string]any{
				"resourceType": "virtualMachines", "name": name, "family": s.family, "restrictions": restrictions,
				"capabilities": []any{map[string]any{"name": "vCPUs", "value": strconv.Itoa(s.cores)}, map[string]any{"name": "MemoryGB", "value": strconv.Itoa(s.memory)}},
			})
		}
		answer(w, http.StatusOK, map[string]any{"value": list})
	case strings.HasSuffix(rest, "/usages"):
		usage := func(name, text string) any {
			return map[string]any{"name": map[string]any{"value": name, "localizedValue": text}, "currentValue": 10, "limit": 10 + a.CoresFree, "unit": "Count"}
		}
		answer(w, http.StatusOK, map[string]any{"value": []any{usage("cores", "Total Regional vCPUs"), usage("standardDSv5Family", "Standard DSv5 Family vCPUs"), usage("availabilitySets", "Availability Sets")}})
	case strings.HasSuffix(rest, "/kubernetesversions"):
		answer(w, http.StatusOK, map[string]any{"values": []any{
			map[string]any{"version": "1.34", "isDefault": true, "patchVersions": map[string]any{"1.34.2": map[string]any{}}},
			map[string]any{"version": "1.33"},
			map[string]any{"version": "1.36", "isPreview": true},
		}})
	case strings.HasSuffix(rest, "/checknameavailability"):
		var body struct{ Name, Type string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		free := a.Taken[body.Type] != body.Name
		answer(w, http.StatusOK, map[string]any{"nameAvailable": free, "message": "The name is already in use.", "reason": "AlreadyExists"})
	case strings.HasSuffix(rest, "/checkdnsnameavailability"):
		answer(w, http.StatusOK, map[string]any{"available": a.Taken["label"] != r.URL.Query().Get("domainNameLabel")})
	default:
		fail(w, http.StatusNotFound, "InvalidResourceType", "The simulator has no "+r.URL.Path)
	}
}

// prices is the public list, a line on each page.
func (a *Azure) prices(w http.ResponseWriter, r *http.Request) {
	all := []map[string]any{
		{"serviceName": "Virtual Machines", "armSkuName": "Standard_D4s_v5", "productName": "Virtual Machines Dsv5 Series Windows", "skuName": "D4s v5", "meterName": "D4s v5", "unitOfMeasure": "1 Hour", "retailPrice": 0.414},
		{"serviceName": "Virtual Machines", "armSkuName": "Standard_D4s_v5", "productName": "Virtual Machines Dsv5 Series", "skuName": "D4s v5 Spot", "meterName": "D4s v5 Spot", "unitOfMeasure": "1 Hour", "retailPrice": 0.05},
		{"serviceName": "Virtual Machines", "armSkuName": "Standard_D4s_v5", "productName": "Virtual Machines Dsv5 Series", "skuName": "D4s v5", "meterName": "D4s v5", "unitOfMeasure": "1 Hour", "retailPrice": 0.23},
		{"serviceName": "Container Registry", "skuName": "Basic", "meterName": "Data Stored", "unitOfMeasure": "1 GB/Month", "retailPrice": 0.1},
		{"serviceName": "Container Registry", "skuName": "Basic", "meterName": "Basic Registry Unit", "unitOfMeasure": "1/Day", "retailPrice": 0.1666},
		{"serviceName": "Virtual Network", "skuName": "Standard", "meterName": "Standard IPv4 Static Public IP", "unitOfMeasure": "1 Hour", "retailPrice": 0.005},
		{"serviceName": "Azure Kubernetes Service", "skuName": "Standard", "meterName": "Standard Uptime SLA", "unitOfMeasure": "1 Hour", "retailPrice": 0.1},
	}
	filter := r.URL.Query().Get("$filter")
	var found []map[string]any
	for _, line := range all {
		line["armRegionName"], line["priceType"], line["currencyCode"] = "westeurope", "Consumption", "USD"
		fits := true
		for _, m := range regexp.MustCompile(`(\w+) eq '([^']*)'`).FindAllStringSubmatch(filter, -1) {
			fits = fits && line[m[1]] == m[2]
		}
		if fits {
			found = append(found, line)
		}
	}
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skip"))
	page := map[string]any{"Items": []any{}}
	if skip < len(found) {
		page["Items"] = found[skip : skip+1]
	}
	if skip+1 < len(found) {
		page["NextPageLink"] = a.url + "/api/retail/prices?" + url.Values{"$filter": {filter}, "$skip": {strconv.Itoa(skip + 1)}}.Encode()
	}
	answer(w, http.StatusOK, page)
}
