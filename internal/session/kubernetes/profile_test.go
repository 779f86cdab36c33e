package kubernetes_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
)

func text(list *[]kubernetes.Toleration, taints ...string) error {
	for _, s := range taints {
		var one kubernetes.Toleration
		if err := one.UnmarshalText([]byte(s)); err != nil {
			return err
		}
		*list = append(*list, one)
	}
	return nil
}

func TestToleration(t *testing.T) {
	for _, s := range []string{"key", "key=value", "key:NoExecute", "example.org/key=value:NoSchedule", "key=:PreferNoSchedule"} {
		var one kubernetes.Toleration
		if err := one.UnmarshalText([]byte(s)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if back, err := one.MarshalText(); err != nil || string(back) != s {
			t.Errorf("%q comes back as %q, %v", s, back, err)
		}
	}
	for _, s := range []string{"", "=value", "key:Never", "key:", "a b", "key=a b"} {
		if new(kubernetes.Toleration).UnmarshalText([]byte(s)) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestRefusedTexts(t *testing.T) {
	for _, s := range []string{"containers: []", "spec: [1]", "spec: {containers: 1}", ":", "- a"} {
		if new(kubernetes.Patch).UnmarshalText([]byte(s)) == nil {
			t.Errorf("patch %q is accepted", s)
		}
	}
	for _, s := range []string{"", "memory: 1Gi", "repo: '('", "repo: a\nmemory: much", "repo: a\ncolour: red", "repo: a\nguarantee: {cpu: 2}", "repo: a\npod: {containers: []}", "repo: a\ntolerations: ['=']"} {
		if new(kubernetes.Profile).UnmarshalText([]byte(s)) == nil {
			t.Errorf("profile %q is accepted", s)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*kubernetes.Config){
		"namespace": func(c *kubernetes.Config) { c.Namespace = "A" }, "instance": func(c *kubernetes.Config) { c.Instance = "" },
		"port": func(c *kubernetes.Config) { c.Port = 80 }, "grace": func(c *kubernetes.Config) { c.Grace = 0 },
		"guarantee": func(c *kubernetes.Config) { c.Guarantee.CPU = 1.5 }, "resources": func(c *kubernetes.Config) { c.Resources = map[string]string{"gpu": "one"} },
		"labels": func(c *kubernetes.Config) { c.Labels = map[string]string{"a b": "c"} }, "selector": func(c *kubernetes.Config) { c.NodeSelector = map[string]string{"a": "b c"} },
		"hub": func(c *kubernetes.Config) { c.Network.HubLabels = nil }, "profile": func(c *kubernetes.Config) { c.Profiles = make([]kubernetes.Profile, 1) },
	} {
		cfg := kubernetes.DefaultConfig()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%s: a mistake is accepted", name)
		}
		if _, err := kubernetes.New(cfg, nil, nil, nil); err == nil {
			t.Errorf("%s: New accepts it", name)
		}
	}
}

// The policy denies whatever private or reserved address there is.
func TestDenied(t *testing.T) {
	cfg := kubernetes.DefaultConfig()
	internet := kubernetes.Policies(cfg)[1].Spec.Egress[1]
	reached := func(a netip.Addr) bool {
		for _, to := range internet.To {
			in := netip.MustParsePrefix(to.IPBlock.CIDR).Contains(a)
			for _, e := range to.IPBlock.Except {
				in = in && !netip.MustParsePrefix(e).Contains(a)
			}
			if in {
				return true
			}
		}
		return false
	}
	got := map[string]bool{}
	want := map[string]bool{
		"10.0.0.1": false, "172.20.3.4": false, "192.168.1.1": false, "100.64.0.1": false, "169.254.169.254": false, "127.0.0.1": false,
		"168.63.129.16": false, "fd00:ec2::254": false, "fe80::1": false, "::1": false, "8.8.8.8": true, "172.32.0.1": true, "2001:4860::1": true,
	}
	for a := range want {
		got[a] = reached(netip.MustParseAddr(a))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzToleration(f *testing.F) {
	f.Add("key=value:NoSchedule")
	f.Fuzz(func(t *testing.T, s string) {
		var one, two kubernetes.Toleration
		if one.UnmarshalText([]byte(s)) != nil {
			return
		}
		b, err := one.MarshalText()
		if err != nil || two.UnmarshalText(b) != nil || one != two {
			t.Errorf("%q became %q (%v)", s, b, err)
		}
	})
}

func FuzzProfile(f *testing.F) {
	f.Add("repo: ^gh/\nmemory: 2Gi\npod: {spec: {hostname: x}}\ntolerations: [a=b]\nguarantee: {memory: 1}\n")
	f.Fuzz(func(t *testing.T, s string) {
		var one, two kubernetes.Profile
		if one.UnmarshalText([]byte(s)) != nil {
			return
		}
		b, err := one.MarshalText()
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if err := two.UnmarshalText(b); err != nil {
			t.Fatalf("%q became %q: %v", s, b, err)
		}
		if again, err := two.MarshalText(); err != nil || string(again) != string(b) {
			t.Errorf("%q became %q (%v)", b, again, err)
		}
	})
}
