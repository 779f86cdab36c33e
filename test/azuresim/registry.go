package azuresim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// registry answers for what belongs to a registry: tokens, which refer to a scope
// map of the registry, and their passwords, which are told once.
func (a *Azure) registry(w http.ResponseWriter, r *http.Request, parts []string) {
	id := "/" + strings.Join(parts[:8], "/")
	if a.resources[strings.ToLower(id)] == nil {
		fail(w, http.StatusNotFound, "ResourceNotFound", "The registry was not found.")
		return
	}
	var body struct {
		TokenID    string `json:"tokenId"`
		Name       string `json:"name"`
		Properties struct {
			ScopeMapID string `json:"scopeMapId"`
			Status     string `json:"status"`
		} `json:"properties"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	switch what := strings.ToLower(parts[8]); {
	case what == "tokens" && len(parts) == 10 && r.Method == http.MethodPut:
		if !strings.EqualFold(body.Properties.ScopeMapID, id+"/scopeMaps/_repositories_push") {
			fail(w, http.StatusBadRequest, "ScopeMapNotFound", "There is no scope map "+body.Properties.ScopeMapID)
			return
		}
		a.writes = append(a.writes, "PUT "+parts[5]+"/registries/tokens/"+parts[7]+"/"+parts[9])
		token := id + "/tokens/" + parts[9]
		a.tokens[strings.ToLower(token)] = true
		answer(w, http.StatusOK, map[string]any{"id": token, "name": parts[9], "properties": map[string]any{
			"scopeMapId": body.Properties.ScopeMapID, "status": body.Properties.Status, "provisioningState": "Succeeded",
		}})
	case what == "generatecredentials" && r.Method == http.MethodPost:
		if !a.tokens[strings.ToLower(body.TokenID)] {
			fail(w, http.StatusNotFound, "TokenNotFound", "There is no token "+body.TokenID)
			return
		}
		a.writes = append(a.writes, "POST "+parts[5]+"/registries/generateCredentials/"+parts[7])
		password := fmt.Sprintf("a-password-of-the-registry-%d", len(a.Passwords)+1)
		a.Passwords = append(a.Passwords, password)
		user := body.TokenID[strings.LastIndex(body.TokenID, "/")+1:]
		answer(w, http.StatusOK, map[string]any{"username": user, "passwords": []any{map[string]any{"name": body.Name, "value": password}}})
	default:
		fail(w, http.StatusNotFound, "InvalidResourceType", "The simulator has no "+r.URL.Path)
	}
}
