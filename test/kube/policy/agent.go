package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// Agent keeps one node's rules in step with the cluster.
type Agent struct {
	Client  kubernetes.Interface
	Results string       // where the network plugins note what they have given to pods
	Ready   func() error // called when rules are in place for the first time
	Log     *slog.Logger

	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
}

// Run enforces policies until ctx is done.
func (a *Agent) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting
		}
	}
	factory := informers.NewSharedInformerFactory(a.Client, 0)
	a.pods = factory.Core().V1().Pods().Lister()
	a.namespaces = factory.Core().V1().Namespaces().Lister()
	a.policies = factory.Networking().V1().NetworkPolicies().Lister()
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Pods().Informer(), factory.Core().V1().Namespaces().Informer(), factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { notify() }, UpdateFunc: func(_, _ any) { notify() }, DeleteFunc: func(any) { notify() },
		})
		if err != nil {
			return fmt.Errorf("watch the cluster: %w", err)
		}
	}
	if err := os.MkdirAll(a.Results, 0o700); err != nil {
		return err
	}
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the addresses of pods: %w", err)
	}
	defer files.Close()
	if err := files.Add(a.Results); err != nil {
		return fmt.Errorf("watch the addresses of pods: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	return a.follow(ctx, changed, files.Events)
}

func (a *Agent) follow(ctx context.Context, changed <-chan struct{}, files <-chan fsnotify.Event) error {
	var last string
	for {
		rules, err := a.rules()
		if err == nil && rules != last {
			if err = apply(ctx, rules); err == nil && last == "" {
				err = a.Ready()
			}
			if err == nil {
				last = rules
			}
		}
		var retry <-chan time.Time
		if err != nil {
			a.Log.WarnContext(ctx, "the rules of network policies are not in place", "error", err)
			const pause = 200 * time.Millisecond
			retry = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-files:
		case <-retry:
		}
	}
}

func (a *Agent) rules() (string, error) {
	pods, err := a.pods.List(labels.Everything())
	if err != nil {
		return "", err
	}
	policies, err := a.policies.List(labels.Everything())
	if err != nil {
		return "", err
	}
	namespaces, err := a.namespaces.List(labels.Everything())
	if err != nil {
		return "", err
	}
	local, err := Addresses(a.Results)
	if err != nil {
		return "", err
	}
	state := State{Local: local, Pods: pods, Policies: policies, Namespaces: map[string]map[string]string{}}
	for _, ns := range namespaces {
		state.Namespaces[ns.Name] = ns.Labels
	}
	return Rules(state)
}

// Addresses reads what the network plugins have given to the pods of a node. Of
// two notes for one pod, after its sandbox was made anew, the later holds.
func Addresses(dir string) (map[types.UID]netip.Addr, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the addresses of pods: %w", err)
	}
	found, since := map[types.UID]netip.Addr{}, map[types.UID]time.Time{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "-eth0") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // the pod has gone
		}
		if err != nil {
			return nil, fmt.Errorf("read the addresses of pods: %w", err)
		}
		var note struct {
			Args   [][2]string `json:"cniArgs"`
			Result struct {
				IPs []struct {
					Address netip.Prefix `json:"address"`
				} `json:"ips"`
			} `json:"result"`
		}
		if json.Unmarshal(b, &note) != nil || len(note.Result.IPs) == 0 {
			continue // not fully written; its next event comes
		}
		for _, arg := range note.Args {
			if uid := types.UID(arg[1]); arg[0] == "K8S_POD_UID" && !info.ModTime().Before(since[uid]) {
				found[uid], since[uid] = note.Result.IPs[0].Address.Addr(), info.ModTime()
			}
		}
	}
	return found, nil
}

func apply(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}
