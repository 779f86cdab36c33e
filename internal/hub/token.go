package hub

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// buildTokenAge is how long a launch page's token is good, as in BinderHub.
const buildTokenAge = 5 * time.Minute

// buildClaims are what BinderHub's build tokens say.
type buildClaims struct {
	jwt.RegisteredClaims

	Origin string `json:"origin"`
}

// buildToken says that the launch page of a spec ("gh/owner/name/ref", as in
// the address) was shown to whoever asks for the build.
func (h *Hub) buildToken(r *http.Request, spec string) (string, error) {
	claims := buildClaims{Origin: requestOrigin(r)}
	claims.Audience = jwt.ClaimStrings{spec}
	claims.ExpiresAt = jwt.NewNumericDate(time.Now().Add(buildTokenAge))
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(h.keys.build)
}

func (h *Hub) checkBuildToken(r *http.Request, token, spec string) bool {
	var claims buildClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return h.keys.build, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(spec), jwt.WithExpirationRequired())
	return err == nil && claims.Origin == requestOrigin(r)
}

// requestOrigin is the host that a request's page came from.
func requestOrigin(r *http.Request) string {
	if u, err := url.Parse(r.Header.Get("Origin")); err == nil && u.Host != "" {
		return u.Host
	}
	return r.Host
}

func itoa(n int) string { return strconv.Itoa(n) }
