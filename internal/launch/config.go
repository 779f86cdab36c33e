package launch

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Config says how much may run at once and for how long. The zero value of a
// duration or number means no such limit, unless its comment says otherwise.
type Config struct {
	// Checkouts is the directory for the trees of running builds. What is in it
	// when the service starts is removed.
	Checkouts string `yaml:"-"`
	// MaxBuilds run at once; more wait in the queue. At least 1.
	MaxBuilds int `yaml:"max_builds"`
	// MaxSessions run at once; 0 is as many as the machine has memory for.
	MaxSessions int `yaml:"max_sessions"`
	// MaxStarts sessions are started at once. Starting more only makes each
	// slower. At least 1.
	MaxStarts int `yaml:"max_starts"`
	// MaxQueue launches may wait; further ones are refused.
	MaxQueue int `yaml:"max_queue"`
	// PerOwner is how many sessions one person may have.
	PerOwner int `yaml:"per_owner"`
	// PerRepository is how many sessions may run of one repository.
	PerRepository int `yaml:"per_repository"`
	// AddressRate is how many launches an address (IPv6: a /64) may ask for in an
	// hour, and AddressBurst how many of them at once.
	AddressRate  float64 `yaml:"address_rate"`
	AddressBurst int     `yaml:"address_burst"`
	// BuildTimeout bounds fetching and building together, BuildSilence the time
	// a build may go on without saying anything.
	BuildTimeout time.Duration `yaml:"build_timeout"`
	BuildSilence time.Duration `yaml:"build_silence"`
	// BuildLogCap is the size in bytes after which only the end of a build's log
	// is kept.
	BuildLogCap int64 `yaml:"build_log_cap"`
	// StartTimeout is how long a session may take until its server answers.
	StartTimeout time.Duration `yaml:"start_timeout"`
	// IdleTimeout ends a session nobody works in, MaxAge ends any.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	MaxAge      time.Duration `yaml:"max_age"`
	// NoticeBefore is how long before the end the pages begin to warn.
	NoticeBefore time.Duration `yaml:"notice_before"`
	// CullInterval is how often sessions are looked at. More than 0.
	CullInterval time.Duration `yaml:"cull_interval"`
	// Grace is how long a launch goes on after its last watcher left; 0 is to
	// its end.
	Grace time.Duration `yaml:"grace"`
	// OrphanGrace is how long a session that no launch knows is left alone.
	OrphanGrace time.Duration `yaml:"orphan_grace"`
	// Heartbeat is how often a replica of the hub shows the others that it is
	// alive; one that was silent for TakeOver, at least three heartbeats, is dead,
	// and the leader goes on with its launches.
	Heartbeat time.Duration `yaml:"heartbeat"`
	TakeOver  time.Duration `yaml:"take_over"`
	// MaxRestarts of the hub are survived by a launch before it is given up.
	MaxRestarts int `yaml:"max_restarts"`
	// ResolveCache is how long the commit a ref stood for is believed; 0 asks
	// the repository each time. At most 10s: people push and click.
	ResolveCache time.Duration `yaml:"resolve_cache"`
	// BannedSpecs may not be launched; when there are AllowedSpecs, only what
	// matches one may. Regular expressions on "gh/owner/name/ref", found
	// anywhere in it and without regard to case.
	BannedSpecs  []string `yaml:"banned_specs"`
	AllowedSpecs []string `yaml:"allowed_specs"`
	// Limits are a session's; MaxLimits what a request may raise them to (zero
	// fields: not at all). A trusted caller may ask for anything.
	Limits    binnacle.Limits `yaml:"limits"`
	MaxLimits binnacle.Limits `yaml:"max_limits"`
	// Classes are those that a launch may ask for.
	Classes []string `yaml:"-"`
	// AllowOrigin is what sessions answer in Access-Control-Allow-Origin.
	AllowOrigin string `yaml:"allow_origin"`
	// KeepLaunches and KeepFor bound the history of finished launches.
	KeepLaunches int           `yaml:"keep_launches"`
	KeepFor      time.Duration `yaml:"keep_for"`
	// KeepImages is how long an image stays in the registry after its last launch; 0
	// is for ever. The next launch of a removed one builds it again. Only on
	// Kubernetes: one machine has its disk_budget.
	KeepImages time.Duration `yaml:"keep_images"`
	// DiskBudget is what images and caches may take, in bytes.
	DiskBudget int64 `yaml:"disk_budget"`
	// ReclaimInterval is how often the disk is looked at and history pruned.
	// More than 0.
	ReclaimInterval time.Duration `yaml:"reclaim_interval"`
}

// DefaultConfig is friendlier than mybinder.org and fits a machine of a few cores.
func DefaultConfig() Config {
	return Config{
		MaxBuilds:       2,
		MaxStarts:       4,
		MaxQueue:        1000,
		PerOwner:        5,
		PerRepository:   100,
		AddressRate:     60,
		AddressBurst:    20,
		BuildTimeout:    time.Hour,
		BuildSilence:    20 * time.Minute,
		BuildLogCap:     32 << 20,
		StartTimeout:    5 * time.Minute,
		IdleTimeout:     30 * time.Minute,
		MaxAge:          6 * time.Hour,
		NoticeBefore:    5 * time.Minute,
		CullInterval:    15 * time.Second,
		OrphanGrace:     time.Minute,
		Heartbeat:       3 * time.Second,
		TakeOver:        20 * time.Second,
		MaxRestarts:     3,
		Limits:          binnacle.Limits{Memory: 2 << 30, CPU: 2, PIDs: 512, Disk: 10 << 30},
		KeepLaunches:    10_000,
		KeepFor:         30 * 24 * time.Hour,
		ReclaimInterval: 10 * time.Minute,
	}
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, n := range map[string]int{"max_builds": c.MaxBuilds, "max_starts": c.MaxStarts} {
		if n < 1 {
			bad("%s: must be at least 1", name)
		}
	}
	for name, n := range map[string]int{
		"max_sessions": c.MaxSessions, "max_queue": c.MaxQueue, "per_owner": c.PerOwner, "per_repository": c.PerRepository,
		"address_burst": c.AddressBurst, "max_restarts": c.MaxRestarts, "keep_launches": c.KeepLaunches,
	} {
		if n < 0 {
			bad("%s: must not be negative", name)
		}
	}
	for name, d := range map[string]time.Duration{
		"build_timeout": c.BuildTimeout, "build_silence": c.BuildSilence, "idle_timeout": c.IdleTimeout, "max_age": c.MaxAge,
		"notice_before": c.NoticeBefore, "grace": c.Grace, "orphan_grace": c.OrphanGrace, "resolve_cache": c.ResolveCache, "keep_for": c.KeepFor, "keep_images": c.KeepImages,
	} {
		if d < 0 {
			bad("%s: must not be negative", name)
		}
	}
	for name, d := range map[string]time.Duration{
		"cull_interval": c.CullInterval, "reclaim_interval": c.ReclaimInterval, "start_timeout": c.StartTimeout,
	} {
		if d <= 0 {
			bad("%s: must be more than 0", name)
		}
	}
	if c.Heartbeat <= 0 || c.TakeOver < 3*c.Heartbeat {
		bad("heartbeat, take_over: must be more than 0, and take_over at least three heartbeats")
	}
	if c.KeepImages > 0 && c.KeepImages < time.Hour {
		bad("keep_images: must be at least 1h, or 0 to keep all")
	}
	if c.ResolveCache > 10*time.Second {
		bad("resolve_cache: must be at most 10s, or people launch what they replaced")
	}
	if c.AddressRate < 0 || c.AddressRate > 0 && c.AddressBurst < 1 {
		bad("address_rate: must not be negative, and needs an address_burst of at least 1")
	}
	if c.BuildLogCap < 0 || c.DiskBudget < 0 {
		bad("build_log_cap, disk_budget: must not be negative")
	}
	if c.Limits.Memory <= 0 || c.Limits.CPU <= 0 || c.Limits.PIDs <= 0 || c.Limits.Disk < 0 {
		bad("limits: memory, cpu and pids must be more than 0")
	}
	for name, list := range map[string][]string{"banned_specs": c.BannedSpecs, "allowed_specs": c.AllowedSpecs} {
		if _, err := compile(list); err != nil {
			bad("%s: %w", name, err)
		}
	}
	return errors.Join(errs...)
}

func compile(list []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, s := range list {
		re, err := regexp.Compile("(?i)" + s)
		if err != nil {
			return nil, err
		}
		out = append(out, re)
	}
	return out, nil
}
