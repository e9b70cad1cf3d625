package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// container is one container of a pod over all its restarts.
type container struct {
	worker *worker
	spec   corev1.Container
	init   bool

	mu       sync.Mutex
	process  *exec.Cmd
	ended    chan struct{} // of the process
	state    corev1.ContainerState
	last     corev1.ContainerState
	restarts int32
	ready    bool
	startup  bool // the startup probe has passed
	stopping bool // no restarts any more
	done     bool // ended, and not to be started again
	failed   bool
	checking context.CancelFunc
}

func newContainer(w *worker, spec corev1.Container, init bool) *container {
	return &container{
		worker: w, spec: spec, init: init,
		state: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
	}
}

// longestBackOff is short of the kubelet's five minutes: tests wait for it.
const longestBackOff = 8 * time.Second

// keep starts the program, and again as the restart policy says, until the pod ends.
func (c *container) keep(ctx context.Context) {
	backOff := 500 * time.Millisecond
	for {
		begun := time.Now()
		code, err := c.once(ctx)
		if c.settle(code, err) {
			c.worker.poke()
			return
		}
		c.worker.poke()
		if time.Since(begun) > 10*time.Second {
			backOff = 500 * time.Millisecond
		}
		select {
		case <-time.After(backOff):
		case <-c.worker.left:
		}
		if backOff *= 2; backOff > longestBackOff {
			backOff = longestBackOff
		}
		c.mu.Lock()
		over := c.stopping
		c.done = c.done || over
		c.mu.Unlock()
		if over {
			c.worker.poke()
			return
		}
	}
}

// once runs the program until it ends. An error means that it did not start.
func (c *container) once(ctx context.Context) (int, error) {
	command, log, err := c.command(ctx)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return 0, errors.New("the pod ends")
	}
	err = within(c.worker.place.network, command.Start)
	if err != nil {
		c.mu.Unlock()
		return 0, err
	}
	ended := make(chan struct{})
	c.process, c.ended = command, ended
	now := metav1.Now()
	c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
	c.startup, c.ready = c.spec.StartupProbe == nil, false
	if c.startup {
		c.ready = c.spec.ReadinessProbe == nil
	}
	checking, cancel := context.WithCancel(ctx)
	c.checking = cancel
	c.mu.Unlock()
	c.worker.poke()
	go c.check(checking)
	if hook := c.spec.Lifecycle; hook != nil && hook.PostStart != nil {
		go c.hook(hook.PostStart, time.Minute)
	}
	_ = command.Wait()
	cancel()
	c.mu.Lock()
	c.process, c.ready = nil, false
	c.mu.Unlock()
	close(ended)
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// settle records an end; true when the container is not started again.
func (c *container) settle(code int, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := metav1.Now()
	if err != nil {
		reason := "CreateContainerConfigError"
		if errors.Is(err, errNoImage) {
			reason = "ErrImagePull"
		}
		c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}}
		c.done = c.done || c.stopping
		return c.stopping
	}
	ended := &corev1.ContainerStateTerminated{ExitCode: int32(code), Reason: "Completed", FinishedAt: now}
	if code != 0 {
		ended.Reason = "Error"
	}
	if c.state.Running != nil {
		ended.StartedAt = c.state.Running.StartedAt
	}
	policy := c.worker.latest().Spec.RestartPolicy
	if c.init && policy == corev1.RestartPolicyAlways {
		policy = corev1.RestartPolicyOnFailure
	}
	if c.spec.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.spec.RestartPolicy)
	}
	over := c.stopping || policy == corev1.RestartPolicyNever ||
		policy == corev1.RestartPolicyOnFailure && code == 0
	c.state = corev1.ContainerState{Terminated: ended}
	if over {
		c.done, c.failed = true, code != 0
		return true
	}
	c.last = c.state
	c.restarts++
	c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason:  "CrashLoopBackOff",
		Message: fmt.Sprintf("ended with %d", code),
	}}
	return false
}

// initDone tells whether what comes after this init container may start.
func (c *container) initDone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		return c.state.Running != nil && c.startup
	}
	return c.done && !c.failed
}

func (c *container) failedForGood() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done && c.failed
}

// end stops the container for good: its hook, SIGTERM, and SIGKILL when the grace is over.
func (c *container) end(grace time.Duration) {
	c.mu.Lock()
	c.stopping = true
	process, ended := c.process, c.ended
	if process == nil {
		c.done = true
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	over := time.After(grace)
	if hook := c.spec.Lifecycle; grace > 0 && hook != nil && hook.PreStop != nil {
		c.hook(hook.PreStop, grace)
	}
	if grace > 0 {
		_ = process.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return
		case <-over:
		}
	}
	_ = process.Process.Kill()
	<-ended
}

// restart ends the process because a probe failed; keep starts it again.
func (c *container) restart(ctx context.Context) {
	c.mu.Lock()
	process, ended := c.process, c.ended
	c.mu.Unlock()
	if process == nil || ctx.Err() != nil {
		return
	}
	grace := 30 * time.Second
	if s := c.worker.latest().Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	_ = process.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(grace):
		_ = process.Process.Kill()
	}
}

func (c *container) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		_ = c.process.Process.Kill()
	}
}

// hook runs a lifecycle hook, for at most the grace.
func (c *container) hook(h *corev1.LifecycleHandler, grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	switch {
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		}
	case h.Exec != nil:
		if err := c.exec(ctx, h.Exec.Command); err != nil {
			fmt.Fprintf(os.Stderr, "node: %s: hook: %v\n", c.worker.name, err)
		}
	case h.HTTPGet != nil:
		_ = c.get(ctx, h.HTTPGet)
	}
}

// exec runs a command in the container.
func (c *container) exec(ctx context.Context, argv []string) error {
	c.mu.Lock()
	process := c.process
	c.mu.Unlock()
	if process == nil {
		return errors.New("the container does not run")
	}
	args := []string{
		"--target", strconv.Itoa(process.Process.Pid),
		"--mount", "--net", "--pid", "--uts", "--ipc", "--root", "--wd", "--",
	}
	out, err := exec.CommandContext(ctx, "nsenter", append(args, argv...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, out)
	}
	return nil
}

// logPath is where the output of the container's run number n is.
func (c *container) logPath(n int32) string {
	return filepath.Join(c.worker.dir, fmt.Sprintf("%s.%d.log", c.spec.Name, n))
}

var errNoImage = errors.New("no such image")

// command is the program with everything that a container runtime sets up around it.
func (c *container) command(ctx context.Context) (*exec.Cmd, *os.File, error) {
	img, err := c.worker.agent.image(c.spec.Image)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoImage, err)
	}
	pod := c.worker.latest()
	env, err := c.worker.environment(ctx, &c.spec, img)
	if err != nil {
		return nil, nil, err
	}
	box, err := newSandbox(pod, &c.spec, img)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	run := c.restarts
	c.mu.Unlock()
	box.Scratch = filepath.Join(c.worker.dir, "root", fmt.Sprintf("%s.%d", c.spec.Name, run))
	if err := os.MkdirAll(box.Scratch, 0o755); err != nil {
		return nil, nil, err
	}
	if box.Mounts, err = c.worker.volumes.mounts(&c.spec); err != nil {
		return nil, nil, err
	}
	box.Argv = arguments(&c.spec, img, env)
	box.Hosts = fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", c.worker.place.address, pod.Name)
	box.Resolver = resolverConfig(pod.Namespace)
	box.Hostname = pod.Name
	text, err := json.Marshal(box)
	if err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(c.logPath(run), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	command := exec.Command("/proc/self/exe", "container")
	command.Env = append(env.list(), "SANDBOX="+string(text))
	// Through a pipe, as from a container runtime: programs that open /proc/1/fd/1 again would cut
	// a file off.
	output := struct{ io.Writer }{log}
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	return command, log, nil
}
