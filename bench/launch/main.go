// Command launch measures a hub as people meet it, on the machine it runs on:
// builds, relaunches, cells, memory; and JupyterHub beside it in the same run.
// It prints Markdown and writes JSON. Every figure is a median with its range;
// what could not be measured is said and left out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one measured thing.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Note   string    `json:"note,omitempty"`
}

func (f figure) median() float64 {
	v := slices.Sorted(slices.Values(f.Values))
	return v[len(v)/2]
}

// report is what a run writes.
type report struct {
	Machine string    `json:"machine"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	Figures []figure  `json:"figures"`
	Missing []string  `json:"missing,omitempty"` // what could not be measured, and why
}

func (r *report) add(name, unit, note string, values ...float64) {
	r.Figures = append(r.Figures, figure{name, unit, values, note})
	fmt.Fprintf(os.Stderr, "%s: %.1f %s\n", name, r.Figures[len(r.Figures)-1].median(), unit)
}

func run(ctx context.Context) error {
	bin := flag.String("bin", "bin/binnacle", "the hub's binary")
	out := flag.String("out", "bench/launch.json", "where to write the figures")
	base := flag.String("base", "", "a base archive to start from (else Debian is bootstrapped first, unmeasured)")
	rounds := flag.Int("rounds", 5, "how often each thing is done")
	peer := flag.Bool("peer", true, "measure JupyterHub too")
	ecosystems := flag.Bool("ecosystems", false, "measure builds of every ecosystem, and repo2docker's, instead of launches")
	only := flag.String("only", "", "with -ecosystems, those whose names this regular expression finds, and the first")
	flag.Parse()
	some, err := regexp.Compile(*only)
	if err != nil {
		return err
	}

	r := &report{Machine: machine(), Time: time.Now().UTC()}
	if b, err := exec.CommandContext(ctx, *bin, "version").Output(); err == nil {
		r.Version = strings.TrimSpace(string(b))
	}
	steps, more, end := launches(), "", func() error { return nil }
	if *ecosystems {
		ours, err := startServers(ctx)
		if err != nil {
			return err
		}
		steps, more, end = []step{environments(some, ours.missing)}, ours.config, ours.close
	}
	h, err := startHub(ctx, *bin, *base, more)
	if err != nil {
		return errors.Join(err, end())
	}
	err = errors.Join(measure(ctx, r, h, *rounds, steps), h.close(ctx), end())
	if *peer && !*ecosystems && err == nil {
		if err := measureJupyterHub(ctx, r, *rounds); err != nil {
			r.Missing = append(r.Missing, "JupyterHub: "+err.Error())
		}
	}
	r.print()
	b, jsonErr := json.MarshalIndent(r, "", "  ")
	if jsonErr == nil {
		jsonErr = os.WriteFile(*out, append(b, '\n'), 0o644)
	}
	return errors.Join(err, jsonErr)
}

// step measures one thing; the number is how often it is done.
type step func(context.Context, *report, *hub, int) error

func launches() []step {
	return []step{idleMemory, coldBuild, relaunch, notebookCommit, cells, many}
}

func measure(ctx context.Context, r *report, h *hub, rounds int, steps []step) error {
	for _, step := range steps {
		if err := step(ctx, r, h, rounds); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) print() {
	fmt.Printf("Machine: %s\n\nVersion: %s\n\n| what | median | range | n | unit | note |\n|---|---|---|---|---|---|\n", r.Machine, r.Version)
	for _, f := range r.Figures {
		fmt.Printf("| %s | %.1f | %.1f to %.1f | %d | %s | %s |\n", f.Name, f.median(), slices.Min(f.Values), slices.Max(f.Values), len(f.Values), f.Unit, f.Note)
	}
	for _, m := range r.Missing {
		fmt.Printf("\nNot measured: %s\n", m)
	}
}

func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores, %s, Linux %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version())
}
