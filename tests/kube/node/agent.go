package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// agent is scheduler, kubelet, service proxy and load balancer in one, for every node.
type agent struct {
	client   kubernetes.Interface
	settings settings
	files    credentials
	networks *networks
	nodes    []*node

	podLister listers.PodLister
	secrets   listers.SecretLister
	maps      listers.ConfigMapLister

	mu      sync.Mutex
	workers map[types.UID]*worker
	bound   map[types.UID]binding
}

// binding is where a pod was put, and what made it.
type binding struct {
	node  *node
	owner types.UID
}

// node is where pods are said to be: a name, a zone, and an address with a network of its own.
type node struct {
	name, zone string
	*attached
}

// image is what stands for a container image: programs of this machine under the paths they
// have in the image.
type image struct {
	Files      map[string]string `json:"files"` // path in the image -> path on this machine
	Entrypoint []string          `json:"entrypoint"`
	Args       []string          `json:"args"`
	User       int64             `json:"user"`
	Env        map[string]string `json:"env"`
}

func startAgent(ctx context.Context, client kubernetes.Interface, s settings, c credentials) (*agent, error) {
	a := &agent{
		client: client, settings: s, files: c, networks: newNetworks(),
		workers: map[types.UID]*worker{}, bound: map[types.UID]binding{},
	}
	for i, zone := range []string{"zone-a", "zone-b"} {
		n := &node{name: fmt.Sprintf("node-%d", i+1), zone: zone}
		var err error
		if n.attached, err = a.networks.attach(net.IPv4(10, 50, 0, byte(11+i))); err != nil {
			return nil, err
		}
		if err := a.register(ctx, n); err != nil {
			return nil, err
		}
		a.nodes = append(a.nodes, n)
		if err := a.serveLogs(n); err != nil {
			return nil, err
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	a.podLister = core.Pods().Lister()
	a.secrets, a.maps = core.Secrets().Lister(), core.ConfigMaps().Lister()
	handle := func(informer cache.SharedIndexInformer, changed, gone func(any)) error {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    changed,
			UpdateFunc: func(_, o any) { changed(o) },
			DeleteFunc: func(o any) {
				if late, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = late.Obj
				}
				gone(o)
			},
		})
		return err
	}
	proxy := newProxy(a, factory)
	wake := func(any) { proxy.wake() }
	content := func(o any) { a.contentChanged(o.(metav1.Object).GetNamespace()) }
	for _, err := range []error{
		handle(core.Pods().Informer(),
			func(o any) { a.podChanged(ctx, o.(*corev1.Pod)) },
			func(o any) { a.podGone(o.(*corev1.Pod)) }),
		handle(core.Secrets().Informer(), content, content),
		handle(core.ConfigMaps().Informer(), content, content),
		handle(core.Services().Informer(), wake, wake),
		handle(factory.Discovery().V1().EndpointSlices().Informer(), wake, wake),
	} {
		if err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	go proxy.run(ctx)
	if err := proxy.serveNames(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *agent) register(ctx context.Context, n *node) error {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("10000"),
	}
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{
			"kubernetes.io/hostname":      n.name,
			"kubernetes.io/os":            "linux",
			"kubernetes.io/arch":          "amd64",
			"topology.kubernetes.io/zone": n.zone,
		}},
	}
	nodes := a.client.CoreV1().Nodes()
	made, err := nodes.Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	// Admission taints every new node until its kubelet has reported.
	made.Spec.Taints = nil
	if made, err = nodes.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	now := metav1.Now()
	made.Status = corev1.NodeStatus{
		Capacity: capacity, Allocatable: capacity,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: n.address.String()},
			{Type: corev1.NodeHostName, Address: n.name},
		},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{
			KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort},
		},
		NodeInfo: corev1.NodeSystemInfo{
			Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: "v1.36.4",
			ContainerRuntimeVersion: "processes://1", OSImage: "test cluster",
		},
	}
	_, err = nodes.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// podChanged binds a pod, or hands it to its worker.
func (a *agent) podChanged(ctx context.Context, pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		a.bind(ctx, pod)
		return
	}
	n := a.node(pod.Spec.NodeName)
	if n == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[pod.UID]
	if w == nil {
		if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
			return
		}
		w = newWorker(a, n, pod)
		a.workers[pod.UID] = w
		go w.run(ctx)
	}
	w.update(pod)
}

// podGone ends what is left of a pod that was deleted by force.
func (a *agent) podGone(pod *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.bound, pod.UID)
	if w := a.workers[pod.UID]; w != nil {
		delete(a.workers, pod.UID)
		w.abandon()
	}
}

func (a *agent) node(name string) *node {
	for _, n := range a.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// bind chooses a node, of those that the pod asks for.
func (a *agent) bind(ctx context.Context, pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		return
	}
	best, again := a.choose(pod)
	if again {
		return
	}
	if best == nil {
		fmt.Fprintf(os.Stderr, "node: no node suits pod %s/%s\n", pod.Namespace, pod.Name)
		return
	}
	go func() {
		err := a.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: best.name},
		}, metav1.CreateOptions{})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		// The server may be away: try again with what the pod is by then.
		time.Sleep(200 * time.Millisecond)
		a.mu.Lock()
		delete(a.bound, pod.UID)
		a.mu.Unlock()
		if latest, err := a.podLister.Pods(pod.Namespace).Get(pod.Name); err == nil {
			a.podChanged(ctx, latest)
		}
	}()
}

// choose spreads the pods of one owner, then all pods. True when the pod was put somewhere before.
func (a *agent) choose(pod *corev1.Pod) (best *node, again bool) {
	var owner types.UID
	if controller := metav1.GetControllerOf(pod); controller != nil {
		owner = controller.UID
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again = a.bound[pod.UID]; again {
		return nil, true
	}
	// One of the same owner weighs more than any number of others.
	loads := map[*node]int{}
	for _, b := range a.bound {
		loads[b.node]++
		if b.owner == owner {
			loads[b.node] += 1 << 20
		}
	}
	for _, n := range a.nodes {
		if n.suits(pod) && (best == nil || loads[n] < loads[best]) {
			best = n
		}
	}
	if best != nil {
		a.bound[pod.UID] = binding{best, owner}
	}
	return best, false
}

// suits looks at what DaemonSets and plain manifests use: a node selector, and an affinity to
// nodes by name.
func (n *node) suits(pod *corev1.Pod) bool {
	labels := map[string]string{
		"kubernetes.io/hostname": n.name, "kubernetes.io/os": "linux",
		"kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": n.zone,
	}
	for key, value := range pod.Spec.NodeSelector {
		if labels[key] != value {
			return false
		}
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil ||
		affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		fits := true
		for _, field := range term.MatchFields {
			fits = fits && field.Key == "metadata.name" && contains(field.Values, n.name)
		}
		for _, label := range term.MatchExpressions {
			if label.Operator == corev1.NodeSelectorOpIn {
				fits = fits && contains(label.Values, labels[label.Key])
			}
		}
		if fits {
			return true
		}
	}
	return false
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}

// contentChanged lets running pods see new contents of Secrets and ConfigMaps.
func (a *agent) contentChanged(namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.namespace == namespace {
			w.poke()
		}
	}
}

// image finds what stands for an image name.
func (a *agent) image(name string) (*image, error) {
	text, err := os.ReadFile(a.settings.Images)
	if err != nil {
		return nil, err
	}
	var images map[string]*image
	if err := json.Unmarshal(text, &images); err != nil {
		return nil, fmt.Errorf("%s: %w", a.settings.Images, err)
	}
	// As it stands, else without its tag, else without its registry.
	for _, try := range []string{name, untagged(name), filepath.Base(untagged(name))} {
		if found := images[try]; found != nil {
			return found, nil
		}
	}
	return nil, fmt.Errorf("no program stands for image %q", name)
}

func untagged(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[:at]
	}
	return name
}
