package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// worker is one pod's life: its network and volumes, its containers, its status, its end.
type worker struct {
	agent           *agent
	node            *node
	namespace, name string
	dir             string

	mu      sync.Mutex
	pod     *corev1.Pod
	changed chan struct{} // something to look at: the pod, contents of volumes, a container

	place      *attached
	volumes    *volumes
	containers []*container // init containers first
	started    *metav1.Time
	waiting    string // why it does not start
	left       chan struct{}
	leaveOnce  sync.Once
}

func newWorker(a *agent, n *node, pod *corev1.Pod) *worker {
	now := metav1.Now()
	w := &worker{
		agent: a, node: n, namespace: pod.Namespace, name: pod.Name, pod: pod,
		dir:     a.settings.private("pods", string(pod.UID)),
		changed: make(chan struct{}, 1), left: make(chan struct{}), started: &now,
	}
	w.volumes = newVolumes(w)
	for _, spec := range pod.Spec.InitContainers {
		w.containers = append(w.containers, newContainer(w, spec, true))
	}
	for _, spec := range pod.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, spec, false))
	}
	return w
}

func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	w.poke()
}

func (w *worker) latest() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (w *worker) poke() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// abandon ends the pod without ceremony: its object is gone.
func (w *worker) abandon() { w.leaveOnce.Do(func() { close(w.left) }) }

// run is the pod from binding to removal.
func (w *worker) run(ctx context.Context) {
	defer w.clean()
	reports := w.report(ctx)
	defer close(reports)
	if !w.prepare(ctx, reports) {
		w.finish(ctx, nil)
		return
	}
	if !w.startInit(ctx, reports) {
		w.wind(ctx, reports)
		return
	}
	for _, c := range w.containers {
		if !c.init {
			go c.keep(ctx)
		}
	}
	w.wind(ctx, reports)
}

// prepare attaches the network and fills the volumes; false when the pod is deleted before.
func (w *worker) prepare(ctx context.Context, reports chan<- struct{}) bool {
	pod := w.latest()
	for {
		err := w.attach(pod)
		if err == nil {
			err = w.volumes.fill(ctx)
		}
		if err == nil {
			w.setWaiting("")
			return true
		}
		w.setWaiting(err.Error())
		tell(reports)
		select {
		case <-w.left:
			return false
		case <-w.changed:
		case <-time.After(200 * time.Millisecond):
		}
		if w.latest().DeletionTimestamp != nil {
			return false
		}
	}
}

func (w *worker) setWaiting(why string) {
	w.mu.Lock()
	w.waiting = why
	w.mu.Unlock()
}

func (w *worker) attach(pod *corev1.Pod) error {
	if w.place != nil {
		return nil
	}
	place := w.node.attached
	if !pod.Spec.HostNetwork {
		address, err := w.agent.networks.take()
		if err != nil {
			return err
		}
		if place, err = w.agent.networks.attach(address); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.place = place
	w.mu.Unlock()
	return os.MkdirAll(w.dir, 0o755)
}

// startInit runs the init containers one after another; those that restart always run on beside
// the rest. False when the pod ends before they are done.
func (w *worker) startInit(ctx context.Context, reports chan<- struct{}) bool {
	for _, c := range w.containers {
		if !c.init {
			continue
		}
		go c.keep(ctx)
		for !c.initDone() {
			tell(reports)
			select {
			case <-w.left:
				return false
			case <-w.changed:
			}
			if w.latest().DeletionTimestamp != nil || c.failedForGood() {
				return false
			}
		}
	}
	return true
}

// wind reports what happens until the pod has ended by itself or is deleted.
func (w *worker) wind(ctx context.Context, reports chan<- struct{}) {
	refresh := time.NewTicker(10 * time.Second)
	defer refresh.Stop()
	for {
		tell(reports)
		select {
		case <-w.left:
			w.finish(ctx, nil)
			return
		case <-refresh.C:
		case <-w.changed:
		}
		if err := w.volumes.fill(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "node: %s/%s: volumes: %v\n", w.namespace, w.name, err)
		}
		if w.latest().DeletionTimestamp != nil {
			w.finish(ctx, reports)
			return
		}
	}
}

// finish ends the containers, within the grace the deletion allows, and removes the object.
func (w *worker) finish(ctx context.Context, reports chan<- struct{}) {
	pod := w.latest()
	grace := time.Duration(0)
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	}
	select {
	case <-w.left:
		grace = 0
	default:
	}
	var all sync.WaitGroup
	for _, c := range w.containers {
		all.Go(func() { c.end(grace) })
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	left := w.left
wait:
	for {
		if reports != nil {
			tell(reports)
		}
		select {
		case <-done:
			break wait
		case <-w.changed:
			// A second deletion may shorten the grace.
			pod = w.latest()
			if s := pod.DeletionGracePeriodSeconds; s != nil && *s == 0 {
				w.kill()
			}
		case <-left:
			left = nil
			w.kill()
		}
	}
	if w.place != nil && w.place != w.node.attached {
		w.agent.networks.detach(w.place)
	}
	if pod.DeletionTimestamp == nil || left == nil {
		return
	}
	none := int64(0)
	for range 300 {
		w.putStatus(ctx)
		err := w.agent.client.CoreV1().Pods(w.namespace).Delete(ctx, w.name, metav1.DeleteOptions{
			GracePeriodSeconds: &none,
			Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
		})
		if err == nil || gone(err) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (w *worker) kill() {
	for _, c := range w.containers {
		c.kill()
	}
}

func (w *worker) clean() {
	_ = os.RemoveAll(w.dir)
	w.agent.mu.Lock()
	defer w.agent.mu.Unlock()
	if pod := w.latest(); w.agent.workers[pod.UID] == w {
		delete(w.agent.workers, pod.UID)
	}
}

func tell(reports chan<- struct{}) {
	select {
	case reports <- struct{}{}:
	default:
	}
}
