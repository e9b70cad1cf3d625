package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// sandbox is what becomes of a process before it is the container's program.
type sandbox struct {
	Scratch      string            // an empty directory in memory
	Files        map[string]string // the image
	Mounts       []mount
	Argv         []string
	Dir          string
	Hostname     string
	Hosts        string // contents of /etc/hosts
	Resolver     string // contents of /etc/resolv.conf
	User, Group  int64
	Groups       []int
	ReadOnly     bool // the root file system
	NoPrivileges bool // no new ones
	Capabilities []string
}

type mount struct {
	Source, Target string
	ReadOnly       bool
}

// What container runtimes grant unless told otherwise.
var usualCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP",
}

var capabilityNumbers = map[string]uintptr{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "FOWNER": unix.CAP_FOWNER,
	"FSETID": unix.CAP_FSETID, "KILL": unix.CAP_KILL, "SETGID": unix.CAP_SETGID,
	"SETUID": unix.CAP_SETUID, "SETPCAP": unix.CAP_SETPCAP,
	"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_RAW": unix.CAP_NET_RAW,
	"NET_ADMIN": unix.CAP_NET_ADMIN, "SYS_CHROOT": unix.CAP_SYS_CHROOT, "MKNOD": unix.CAP_MKNOD,
	"AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "SETFCAP": unix.CAP_SETFCAP,
	"SYS_PTRACE": unix.CAP_SYS_PTRACE, "SYS_ADMIN": unix.CAP_SYS_ADMIN,
}

func newSandbox(pod *corev1.Pod, c *corev1.Container, img *image) (*sandbox, error) {
	box := &sandbox{Files: img.Files, User: img.User, Dir: c.WorkingDir}
	nonRoot := false
	if s := pod.Spec.SecurityContext; s != nil {
		set(&box.User, s.RunAsUser)
		set(&box.Group, s.RunAsGroup)
		set(&nonRoot, s.RunAsNonRoot)
		for _, group := range s.SupplementalGroups {
			box.Groups = append(box.Groups, int(group))
		}
		if s.FSGroup != nil {
			box.Groups = append(box.Groups, int(*s.FSGroup))
		}
	}
	granted := usualCapabilities
	if s := c.SecurityContext; s != nil {
		set(&box.User, s.RunAsUser)
		set(&box.Group, s.RunAsGroup)
		set(&nonRoot, s.RunAsNonRoot)
		set(&box.ReadOnly, s.ReadOnlyRootFilesystem)
		if s.AllowPrivilegeEscalation != nil {
			box.NoPrivileges = !*s.AllowPrivilegeEscalation
		}
		if s.Capabilities != nil {
			granted = without(granted, s.Capabilities.Drop)
			for _, name := range s.Capabilities.Add {
				granted = append(granted, strings.TrimPrefix(string(name), "CAP_"))
			}
		}
	}
	if nonRoot && box.User == 0 {
		return nil, errors.New("container has runAsNonRoot and image will run as root")
	}
	box.Capabilities = granted
	return box, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func without(all []string, drop []corev1.Capability) []string {
	var kept []string
	for _, name := range all {
		keep := true
		for _, d := range drop {
			keep = keep && d != "ALL" && strings.TrimPrefix(string(d), "CAP_") != name
		}
		if keep {
			kept = append(kept, name)
		}
	}
	return kept
}

// becomeContainer runs in the container's namespaces, as their first process. The root file
// system is this machine's, with the image's files and the volumes laid over it and changes
// kept in memory.
func becomeContainer() error {
	runtime.LockOSThread()
	var box sandbox
	if err := json.Unmarshal([]byte(os.Getenv("SANDBOX")), &box); err != nil {
		return err
	}
	os.Unsetenv("SANDBOX")
	if err := box.enterRoot(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(box.Hostname)); err != nil {
		return err
	}
	dir := box.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if len(box.Argv) == 0 {
		return errors.New("no command")
	}
	program, err := exec.LookPath(box.Argv[0])
	if err != nil {
		return err
	}
	if err := box.dropPrivileges(); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, box.Argv, os.Environ()))
}

// enterRoot makes the root file system and goes there for good. What is mounted into it is opened
// before: its own symbolic links then lead to nowhere else.
func (b *sandbox) enterRoot() error {
	path := func(name string) string { return filepath.Join(b.Scratch, name) }
	root := path("root")
	for _, name := range []string{"upper", "work", "root", "tmp"} {
		if err := os.MkdirAll(path(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(path("tmp"), 0o1777); err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", path("upper"), path("work"))
	if err := unix.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	mounts := []mount{
		{Source: "/dev", Target: "/dev"}, {Source: "/sys", Target: "/sys"},
		{Source: path("tmp"), Target: "/tmp", ReadOnly: b.ReadOnly},
	}
	for target, source := range b.Files {
		mounts = append(mounts, mount{source, target, true})
	}
	mounts = append(mounts, b.Mounts...)
	for i := range mounts {
		fd, err := unix.Open(mounts[i].Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", mounts[i].Source, err)
		}
		mounts[i].Source = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for file, content := range map[string]string{"/etc/hosts": b.Hosts, "/etc/resolv.conf": b.Resolver} {
		// The machine's may be a link to somewhere else.
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, m := range mounts {
		if err := m.bind(); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	if b.ReadOnly {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("read-only root: %w", err)
		}
	}
	return nil
}

// bind mounts a file or directory, making the place for it where there is none.
func (m mount) bind() error {
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(m.Target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(m.Target), 0o755); err == nil {
		var file *os.File
		if file, err = os.OpenFile(m.Target, os.O_CREATE, 0o644); err == nil {
			err = file.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.Source, m.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		return unix.Mount("", m.Target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

func (b *sandbox) dropPrivileges() error {
	keep := map[uintptr]bool{}
	var mask [2]uint32
	for _, name := range b.Capabilities {
		number, known := capabilityNumbers[name]
		if !known {
			return fmt.Errorf("unknown capability %s", name)
		}
		keep[number] = true
		mask[number/32] |= 1 << (number % 32)
	}
	for number := uintptr(0); number <= unix.CAP_LAST_CAP; number++ {
		if !keep[number] {
			// A kernel that does not know the last ones says EINVAL.
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err != nil && err != unix.EINVAL {
				return err
			}
		}
	}
	if err := unix.Setgroups(b.Groups); err != nil {
		return err
	}
	if err := syscall.Setgid(int(b.Group)); err != nil {
		return err
	}
	if err := syscall.Setuid(int(b.User)); err != nil {
		return err
	}
	if b.User == 0 {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		for i := range data {
			data[i] = unix.CapUserData{Effective: mask[i], Permitted: mask[i]}
		}
		if err := unix.Capset(&header, &data[0]); err != nil {
			return err
		}
	}
	if b.NoPrivileges {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}
