// Command binnacle takes a repository's address to a live notebook. See the
// command line's own help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/binnacle-hub/binnacle/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	environ := os.Environ()
	terminal, width := cli.Terminal(os.Stderr, environ)
	os.Exit(cli.Run(ctx, cli.Env{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: environ,
		Terminal: terminal, Width: width, Version: cli.BuildVersion(),
	}))
}
