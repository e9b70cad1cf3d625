package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// report starts what writes the pod's status; it does so when told, until told no more.
func (w *worker) report(ctx context.Context) chan<- struct{} {
	told := make(chan struct{}, 1)
	go func() {
		var last *corev1.PodStatus
		for range told {
			for {
				status := w.status()
				if last != nil && same(last, status) {
					break
				}
				err := w.patchStatus(ctx, status)
				if err == nil || gone(err) {
					last = status
					break
				}
				fmt.Fprintf(os.Stderr, "node: %s/%s: status: %v\n", w.namespace, w.name, err)
				time.Sleep(200 * time.Millisecond)
			}
		}
	}()
	return told
}

// putStatus writes the status once, as it is.
func (w *worker) putStatus(ctx context.Context) { _ = w.patchStatus(ctx, w.status()) }

func (w *worker) patchStatus(ctx context.Context, status *corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": w.latest().UID},
		"status":   status,
	})
	if err != nil {
		return err
	}
	_, err = w.agent.client.CoreV1().Pods(w.namespace).
		Patch(ctx, w.name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// gone tells whether the object is not there, or another one is.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// same compares without the times at which conditions were looked at.
func same(a, b *corev1.PodStatus) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	for _, s := range []*corev1.PodStatus{a, b} {
		for i := range s.Conditions {
			s.Conditions[i].LastTransitionTime = metav1.Time{}
		}
	}
	return reflect.DeepEqual(a, b)
}

// status is what the pod is now.
func (w *worker) status() *corev1.PodStatus {
	w.mu.Lock()
	pod, place, waiting := w.pod, w.place, w.waiting
	w.mu.Unlock()
	status := &corev1.PodStatus{
		Phase: corev1.PodPending, StartTime: w.started, Message: waiting,
		HostIP:   w.node.address.String(),
		HostIPs:  []corev1.HostIP{{IP: w.node.address.String()}},
		QOSClass: pod.Status.QOSClass, ObservedGeneration: pod.Generation,
	}
	if place != nil {
		status.PodIP = place.address.String()
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	running, done, failed, ready, initialized := 0, 0, 0, true, true
	mains := 0
	for _, c := range w.containers {
		state, isDone, isFailed := c.status()
		if c.init {
			status.InitContainerStatuses = append(status.InitContainerStatuses, state)
			initialized = initialized && c.initDone()
			if isFailed {
				failed++
			}
			continue
		}
		mains++
		status.ContainerStatuses = append(status.ContainerStatuses, state)
		if state.State.Running != nil || state.LastTerminationState.Terminated != nil {
			running++
		}
		if isDone {
			done++
		}
		if isFailed {
			failed++
		}
		ready = ready && state.Ready
	}
	prepared := place != nil && waiting == ""
	switch {
	case prepared && done == mains && failed > 0, !initialized && failed > 0:
		status.Phase = corev1.PodFailed
	case prepared && done == mains:
		status.Phase = corev1.PodSucceeded
	case prepared && running+done == mains:
		status.Phase = corev1.PodRunning
	}
	ready = ready && prepared && status.Phase == corev1.PodRunning
	all := ready
	for _, gate := range pod.Spec.ReadinessGates {
		all = all && conditionOf(pod, gate.ConditionType) == corev1.ConditionTrue
	}
	own := []struct {
		kind corev1.PodConditionType
		is   bool
	}{
		{corev1.PodScheduled, true}, {corev1.PodInitialized, prepared && initialized},
		{corev1.ContainersReady, ready}, {corev1.PodReady, all},
	}
	for _, o := range own {
		value := corev1.ConditionFalse
		if o.is {
			value = corev1.ConditionTrue
		}
		condition := corev1.PodCondition{Type: o.kind, Status: value, LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation}
		for _, before := range pod.Status.Conditions {
			if before.Type == o.kind && before.Status == value {
				condition.LastTransitionTime = before.LastTransitionTime
			}
		}
		status.Conditions = append(status.Conditions, condition)
	}
	// What others have said stays: readiness gates, disruption.
	for _, condition := range pod.Status.Conditions {
		ours := false
		for _, o := range own {
			ours = ours || condition.Type == o.kind
		}
		if !ours {
			status.Conditions = append(status.Conditions, condition)
		}
	}
	return status
}

func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Status
		}
	}
	return corev1.ConditionUnknown
}

func (c *container) status() (state corev1.ContainerStatus, done, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.state.Running != nil && c.startup
	state = corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image,
		ContainerID: fmt.Sprintf("processes://%s-%s-%d", c.worker.latest().UID, c.spec.Name, c.restarts),
		State:       c.state, LastTerminationState: c.last, RestartCount: c.restarts,
		Ready: c.ready && c.state.Running != nil, Started: &started,
	}
	if c.init && c.done && !c.failed {
		state.Ready = true
	}
	return state, c.done, c.failed
}
