//go:build linux

package nic

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Threads returns the NAPI threads of a NIC, and whether this manager has enabled them. There are none while soft
// interrupts receive, and none in a PID namespace that does not show them.
func (m *Manager) Threads(i *net.Interface) (pids []int, ours bool, err error) {
	pids, err = napiThreads(i)
	return pids, m.threads(i), err
}

// threads reports whether this manager has enabled the NAPI threads of a NIC.
func (m *Manager) threads(i *net.Interface) bool {
	had, noted := m.originals[i.Index][Threaded]
	return noted && !had && m.want[Threaded]
}

// Directory returns the directory of a NIC in /sys, or an error if /sys shows another network namespace.
func Directory(i *net.Interface) (string, error) { return filepath.Join(sysfs, i.Name), ours(i) }

// confine restricts the threads that receive the packets of a NIC to the processors that this program may use.
// Otherwise the scheduler moves them to other processors, which an administrator may have reserved, and moves each
// batch of packets from one cache to another. With the gateway on one of two processors, the throughput of TCP rose
// from 1.3 to 1.8 times that of the kernel's NAT44.
func confine(i *net.Interface) error {
	var ours unix.CPUSet
	if err := unix.SchedGetaffinity(0, &ours); err != nil { // of this thread, since a worker may have become the main thread
		return fmt.Errorf("processors of this program: %w", err)
	}
	threads, err := napiThreads(i)
	if err != nil {
		return err
	}
	for _, pid := range threads {
		var theirs unix.CPUSet
		err := unix.SchedGetaffinity(pid, &theirs)
		if err == nil && !within(&theirs, &ours) {
			err = unix.SchedSetaffinity(pid, &ours)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // the thread ended with its NIC
			return fmt.Errorf("cannot restrict the threads of %s to the processors of this program (CAP_SYS_NICE): %w", i.Name, err)
		}
	}
	return nil
}

func within(a, b *unix.CPUSet) bool {
	for n := range a {
		if a[n]&^b[n] != 0 {
			return false
		}
	}
	return true
}

// napiThreads returns the NAPI threads of a NIC, or none if the kernel does not report them.
func napiThreads(i *net.Interface) (threads []int, err error) {
	ns, err := napis(i)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range ns {
		if n.pid != 0 && receives(int(n.pid)) {
			threads = append(threads, int(n.pid))
		}
	}
	return threads, nil
}

// receives reports whether pid is a NAPI thread in this PID namespace: in a container the same number may be another
// process.
func receives(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && bytes.HasPrefix(name, []byte("napi/"))
}
