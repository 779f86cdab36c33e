package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// commitsKey is the key of what is known of commits in its ConfigMap.
const commitsKey = "state.json"

// commitsName is the ConfigMap with what is known of commits: which one runs,
// which one is in quarantine. The chart does not know it, so no upgrade and no
// way back touches it.
func (c *Cloud) commitsName() string { return c.o.Config.Name + "-commits" }

// Commits is what [Cloud.KeepCommits] was given last; nothing at first, and where
// there is no cluster.
func (c *Cloud) Commits(ctx context.Context) ([]byte, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	m, err := c.client.CoreV1().ConfigMaps(c.o.Config.Namespace()).Get(ctx, c.commitsName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read what is known of commits", err)
	}
	return []byte(m.Data[commitsKey]), nil
}

// KeepCommits keeps what is known of commits beside the hub.
func (c *Cloud) KeepCommits(ctx context.Context, b []byte) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	maps := c.client.CoreV1().ConfigMaps(c.o.Config.Namespace())
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: c.commitsName(), Labels: map[string]string{Label: c.o.Config.Name}}, Data: map[string]string{commitsKey: string(b)},
	}
	_, err := maps.Create(ctx, m, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(ctx, m, metav1.UpdateOptions{})
	}
	return explain("keep what is known of commits", err)
}
