//go:build linux

package guard_test

import (
	"errors"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"nat64d/lab"
	"nat64d/linux/guard"
)

// Remove deletes the table even if it cannot release the reserved ports.
func TestRemoveWithoutSysctl(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))
	err := readOnly(l, "/proc/sys", g.Remove)
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "ports 7000-8000 stay reserved") {
		t.Errorf("Remove: %v, want an error that lists the ports that stay reserved", err)
	}
	if out := run(t, l, "nft", "list", "ruleset"); out != "" {
		t.Errorf("after Remove the ruleset is\n%s", out)
	}
}

// readOnly calls f in the gateway's namespace on a thread that sees a directory read-only. The thread's mounts cannot
// be restored, so it ends with its goroutine.
func readOnly(l *lab.Lab, folder string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- l.Gateway.Do(func() error {
			if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
				return err
			}
			for _, m := range []struct {
				source, target string
				flags          uintptr
			}{
				{"", "/", syscall.MS_REC | syscall.MS_PRIVATE}, // other threads do not see the mounts below
				{folder, folder, syscall.MS_BIND},
				{"", folder, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY},
			} {
				if err := syscall.Mount(m.source, m.target, "", m.flags, ""); err != nil {
					return err
				}
			}
			return f()
		})
	}()
	return <-result
}
