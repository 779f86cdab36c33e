// Command kube starts and stops the Kubernetes of the tests:
//
//	kube up     start one that stays, or keep the one that runs
//	kube down   stop it and remove what it left
//	kube serve  be one, for as long as somebody uses it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle/test/kube"
	"github.com/binnacle-hub/binnacle/test/kube/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		if errors.Is(err, cluster.ErrRuns) {
			os.Exit(cluster.ExitRuns)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say up, down or serve")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	dir := flags.String("dir", kube.DefaultDir, "the cluster's files; removed when it stops")
	nodes := flags.Int("nodes", 2, "how many nodes")
	linger := flags.Duration("linger", 20*time.Second, "how long to stay when nobody is connected")
	kubeconfig := flags.String("kubeconfig", "", "how a node's own program reaches the API server")
	node := flags.String("node", "", "the node of that program")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	switch args[0] {
	case "node": // the first process of a node; see cluster.Inside
		return cluster.Inside(os.Stdin)
	case "network": // a program of each node; see cluster.Network
		return cluster.Network(ctx, *kubeconfig, *node, log)
	case "serve":
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return cluster.Serve(ctx, cluster.Config{Dir: *dir, Bin: filepath.Dir(self), Nodes: *nodes, Log: log}, *linger)
	case "up":
		return up(ctx, *dir, *nodes)
	case "down":
		return down(ctx, *dir)
	}
	return fmt.Errorf("there is no command %q: say up, down or serve", args[0])
}

func up(ctx context.Context, dir string, nodes int) error {
	begun := time.Now()
	c, err := kube.Start(ctx, kube.Options{Dir: dir, Nodes: nodes, Keep: true})
	if err != nil {
		return err
	}
	if uid, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil { // who called sudo is to use it
		if err := os.Chown(c.Kubeconfig, uid, -1); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "A Kubernetes of %d nodes runs (%s). `make kube-down` stops it.\n", nodes, time.Since(begun).Round(time.Second))
	fmt.Fprintf(os.Stderr, "Its registry is %s; its logs are in %s/logs.\n", c.Registry, dir)
	_, err = fmt.Println("export KUBECONFIG=" + c.Kubeconfig)
	return err
}

func down(ctx context.Context, dir string) error {
	if err := kube.Stop(ctx, dir); err != nil {
		return err
	}
	lock, err := cluster.Own(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := cluster.Sweep(ctx, dir); err != nil {
		return err
	}
	return os.Remove(dir + ".lock")
}
