package kubernetes

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

const opStart = "session.start"

// trouble is why a pod does not run yet: final when waiting cannot help.
type trouble struct {
	err   *binnacle.Error
	final bool
}

// look finds what keeps a pod from running; nil when nothing is known.
func look(pod *corev1.Pod) *trouble {
	if cs := serverOf(pod); cs != nil && cs.State.Waiting != nil {
		if t := containerTrouble(pod, cs.State.Waiting); t != nil {
			return t
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return &trouble{err: noRoom(c.Message)}
		}
	}
	return nil
}

// noRoom says what lacks. The scheduler's message is "0/3 nodes are available:
// 1 Insufficient cpu, 2 Insufficient memory. preemption: …".
func noRoom(said string) *binnacle.Error {
	facts, _, _ := strings.Cut(said, ". ")
	facts = strings.TrimSuffix(strings.TrimSpace(facts), ".")
	var lacks []string
	for _, part := range strings.FieldsFunc(facts, func(r rune) bool { return r == ',' || r == ':' }) {
		_, what, ok := strings.Cut(part, "Insufficient ")
		if !ok {
			continue
		}
		switch what = strings.TrimSpace(what); what {
		case "cpu":
			what = "CPU"
		case "ephemeral-storage":
			what = "disk space"
		}
		lacks = append(lacks, what)
	}
	e := &binnacle.Error{
		Code: binnacle.CodeLimited, Op: opStart, Message: "The cluster has no room for the session: " + facts + ".",
		Hint: "A machine may be added by itself. Else try again when other sessions have ended.", Err: errors.New(said),
	}
	switch {
	case len(lacks) > 0:
		e.Message = "The cluster has no room for the session: its machines lack " + strings.Join(lacks, ", ") + " (" + facts + ")."
	case strings.Contains(said, "node affinity/selector"), strings.Contains(said, "untolerated taint"):
		e.Message = "No machine of the cluster takes sessions like this one: " + facts + "."
		e.Hint = "A machine may be added by itself. Else the operator of this hub must look at its node_selector and tolerations."
	case facts == "":
		e.Message = "The cluster has no room for the session."
	}
	return e
}

func containerTrouble(pod *corev1.Pod, w *corev1.ContainerStateWaiting) *trouble {
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageNeverPull", "ImageInspectError", "SignatureValidationFailed":
		return imageTrouble(pod, w)
	case "InvalidImageName":
		return &trouble{final: true, err: &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: opStart, Message: fmt.Sprintf("%q is not the name of an image.", imageOf(pod)), Err: errors.New(w.Message),
		}}
	case "RunContainerError":
		if strings.Contains(w.Message, "exec: ") || strings.Contains(w.Message, "exec /") {
			e, _ := errors.AsType[*binnacle.Error](session.CannotRun(errors.New(w.Message)))
			return &trouble{final: true, err: e}
		}
		fallthrough
	case "CreateContainerError", "CreateContainerConfigError":
		// A Secret that the kubelet does not see yet, a disk that is busy: it tries again.
		return &trouble{err: &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: opStart, Message: "The cluster could not make the session's container.",
			Hint: "The operator of this hub finds the reason in its log.", Err: errors.New(w.Reason + ": " + w.Message),
		}}
	}
	return nil
}

// imageTrouble tells a missing image from a registry that does not give it.
func imageTrouble(pod *corev1.Pod, w *corev1.ContainerStateWaiting) *trouble {
	image, said := pod.Annotations[noteImage], strings.ToLower(w.Message)
	has := func(words ...string) bool {
		for _, word := range words {
			if strings.Contains(said, word) {
				return true
			}
		}
		return false
	}
	cause := errors.New(w.Reason + ": " + w.Message)
	const operator = "The operator of this hub must give the machines of the cluster the registry's credentials (image_pull_secrets)."
	switch {
	case has("toomanyrequests", "too many requests", "429", "rate limit"):
		return &trouble{final: true, err: &binnacle.Error{
			Code: binnacle.CodeLimited, Op: opStart, Message: "The registry of images limits how often the cluster may fetch from it.",
			Hint: "Try again in some minutes.", Err: cause,
		}}
	case has("unauthorized", "authentication required", "authorization failed", "403", "forbidden", "denied", "no basic auth"):
		return &trouble{final: true, err: &binnacle.Error{
			Code: binnacle.CodeInternal, Op: opStart, Message: "The registry does not let the cluster fetch the session's image.", Hint: operator, Err: cause,
		}}
	case has("not found", "manifest unknown", "name unknown", "does not exist", "404") && !has("lookup "), w.Reason == "ErrImageNeverPull":
		return &trouble{final: true, err: &binnacle.Error{
			Code: binnacle.CodeNotFound, Op: opStart, Message: fmt.Sprintf("The image %s is not there.", image), Hint: "Launch again; it is then built anew.", Err: cause,
		}}
	case has("no space left"):
		return &trouble{err: &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: opStart, Message: "The machine of the session has no disk space for its image.", Hint: "Try again in some minutes.", Err: cause,
		}}
	}
	return &trouble{err: &binnacle.Error{ // the kubelet tries again
		Code: binnacle.CodeUnavailable, Op: opStart, Message: "The cluster cannot fetch the session's image: the registry does not answer.", Hint: "Try again in some minutes.", Err: cause,
	}}
}

// refused is an error of making the pod or its Secret.
func refused(id string, err error) error {
	said := err.Error()
	switch {
	case apierrors.IsAlreadyExists(err):
		return session.Taken(id)
	case apierrors.IsForbidden(err) && strings.Contains(said, "exceeded quota"):
		return &binnacle.Error{
			Code: binnacle.CodeLimited, Op: opStart, Message: "The sessions of this hub use all that the cluster gives them.",
			Hint: "Try again when other sessions have ended.", Err: err,
		}
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsNotFound(err):
		return &binnacle.Error{
			Code: binnacle.CodeInternal, Op: opStart, Message: "The cluster does not let the hub start sessions.",
			Hint: "The operator of this hub finds in its log what is missing.", Err: err,
		}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: opStart, Message: "The cluster does not accept the session as it is described.",
			Hint: "Look at the names of environment variables; the operator of this hub finds more in its log.", Err: err,
		}
	}
	return away("start the session", err)
}

// away is an error of the cluster's API; one of the context stays what it is.
func away(doing string, err error) error {
	if c := binnacle.CodeOf(err); c == binnacle.CodeCanceled || c == binnacle.CodeTimeout {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if apierrors.IsTooManyRequests(err) {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "session.kubernetes", Message: "The cluster has too much to do.", Hint: "Try again in a few minutes.", Err: fmt.Errorf("%s: %w", doing, err),
		}
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "session.kubernetes",
		Message: "The cluster did not do what was asked.", Hint: "Try again in a few minutes.", Err: fmt.Errorf("%s: %w", doing, err),
	}
}
