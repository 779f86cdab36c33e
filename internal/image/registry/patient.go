package registry

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// How long a registry that is busy is waited for: as long as it says, but not
// longer than this each time; so often.
const (
	longestWait = time.Minute
	waits       = 4
)

// patient asks again when a registry says that it is too much, after the time
// that the registry names.
type patient struct {
	under http.RoundTripper
	say   func(line string) // nil: nobody
}

// RoundTrip asks, and asks again.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	for n := range waits {
		res, err := p.under.RoundTrip(req)
		if err != nil || !busy(res.StatusCode) || n == waits-1 || req.Body != nil && req.GetBody == nil {
			return res, err
		}
		if line := usedUp(res); line != "" {
			p.tell(line)
			return res, nil
		}
		wait := retryAfter(res.Header.Get("Retry-After"), time.Now(), time.Second<<n)
		if wait > longestWait {
			return res, nil
		}
		if err := again(req, res); err != nil {
			return nil, err
		}
		p.tell(fmt.Sprintf("The registry %s is busy or limits this hub (%d). Asking again in %s.", req.URL.Host, res.StatusCode, wait.Round(time.Second)))
		timer := time.NewTimer(wait)
		select {
		case <-req.Context().Done():
			timer.Stop()
			return nil, errLimited
		case <-timer.C:
		}
	}
	panic("unreachable")
}

// usedUp says that a registry's answer is no matter of seconds, as Docker Hub tells
// it: "RateLimit-Limit: 100;w=21600" with "RateLimit-Remaining: 0;w=21600" is
// none left of a hundred in six hours. It is empty for every other answer.
func usedUp(res *http.Response) string {
	remaining, _, _ := strings.Cut(res.Header.Get("RateLimit-Remaining"), ";")
	limit, window, _ := strings.Cut(res.Header.Get("RateLimit-Limit"), ";w=")
	seconds, err := strconv.ParseUint(window, 10, 32)
	if n, bad := strconv.ParseUint(limit, 10, 32); res.StatusCode != http.StatusTooManyRequests || remaining != "0" || err != nil || bad != nil || n == 0 || res.Header.Get("Retry-After") != "" {
		return ""
	}
	return fmt.Sprintf("The registry %s lets this hub fetch %s images in %s, and they are used up.", res.Request.URL.Host, limit, time.Duration(seconds)*time.Second)
}

func (p *patient) tell(line string) {
	if p.say != nil {
		p.say(line)
	}
}

// again makes a request ready for the next time.
func again(req *http.Request, res *http.Response) error {
	const little = 64 << 10                                                            // so that the connection can be used again
	if _, err := io.CopyN(io.Discard, res.Body, little); err != nil && err != io.EOF { //nolint:errorlint // io.Copy's contract
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if req.Body == nil {
		return nil
	}
	body, err := req.GetBody()
	req.Body = body
	return err
}

func busy(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// retryAfter reads the header of that name: seconds, or a date. Without it, or
// when it makes no sense, it is the fallback.
func retryAfter(header string, now time.Time, fallback time.Duration) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return fallback
}
