package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// inside is process 1 of the cluster's namespaces.
func inside() error {
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv("CLUSTER")), &s); err != nil {
		return err
	}
	os.Unsetenv("CLUSTER")
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	ready := os.NewFile(4, "ready")

	if err := prepareMounts(s); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if err := prepareNetwork(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	files, err := makeCredentials(s)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	plane := newPlane(s, files)
	if err := plane.start(); err != nil {
		return err
	}
	go forwardToServer(listener)
	config, err := clientcmd.BuildConfigFromFlags("", files.inside)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 2000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := waitReady(ctx, client); err != nil {
		return err
	}
	node, err := startAgent(ctx, client, s, files)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := serveControl(s, plane, node); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := waitUsable(ctx, client); err != nil {
		return err
	}
	if _, err := io.WriteString(ready, "ready\n"); err != nil {
		return err
	}
	select {}
}

// prepareMounts takes the cluster's mounts apart from the machine's, and gives it memory to keep
// its data in: nothing of it is left when it ends.
func prepareMounts(s settings) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	return unix.Mount("tmpfs", s.private(), "tmpfs", 0, "mode=0755")
}

// private is a directory in memory that only the cluster sees.
func (s settings) private(parts ...string) string {
	return filepath.Join(append([]string{s.Dir, "private"}, parts...)...)
}

// forwardToServer is how the outside reaches the API server.
func forwardToServer(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			far, err := net.Dial("tcp", serverAddress)
			if err != nil {
				conn.Close()
				return
			}
			splice(conn, far)
		}()
	}
}

// eventually calls check until it returns nil; its last error when it does not in time.
func eventually(what string, limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %w", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
