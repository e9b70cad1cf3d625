package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// All addresses exist in the cluster's network alone, so every cluster has the same.
const (
	podRange     = "10.50.0.0/16"
	serviceRange = "10.96.0.0/16"
	balanceRange = "10.60.0.0/24"
)

var (
	// The cluster's own address: every pod's way out, and the API server.
	nodeGateway     = net.IPv4(10, 50, 0, 1)
	serviceOfServer = net.IPv4(10, 96, 0, 1)
)

// prepareNetwork sets up what pods are attached to. There is no bridge: each pod is routed, so
// that translated addresses find their way back and back ends see who really calls.
func prepareNetwork() error {
	for path, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward":                 "1",
		"/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
	} {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return ip(fmt.Sprintf(`link set lo up
addr add %[1]s/32 dev lo
addr add %[4]s/32 dev lo
route add %[2]s dev lo src %[1]s
route add %[3]s dev lo src %[1]s
`, nodeGateway, serviceRange, balanceRange, nameServer))
}

// ip runs a batch of the ip command in the network of the calling thread.
func ip(batch string) error {
	command := exec.Command("ip", "-batch", "-")
	command.Stdin = bytes.NewBufferString(batch)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// within calls f on a thread of its own in another network. What f opens or starts there stays
// there; the thread is given up afterwards.
func within(network *os.File, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this
		if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("setns: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

// newNetwork makes a network namespace, which lasts while the file or a process in it does.
func newNetwork() (*os.File, error) {
	type made struct {
		file *os.File
		err  error
	}
	result := make(chan made, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, as above
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: fmt.Errorf("unshare: %w", err)}
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		result <- made{file, err}
	}()
	m := <-result
	return m.file, m.err
}

// attached is a network namespace with an address in the cluster.
type attached struct {
	address net.IP
	network *os.File
}

// networks hands out addresses and attaches namespaces.
type networks struct {
	mu   sync.Mutex
	used map[uint32]bool
	next uint32
}

func newNetworks() *networks {
	return &networks{used: map[uint32]bool{}, next: firstPod}
}

const (
	firstPod = 10<<24 | 50<<16 | 1<<8 | 1
	lastPod  = 10<<24 | 50<<16 | 255<<8
)

// take returns an address that was not in use lately.
func (n *networks) take() (net.IP, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range lastPod - firstPod {
		address := n.next
		if n.next++; n.next == lastPod {
			n.next = firstPod
		}
		if !n.used[address] {
			n.used[address] = true
			return net.IPv4(byte(address>>24), byte(address>>16), byte(address>>8), byte(address)), nil
		}
	}
	return nil, fmt.Errorf("no free pod address")
}

// attach makes a namespace with this address, routed to the rest of the cluster.
func (n *networks) attach(address net.IP) (*attached, error) {
	network, err := newNetwork()
	if err != nil {
		return nil, err
	}
	b := address.To4()
	name := fmt.Sprintf("pod%d.%d", b[2], b[3])
	err = ip(fmt.Sprintf(`link add %[1]s type veth peer name eth0 netns /proc/%[2]d/fd/%[3]d
addr add %[4]s/32 dev %[1]s
link set %[1]s up
route add %[5]s/32 dev %[1]s src %[4]s
`, name, os.Getpid(), network.Fd(), nodeGateway, address))
	if err != nil {
		network.Close()
		return nil, err
	}
	err = within(network, func() error {
		path := "/proc/sys/net/ipv4/ip_unprivileged_port_start"
		if err := os.WriteFile(path, []byte("0"), 0o644); err != nil {
			return err
		}
		return ip(fmt.Sprintf(`link set lo up
addr add %[1]s/32 dev eth0
link set eth0 up
route add %[2]s/32 dev eth0
route add default via %[2]s dev eth0
`, address, nodeGateway))
	})
	if err != nil {
		network.Close()
		return nil, err
	}
	return &attached{address, network}, nil
}

// detach takes the namespace's link down at once; the rest goes with its last process.
func (n *networks) detach(a *attached) {
	b := a.address.To4()
	_ = ip(fmt.Sprintf("link del pod%d.%d\n", b[2], b[3]))
	a.network.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.used, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]))
}
