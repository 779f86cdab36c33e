package main_test

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/binnacle-hub/binnacle/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"binnacle": func() {
			os.Exit(cli.Run(context.Background(), cli.Env{
				Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(), Version: "v0.0.0-test",
			}))
		},
	})
}

// The scripts need no engine, no network and no root.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exit": exit},
		Setup: func(env *testscript.Env) error {
			env.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
			return nil
		},
	})
}

// exit CODE COMMAND… runs a command and checks its exit code; its outputs are
// left in the files out and err.
func exit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND…")
	}
	var out, errs bytes.Buffer
	code := 0
	cmd := ts.Exec
	err := cmd(args[1], args[2:]...)
	out.WriteString(ts.ReadFile("stdout"))
	errs.WriteString(ts.ReadFile("stderr"))
	if err != nil {
		code = exitCode(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs("out"), out.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), errs.Bytes(), 0o600))
	if want := args[0]; want != itoa(code) {
		ts.Fatalf("exit %d, not %s", code, want)
	}
}
