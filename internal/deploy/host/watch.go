package host

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/binnacle-hub/binnacle/internal/deploy"
)

func watchName(name string) string { return serviceName(name) + "-watch" }

// Program is the binary that a deployment's service runs, on its machine.
func Program(name string) string { return base(name) + "/current/binnacle" }

// tokenFile has the forge's token.
func tokenFile(name string) string { return base(name) + "/watch/token" }

// follower is what the service that follows the repository is told.
func (c *Cloud) follower() ([]byte, error) {
	in := c.o.Config.Follower()
	if c.o.Config.Watch.TokenFrom != "" {
		in.Token = tokenFile(in.Name)
	}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("write what is to be followed: %w", err)
	}
	return b, nil
}

// putWatch writes the service that follows the repository and starts it. What is
// secret of it is neither an argument nor in the environment.
func (c *Cloud) putWatch(ctx context.Context) error {
	settings, err := c.follower()
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, text := range []string{watchUnit(c.o.Config.Name), string(settings), string(c.o.Token)} {
		lines.WriteString(base64.StdEncoding.EncodeToString([]byte(text)) + "\n")
	}
	keep := no
	if c.o.Token == "" && c.o.Config.Watch.TokenFrom != "" {
		f, err := c.look(ctx)
		if err != nil {
			return err
		}
		if c.tokenOf(f) != asWanted {
			return c.o.Config.Watch.NoToken("on the machine")
		}
		keep = yes
	}
	_, err = c.do(ctx, strings.NewReader(lines.String()), "watch", keep)
	return err
}

// watches says how the service that follows the repository is.
func (c *Cloud) watches(f facts, out *deploy.Resource) {
	out.Spec = map[string]string{
		settingUnit: digest([]byte(f.text("watchunit"))), "settings": digest([]byte(f.text("watchsettings"))), "token": c.tokenOf(f),
		"program": short(f.one("watchprogram")), settingBoot: no, settingRuns: no,
	}
	if f.one("watchenabled") == "enabled" {
		out.Spec[settingBoot] = yes
	}
	switch f.one("watchactive") {
	case "active":
		out.Spec[settingRuns] = yes
	case "activating", "deactivating":
		if f.one("watchsub") != "auto-restart" { // that would go on for ever
			out.State = deploy.StateWorking
		}
	}
	out.Outputs = map[string]string{"state": f.one("watchactive")}
	if f.has("asleep") {
		out.Spec[settingBoot], out.Spec[settingRuns], out.Outputs["state"] = yes, yes, "asleep"
		if sum, err := c.program(); err == nil {
			out.Spec["program"] = short(sum)
		}
	}
}

// asWanted is the setting of a token that is the forge's.
const asWanted = "as the file says"

// tokenOf says whether the token on the machine is the forge's. Who has none can't
// tell: the one that is there stays.
func (c *Cloud) tokenOf(f facts) string {
	have, wanted := short(f.one("watchtoken")), c.o.Config.Watch.TokenFrom != ""
	switch none := have == "" || have == digest(nil); {
	case none && wanted:
		return "none"
	case none, wanted && (c.o.Token == "" || have == digest([]byte(c.o.Token))):
		return asWanted
	default:
		return "another"
	}
}

// watchUnit is the service that follows the repository.
func watchUnit(name string) string {
	return fmt.Sprintf(`# Written by binnacle deploy, which overwrites it.
[Unit]
Description=Binnacle, follows the repository of the hub %[1]s
Wants=network-online.target
After=network-online.target

[Service]
Environment=HOME=/root USER=root
ExecStart=%[2]s/current/binnacle deploy watch --inside %[2]s/watch/inside.json --state %[2]s/watch
Restart=always
RestartSec=10
# It ends with what it began: the next one continues.
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target

[X-Binnacle]
Deployment=%[1]s
`, name, base(name))
}

// Commits is what [Cloud.KeepCommits] was given last; nothing at first.
func (c *Cloud) Commits(ctx context.Context) ([]byte, error) {
	out, err := c.machine.run(ctx, nil, "commits")
	return []byte(out), err
}

// KeepCommits keeps what is known of commits beside the hub.
func (c *Cloud) KeepCommits(ctx context.Context, b []byte) error {
	_, err := c.do(ctx, strings.NewReader(string(b)), "keepcommits")
	return err
}
