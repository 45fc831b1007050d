//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// kept are the capabilities that DNS64 alone needs: for its port, and for the control socket and its group.
var kept = []cap.Value{cap.NET_BIND_SERVICE, cap.CHOWN, cap.DAC_OVERRIDE}

// withHint adds a hint to an error about missing permissions or memory.
func withHint(err error) error {
	if !errors.Is(err, fs.ErrPermission) { // EPERM and EACCES
		return withMemoryHint(err)
	}
	const unit = "the unit deploy/systemd/nat64d.service gives an ordinary user what it takes, and deploy/kubernetes a container"
	switch missing := missingCapabilities(); {
	case len(missing) > 0:
		return fmt.Errorf("%w. nat64d runs without %s: run it as root (sudo), or as a service: %s", err, strings.Join(missing, ", "), unit)
	case os.Geteuid() != 0:
		return fmt.Errorf("%w. Run nat64d as root (sudo), or as a service: %s", err, unit)
	}
	return fmt.Errorf("%w. nat64d has its privileges, so something else forbids this: a container without rights over its network namespace, "+
		"a seccomp filter, or a security module such as SELinux or AppArmor", err)
}

// missingCapabilities returns the names of the capabilities that a gateway needs and this process lacks.
func missingCapabilities() (names []string) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&h, &sets[0]); err != nil {
		return nil
	}
	for _, c := range []struct {
		number int
		name   string
	}{{unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}} {
		if sets[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// DropPrivileges gives up all other capabilities. Capabilities belong to threads, and the Go runtime has several by
// now, so DropPrivileges executes the program again, which leaves one thread with at most the bounding set. An
// ordinary user only has capabilities that were granted deliberately, and may not change the bounding set.
func DropPrivileges() error {
	if n, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil || n == 0 {
		return err
	}
	runtime.LockOSThread() // until the new program starts
	defer runtime.UnlockOSThread()
	for c := range cap.MaxBits() {
		if slices.Contains(kept, c) {
			continue
		}
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); {
		case errors.Is(err, unix.EPERM):
			return nil
		case err != nil:
			return fmt.Errorf("give up %v: %w", c, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s again: %w", self, syscall.Exec(self, os.Args, os.Environ()))
}
