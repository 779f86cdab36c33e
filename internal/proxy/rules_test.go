package proxy_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/proxy"
)

func TestSplitTarget(t *testing.T) {
	type parts struct {
		ID, Rest string
		OK       bool
	}
	for target, want := range map[string]parts{
		"/user/a/":                               {"a", "", true},
		"/user/a":                                {"a", "", true},
		"/user/a?token=x/y":                      {"a", "", true},
		"/user/demo-1/lab/tree?x=/y/":            {"demo-1", "lab/tree", true},
		"/user/a/..%2fb/":                        {"a", "..%2fb/", true},
		"/user/a/../b/":                          {"a", "../b/", true},
		"/user/a//x":                             {"a", "/x", true},
		"//user/a/":                              {},
		"/user//a/":                              {},
		"/user/..%2fa/":                          {},
		"/user/%61/":                             {},
		"/user/../user/a/":                       {},
		"/user/A/":                               {},
		"/user/1a/":                              {},
		"/user/-a/":                              {},
		"/user/a%2fb/":                           {},
		"/user/":                                 {},
		"/users/a/":                              {},
		"/USER/a/":                               {},
		"*":                                      {},
		"":                                       {},
		"/user/" + strings.Repeat("a", 51) + "/": {},
	} {
		id, rest, ok := proxy.SplitTarget(target)
		if got := (parts{id, rest, ok}); got != want {
			t.Errorf("%q: got %v, want %v", target, got, want)
		}
	}
}

func TestSessionCookies(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"a=1; b=2":                               "a=1; b=2",
		"a=1;b=2;":                               "a=1;b=2;",
		"binnacle=x":                             "",
		"a=1; binnacle-owner=x; b=2":             "a=1; b=2",
		"__Host-binnacle=x; a=1":                 "a=1",
		"__host-BINNACLE-xsrf=x;a=1":             "a=1",
		"a=binnacle":                             "a=binnacle",
		"__Secure-binnacle=x; not-binnacle=y":    "__Secure-binnacle=x; not-binnacle=y",
		`a="; __Host-binnacle=secret; b="`:       `a="; b="`,
		"binnacle; a=1":                          "a=1",
		"  binnacle =x; a=1":                     "a=1",
		"username-x=\"2|1:0|10:1\"; binnacle_a=": "username-x=\"2|1:0|10:1\"",
	} {
		if got := proxy.SessionCookies(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestRewriteSetCookie(t *testing.T) {
	const prefix = "/user/a/"
	for _, tt := range []struct{ in, path, own string }{
		{"a=1", "a=1; Path=/user/a/", "a=1"},
		{"a=1; Path=/user/a/; HttpOnly", "a=1; HttpOnly; Path=/user/a/", "a=1; HttpOnly; Path=/user/a/"},
		{"a=1; Path=/user/a/lab", "a=1; Path=/user/a/lab", "a=1; Path=/user/a/lab"},
		{"a=1; path=/", "a=1; Path=/user/a/", "a=1; Path=/"},
		{"a=1; Path=/user/b/", "a=1; Path=/user/a/", "a=1; Path=/user/b/"},
		{"a=1; Path=/user/ab", "a=1; Path=/user/a/", "a=1; Path=/user/ab"},
		{"a=1; Path=/user/a/; PATH=/", "a=1; Path=/user/a/", "a=1; Path=/"},
		{"a=1; Domain=.example.org; Secure", "a=1; Secure; Path=/user/a/", "a=1; Secure"},
		{"a=1;domain = example.org;SameSite=Lax", "a=1; SameSite=Lax; Path=/user/a/", "a=1; SameSite=Lax"},
		{"binnacle=1", "", ""},
		{"__Host-binnacle-owner=1; Secure; Path=/", "", ""},
		{" __HOST-Binnacle=1", "", ""},
		{"=binnacle=1", "", ""},
		{"binnacle", "", ""},
		{"", "", ""},
	} {
		if got, _ := proxy.RewriteSetCookie(tt.in, prefix); got != tt.path {
			t.Errorf("path mode %q: got %q, want %q", tt.in, got, tt.path)
		}
		if got, _ := proxy.RewriteSetCookie(tt.in, ""); got != tt.own {
			t.Errorf("own host %q: got %q, want %q", tt.in, got, tt.own)
		}
	}
}

func TestPersonal(t *testing.T) {
	for _, tt := range []struct {
		method, rest string
		want         bool
	}{
		{"GET", "api/kernels", false},
		{"GET", "api/kernels/1-2", false},
		{"GET", "api/sessions", false},
		{"GET", "api/status", false},
		{"HEAD", "api/terminals/", false},
		{"GET", "api/contents/a/b.ipynb", false},
		{"GET", "metrics", false},
		{"GET", "metrics/x", true},
		{"GET", "api", true},
		{"GET", "lab", true},
		{"GET", "", true},
		{"GET", "apix/kernels", true},
		{"GET", "files/a.csv", true},
		{"PUT", "api/contents/a/b.ipynb", true},
		{"POST", "api/kernels", true},
		{"DELETE", "api/sessions/1", true},
	} {
		if got := proxy.Personal(tt.method, tt.rest); got != tt.want {
			t.Errorf("%s %s: got %v", tt.method, tt.rest, got)
		}
	}
}

// frame is a WebSocket frame of a client.
func frame(first byte, payload int) []byte {
	var b []byte
	switch {
	case payload < 126:
		b = []byte{first, 0x80 | byte(payload)}
	case payload < 1<<16:
		b = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(payload))
	default:
		b = binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(payload))
	}
	return append(b, make([]byte, 4+payload)...)
}

func TestScan(t *testing.T) {
	const ping, pong, closing, text, binary, more = 0x89, 0x8a, 0x88, 0x81, 0x82, 0x00
	for _, tt := range []struct {
		name   string
		stream []byte
		want   int // data frames
	}{
		{"ping", frame(ping, 5), 0},
		{"empty ping", frame(ping, 0), 0},
		{"pong and close", append(frame(pong, 125), frame(closing, 2)...), 0},
		{"text", frame(text, 5), 1},
		{"after pings", append(append(frame(ping, 0), frame(pong, 3)...), frame(binary, 126)...), 1},
		{"fragmented with a ping between", bytes.Join([][]byte{frame(0x01, 10), frame(ping, 1), frame(more, 10), frame(0x80, 0)}, nil), 3},
		{"large", append(frame(binary, 70000), frame(ping, 0)...), 1},
		{"large ping-like payload", append(frame(pong, 125), frame(binary, 1)...), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, 2, 3, 7, 1024, len(tt.stream)} {
				var s proxy.Scanner
				got := 0
				for b := tt.stream; len(b) > 0; {
					n := min(step, len(b))
					if s.Scan(b[:n]) {
						got++
					}
					b = b[n:]
				}
				if step == 1 && got != tt.want {
					t.Errorf("got %d data frames, want %d", got, tt.want)
				}
				if (got > 0) != (tt.want > 0) {
					t.Errorf("step %d: got %d", step, got)
				}
			}
		})
	}
}

func FuzzSplitTarget(f *testing.F) {
	f.Add("/user/a/lab?x=1")
	f.Add("/user/a/..%2f..%2fuser/b/")
	f.Fuzz(func(t *testing.T, target string) {
		id, rest, ok := proxy.SplitTarget(target)
		if !ok {
			return
		}
		if !proxy.ValidID(id) {
			t.Fatalf("id %q", id)
		}
		if path := "/user/" + id + "/" + rest; !strings.HasPrefix(target, path) && target != strings.TrimSuffix(path, "/") && !strings.HasPrefix(target, "/user/"+id+"?") {
			t.Fatalf("%q became %q", target, path)
		}
	})
}

func FuzzScan(f *testing.F) {
	f.Add(frame(0x81, 200), 3)
	f.Add(append(frame(0x89, 0), frame(0x02, 70000)...), 17)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if step < 1 {
			return
		}
		var whole, parts proxy.Scanner
		want, got := whole.Scan(b), false
		for rest := b; len(rest) > 0; {
			n := min(step, len(rest))
			got = parts.Scan(rest[:n]) || got
			rest = rest[n:]
		}
		if got != want || whole != parts {
			t.Fatalf("in pieces of %d: %v, at once: %v", step, got, want)
		}
	})
}

func FuzzCookies(f *testing.F) {
	f.Add("a=1; binnacle=2; __Host-binnacle=3", "/user/a/")
	f.Add("a=1; Domain=example.org; Path=/", "")
	f.Fuzz(func(t *testing.T, header, prefix string) {
		for part := range strings.SplitSeq(proxy.SessionCookies(header), ";") {
			if name, _, _ := strings.Cut(part, "="); proxy.HubCookie(name) {
				t.Fatalf("%q passed", name)
			}
		}
		got, ok := proxy.RewriteSetCookie(header, "/user/a/")
		if !ok {
			return
		}
		if name, _, _ := strings.Cut(got, "="); proxy.HubCookie(name) {
			t.Fatalf("%q may be set", name)
		}
		_, path, found := strings.Cut(got, "; Path=")
		if !found || !strings.HasPrefix(path, "/user/a/") || strings.Contains(path, ";") {
			t.Fatalf("path of %q", got)
		}
		for part := range strings.SplitSeq(got, ";") {
			if key, _, _ := strings.Cut(part, "="); strings.EqualFold(strings.TrimSpace(key), "domain") && !strings.HasPrefix(got, part) {
				t.Fatalf("domain in %q", got)
			}
		}
	})
}
