package importer

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kindOf refuses a value of another kind than the key's, which the schema of the
// chart would refuse later.
func kindOf(path string, v any) error {
	last := path[strings.LastIndexByte(path, '.')+1:]
	var ok bool
	var want string
	switch last {
	case "enabled", "create":
		_, ok = v.(bool)
		want = "true or false"
	case "replicas", "nodePort", "maxUnavailable", "userPlaceholderPriority", "max_builds", "max_starts", "max_sessions", "per_repository":
		n, isInt := v.(int)
		ok = isInt && (n >= 0 || last == "userPlaceholderPriority")
		want = "a whole number"
	case "annotations", "labels", "nodeSelector", "resources", "affinity":
		_, ok = v.(map[string]any)
		want = "keys and values"
	case "tolerations", "hosts", "hostnames", "tls", "pullSecrets", "images", "imagePullSecrets", "parentRefs",
		"loadBalancerSourceRanges", "extraVolumes", "extraVolumeMounts", "protocols", "banned_specs", "allowed_specs":
		_, ok = v.([]any)
		want = "a list"
	default:
		return nil
	}
	if !ok {
		return sentence("Its value is not %s: set %s by hand.", want, path)
	}
	return nil
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, !math.IsNaN(n) && !math.IsInf(n, 0)
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

// size reads JupyterHub's way to write bytes: 512M, 2G, powers of 1024.
func size(v any) (int64, error) {
	text, ok := v.(string)
	if !ok {
		n, isNumber := number(v)
		if !isNumber || n < 0 || n > math.MaxInt64/2 {
			return 0, sentence("Its value is not a size such as 2G.")
		}
		return int64(n), nil
	}
	factor := map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
	text = strings.TrimSuffix(strings.TrimSpace(text), "i")
	unit := strings.TrimLeft(text, "0123456789.")
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, unit), 64)
	f, known := factor[strings.ToUpper(unit)]
	if err != nil || !known || n*f > math.MaxInt64/2 {
		return 0, sentence("Its value is not a size such as 2G.")
	}
	return int64(n * f), nil
}

// seconds writes a number of seconds as a duration.
func seconds(to string) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		n, ok := number(v)
		if !ok || n < 0 || n > math.MaxInt32 {
			return nil, sentence("Its value is not a number of seconds: set %s by hand.", to)
		}
		return []string{to}, c.set(to, strconv.FormatInt(int64(n), 10)+"s")
	}
}

func sentence(format string, args ...any) error { return fmt.Errorf(format, args...) }

// memory is a limit; without one it is what we have by default, as none says.
func memory(to, none string) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		n, err := size(v)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, errors.New(none)
		}
		return []string{to}, c.set(to, n)
	}
}

// share turns a guarantee into its share of the limit.
func share(limit, to string, parse func(any) (float64, bool)) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		part, ok := parse(v)
		whole, has := parse(c.get(limit))
		if !ok || !has || whole <= 0 || part < 0 || part > whole {
			return nil, sentence("A guarantee is a share of the limit here, from 0 to 1: set %s.", to)
		}
		const digits = 1000
		return []string{to}, c.set(to, math.Round(part/whole*digits)/digits)
	}
}

func bytes(v any) (float64, bool) {
	if v == nil {
		return 0, false
	}
	n, err := size(v)
	return float64(n), err == nil
}

// only takes a key over when it has the value that is always so here.
func only(want any, why string) func(*conversion, any) ([]string, error) {
	return func(_ *conversion, v any) ([]string, error) {
		if v != want {
			return nil, errors.New(why)
		}
		return nil, nil
	}
}

// plain takes text without markup.
func plain(to string) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		text, ok := v.(string)
		if !ok || strings.ContainsAny(text, "<>") {
			return nil, sentence("It is HTML; %s is plain text: write it anew.", to)
		}
		return []string{to}, c.set(to, text)
	}
}

// specs turns patterns on "owner/name/ref", which Python matches at the start,
// into ones on "gh/owner/name/ref".
func specs(provider, to string) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		list, ok := v.([]any)
		if !ok {
			return nil, sentence("Its value is not a list: set %s by hand.", to)
		}
		have, _ := at(c.out.Values, to).([]any)
		for _, item := range list {
			text, ok := item.(string)
			pattern := "^" + provider + "/(?:" + strings.TrimPrefix(text, "^") + ")"
			if _, err := regexp.Compile(pattern); !ok || err != nil {
				return nil, sentence("One of its patterns is not a regular expression of Go (no look-ahead): write %s by hand.", to)
			}
			have = append(have, pattern)
		}
		if len(have) == 0 {
			return nil, nil
		}
		if strings.HasSuffix(to, "allowed_specs") {
			if err := c.set(to, have); err != nil {
				return nil, err
			}
			return []string{to}, sentence("Taken over, but the list is for all providers here: add a pattern such as ^gl/ for each other that stays open.")
		}
		return []string{to}, c.set(to, have)
	}
}

// prefix is BinderHub's image_prefix, which may leave out Docker Hub's host.
func prefix(c *conversion, v any) ([]string, error) {
	const to = "registry.imagePrefix"
	text, ok := v.(string)
	text = strings.TrimRight(strings.ToLower(text), "/")
	if !ok || text == "" {
		return nil, sentence("Say where images go: registry.example.org/binnacle.")
	}
	host, _, _ := strings.Cut(text, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		text = "docker.io/" + text
	}
	return []string{to}, c.set(to, text)
}

// rate turns launches per period into launches per hour.
func rate(c *conversion, v any) ([]string, error) {
	const hour, to = 3600.0, "config.launch.address_rate"
	n, ok := number(v)
	period, has := number(c.get("config.RateLimiter.period_seconds"))
	if !has {
		period = hour
	}
	if !ok || n < 0 || period <= 0 {
		return nil, sentence("Its value is not a number: set %s, launches per hour, by hand.", to)
	}
	return []string{to}, c.set(to, math.Round(n*hour/period))
}

// host is a forge of one's own.
func host(provider string) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		to := "config.source.hosts." + provider
		name, ok := v.(string)
		if !ok || name == "" || strings.ContainsAny(name, "/ @") {
			return nil, sentence("Its value is not the name of a host: set %s by hand.", to)
		}
		return []string{to}, c.set(to, "https://"+name)
	}
}

// total is how many sessions there may be.
func total(c *conversion, v any) ([]string, error) {
	const to = "config.launch.max_sessions"
	if n, ok := v.(int); !ok || n <= 0 {
		return nil, sentence("0 closed BinderHub for maintenance; here it is no limit: set %s by hand.", to)
	}
	return []string{to}, c.set(to, v)
}

// level makes the log tell more.
func level(c *conversion, v any) ([]string, error) {
	if v != true {
		return nil, nil
	}
	return []string{"config.log.level"}, c.set("config.log.level", "debug")
}

// images are those of the pre-puller: a map of name and tag.
func images(c *conversion, v any) ([]string, error) {
	var list []any
	m, _ := v.(map[string]any)
	for _, one := range m {
		image, _ := one.(map[string]any)
		name, ok := image["name"].(string)
		if !ok {
			return nil, sentence("An image has no name: set prePuller.images by hand.")
		}
		if tag := image["tag"]; tag != nil {
			name += ":" + fmt.Sprint(tag)
		}
		list = append(list, name)
	}
	if len(list) == 0 {
		return nil, nil
	}
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return []string{"prePuller.images"}, c.set("prePuller.images", list)
}

// environment takes what is plain text; a reference to a Secret is a patch.
func environment(c *conversion, v any) ([]string, error) {
	const to = "config.kubernetes.session.env"
	m, ok := v.(map[string]any)
	env := map[string]any{}
	left := !ok
	for k, value := range m {
		switch value.(type) {
		case string, int, bool, float64:
			env[k] = fmt.Sprint(value)
		default:
			left = true
		}
	}
	var set []string
	if len(env) > 0 {
		if err := c.set(to, env); err != nil {
			return nil, err
		}
		set = []string{to}
	}
	if left {
		return set, sentence("What is not plain text, such as a reference to a Secret, goes into config.kubernetes.session.pod.")
	}
	return set, nil
}

// gateway is the one a route belongs to.
func gateway(c *conversion, v any) ([]string, error) {
	return []string{"httpRoute.parentRefs"}, c.set("httpRoute.parentRefs", []any{v})
}

// names takes pull secrets, by name or as objects.
func names(to string) func(*conversion, any) ([]string, error) {
	return func(c *conversion, v any) ([]string, error) {
		list, _ := v.([]any)
		var out []any
		for _, item := range list {
			if m, ok := item.(map[string]any); ok {
				item = m["name"]
			}
			if _, ok := item.(string); !ok {
				return nil, sentence("Its value is not a list of names: set %s by hand.", to)
			}
			out = append(out, item)
		}
		if len(out) == 0 {
			return nil, nil
		}
		return []string{to}, c.set(to, out)
	}
}
