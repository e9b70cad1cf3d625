package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// check runs the probes of a started container until its process ends.
func (c *container) check(ctx context.Context) {
	if probe := c.spec.StartupProbe; probe != nil {
		passed := false
		c.repeat(ctx, probe, true, func(good bool) bool {
			passed = good
			return false
		})
		if !passed {
			c.restart(ctx)
			return
		}
		c.mu.Lock()
		c.startup = true
		c.ready = c.spec.ReadinessProbe == nil
		c.mu.Unlock()
		c.worker.poke()
	}
	if probe := c.spec.LivenessProbe; probe != nil {
		go c.repeat(ctx, probe, true, func(good bool) bool {
			if !good {
				c.restart(ctx)
			}
			return good
		})
	}
	if probe := c.spec.ReadinessProbe; probe != nil {
		c.repeat(ctx, probe, false, func(good bool) bool {
			c.setReady(good)
			return true
		})
	}
}

func (c *container) setReady(ready bool) {
	c.mu.Lock()
	changed := c.ready != ready && c.process != nil
	if changed {
		c.ready = ready
	}
	c.mu.Unlock()
	if changed {
		c.worker.poke()
	}
}

// soon is the period of a probe that has told nothing yet: nobody gains by waiting longer.
const soon = 250 * time.Millisecond

// repeat probes at the period and calls verdict whenever a threshold is reached, until that
// returns false or the context ends. A pod that ends is not restarted, and so not looked at for
// that; whether it is ready is asked to its end, as the kubelet does.
func (c *container) repeat(ctx context.Context, p *corev1.Probe, restarts bool, verdict func(good bool) bool) {
	wait := time.Duration(p.InitialDelaySeconds) * time.Second
	period := time.Duration(p.PeriodSeconds) * time.Second
	good, bad := int32(0), int32(0)
	settled := false
	// A program that has only just been started may not listen yet.
	counted := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := c.probe(ctx, p)
		c.mu.Lock()
		ending := c.stopping
		c.mu.Unlock()
		if ending && restarts {
			return
		}
		switch {
		case err == nil:
			good, bad = good+1, 0
		case settled || time.Since(counted) >= period:
			good, bad, counted = 0, bad+1, time.Now()
		}
		if good >= p.SuccessThreshold || bad >= p.FailureThreshold {
			settled = true
			if !verdict(err == nil) {
				return
			}
		}
		if wait = period; !settled {
			wait = min(soon, period)
		}
	}
}

func (c *container) probe(ctx context.Context, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.TimeoutSeconds)*time.Second)
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		return c.get(ctx, p.HTTPGet)
	case p.TCPSocket != nil:
		port, err := c.port(p.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := c.dial(ctx, "tcp", c.at(p.TCPSocket.Host, port))
		if err == nil {
			conn.Close()
		}
		return err
	case p.Exec != nil:
		return c.exec(ctx, p.Exec.Command)
	}
	return fmt.Errorf("a kind of probe that this cluster does not have")
}

func (c *container) get(ctx context.Context, g *corev1.HTTPGetAction) error {
	port, err := c.port(g.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	url := fmt.Sprintf("%s://%s%s", scheme, c.at(g.Host, port), g.Path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/1.36")
	for _, header := range g.HTTPHeaders {
		if header.Name == "Host" {
			request.Host = header.Value
		}
		request.Header.Add(header.Name, header.Value)
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       c.dial,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// dial connects as a kubelet does, which is in its node's network: loopback is the node's.
func (c *container) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if host, _, err := net.SplitHostPort(address); err != nil || !net.ParseIP(host).IsLoopback() {
		return dialer.DialContext(ctx, network, address)
	}
	var conn net.Conn
	err := within(c.worker.node.attached.network, func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (c *container) at(host string, port int) string {
	if host == "" {
		host = c.worker.place.address.String()
	}
	return net.JoinHostPort(host, fmt.Sprint(port))
}

func (c *container) port(p intstr.IntOrString) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, port := range c.spec.Ports {
		if port.Name == p.StrVal {
			return int(port.ContainerPort), nil
		}
	}
	return 0, fmt.Errorf("no port %q", p.StrVal)
}
