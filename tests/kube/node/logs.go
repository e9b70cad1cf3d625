package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const kubeletPort = 10250

// serveLogs answers what the API server asks a node for: GET
// /containerLogs/NAMESPACE/POD/CONTAINER.
func (a *agent) serveLogs(n *node) error {
	cert, key, err := a.files.ca.issue(pkix.Name{CommonName: n.name}, nil, []net.IP{n.address})
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	var listener net.Listener
	err = within(n.network, func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf("%s:%d", n.address, kubeletPort))
		return err
	})
	if err != nil {
		return err
	}
	listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}})
	go func() { _ = http.Serve(listener, http.HandlerFunc(a.logs)) }()
	return nil
}

func (a *agent) logs(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 4 || parts[0] != "containerLogs" {
		http.Error(w, "this node serves logs only", http.StatusNotFound)
		return
	}
	c := a.container(parts[1], parts[2], parts[3])
	if c == nil {
		http.Error(w, "no such container", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	c.mu.Lock()
	run := c.restarts
	if query.Get("previous") == "true" || c.state.Waiting != nil && run > 0 {
		run--
	}
	c.mu.Unlock()
	file, err := os.Open(c.logPath(run))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer file.Close()
	if n, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		skipToTail(file, n)
	}
	var body io.Reader = file
	if n, err := strconv.ParseInt(query.Get("limitBytes"), 10, 64); err == nil {
		body = io.LimitReader(file, n)
	}
	_, _ = io.Copy(w, body)
	if query.Get("follow") != "true" {
		return
	}
	for r.Context().Err() == nil {
		// In this order nothing is missed that it wrote last.
		c.mu.Lock()
		over := c.restarts != run || c.state.Running == nil
		c.mu.Unlock()
		n, err := io.Copy(w, file)
		if err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if over {
			return
		}
		if n == 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// skipToTail leaves the last n lines to be read.
func skipToTail(file *os.File, n int) {
	all, err := io.ReadAll(file)
	if err != nil {
		return
	}
	at := len(bytes.TrimSuffix(all, []byte("\n")))
	for ; n > 0 && at >= 0; n-- {
		at = bytes.LastIndexByte(all[:at], '\n')
	}
	_, _ = file.Seek(int64(at+1), io.SeekStart)
}

func (a *agent) container(namespace, pod, name string) *container {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.namespace == namespace && w.name == pod {
			for _, c := range w.containers {
				if c.spec.Name == name {
					return c
				}
			}
		}
	}
	return nil
}
