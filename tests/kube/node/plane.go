package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	serverPort    = "6443"
	serverAddress = "127.0.0.1:" + serverPort
	etcdAddress   = "127.0.0.1:2379"
	controllers   = "deployment-controller,replicaset-controller,daemonset-controller," +
		"statefulset-controller,job-controller,disruption-controller," +
		"endpointslice-controller,endpoints-controller,namespace-controller," +
		"clusterrole-aggregation-controller,serviceaccount-controller,serviceaccount-token-controller," +
		"garbage-collector-controller,root-ca-certificate-publisher-controller"
)

// plane is the control plane: three programs that tests may also pause, kill and start again.
type plane struct {
	parts map[string]*part
}

type part struct {
	name, program string
	args          []string
	log           string

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
}

func newPlane(s settings, c credentials) *plane {
	etcd := []string{
		"--data-dir=" + s.private("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://" + etcdAddress,
		"--advertise-client-urls=http://" + etcdAddress,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--auto-compaction-retention=0",
	}
	server := []string{
		"--etcd-servers=http://" + etcdAddress,
		"--bind-address=0.0.0.0", "--secure-port=" + serverPort,
		"--advertise-address=" + nodeGateway.String(),
		"--cert-dir=" + s.private("server"),
		"--tls-cert-file=" + c.file("server.crt"), "--tls-private-key-file=" + c.file("server.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file("accounts.key"),
		"--service-account-signing-key-file=" + c.file("accounts.key"),
		"--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=RBAC", "--allow-privileged=true",
		"--kubelet-preferred-address-types=InternalIP",
		"--event-ttl=1h", "--profiling=false",
	}
	manager := []string{
		"--kubeconfig=" + c.inside, "--leader-elect=false", "--controllers=" + controllers,
		"--service-account-private-key-file=" + c.file("accounts.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		"--kube-api-qps=500", "--kube-api-burst=1000",
		// Half a second of batching is for clusters of thousands of nodes.
		"--endpointslice-updates-batch-period=0s", "--endpoint-updates-batch-period=0s",
		"--concurrent-deployment-syncs=10", "--concurrent-namespace-syncs=20",
		"--profiling=false",
	}
	logs := filepath.Join(s.Dir, "logs")
	_ = os.MkdirAll(logs, 0o755)
	parts := map[string]*part{}
	add := func(name, program string, args []string) {
		parts[name] = &part{
			name: name, program: filepath.Join(s.Bin, program), args: args,
			log: filepath.Join(logs, name+".log"),
		}
	}
	add("etcd", "etcd", etcd)
	add("apiserver", "kube-apiserver", server)
	add("controllers", "kube-controller-manager", manager)
	return &plane{parts}
}

func (p *plane) start() error {
	for _, name := range []string{"etcd", "apiserver", "controllers"} {
		part := p.parts[name]
		if err := part.start(nil); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "controllers" {
			// It gives up when there is no server yet; that is no reason to wait for one here.
			go part.keepTrying()
		}
	}
	return nil
}

// start starts the program, with more arguments after its own.
func (p *part) start(more []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		return fmt.Errorf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.program, append(append([]string{}, p.args...), more...)...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.process, p.ended = command, ended
	go func() {
		_ = command.Wait()
		p.mu.Lock()
		p.process = nil
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// keepTrying starts the program again while it ends within its first moments.
func (p *part) keepTrying() {
	for range 20 {
		p.mu.Lock()
		ended := p.ended
		p.mu.Unlock()
		select {
		case <-ended:
			time.Sleep(100 * time.Millisecond)
			_ = p.start(nil)
		case <-time.After(10 * time.Second):
			return
		}
	}
}

func (p *part) signal(signal syscall.Signal) error {
	p.mu.Lock()
	process, ended := p.process, p.ended
	p.mu.Unlock()
	if process == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	if err := process.Process.Signal(signal); err != nil {
		return err
	}
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		select {
		case <-ended:
		case <-time.After(60 * time.Second):
			return fmt.Errorf("%s goes on after %v", p.name, signal)
		}
	}
	return nil
}

func waitReady(ctx context.Context, client kubernetes.Interface) error {
	return eventually("the API server is ready", 60*time.Second, func() error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// waitUsable waits until pods can be made: the controllers have made the first account.
func waitUsable(ctx context.Context, client kubernetes.Interface) error {
	return eventually("the controllers work", 60*time.Second, func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			_, err = client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		}
		return err
	})
}

// serveControl lets tests break the control plane: POST /NAME/kill|pause|resume|stop, and
// /NAME/start with a JSON list of further arguments.
func serveControl(s settings, plane *plane, agent *agent) error {
	listener, err := net.Listen("unix", filepath.Join(s.Dir, "control.sock"))
	if err != nil {
		return err
	}
	signals := map[string]syscall.Signal{
		"kill": syscall.SIGKILL, "stop": syscall.SIGTERM,
		"pause": syscall.SIGSTOP, "resume": syscall.SIGCONT,
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		name, action, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		err := fmt.Errorf("no such thing: %s", r.URL.Path)
		part := plane.parts[name]
		switch signal, known := signals[action]; {
		case part == nil || r.Method != http.MethodPost:
		case known:
			err = part.signal(signal)
		case action == "start":
			var more []string
			if r.ContentLength > 0 {
				if err = json.NewDecoder(r.Body).Decode(&more); err != nil {
					break
				}
			}
			err = part.start(more)
			if err == nil && name == "controllers" {
				go part.keepTrying()
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}
	go func() { _ = http.Serve(listener, http.HandlerFunc(handler)) }()
	return nil
}
