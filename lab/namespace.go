//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// endWithin bounds the wait for processes after SIGTERM.
const endWithin = 2 * time.Second

// Namespace is a network namespace that ip(8) knows by its Name. Its methods may be called concurrently.
type Namespace struct {
	Name string

	handle netns.NsHandle
	links  *netlink.Handle
}

// newNamespace creates a namespace with its loopback up and forwarding off. Duplicate address detection is off, so
// that addresses are usable immediately.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name}
	if err := onThread(func() (err error) { n.handle, err = netns.NewNamed(name); return err }); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	if err := n.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("namespace %s: %w", name, err), n.remove())
	}
	return n, nil
}

func (n *Namespace) prepare() (err error) {
	if n.links, err = netlink.NewHandleAt(n.handle); err != nil {
		return err
	}
	for _, s := range []struct{ name, value string }{
		{everyone + "accept_dad", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		// Keep addresses while an interface is down, as a network manager does.
		{everyone + "keep_addr_on_down", "1"},
		{everyone + "forwarding", "0"},
		{"net/ipv4/ip_forward", "0"}, // a new namespace inherits the IPv4 ones
	} {
		if err := n.SetSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return n.SetUp("lo", true)
}

// Do calls f on a thread that is in the namespace. Other threads, such as those of goroutines that f starts, are not
// in it; a socket stays in the namespace in which it was created.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// onThread calls f, which may change the namespace of the thread. If the original namespace cannot be restored, the
// thread stays locked, so that the runtime destroys it with its goroutine.
func onThread(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("current namespace: %w", err)
	}
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		_ = home.Close() // opened only for reading
	}()
	return f()
}

// Start starts cmd in the namespace, as cmd.Start does in the caller's.
func (n *Namespace) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Output runs a command in the namespace and returns what it printed, standard error included.
func (n *Namespace) Output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a grandchild may keep the pipes open
	if err := n.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// Sysctl reads a setting such as net/ipv4/ip_forward.
func (n *Namespace) Sysctl(name string) (value string, err error) {
	err = n.Do(func() error {
		b, err := os.ReadFile(sysctlRoot + name)
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// SetSysctl changes a setting such as net/ipv4/ip_forward.
func (n *Namespace) SetSysctl(name, value string) error {
	return n.Do(func() error { return os.WriteFile(sysctlRoot+name, []byte(value), 0) })
}

// remove ends the processes in the namespace, deletes its interfaces and its name.
func (n *Namespace) remove() error {
	defer n.handle.Close()
	endAll(n.Name)
	if n.links != nil {
		defer n.links.Close()
		// Without this, a process that does not end would keep the interfaces alive after the name is gone.
		if err := n.deleteLinks(); err != nil {
			return errors.Join(err, netns.DeleteNamed(n.Name))
		}
	}
	return netns.DeleteNamed(n.Name)
}

func (n *Namespace) deleteLinks() error {
	links, err := n.links.LinkList()
	if err != nil {
		return fmt.Errorf("interfaces of %s: %w", n.Name, err)
	}
	for _, l := range links {
		if l.Type() != "veth" && l.Type() != "bridge" {
			continue
		}
		// Deleting one end of a pair deletes the other.
		if err := n.links.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete interface %s of %s: %w", l.Attrs().Name, n.Name, err)
		}
	}
	return nil
}

// removeStale removes the namespaces of dead processes, whose number is part of the name.
func removeStale() error {
	names, err := filepath.Glob(filepath.Join(namespaceRoot, namePrefix+"-*"))
	if err != nil {
		return err
	}
	for _, path := range names {
		name := filepath.Base(path)
		pid, err := strconv.Atoi(strings.SplitN(strings.TrimPrefix(name, namePrefix+"-"), "-", 2)[0])
		if err != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		endAll(name)
		// Another process may be cleaning up as well.
		if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("lab: remove the abandoned namespace %s: %w", name, err)
		}
	}
	return nil
}

// endAll sends SIGTERM to the processes of a namespace and waits for a limited time.
func endAll(name string) {
	for _, pid := range inside(name) {
		_ = unix.Kill(pid, unix.SIGTERM) // it may just have ended
	}
	for end := time.Now().Add(endWithin); len(inside(name)) > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// inside returns the other processes whose network namespace is the named one.
func inside(name string) []int {
	var want, got unix.Stat_t
	if unix.Stat(filepath.Join(namespaceRoot, name), &want) != nil {
		return nil
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/ns/net") // the pattern is well-formed
	var pids []int
	for _, path := range processes {
		if unix.Stat(path, &got) != nil || got.Ino != want.Ino || got.Dev != want.Dev {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
