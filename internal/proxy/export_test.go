package proxy

// For tests of what has no other way in.
var (
	SplitTarget      = splitTarget
	SessionCookies   = sessionCookies
	RewriteSetCookie = rewriteSetCookie
	HubCookie        = hubCookie
	Personal         = personal
	ValidID          = validID
)

// Scanner is a frame scanner.
type Scanner struct{ f frames }

// Scan reports whether a data frame began in b.
func (s *Scanner) Scan(b []byte) bool { return s.f.scan(b) }
