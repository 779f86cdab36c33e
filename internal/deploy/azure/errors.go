package azure

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/binnacle-hub/binnacle"
)

// hints say what to do about errors that people meet often.
func hints() map[string]string {
	return map[string]string{
		"QuotaExceeded":                   "Ask for more vCPUs in the portal under Quotas, or choose fewer or smaller nodes.",
		"OperationNotAllowed":             "If this is about quota, ask for more vCPUs in the portal under Quotas, or choose fewer or smaller nodes.",
		"SkuNotAvailable":                 "Choose another azure.nodes.size or azure.region.",
		"MissingSubscriptionRegistration": "Ask the owner of the subscription to register the resource provider that the message names.",
		"AuthorizationFailed":             "Ask the owner of the subscription for the role Contributor on the resource group.",
		"RequestDisallowedByPolicy":       "A rule of your organisation forbids this; ask the owner of the subscription.",
		"ScopeLocked":                     "Somebody has locked it; ask the owner of the subscription to remove the lock.",
		"RegistryNameNotAvailable":        "Choose another registry.name.", "AlreadyInUse": "Choose another registry.name.",
		"StorageAccountAlreadyTaken": "Choose another name for the deployment.",
		"DnsRecordInUse":             "Choose another dns.label.",
		"TooManyRequests":            "Azure is asked too often; run the same command again in a few minutes.",
	}
}

// explain turns an error of the SDK into one for people. nil stays nil, and so
// does what is one already.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*binnacle.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		return &binnacle.Error{
			Code: binnacle.CodeUnauthorized, Op: "azure.sign_in", Message: "Azure did not accept the sign-in" + why(e.RawResponse) + ".",
			Hint: "Check azure.sign_in, azure.tenant, azure.client and the secret; --verbose shows all that Azure said.", Err: e,
		}
	}
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		if strings.Contains(err.Error(), "Credential:") {
			return &binnacle.Error{
				Code: binnacle.CodeUnauthorized, Op: "azure.sign_in", Message: "The sign-in to Azure did not work.",
				Hint: "With azure.sign_in cli run az login; --verbose shows the cause.", Err: err,
			}
		}
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "azure.request", Message: "Azure can't be reached, or did not answer as expected.",
			Hint: "Run the same command again; --verbose shows the cause.", Err: err,
		}
	}
	code, message := detail(e)
	return &binnacle.Error{Code: codeOf(e, code), Op: "azure.request", Message: "Azure: " + message, Hint: hints()[code], Err: err}
}

// why is what Azure says of a sign-in that it refuses, in its first sentence.
func why(resp *http.Response) string {
	var body struct {
		Description string `json:"error_description"`
	}
	if resp == nil {
		return ""
	}
	b, err := runtime.Payload(resp)
	if err != nil || json.Unmarshal(b, &body) != nil || body.Description == "" {
		return ""
	}
	first, _, _ := strings.Cut(body.Description, ". ")
	first, _, _ = strings.Cut(first, "\n")
	return ": " + strings.TrimSuffix(strings.TrimSpace(first), ".")
}

// detail is the innermost code and message of an error of Azure.
func detail(e *azcore.ResponseError) (code, message string) {
	code, message = e.ErrorCode, http.StatusText(e.StatusCode)
	type inner struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Details []inner `json:"details"`
	}
	var body struct {
		inner
		Error *inner `json:"error"`
	}
	if e.RawResponse != nil {
		if b, err := runtime.Payload(e.RawResponse); err == nil {
			_ = json.Unmarshal(b, &body)
		}
	}
	at := &body.inner
	if body.Error != nil {
		at = body.Error
	}
	for len(at.Details) > 0 {
		at = &at.Details[0]
	}
	if at.Message != "" {
		message = at.Message
	}
	if at.Code != "" {
		code = at.Code
	}
	if code != "" {
		message = strings.TrimSuffix(message, ".") + " (" + code + ")."
	}
	return code, message
}

func codeOf(e *azcore.ResponseError, code string) binnacle.Code {
	switch {
	case strings.Contains(code, "Quota"):
		return binnacle.CodeLimited
	case e.StatusCode == http.StatusNotFound:
		return binnacle.CodeNotFound
	case e.StatusCode == http.StatusUnauthorized:
		return binnacle.CodeUnauthorized
	case e.StatusCode == http.StatusForbidden:
		return binnacle.CodeForbidden
	case e.StatusCode == http.StatusConflict:
		return binnacle.CodeConflict
	case e.StatusCode == http.StatusBadRequest:
		return binnacle.CodeInvalid
	case e.StatusCode == http.StatusTooManyRequests:
		return binnacle.CodeLimited
	default:
		return binnacle.CodeUnavailable
	}
}
