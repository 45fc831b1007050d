package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that a forwarder of names has use for: for its port, and for the control socket and its group.
var kept = []uintptr{unix.CAP_NET_BIND_SERVICE, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE}

// shedPrivileges gives up all other capabilities. They belong to threads, of which the Go runtime has several by now; so the
// program is executed again, which leaves one thread, with no more than the bounding set allows. An ordinary user has only what it
// was given on purpose, and may not change the bounding set.
func shedPrivileges() error {
	if n, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil || n == 0 {
		return err
	}
	runtime.LockOSThread() // until it is another program's
	defer runtime.UnlockOSThread()
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(kept, c) {
			continue
		}
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); {
		case errors.Is(err, unix.EPERM):
			return nil
		case err != nil && !errors.Is(err, unix.EINVAL): // an older kernel does not know the last ones
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s again: %w", self, syscall.Exec(self, os.Args, os.Environ()))
}
