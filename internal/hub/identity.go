package hub

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// An anonymous person is a random name that the hub has signed. Browsers keep
// it in a cookie; programs send it as a bearer token. What the rest of the hub
// sees is its hash, so that no log and no database can speak for the person.
const (
	cookieSecure = "__Host-binnacle" // the prefix keeps sibling hosts from setting it
	cookiePlain  = "binnacle"
	cookieAge    = 90 * 24 * time.Hour
	// TokenHeader tells a program without cookies who it is from now on.
	TokenHeader = "Binnacle-Token" //nolint:gosec // G101: the name of a header, no secret
)

type trustedKey struct{}

// trust marks every request of next as the operator's.
func (h *Hub) trust(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), trustedKey{}, true)))
	})
}

func isTrusted(r *http.Request) bool {
	t, _ := r.Context().Value(trustedKey{}).(bool)
	return t
}

// caller tells who asks. With create, a stranger gets a name and is told it.
// Returns forbidden for a change that another site asks for, unauthorized for
// a bearer token that is not ours.
func (h *Hub) caller(w http.ResponseWriter, r *http.Request, create bool) (Caller, error) {
	if isTrusted(r) {
		return Caller{Owner: "operator", Trusted: true}, nil
	}
	c := Caller{Address: h.address(r)}
	if err := h.origin.Check(r); err != nil {
		return c, &binnacle.Error{
			Code: binnacle.CodeForbidden, Message: "This was asked for by another site and is not done.",
			Hint: "Do it from the hub's own pages.", Err: err,
		}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		owner, ok := h.owner(token)
		if !ok {
			return c, &binnacle.Error{
				Code: binnacle.CodeUnauthorized, Message: "This token is not one of this hub.",
				Hint: "Leave it out to get a new one in the header " + TokenHeader + ".",
			}
		}
		c.Owner = owner
		return c, nil
	}
	if cookieCounts(r) {
		for _, cookie := range r.CookiesNamed(h.cookieName(r)) {
			if owner, ok := h.owner(cookie.Value); ok {
				c.Owner = owner
				return c, nil
			}
		}
	}
	name := h.sign(rand.Text())
	c.Owner, _ = h.owner(name)
	if create {
		h.introduce(w, r, name)
	}
	return c, nil
}

// cookieCounts says whether a cookie may speak: not for what another site asks
// for, sibling hosts included, and not for a change that no browser vouches for.
func cookieCounts(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		return r.Header.Get("Origin") != "" || r.Method == http.MethodGet || r.Method == http.MethodHead
	default:
		return false
	}
}

// introduce tells a stranger the new name in the way it can keep it.
func (h *Hub) introduce(w http.ResponseWriter, r *http.Request, name string) {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" && !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set(TokenHeader, name)
		return
	}
	//nolint:gosec // G124: Secure is set wherever the person's browser speaks HTTPS; on plain http it would be lost
	http.SetCookie(w, &http.Cookie{
		Name: h.cookieName(r), Value: name, Path: "/", MaxAge: int(cookieAge.Seconds()),
		HttpOnly: true, Secure: h.secure(r), SameSite: http.SameSiteLaxMode,
	})
}

func (h *Hub) cookieName(r *http.Request) string {
	if h.secure(r) {
		return cookieSecure
	}
	return cookiePlain
}

func (h *Hub) sign(name string) string {
	mac := hmac.New(sha256.New, h.keys.owner)
	mac.Write([]byte(name))
	return name + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// owner is the id of whoever holds a name we signed.
func (h *Hub) owner(signed string) (string, bool) {
	name, _, ok := strings.Cut(signed, ".")
	if !ok || len(signed) > 200 || !hmac.Equal([]byte(h.sign(name)), []byte(signed)) {
		return "", false
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16]), true
}

// address is where a request came from: the connection's other end, or what a
// trusted proxy says of it.
func (h *Hub) address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if !h.proxied(host) {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(hops) {
		hop, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			break
		}
		host = hop.Unmap().String()
		if !h.proxied(host) {
			break
		}
	}
	return host
}

func (h *Hub) proxied(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range h.cfg.TrustedProxies {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// secure says whether the person's browser speaks HTTPS.
func (h *Hub) secure(r *http.Request) bool {
	if h.cfg.URL != "" {
		return strings.HasPrefix(h.cfg.URL, "https://")
	}
	if r.TLS != nil {
		return true
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return h.proxied(host) && r.Header.Get("X-Forwarded-Proto") == "https"
}

// base is the hub's address as the person sees it, without a last slash; empty
// on the unix socket of a hub without a configured address.
func (h *Hub) base(r *http.Request) string {
	if h.cfg.URL != "" {
		own := strings.TrimSuffix(h.cfg.URL, "/")
		asked := strings.ToLower(r.Host)
		name, _, err := net.SplitHostPort(asked)
		if err != nil {
			name = asked
		}
		if slices.ContainsFunc(h.cfg.Aliases, func(alias string) bool { return strings.EqualFold(alias, name) }) {
			scheme, _, _ := strings.Cut(own, "://")
			return scheme + "://" + asked
		}
		return own
	}
	if isTrusted(r) {
		return ""
	}
	scheme := "http"
	if h.secure(r) {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: r.Host}).String()
}
