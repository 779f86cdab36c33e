package cli

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
)

// What tests look at.
var (
	RuncFault      = runcFault
	SessionAddress = sessionAddress
	PlainText      = plainText
	Left           = left
	Notify         = notify
	ReadBuild      = readBuild
	CheckAddress   = checkAddress
	BuildEnv       = buildEnv
	SessionEnv     = sessionEnv
)

// Root is the command tree.
func Root() *cobra.Command { return (&app{}).root() }

// Draw plays events and returns the lines of a terminal at a moment.
func Draw(events []binnacle.Event, now time.Time, width int) []string {
	var p progress
	for _, e := range events {
		p.add(e)
	}
	return p.lines(now, width)
}

// NewDisplay is the display of an Env.
func NewDisplay(ctx context.Context, env Env, asJSON bool) (event func(binnacle.Event) error, end func()) {
	a := &app{Env: env}
	d := a.newDisplay(ctx, asJSON)
	return d.event, d.close
}

// Still is what is said while a step lasts so long.
func Still(what string, lasts time.Duration) string {
	var said strings.Builder
	var l lasting
	end := l.tell(&said)
	l.begin(what, false)
	<-time.After(lasts)
	l.begin(what, true)
	<-time.After(lasts)
	end()
	return said.String()
}

// CertFiles serves a certificate from files.
func CertFiles(cert, key string, log *slog.Logger) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return (&certFiles{cert: cert, key: key, log: log}).get
}

// ToHTTPS leads to a hub of that address.
func ToHTTPS(own string) http.Handler { return http.HandlerFunc((&server{url: own}).toHTTPS) }

// Leaving is what a replica tells that has been told to end.
type Leaving struct{ leaving }

// Begin is as the replica does it.
func (l *Leaving) Begin(ctx context.Context, patience time.Duration) { l.begin(ctx, patience) }

// Tell is as the replica does it.
func (l *Leaving) Tell(next http.Handler) http.Handler { return l.tell(next) }
