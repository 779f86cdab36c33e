package config_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/config"
)

// TestSiteMirror: behind a site's own mirror nothing is fetched from elsewhere,
// so every mirror there is must have a place below it.
func TestSiteMirror(t *testing.T) {
	m := config.Mirrors{Site: "https://mirror.example.org/all/", NPM: "https://npm.example.org"}.Effective()
	v := reflect.ValueOf(m)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).Kind() != reflect.String || name == "RStudioSHA256" || name == "NixCacheKey" || name == "NPM" || name == "VSCodeSHA256" {
			continue
		}
		if text := v.Field(i).String(); !strings.HasPrefix(strings.TrimPrefix(text, "sparse+"), "https://mirror.example.org/all/") || strings.Contains(text, "all//") && name != "Site" {
			t.Errorf("%s is %q", name, text)
		}
	}
	if m.NPM != "https://npm.example.org" {
		t.Errorf("an address of its own was lost: %s", m.NPM)
	}
	if empty := (config.Mirrors{}).Effective(); empty.PyPI != "" || empty.Debian != "" {
		t.Errorf("without a site: %+v", empty)
	}
}
