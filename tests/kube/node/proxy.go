package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	listers "k8s.io/client-go/listers/discovery/v1"
)

// proxy makes the addresses of Services reach their endpoints, by translation in the kernel, and
// gives Services of type LoadBalancer an address.
type proxy struct {
	agent    *agent
	services corelisters.ServiceLister
	slices   listers.EndpointSliceLister
	changed  chan struct{}
	balance  map[types.UID]net.IP
	last     string
}

func newProxy(a *agent, factory informers.SharedInformerFactory) *proxy {
	return &proxy{
		agent:    a,
		services: factory.Core().V1().Services().Lister(),
		slices:   factory.Discovery().V1().EndpointSlices().Lister(),
		changed:  make(chan struct{}, 1),
		balance:  map[types.UID]net.IP{},
	}
}

func (p *proxy) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *proxy) run(ctx context.Context) {
	for range p.changed {
		begun := time.Now()
		if err := p.apply(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "node: services:", err)
			time.AfterFunc(time.Second, p.wake)
		}
		// With thousands of Services it is work: half of the time at most.
		time.Sleep(max(10*time.Millisecond, time.Since(begun)))
	}
}

// target is one endpoint; door is an address and port that leads to some.
type target struct {
	address string
	port    int32
}

type door struct {
	address, protocol string
	port              int32
}

func (p *proxy) apply(ctx context.Context) error {
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return err
	}
	slices, err := p.slices.List(labels.Everything())
	if err != nil {
		return err
	}
	of := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range slices {
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		of[key] = append(of[key], slice)
	}
	var failed error
	doors := map[door][]target{}
	seen := map[types.UID]bool{}
	for _, service := range services {
		seen[service.UID] = true
		addresses, err := p.addresses(ctx, service)
		if err != nil {
			failed = err
		}
		for _, port := range service.Spec.Ports {
			targets := targets(of[service.Namespace+"/"+service.Name], port)
			if len(targets) == 0 {
				continue
			}
			protocol := strings.ToLower(string(port.Protocol))
			for _, address := range addresses {
				doors[door{address, protocol, port.Port}] = targets
			}
			if port.NodePort != 0 {
				for _, n := range p.agent.nodes {
					doors[door{n.address.String(), protocol, port.NodePort}] = targets
				}
			}
		}
	}
	for uid := range p.balance {
		if !seen[uid] {
			delete(p.balance, uid)
		}
	}
	rules := render(doors)
	if rules == p.last {
		return failed
	}
	command := exec.CommandContext(ctx, "nft", "-f", "-")
	command.Stdin = bytes.NewBufferString(rules)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	p.last = rules
	return failed
}

// addresses are all that a Service has, one from the pool included.
func (p *proxy) addresses(ctx context.Context, service *corev1.Service) ([]string, error) {
	var list []string
	for _, address := range service.Spec.ClusterIPs {
		if address != corev1.ClusterIPNone {
			list = append(list, address)
		}
	}
	list = append(list, service.Spec.ExternalIPs...)
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || service.Spec.LoadBalancerClass != nil {
		if _, had := p.balance[service.UID]; !had {
			return list, nil
		}
		delete(p.balance, service.UID)
		return list, p.putBalance(ctx, service, nil)
	}
	address, err := p.allot(service)
	if err != nil {
		return list, err
	}
	list = append(list, address.String())
	have := service.Status.LoadBalancer.Ingress
	if len(have) == 1 && have[0].IP == address.String() {
		return list, nil
	}
	return list, p.putBalance(ctx, service, address)
}

// allot chooses an address: the one it has, the one it asks for, else a free one.
func (p *proxy) allot(service *corev1.Service) (net.IP, error) {
	if held := p.balance[service.UID]; held != nil {
		return held, nil
	}
	used := map[string]bool{}
	for _, address := range p.balance {
		used[address.String()] = true
	}
	wanted := service.Spec.LoadBalancerIP
	for _, status := range service.Status.LoadBalancer.Ingress {
		wanted = status.IP
	}
	for i := 10; i < 255; i++ {
		address := net.IPv4(10, 60, 0, byte(i))
		if !used[address.String()] && (wanted == "" || wanted == address.String()) {
			p.balance[service.UID] = address
			return address, nil
		}
	}
	return nil, fmt.Errorf("no free address in %s for %s/%s", balanceRange, service.Namespace, service.Name)
}

func (p *proxy) putBalance(ctx context.Context, service *corev1.Service, address net.IP) error {
	ingress := []map[string]string{}
	if address != nil {
		ingress = append(ingress, map[string]string{"ip": address.String()})
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": service.UID},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": ingress}},
	})
	if err != nil {
		return err
	}
	_, err = p.agent.client.CoreV1().Services(service.Namespace).
		Patch(ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if gone(err) {
		return nil
	}
	return err
}

// targets are the endpoints of a port that are ready, else those that serve while they end.
// Addresses that are not in this cluster's network are left out: tests make up many.
func targets(slices []*discoveryv1.EndpointSlice, port corev1.ServicePort) []target {
	var ready, serving []target
	for _, slice := range slices {
		for _, p := range slice.Ports {
			if p.Port == nil || value(p.Name) != port.Name || value(p.Protocol) != port.Protocol {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				for _, address := range endpoint.Addresses {
					if ip := net.ParseIP(address).To4(); ip == nil || ip[0] != 10 || ip[1] != 50 {
						continue
					}
					t := target{address, *p.Port}
					if c := endpoint.Conditions; c.Ready == nil || *c.Ready {
						ready = append(ready, t)
					} else if value(c.Serving) {
						serving = append(serving, t)
					}
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	sort.Slice(ready, func(i, j int) bool {
		return ready[i].address < ready[j].address || ready[i].address == ready[j].address && ready[i].port < ready[j].port
	})
	return ready
}

func value[T any](from *T) T {
	var v T
	set(&v, from)
	return v
}

// render writes the whole rule set. It is replaced in one step; connections that were made stay
// where they are.
func render(doors map[door][]target) string {
	var keys []door
	for d := range doors {
		keys = append(keys, d)
	}
	sort.Slice(keys, func(i, j int) bool {
		return fmt.Sprint(keys[i]) < fmt.Sprint(keys[j])
	})
	var elements, chains []string
	own := map[string]bool{}
	for i, d := range keys {
		all := doors[d]
		elements = append(elements, fmt.Sprintf("%s . %s . %d : goto d%d", d.address, d.protocol, d.port, i))
		var spread []string
		for j, t := range all {
			own[fmt.Sprintf("%[1]s . %[1]s", t.address)] = true
			spread = append(spread, fmt.Sprintf("%d : %s . %d", j, t.address, t.port))
		}
		chains = append(chains, fmt.Sprintf(
			"chain d%d { meta l4proto %s dnat ip addr . port to numgen inc mod %d map { %s }; }",
			i, d.protocol, len(all), strings.Join(spread, ", ")))
	}
	var hairpins []string
	for pair := range own {
		hairpins = append(hairpins, pair)
	}
	sort.Strings(hairpins)
	set := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return "elements = { " + strings.Join(list, ", ") + " };"
	}
	return fmt.Sprintf(`table ip services
delete table ip services
table ip services {
	map doors { type ipv4_addr . inet_proto . inet_service : verdict; %s }
	set hairpins { type ipv4_addr . ipv4_addr; %s }
	%s
	chain prerouting { type nat hook prerouting priority dstnat; ip daddr . ip protocol . th dport vmap @doors; }
	chain output { type nat hook output priority -100; ip daddr . ip protocol . th dport vmap @doors; }
	chain postrouting { type nat hook postrouting priority srcnat; ip saddr . ip daddr @hairpins masquerade; }
	chain refuse { meta l4proto tcp reject with tcp reset; reject; }
	chain forward { type filter hook forward priority filter; ip daddr { %[4]s, %[5]s } goto refuse; }
	chain local { type filter hook output priority filter; oif lo ip daddr %[6]s accept; ip daddr { %[4]s, %[5]s } goto refuse; }
}
`, set(elements), set(hairpins), strings.Join(chains, "\n\t"), serviceRange, balanceRange, nameServer)
}
