package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is one proxy measured once. RSS is in MiB.
type sample struct {
	Proxy            string  `json:"proxy"`
	Round            int     `json:"round"`
	Small            outcome `json:"small_c64"`
	PerCPUSecond     float64 `json:"small_per_cpu_second,omitempty"`
	One              outcome `json:"small_c1"`
	Big              outcome `json:"big_1mib_c8"`
	BigPerCPUSecond  float64 `json:"big_per_cpu_second,omitempty"`
	Echo             outcome `json:"websocket_echo_c64"`
	EchoPerCPUSecond float64 `json:"echo_per_cpu_second,omitempty"`
	Cell             float64 `json:"cell_p50_ms"`
	RSSStart         float64 `json:"rss_start_mib,omitempty"`
	RSSLoaded        float64 `json:"rss_loaded_mib,omitempty"`
	RSSIdle          float64 `json:"rss_idle_websockets_mib,omitempty"`
	IdleKiB          float64 `json:"kib_per_idle_websocket,omitempty"`
}

type report struct {
	Machine  string   `json:"machine"`
	Versions []string `json:"versions"`
	Options  string   `json:"options"`
	Samples  []sample `json:"samples"`
}

// column is one figure of the table.
type column struct {
	name   string
	format string
	of     func(sample) float64
}

func columns() []column {
	return []column{
		{"small GET c=64, req/s", "%.0f", func(s sample) float64 { return s.Small.PerSecond }},
		{"per CPU second", "%.0f", func(s sample) float64 { return s.PerCPUSecond }},
		{"p50 ms", "%.2f", func(s sample) float64 { return s.Small.P50 }},
		{"p99 ms", "%.2f", func(s sample) float64 { return s.Small.P99 }},
		{"c=1 p50 ms", "%.3f", func(s sample) float64 { return s.One.P50 }},
		{"1 MiB GET c=8, req/s", "%.0f", func(s sample) float64 { return s.Big.PerSecond }},
		{"per CPU second", "%.0f", func(s sample) float64 { return s.BigPerCPUSecond }},
		{"websocket echo c=64, msg/s", "%.0f", func(s sample) float64 { return s.Echo.PerSecond }},
		{"per CPU second", "%.0f", func(s sample) float64 { return s.EchoPerCPUSecond }},
		{"cell ms", "%.1f", func(s sample) float64 { return s.Cell }},
		{"RSS start MiB", "%.1f", func(s sample) float64 { return s.RSSStart }},
		{"RSS after load MiB", "%.1f", func(s sample) float64 { return s.RSSLoaded }},
		{"KiB/idle websocket", "%.1f", func(s sample) float64 { return s.IdleKiB }},
		{"RSS with idle websockets MiB", "%.1f", func(s sample) float64 { return s.RSSIdle }},
	}
}

// write prints medians over the rounds, with the smallest and largest.
func (r report) write(w io.Writer) {
	fmt.Fprintf(w, "%s\n%s\n%s\n\n", r.Machine, strings.Join(r.Versions, ", "), r.Options)
	var names []string
	by := map[string][]sample{}
	for _, s := range r.Samples {
		if by[s.Proxy] == nil {
			names = append(names, s.Proxy)
		}
		by[s.Proxy] = append(by[s.Proxy], s)
	}
	fmt.Fprintf(w, "| median (min to max) | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, c := range columns() {
		fmt.Fprintf(w, "| %s |", c.name)
		for _, name := range names {
			fmt.Fprintf(w, " %s |", spread(by[name], c))
		}
		fmt.Fprintln(w)
	}
	chp := by["chp"]
	if len(chp) == 0 {
		return
	}
	fmt.Fprintf(w, "| req/s as a multiple of chp's, round by round |")
	for _, name := range names {
		fmt.Fprintf(w, " %s |", spread(by[name], column{format: "%.2f", of: func(s sample) float64 {
			for _, c := range chp {
				if c.Round == s.Round {
					return s.Small.PerSecond / c.Small.PerSecond
				}
			}
			return 0
		}}))
	}
	fmt.Fprintln(w)
}

func spread(samples []sample, c column) string {
	var v []float64
	for _, s := range samples {
		v = append(v, c.of(s))
	}
	slices.Sort(v)
	if v[len(v)-1] == 0 {
		return "-"
	}
	return fmt.Sprintf(c.format+" ("+c.format+" to "+c.format+")", v[len(v)/2], v[0], v[len(v)-1])
}

func (b *bench) describe() string {
	pin := "not pinned"
	if _, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		pin = "proxy alone on core 1, backend and load on core 0"
	}
	return fmt.Sprintf("%d rounds, order turned round by round; %s a load; %d idle websockets; %s; a Nagle backend on tcp; chp with 1,000 routes",
		b.rounds, b.duration, b.idle, pin)
}

func (b *bench) versions(ctx context.Context) []string {
	v := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v = append(v, "binnacle "+s.Value)
			}
		}
	}
	if b.node == "" {
		return v
	}
	if out, err := exec.CommandContext(ctx, b.node, "--version").Output(); err == nil {
		v = append(v, "node "+strings.TrimSpace(string(out)))
	}
	data, _ := os.ReadFile(filepath.Join(b.chp, "node_modules", "configurable-http-proxy", "package.json"))
	if _, after, ok := bytes.Cut(data, []byte(`"version": "`)); ok {
		version, _, _ := bytes.Cut(after, []byte(`"`))
		v = append(v, "configurable-http-proxy "+string(version))
	}
	return v
}

func machine() string {
	model := "unknown processor"
	data, _ := os.ReadFile("/proc/cpuinfo")
	if _, after, ok := bytes.Cut(data, []byte("model name\t: ")); ok {
		line, _, _ := bytes.Cut(after, []byte("\n"))
		model = string(line)
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%d x %s, Linux %s, load before %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), strings.Join(strings.Fields(string(load))[:1], " "))
}

// rss is a process's resident memory in MiB.
func rss(pid int) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(data), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseFloat(fields[0], 64)
	return kib / 1024
}

// cpu is the processor time a process has used.
func cpu(pid int) time.Duration {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := strings.Cut(string(data), ") ")
	if !ok {
		return 0
	}
	fields := strings.Fields(after)
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere
	return time.Duration(user+system) * tick
}
