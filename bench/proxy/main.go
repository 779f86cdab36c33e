// Command proxy measures our proxy beside configurable-http-proxy (CHP) from
// npm, in one run and alternately: small requests a second with their
// latencies, 1 MiB answers, memory of an idle WebSocket, and the round trip of
// a notebook cell. It prints a Markdown table and writes JSON.
//
//	go run ./bench/proxy -json bench/proxy.json
//
// Each proxy, the server behind it and the load run in processes of their own;
// with two cores or more and taskset the proxy has the last core and the others
// share the first, so that one core of each proxy is compared.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

type options struct {
	role    string
	listen  string
	backend string

	rounds   int
	duration time.Duration
	idle     int
	chp      string
	json     string
	only     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/proxy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("bench/proxy", flag.ContinueOnError)
	f.StringVar(&o.role, "role", "", "what a child process is: backend, ours, stock or load")
	f.StringVar(&o.listen, "listen", "", "of a child: network:address")
	f.StringVar(&o.backend, "backend", "", "of a child: network:address of the server behind")
	f.IntVar(&o.rounds, "rounds", 3, "how often each proxy is measured")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "of each load")
	f.IntVar(&o.idle, "idle", 2000, "how many idle WebSockets are opened")
	f.StringVar(&o.chp, "chp", "", "directory where npm has installed CHP; empty installs it for the run")
	f.StringVar(&o.json, "json", "", "file for the figures")
	f.StringVar(&o.only, "only", "", "measure only this proxy (for tuning)")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch o.role {
	case "":
		return measure(ctx, o, out)
	case "backend":
		return serveBackend(ctx, o.listen)
	case "ours":
		return serveOurs(ctx, o.listen, o.backend)
	case "stock":
		return serveStock(ctx, o.listen, o.backend)
	case "load":
		return runLoad(ctx, os.Stdin, out)
	}
	return fmt.Errorf("no such role: %s", o.role)
}

// measure runs everything and reports.
func measure(ctx context.Context, o options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir, out: os.Stderr}
	if o.only == "" || o.only == "chp" {
		if err := b.installCHP(ctx); err != nil {
			return fmt.Errorf("configurable-http-proxy is needed for the comparison: %w", err)
		}
	}
	for _, backend := range []string{"unix:" + filepath.Join(dir, "b.sock"), "tcp:127.0.0.1:" + freePort()} {
		child, err := b.spawn(ctx, "backend", loadCore, "-role", "backend", "-listen", backend)
		if err != nil {
			return err
		}
		defer child.stop()
		if err := waitFor(ctx, backend); err != nil {
			return err
		}
		b.backends = append(b.backends, backend)
	}
	report := report{Machine: machine(), Versions: b.versions(ctx), Options: b.describe()}
	for round := range o.rounds {
		order := b.proxies()
		if round%2 == 1 { // whoever comes later may meet a warmer machine
			for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
				order[i], order[j] = order[j], order[i]
			}
		}
		for _, p := range order {
			s, err := b.sample(ctx, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			s.Proxy, s.Round = p.name, round+1
			report.Samples = append(report.Samples, s)
			fmt.Fprintf(b.out, "round %d %-24s %8.0f req/s  p99 %6.2f ms  %7.0f MiB/s  %5.1f KiB/websocket  cell %5.1f ms\n",
				round+1, p.name, s.Small.PerSecond, s.Small.P99, s.Big.PerSecond, s.IdleKiB, s.Cell)
		}
	}
	report.write(out)
	if o.json == "" {
		return nil
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(data, '\n'), 0o644)
}
