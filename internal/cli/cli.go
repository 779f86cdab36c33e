// Package cli is the command line: one file per command, and the only place
// where the parts are wired together (server.go).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
)

// Env is what a command has of the process it runs in.
type Env struct {
	Args    []string // without the program's name
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Environ []string
	// Terminal says that Err is a terminal; Width is its columns, 0 unknown.
	Terminal bool
	Width    func() int
	// Version is this build's.
	Version string
	// Registries is how the registries of deployments are reached to try logins; nil is
	// this process's network.
	Registries http.RoundTripper
	// Poll is the pause between two looks at what a cloud works on; 0 is each
	// cloud's own.
	Poll time.Duration
}

// app is one run of the command line.
type app struct {
	Env
	configPath string
	data       string
	set        []string
	verbose    bool
	started    bool // flags and arguments were fine
}

// Run executes the command that env asks for and returns the exit code.
func Run(ctx context.Context, env Env) int {
	a := &app{Env: env}
	root := a.root()
	root.SetArgs(env.Args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError(err)
	}
	a.report(cmd, err)
	return ExitCode(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "binnacle",
		Short: "From a repository's address to a live notebook",
		Long: "Binnacle builds what a repository declares (requirements.txt, environment.yml,\n" +
			"Dockerfile…) and runs JupyterLab in it: for you, or as a hub for others.",
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) { a.started = true },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		Args: cobra.NoArgs,
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", "", "configuration `file` (default "+config.DefaultPath+" if it is there)")
	flags.StringVar(&a.data, "data", "", "data `directory` (default "+config.DefaultData+")")
	flags.StringArrayVar(&a.set, "set", nil, "set any `path=value` of the configuration; may be repeated")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "tell more, and the causes of errors")
	root.AddCommand(
		a.launchCommand(), a.serveCommand(), a.builderCommand(), a.buildCommand(), a.recipeCommand(), a.freezeCommand(), a.whyCommand(), a.psCommand(), a.stopCommand(),
		a.logsCommand(), a.cleanCommand(), a.doctorCommand(), a.deployCommand(), a.importCommand(), a.configCommand(), a.versionCommand(), a.snapshotCommand(), a.buildLogsCommand(), a.closedCommand(),
	)
	root.InitDefaultCompletionCmd()
	return root
}

// config loads the configuration with the flags that every command has, and
// those of the command itself.
func (a *app) config(extra map[string]string) (config.Config, error) {
	set := map[string]string{}
	for _, s := range a.set {
		path, value, ok := strings.Cut(s, "=")
		if !ok {
			return config.Config{}, binnacle.Errorf(binnacle.CodeInvalid, "--set %s is not written path=value.", s)
		}
		set[path] = value
	}
	if a.data != "" {
		set["data"] = a.data
	}
	maps.Copy(set, extra)
	return config.Load(config.Sources{Path: a.configPath, Environ: a.Environ, Set: set})
}

// logger writes to Err: text on a terminal, JSON elsewhere, unless configured.
func (a *app) logger(c config.Config, least slog.Level) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Log.Level]
	if a.verbose {
		level = slog.LevelDebug
	} else {
		level = max(level, least)
	}
	opt := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "text" || (c.Log.Format == "auto" && a.Terminal) {
		return slog.New(slog.NewTextHandler(a.Err, opt))
	}
	return slog.New(slog.NewJSONHandler(a.Err, opt))
}

// report tells a person what went wrong. The usage is shown only when the
// command line itself is at fault.
func (a *app) report(cmd *cobra.Command, err error) {
	if err == nil {
		return
	}
	if _, ok := errors.AsType[*silentError](err); ok {
		return
	}
	message, hint := err.Error(), ""
	var excerpt []string
	if e, ok := errors.AsType[*binnacle.Error](err); ok {
		message, hint, excerpt = e.Message, e.Hint, e.Excerpt
		if e.File != "" && e.Line > 0 && !strings.Contains(message, e.File) {
			message = fmt.Sprintf("%s:%d: %s", e.File, e.Line, message)
		}
	}
	fmt.Fprintf(a.Err, "binnacle: %s\n", clean(message))
	for _, line := range excerpt {
		fmt.Fprintf(a.Err, "    %s\n", clean(line))
	}
	if hint != "" {
		fmt.Fprintf(a.Err, "  try: %s\n", clean(hint))
	}
	if a.verbose {
		fmt.Fprintf(a.Err, "  cause: %s\n", clean(err.Error()))
	}
	if !a.started && cmd != nil {
		fmt.Fprintf(a.Err, "  usage: %s\n", cmd.UseLine())
	}
}

// usageError makes cobra's complaint one of ours.
func usageError(err error) error {
	if _, ok := errors.AsType[*binnacle.Error](err); ok {
		return err
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "cli.parse", Message: strings.ToUpper(first[:1]) + first[1:] + ".", Hint: "binnacle --help",
	}
}

// silentError is an outcome that was already told.
type silentError struct{ code binnacle.Code }

func (e *silentError) Error() string { return string(e.code) }

// clean keeps text of others from steering the terminal: newlines stay.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < 0x20 || (0x7f <= r && r < 0xa0) || r == '\u2028' || r == '\u2029' || (0x202a <= r && r <= 0x202e) || (0x2066 <= r && r <= 0x2069) {
			return -1
		}
		return r
	}, s)
}
