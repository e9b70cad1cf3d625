package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// settings is what the outside tells the inside.
type settings struct {
	Bin    string `json:"bin"`    // directory of etcd, kube-apiserver, kube-controller-manager
	Dir    string `json:"dir"`    // files that the outside sees as well
	Images string `json:"images"` // file: image name -> local programs
	Server string `json:"server"` // address of the API server as the outside dials it
}

// started is what the owner reads on standard output when the cluster is up.
type started struct {
	Pid        int    `json:"pid"` // whose /proc/PID/ns/net is the cluster's network
	Dir        string `json:"dir"`
	Kubeconfig string `json:"kubeconfig"`
	Server     string `json:"server"`
	Millis     int64  `json:"millis"`
}

const limitOfStart = 120 * time.Second

// run holds a cluster: everything in it is a descendant of one process in a PID namespace, so
// that the kernel ends all of it with that one, and network and mounts with the last of them.
func run(args []string) error {
	begun := time.Now()
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	var s settings
	flags.StringVar(&s.Bin, "bin", "", "directory of the control plane's programs")
	flags.StringVar(&s.Dir, "dir", "", "directory to make; removed at the end")
	flags.StringVar(&s.Images, "images", "", "JSON file: image name -> programs")
	owned := flags.Bool("owned", false, "end when standard input does")
	_ = flags.Parse(args)
	if s.Bin == "" || s.Dir == "" || s.Images == "" {
		return errors.New("run wants --bin, --dir and --images")
	}
	if os.Geteuid() != 0 {
		return errors.New("a cluster makes namespaces and mounts: run as root")
	}
	var err error
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.Dir, "private"), 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(s.Dir)
	// The socket is made out here and accepted from in there: it belongs to the network it was
	// made in.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Server = listener.Addr().String()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	child, ready, err := startInside(s, listener.(*net.TCPListener))
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	end := func() {
		_ = child.Process.Kill()
		<-ended
	}
	timeout := time.After(limitOfStart)
	gone := make(chan struct{})
	if *owned {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(gone)
		}()
	}
	for {
		select {
		case line := <-ready:
			ready = nil
			if line != "ready" {
				continue // its end tells more
			}
			timeout = nil
			state := started{
				Pid: child.Process.Pid, Dir: s.Dir,
				Kubeconfig: filepath.Join(s.Dir, "kubeconfig"),
				Server:     "https://" + s.Server,
				Millis:     time.Since(begun).Milliseconds(),
			}
			if err := announce(state); err != nil {
				end()
				return err
			}
		case err := <-ended:
			return fmt.Errorf("the cluster ended: %w", err)
		case <-timeout:
			end()
			return fmt.Errorf("not ready within %v", limitOfStart)
		case <-stop:
			end()
			return nil
		case <-gone:
			end()
			return nil
		}
	}
}

func announce(state started) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(state.Dir, "state.json"), text, 0o644); err != nil {
		return err
	}
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(state.Dir, "pid"), []byte(pid), 0o644); err != nil {
		return err
	}
	_, err = fmt.Println(string(text))
	return err
}

// startInside starts the first process of the cluster. It is killed when this process ends in
// any way.
func startInside(s settings, listener *net.TCPListener) (*exec.Cmd, <-chan string, error) {
	socket, err := listener.File()
	if err != nil {
		return nil, nil, err
	}
	defer socket.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer writer.Close()
	text, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	child := exec.Command("/proc/self/exe", "inside")
	child.Args[0] = "portcullis-test-cluster"
	child.Env = append(os.Environ(), "CLUSTER="+string(text))
	child.Stderr = os.Stderr
	child.ExtraFiles = []*os.File{socket, writer}
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig: syscall.SIGKILL,
	}
	if err := child.Start(); err != nil {
		return nil, nil, err
	}
	ready := make(chan string, 1)
	go func() {
		line, _, _ := bufio.NewReader(reader).ReadLine()
		ready <- string(line)
	}()
	return child, ready, nil
}

// forward listens on this machine's loopback and connects to an address inside a cluster. The
// socket is made first; then this process goes into the cluster's network for good.
func forward(args []string) error {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	pid := flags.Int("pid", 0, "the cluster's first process")
	to := flags.String("to", "", "address inside")
	at := flags.String("at", "127.0.0.1:0", "address here")
	_ = flags.Parse(args)
	listener, err := net.Listen("tcp", *at)
	if err != nil {
		return err
	}
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", *pid))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			var far net.Conn
			err := within(network, func() (err error) {
				far, err = net.DialTimeout("tcp", *to, 10*time.Second)
				return err
			})
			if err != nil {
				fmt.Fprintln(os.Stderr, "node:", err)
				return
			}
			splice(conn, far)
		}()
	}
}

// splice carries bytes both ways until both have ended.
func splice(near, far net.Conn) {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(far, near)
		closeWrite(far)
		close(done)
	}()
	_, _ = io.Copy(near, far)
	closeWrite(near)
	<-done
	near.Close()
	far.Close()
}

func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
