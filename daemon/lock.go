//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// claim takes a name that only one process in a network namespace can hold: an abstract unix socket, which the kernel
// releases when the process ends. If another process holds it, the error is an *inUse.
func claim(name string) (net.Listener, error) {
	l, err := net.Listen("unix", "@nat64d/"+name)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, holder("@nat64d/" + name)
	}
	if err != nil {
		return nil, err
	}
	go func() { // other processes connect only to learn who listens
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l, nil
}

// inUse is the error for a name that another process holds.
type inUse struct {
	pid    int  // 0: unknown
	nat64d bool // it may be a nat64d; any program can take an abstract name, but only a privileged one can process packets
}

func (e *inUse) Error() string {
	if e.pid == 0 {
		return "another nat64d"
	}
	return fmt.Sprintf("another nat64d (pid %d)", e.pid)
}

// holder returns the process that listens on an abstract socket.
func holder(address string) *inUse {
	e := &inUse{nat64d: true}
	c, err := net.Dial("unix", address)
	if err != nil {
		return e
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return e
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			e.pid = int(cred.Pid)
			e.nat64d = cred.Uid == 0 || mayCarryPackets(e.pid)
		}
	})
	return e
}

var effective = regexp.MustCompile(`(?m)^CapEff:\s*([0-9a-f]+)$`)

// mayCarryPackets reports whether a process has CAP_NET_RAW, or cannot be examined.
func mayCarryPackets(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	m := effective.FindSubmatch(status)
	if m == nil {
		return true
	}
	caps, err := strconv.ParseUint(string(m[1]), 16, 64)
	return err != nil || caps&(1<<unix.CAP_NET_RAW) != 0
}

// claims are names that this process holds.
type claims []net.Listener

// release releases them.
func (c claims) release() {
	for _, l := range c {
		l.Close()
	}
}

// claimNICs ensures that no other nat64d uses the same interfaces: both would translate each packet.
func (d *Daemon) lockNICs() (held claims, err error) {
	c := d.config()
	names := []string{c.Interfaces.V6.Name}
	if c.Interfaces.V4.Name != names[0] {
		names = append(names, c.Interfaces.V4.Name)
	}
	for _, name := range names {
		l, err := claim("nic/" + name)
		var other *inUse
		switch {
		case err == nil:
			held = append(held, l)
		case c.Host.ShareInterfaces:
		case errors.As(err, &other) && !other.nat64d:
			d.log.Warn("an unprivileged program holds the lock against a second nat64d, ignoring it", "interface", name, "pid", other.pid)
		case other != nil:
			held.release()
			return nil, fmt.Errorf("%w carries packets on interface %s: stop it first, or set host.share_interfaces (--share-interfaces) if both are meant to", err, name)
		default:
			held.release()
			return nil, fmt.Errorf("cannot make sure that no other nat64d uses interface %s: %w", name, err)
		}
	}
	return held, nil
}
