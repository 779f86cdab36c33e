package launch

import (
	"bufio"
	"errors"
	"math"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// retryError is a refusal that says when to come again.
type retryError struct {
	err   *binnacle.Error
	after time.Duration
}

func (e *retryError) Error() string { return e.err.Error() }

func (e *retryError) Unwrap() error { return e.err }

// RetryAfter is how long to wait.
func (e *retryError) RetryAfter() time.Duration { return e.after }

// RetryAfter says when the request that err refused may be made again.
func RetryAfter(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*retryError](err); ok {
		return e.after, true
	}
	return 0, false
}

func limited(after time.Duration, message string) error {
	after = max(after.Round(time.Second), time.Second)
	return &retryError{&binnacle.Error{
		Code: binnacle.CodeLimited, Op: "launch.limit", Message: message, Hint: "Try again in " + sentence(after) + ".",
	}, after}
}

// sentence writes a duration for people, rounded up.
func sentence(d time.Duration) string {
	switch {
	case d <= time.Second:
		return "1 second"
	case d < time.Minute:
		return strconv.Itoa(int(math.Ceil(d.Seconds()))) + " seconds"
	case d <= time.Minute:
		return "1 minute"
	case d < 2*time.Hour:
		return strconv.Itoa(int(math.Ceil(d.Minutes()))) + " minutes"
	default:
		return strconv.Itoa(int(math.Ceil(d.Hours()))) + " hours"
	}
}

// buckets limit how often each address may ask: a bucket of burst tokens that
// fills at rate per hour.
type buckets struct {
	rate  float64
	burst float64

	mu   sync.Mutex
	full map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newBuckets(rate float64, burst int) *buckets {
	return &buckets{rate: rate, burst: float64(burst), full: map[string]*bucket{}}
}

// take takes a token, or says when there will be one.
func (b *buckets) take(address string, now time.Time) (time.Duration, bool) {
	const most = 10_000
	if b.rate <= 0 {
		return 0, true
	}
	key := network(address)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.full) >= most {
		// Who has been quiet long enough for a full bucket need not be known.
		for k, v := range b.full {
			if v.tokens+b.gain(now.Sub(v.at)) >= b.burst {
				delete(b.full, k)
			}
		}
	}
	v := b.full[key]
	if v == nil {
		v = &bucket{tokens: b.burst, at: now}
		b.full[key] = v
	}
	v.tokens = min(b.burst, v.tokens+b.gain(now.Sub(v.at)))
	v.at = now
	if v.tokens < 1 {
		return time.Duration((1 - v.tokens) / b.rate * float64(time.Hour)), false
	}
	v.tokens--
	return 0, true
}

// left is how many tokens an address has, and when its bucket is full again.
func (b *buckets) left(address string, now time.Time) (float64, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.full[network(address)]
	if v == nil {
		return b.burst, now
	}
	tokens := min(b.burst, v.tokens+b.gain(now.Sub(v.at)))
	return tokens, now.Add(time.Duration((b.burst - tokens) / b.rate * float64(time.Hour)))
}

func (b *buckets) gain(d time.Duration) float64 { return d.Hours() * b.rate }

// network is what counts as one address: an IPv6 customer has a /64 at least.
func network(address string) string {
	if host, err := netip.ParseAddrPort(address); err == nil {
		address = host.Addr().String()
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// gate is which repositories may be launched.
type gate struct {
	banned, allowed []*regexp.Regexp
}

func (g gate) check(spec binnacle.Spec) error {
	whole := spec
	whole.Subdir = "" // rules are about repositories
	s := whole.String()
	denied := len(g.allowed) > 0
	for _, re := range g.allowed {
		if re.MatchString(s) {
			denied = false
		}
	}
	for _, re := range g.banned {
		if re.MatchString(s) {
			denied = true
		}
	}
	if denied {
		return &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: "launch.gate", Message: "This hub does not launch " + spec.Repo + ".",
			Hint: "Ask the operator of this hub, or launch it on your own machine.",
		}
	}
	return nil
}

// within fills want's zeros from def and keeps the rest at or below most.
func within(want, def, most binnacle.Limits) binnacle.Limits {
	return binnacle.Limits{
		Memory: bound(want.Memory, def.Memory, most.Memory),
		CPU:    bound(want.CPU, def.CPU, most.CPU),
		PIDs:   bound(want.PIDs, def.PIDs, most.PIDs),
		Disk:   bound(want.Disk, def.Disk, most.Disk),
	}
}

func bound[T int64 | float64](want, def, most T) T {
	if want <= 0 {
		return def
	}
	return min(want, max(def, most))
}

// room is how many sessions fit this machine's memory; a quarter of it is left
// to builds and ourselves.
func room(perSession int64) int {
	const fallback = 4
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return fallback
	}
	defer func() { _ = f.Close() }()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return fallback
			}
			return int(max(1, kib*1024/4*3/perSession))
		}
	}
	return fallback
}
