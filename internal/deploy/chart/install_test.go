package chart_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli"
	helmkube "helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
	"github.com/binnacle-hub/binnacle/test/kube"
)

// A real cluster takes every object of the chart of the version before, an upgrade
// to this one keeps the certificate that was made once, and nothing is left after
// the removal.
func TestInstallUpgradeUninstall(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	cluster := kube.Shared(t)
	ctx, namespace := t.Context(), cluster.Namespace(t)
	settings := cli.New()
	settings.KubeConfig = cluster.Kubeconfig
	settings.SetNamespace(namespace)
	cfg := action.NewConfiguration()
	if err := cfg.Init(settings.RESTClientGetter(), namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	c, err := chart.Load("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	before, err := loader.LoadFile(previous)
	if err != nil {
		t.Fatal(err)
	}
	v := values(t, "everything")
	v["metrics"] = map[string]any{"dashboard": map[string]any{"enabled": true}} // no Prometheus operator here
	v["service"] = map[string]any{"type": "LoadBalancer"}
	sessions := namespace + "-sessions"
	v["sessions"].(map[string]any)["namespace"] = sessions
	v["sessions"].(map[string]any)["runtimeClassName"] = ""
	v["inClusterRegistry"].(map[string]any)["nodePort"] = 0
	const patience = 2 * time.Minute

	install := action.NewInstall(cfg)
	install.ReleaseName, install.Namespace, install.Timeout, install.WaitStrategy = "hub", namespace, patience, helmkube.HookOnlyStrategy
	install.SkipSchemaValidation = true // what is new in the values, it does not know
	if _, err := install.RunWithContext(ctx, before, v); err != nil {
		t.Fatal(err)
	}
	removed := false
	uninstall := func() error {
		u := action.NewUninstall(cfg)
		u.Timeout, u.WaitStrategy, u.DeletionPropagation = patience, helmkube.LegacyStrategy, "foreground"
		_, err := u.Run("hub")
		return err
	}
	t.Cleanup(func() {
		if !removed {
			_ = uninstall()
		}
	})
	secrets := cluster.Client.CoreV1().Secrets(namespace)
	made, err := secrets.Get(ctx, "hub-binnacle-builders-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	v["builders"].(map[string]any)["replicas"] = 3
	upgrade := action.NewUpgrade(cfg)
	upgrade.Namespace, upgrade.Timeout, upgrade.WaitStrategy = namespace, patience, helmkube.HookOnlyStrategy
	if _, err := upgrade.RunWithContext(ctx, "hub", c, v); err != nil {
		t.Fatal(err)
	}
	after, err := secrets.Get(ctx, "hub-binnacle-builders-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(made.Data, after.Data) {
		t.Error("an upgrade made a new certificate: builders and hub would not know each other until all are replaced")
	}
	set, err := cluster.Client.AppsV1().StatefulSets(namespace).Get(ctx, "hub-binnacle-builders", metav1.GetOptions{})
	if err != nil || *set.Spec.Replicas != 3 {
		t.Errorf("builders: %v, %v", set.Spec.Replicas, err)
	}

	if err := uninstall(); err != nil {
		t.Fatal(err)
	}
	removed = true
	gone(ctx, t, cluster, sessions)
	left, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=hub"})
	// That of the database stays with its volume.
	if err != nil || len(left.Items) != 1 || left.Items[0].Name != "hub-binnacle-postgresql" {
		t.Errorf("%d Secrets are left, %v", len(left.Items), err)
	}
}

// gone waits until a namespace is away.
func gone(ctx context.Context, t *testing.T, cluster *kube.Cluster, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := cluster.Client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("the namespace %s is still there: %v", namespace, err)
			return
		case <-tick.C:
		}
	}
}
