package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	hubconfig "github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// deployFile is where a deployment is described unless --file says otherwise.
const deployFile = "binnacle.yaml"

// deployment is what the commands below `deploy` share.
type deployment struct {
	*app
	file  string
	noHub bool
	// keepData lets the data directory of a machine stay when all else goes.
	keepData bool
	// program is what a machine gets; empty is the running one.
	program string
	// lasts is the step that a run is at.
	lasts *lasting
	// inside says that we are a part of the deployment; nil when a person runs us.
	inside *config.Inside
}

func (a *app) deployCommand() *cobra.Command {
	d := &deployment{app: a, lasts: new(lasting)}
	cmd := &cobra.Command{
		Use: "deploy", Short: "Deploy a hub from one file, and remove it again",
		Long: "The file binnacle.yaml describes a hub and the place it runs in. A config.json of\n" +
			"binderhub-deploy is taken as it is. Only the target host needs root, on the machine itself. What\n" +
			"works for which target, and what it was tested against, is in docs/deploy/README.md.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVarP(&d.file, "file", "f", deployFile, "the `file` that describes the deployment")
	cmd.PersistentFlags().StringVar(&d.program, "program", "", "with the target host: the binnacle `file` that the machine gets; default is the running one")
	cmd.PersistentFlags().BoolVar(&d.noHub, "no-hub", false, "on Azure: only the cluster and what is around it, without the hub")
	cmd.AddCommand(a.chartCommand(), d.ciCommand(), d.postCommand(), d.watchCommand(), d.buttonCommand(), d.containerCommand(), d.initCommand(), d.checkCommand(), d.planCommand(), d.upCommand(), d.infoCommand(), d.downCommand(), d.importCommand(),
		d.verifyCommand(), d.upgradeCommand(), d.rollbackCommand(), d.historyCommand(), d.restartCommand(), d.sleepCommand(), d.wakeCommand(), d.logsCommand(), d.bundleCommand(), d.backupCommand(), d.restoreCommand())
	return cmd
}

// load reads the file, ours or binderhub-deploy's. Returns invalid with every
// problem, those of the hub's own configuration too.
func (d *deployment) load() (config.Imported, error) {
	b, err := os.ReadFile(d.file)
	if errors.Is(err, os.ErrNotExist) {
		return config.Imported{}, &binnacle.Error{
			Code: binnacle.CodeNotFound, Op: "cli.deploy", Message: fmt.Sprintf("There is no file %s.", d.file),
			Hint: "binnacle deploy init writes one; --file names another.", Err: err,
		}
	}
	if err != nil {
		return config.Imported{}, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: fmt.Sprintf("The file %s can't be read: %v.", d.file, err), Err: err}
	}
	var i config.Imported
	var ps config.Problems
	if config.IsImportable(b) {
		i, ps = config.Import(b)
	} else {
		i.Config, ps = config.Load(b)
	}
	ps = append(ps, hubProblems(i.Config)...)
	return i, ps.Err(d.file)
}

// hubProblems holds the section hub against the hub's own configuration.
func hubProblems(c config.Config) config.Problems {
	if len(c.Hub) == 0 {
		return nil
	}
	var ps config.Problems
	for _, problem := range hubconfig.Problems(c.Hub) {
		path, message, ok := strings.Cut(problem, ": ")
		if !ok {
			path, message = "", problem
		}
		ps = append(ps, config.Problem{Path: strings.TrimSuffix("hub."+path, "."), Message: message})
	}
	return ps
}

func (d *deployment) checkCommand() *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use: "check", Short: "Report everything that would go wrong; nothing is created", Args: cobra.NoArgs,
		Long: "The file is checked for all targets. With the target azure it also signs in and looks at the\n" +
			"subscription, the providers, the machine type, the quota, the version and the names; with the\n" +
			"target cluster at its version, your rights, storage and load balancer. For both it tries the\n" +
			"registry's login: an upload is begun and taken back. A registry that is not reached from here is a\n" +
			"warning. With the target host it looks at the way there, root, systemd, the hub's name and all that\n" +
			"binnacle doctor looks at.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			i, err := d.load()
			if err != nil {
				return err
			}
			if offline {
				d.notes(i.Notes)
				fmt.Fprintf(d.Out, "%s is fine. Only the file was checked.\n", d.file)
				return nil
			}
			at, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer at.close(cmd.Context())
			if err := d.checkCloud(cmd.Context(), at.engine, true); err != nil {
				return err
			}
			if at.domain != nil {
				if err := at.domain(cmd.Context()); err != nil {
					return err
				}
			}
			fmt.Fprintln(d.Out, "\nNothing is wrong. Next: binnacle deploy plan")
			return nil
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "check the file only")
	return cmd
}

func (d *deployment) notes(notes []string) {
	for _, n := range notes {
		fmt.Fprintf(d.Err, "note: %s\n", clean(n))
	}
}

// choice is a flag of init, and the question that is asked for it.
type choice struct {
	flag, usage, question string
	needed                func(config.Config) bool
	to                    func(*config.Config) *string
}

func choices() []choice {
	azure := func(c config.Config) bool { return c.Target == config.TargetAzure }
	never := func(config.Config) bool { return false }
	login := func(c config.Config) bool {
		return c.Registry.Kind == config.RegistryDockerHub || c.Registry.Host != ""
	}
	return []choice{
		{"name", "`name` of the deployment", "Name of the hub", func(config.Config) bool { return true }, func(c *config.Config) *string { return &c.Name }},
		{"target", "azure, cluster or `host`", "Where it runs (azure, cluster, host)", func(config.Config) bool { return true }, func(c *config.Config) *string { return &c.Target }},
		{"subscription", "`name` or id of the Azure subscription", "Azure subscription (name or id)", azure, func(c *config.Config) *string { return &c.Azure.Subscription }},
		{"region", "Azure `region`", "Azure region", azure, func(c *config.Config) *string { return &c.Azure.Region }},
		{"resource-group", "`name` of the Azure resource group", "", never, func(c *config.Config) *string { return &c.Azure.ResourceGroup }},
		{"size", "machine `type` of the nodes", "", never, func(c *config.Config) *string { return &c.Azure.Nodes.Size }},
		{"context", "`context` of the kubeconfig", "Context of the kubeconfig", func(c config.Config) bool { return c.Target == config.TargetCluster }, func(c *config.Config) *string { return &c.Cluster.Context }},
		{"address", "`user@host` to deploy to; empty is this machine", "", never, func(c *config.Config) *string { return &c.Host.Address }},
		{"registry", "`kind` of registry: azure, dockerhub, other or none; on Azure azure unless another is named", "", never, func(c *config.Config) *string { return &c.Registry.Kind }},
		{"registry-host", "`host` of another registry", "Registry that images are pushed to and fetched from", func(c config.Config) bool {
			return c.Target == config.TargetCluster && c.Registry.Kind == config.RegistryNone
		}, func(c *config.Config) *string { return &c.Registry.Host }},
		{"registry-user", "`user` of the registry", "User of the registry", login, func(c *config.Config) *string { return &c.Registry.Username }},
		{"registry-password-from", "where the registry's password is: env:NAME or file:`PATH`; default env:REGISTRY_PASSWORD", "", never, func(c *config.Config) *string { return &c.Registry.PasswordFrom }},
		{"domain", "`domain` of the hub", "Domain of the hub", func(c config.Config) bool {
			return c.HTTPS.Enabled && (c.Target == config.TargetCluster || c.Target == config.TargetHost)
		}, func(c *config.Config) *string { return &c.DNS.Domain }},
		{"email", "`address` for notices about certificates", "", never, func(c *config.Config) *string { return &c.HTTPS.Email }},
	}
}

func (d *deployment) initCommand() *cobra.Command {
	c := config.Default()
	var noHTTPS, force bool
	cmd := &cobra.Command{
		Use: "init", Short: "Write a commented binnacle.yaml; asks for what no flag says when on a terminal", Args: cobra.NoArgs,
		Example: "  binnacle deploy init --name my-hub --target azure --subscription Research --region westeurope",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.HTTPS.Enabled = !noHTTPS
			if d.Terminal {
				if err := d.ask(cmd, &c); err != nil {
					return err
				}
			}
			c = follow(c, cmd.Flags().Changed("registry"))
			return d.write(c, d.file, force)
		},
	}
	for _, ch := range choices() {
		p := ch.to(&c)
		cmd.Flags().StringVar(p, ch.flag, *p, ch.usage)
	}
	cmd.Flags().IntVar(&c.Azure.Nodes.Min, "min-nodes", c.Azure.Nodes.Min, "`number` of nodes there are always")
	cmd.Flags().IntVar(&c.Azure.Nodes.Max, "max-nodes", c.Azure.Nodes.Max, "`number` of nodes there are at most")
	cmd.Flags().BoolVar(&noHTTPS, "no-https", false, "serve plain HTTP")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}

// follow fills in what nobody said and what follows from what was said: a cluster
// that is made gets a registry beside it, because builders and nodes share images by
// one.
func follow(c config.Config, registrySaid bool) config.Config {
	r := &c.Registry
	switch {
	case registrySaid:
	case r.Host != "":
		r.Kind = config.RegistryOther
	case c.Target == config.TargetAzure:
		r.Kind = config.RegistryAzure
	}
	if r.Username != "" && r.PasswordFrom == "" && r.Kind != config.RegistryAzure {
		r.PasswordFrom = "env:REGISTRY_PASSWORD"
	}
	return c
}

// ask puts the questions whose flags were not given. An answer that can't be right is
// told, and the question put again.
func (d *deployment) ask(cmd *cobra.Command, c *config.Config) error {
	in, registrySaid := bufio.NewReader(d.In), cmd.Flags().Changed("registry")
	for _, ch := range choices() {
		if cmd.Flags().Changed(ch.flag) || !ch.needed(*c) {
			continue
		}
		to := ch.to(c)
		setting := settingOf(c, to)
		for {
			fmt.Fprintf(d.Err, "%s, for example %s: ", ch.question, setting.Example)
			line, err := typed(cmd.Context(), in)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			*to = line
			problem, bad := problemOf(follow(*c, registrySaid), setting.Path)
			if !bad || err != nil {
				break // the end of the input is told with all other problems
			}
			fmt.Fprintf(d.Err, "  %s\n", clean(problem))
		}
	}
	return nil
}

// settingOf is the setting that is kept in to.
func settingOf(c *config.Config, to *string) config.Field {
	fields := config.Fields(c)
	return fields[slices.IndexFunc(fields, func(f config.Field) bool { return f.Value.Addr().Interface() == any(to) })]
}

// problemOf is what is wrong with one setting, when that alone is looked at.
func problemOf(c config.Config, path string) (problem string, bad bool) {
	text, err := c.Marshal()
	if err != nil {
		return err.Error(), true
	}
	_, ps := config.Load(text)
	i := slices.IndexFunc(ps, func(p config.Problem) bool { return p.Path == path })
	if i < 0 {
		return "", false
	}
	return ps[i].Message + ".", true
}

// write validates a configuration and writes it; an existing file stays unless
// forced.
func (d *deployment) write(c config.Config, path string, force bool) error {
	text, err := c.Marshal()
	if err != nil {
		return err
	}
	if _, ps := config.Load(text); len(ps) > 0 {
		lines := []string{"What was chosen is wrong:"}
		for _, p := range ps {
			p.Line = 0 // of a file nobody sees
			lines = append(lines, "  "+p.String())
		}
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: strings.Join(lines, "\n"), Hint: "binnacle deploy init --help names the flag of each setting."}
	}
	if err := writeNew(path, text, force, fmt.Sprintf("The file %s is there already.", path), "--force overwrites it, --file names another."); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "Wrote %s. Next: binnacle deploy check\n", path)
	return nil
}

func (d *deployment) importCommand() *cobra.Command {
	var to string
	var force bool
	cmd := &cobra.Command{
		Use: "import [CONFIG.JSON]", Short: "Turn binderhub-deploy's config.json, or the variables of its container, into binnacle.yaml",
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			i, err := d.foreign(args)
			if err != nil {
				return err
			}
			if err := d.write(i.Config, to, force); err != nil {
				return err
			}
			d.notes(i.Notes)
			var from []string
			for _, f := range config.Fields(&i.Config) {
				if _, ok := i.Secrets[f.Path]; ok {
					from = append(from, strings.TrimPrefix(f.Value.String(), "env:"))
				}
			}
			slices.Sort(from)
			if len(from) > 0 && len(args) > 0 {
				fmt.Fprintf(d.Err, "note: secrets were not copied; before deploying set the environment's %s.\n", strings.Join(from, ", "))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", deployFile, "the `file` to write")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}

// foreign reads the named config.json, or the environment of the container.
func (d *deployment) foreign(args []string) (config.Imported, error) {
	if len(args) == 0 {
		i, ps, ok := config.ImportEnviron(d.Environ)
		if !ok {
			return i, &binnacle.Error{
				Code: binnacle.CodeInvalid, Op: "cli.deploy", Message: "Name a config.json, or set BINDERHUB_CONTAINER_MODE and the variables of binderhub-deploy's container.",
				Hint: "binnacle deploy import config.json",
			}
		}
		return i, ps.Err("The environment")
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return config.Imported{}, &binnacle.Error{Code: binnacle.CodeNotFound, Op: "cli.deploy", Message: fmt.Sprintf("The file %s can't be read: %v.", args[0], err), Err: err}
	}
	i, ps := config.Import(b)
	return i, ps.Err(args[0])
}
