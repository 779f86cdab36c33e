package kube

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
)

//go:embed metrics.yaml
var metricsServer string

// Metrics runs Kubernetes' metrics server until the test ends: what kubectl top and
// HorizontalPodAutoscalers ask how busy pods are. It knows that half a minute later.
func (c *Cluster) Metrics(t testing.TB) {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, ".tools", "kube", "bin", "kubernetes")
	var manifest strings.Builder
	at := struct{ Image, Program string }{c.Box, filepath.Join(c.Dir, "bin", "kubernetes")} // as nodes see it
	if err := template.Must(template.New("metrics.yaml").Parse(metricsServer)).Execute(&manifest, at); err != nil {
		t.Fatal(err)
	}
	kubectl := func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, program, append([]string{"kubectl", "--kubeconfig", c.Kubeconfig}, args...)...)
		cmd.Stdin = strings.NewReader(manifest.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	t.Cleanup(func() {
		if err := kubectl(context.WithoutCancel(t.Context()), "delete", "--ignore-not-found", "--filename=-"); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{
		{"apply", "--filename=-"},
		{"wait", "--for=condition=Available", "--timeout=3m", "apiservice/v1beta1.metrics.k8s.io"},
	} {
		if err := kubectl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
}
