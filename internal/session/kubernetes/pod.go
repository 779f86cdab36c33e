package kubernetes

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// The labels of pods and Secrets.
const (
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelSession   = "binnacle.dev/session" // the session's id
	component      = "session"
	product        = "binnacle"
)

// The annotations of a pod: what labels cannot hold.
const (
	noteLabels  = "binnacle.dev/labels" // of the hub, in JSON
	noteBaseURL = "binnacle.dev/base-url"
	noteImage   = "binnacle.dev/image"
	noteLimits  = "binnacle.dev/limits"  // in JSON
	noteCreated = "binnacle.dev/created" // finer than the cluster's own whole seconds
	noteStopped = "binnacle.dev/stopped" // when we began to stop it
)

const (
	container = "session" // the name of the one that runs the server
	tokenKey  = "token"
)

func secretName(id string) string { return id + "-token" }

// selector matches the sessions of this hub.
func (c Config) selector() map[string]string {
	return map[string]string{labelName: product, labelInstance: c.Instance, labelComponent: component}
}

func (c Config) labels(id string) map[string]string {
	l := maps.Clone(c.Labels)
	if l == nil {
		l = map[string]string{}
	}
	maps.Copy(l, c.selector())
	l[labelManagedBy], l[labelSession] = product, id
	return l
}

func (c Config) secret(spec session.Spec) *corev1.Secret {
	immutable := true
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretName(spec.ID), Namespace: c.Namespace, Labels: c.labels(spec.ID)},
		Immutable:  &immutable, Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{tokenKey: []byte(spec.Token)},
	}
}

func notes(spec session.Spec, created time.Time) (map[string]string, error) {
	labels, err := json.Marshal(spec.Labels)
	if err != nil {
		return nil, fmt.Errorf("write the labels: %w", err)
	}
	limits, err := json.Marshal(spec.Limits)
	if err != nil {
		return nil, fmt.Errorf("write the limits: %w", err)
	}
	return map[string]string{
		noteLabels: string(labels), noteBaseURL: spec.BaseURL, noteImage: spec.Image, noteLimits: string(limits),
		noteCreated: created.UTC().Format(time.RFC3339Nano),
	}, nil
}

// pod describes the session: nothing it does not need, nothing it may gain.
func (c Config) pod(spec session.Spec, image ocispec.ImageConfig, created time.Time) (*corev1.Pod, error) {
	c, spec, patches := c.profiled(spec)
	annotations, err := notes(spec, created)
	if err != nil {
		return nil, err
	}
	user, group, no, yes := int64(session.UserID), int64(session.Group(image)), false, true
	change := corev1.FSGroupChangeOnRootMismatch
	grace := int64(math.Ceil(c.Grace.Seconds()))
	main, err := c.server(spec, image)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: spec.ID, Namespace: c.Namespace, Labels: c.labels(spec.ID), Annotations: annotations},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{main},
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			NodeSelector:                  c.NodeSelector,
			PriorityClassName:             c.PriorityClass,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsUser: &user, RunAsGroup: &group, RunAsNonRoot: &yes, FSGroup: &group, FSGroupChangePolicy: &change,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Volumes: c.volumes(spec.Limits),
		},
	}
	if c.RuntimeClass != "" {
		pod.Spec.RuntimeClassName = &c.RuntimeClass
	}
	if c.UserNamespace {
		pod.Spec.HostUsers = &no
	}
	if c.Pack {
		pod.Spec.Affinity = c.packing()
	}
	for _, t := range c.Tolerations {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration(t))
	}
	for _, name := range c.ImagePullSecrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return c.patched(pod, patches)
}

// patched applies what the operator laid over; what we find sessions by stays.
func (c Config) patched(pod *corev1.Pod, patches []Patch) (*corev1.Pod, error) {
	meta := pod.ObjectMeta.DeepCopy()
	for _, p := range patches {
		var err error
		if pod, err = p.apply(pod); err != nil {
			return nil, err
		}
	}
	pod.Name, pod.Namespace = meta.Name, meta.Namespace
	merge(&pod.Labels, c.labels(meta.Name))
	merge(&pod.Annotations, meta.Annotations)
	if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container }) {
		return nil, errNoContainer
	}
	return pod, nil
}

// server is the container with the session's server.
func (c Config) server(spec session.Spec, image ocispec.ImageConfig) (corev1.Container, error) {
	no := false
	resources, err := c.resources(spec.Limits)
	if err != nil {
		return corev1.Container{}, err
	}
	main := corev1.Container{
		Name: container, Image: spec.Image,
		Command:   literal(session.Command(image, spec, session.Address{Port: c.Port})),
		Env:       c.env(spec, image),
		Ports:     []corev1.ContainerPort{{Name: "server", ContainerPort: int32(c.Port), Protocol: corev1.ProtocolTCP}}, //nolint:gosec // Validate bounds it
		Resources: resources,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, Privileged: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "shm", MountPath: "/dev/shm"}},
	}
	if c.CAConfigMap != "" {
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "ca", MountPath: session.CAFile, SubPath: "ca.pem", ReadOnly: true})
	}
	return main, nil
}

// env leaves the token to the Secret: who may see pods must not see it.
func (c Config) env(spec session.Spec, image ocispec.ImageConfig) []corev1.EnvVar {
	person := spec.Env
	spec.Env = maps.Clone(c.Env)
	merge(&spec.Env, person)
	all := session.Environment(image, spec, c.CAConfigMap != "")
	vars := make([]corev1.EnvVar, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v := corev1.EnvVar{Name: name, Value: escape(all[name])}
		if name == session.TokenVariable {
			v = corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: secretName(spec.ID)}, Key: tokenKey,
			}}}
		}
		vars = append(vars, v)
	}
	return vars
}

// escape keeps the kubelet from replacing $(NAME).
func escape(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func literal(args []string) []string {
	for i, a := range args {
		args[i] = escape(a)
	}
	return args
}

func (c Config) resources(l binnacle.Limits) (corev1.ResourceRequirements, error) {
	r := corev1.ResourceRequirements{Limits: corev1.ResourceList{}, Requests: corev1.ResourceList{}}
	// A request is always written: without it the limit would be it.
	bytes := func(name corev1.ResourceName, limit int64, share float64) {
		if limit > 0 {
			r.Limits[name] = *resource.NewQuantity(limit, resource.BinarySI)
			r.Requests[name] = *resource.NewQuantity(int64(float64(limit)*share), resource.BinarySI)
		}
	}
	bytes(corev1.ResourceMemory, l.Memory, c.Guarantee.Memory)
	bytes(corev1.ResourceEphemeralStorage, l.Disk, c.Guarantee.Disk)
	if l.CPU > 0 {
		const milli = 1000
		r.Limits[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(math.Ceil(l.CPU*milli)), resource.DecimalSI)
		r.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(l.CPU*c.Guarantee.CPU*milli), resource.DecimalSI)
	}
	for name, text := range c.Resources {
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return r, fmt.Errorf("the resource %s: %w", name, err)
		}
		r.Limits[corev1.ResourceName(name)], r.Requests[corev1.ResourceName(name)] = q, q
	}
	return r, nil
}

// volumes: what is in /dev/shm counts as the session's memory; without a volume
// it has 64 MiB, too little for much that computes in parallel.
func (c Config) volumes(l binnacle.Limits) []corev1.Volume {
	shm := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
	if l.Memory > 0 {
		shm.SizeLimit = resource.NewQuantity(l.Memory/2, resource.BinarySI) //nolint:mnd // the kernel's own share
	}
	volumes := []corev1.Volume{{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: shm}}}
	if c.CAConfigMap != "" {
		volumes = append(volumes, corev1.Volume{Name: "ca", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: c.CAConfigMap}},
		}})
	}
	return volumes
}

func (c Config) packing() *corev1.Affinity {
	return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight:          100, //nolint:mnd // the most there is
			PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: c.selector()}},
		}},
	}}
}

// limitsOf are those the pod was made with.
func limitsOf(pod *corev1.Pod) binnacle.Limits {
	var l binnacle.Limits
	_ = json.Unmarshal([]byte(pod.Annotations[noteLimits]), &l) // ours; a broken one limits nothing
	return l
}

// status is what the pod and its Secret say.
func status(pod *corev1.Pod, token string) session.Status {
	st := session.Status{
		ID: pod.Labels[labelSession], BaseURL: pod.Annotations[noteBaseURL], Token: token,
		Image: cmp.Or(pod.Annotations[noteImage], imageOf(pod)), Labels: map[string]string{}, Started: pod.CreationTimestamp.Time,
	}
	if t, err := time.Parse(time.RFC3339Nano, pod.Annotations[noteCreated]); err == nil {
		st.Started = t
	}
	_ = json.Unmarshal([]byte(pod.Annotations[noteLabels]), &st.Labels) // ours; what is broken is not known
	st.State, st.Exit = state(pod)
	return st
}

func imageOf(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if c.Name == container {
			return c.Image
		}
	}
	return ""
}
