//go:build linux

// Package syscalls makes the system calls for which golang.org/x/sys has no function.
package syscalls

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// PeerGroups returns the supplementary groups that the process at the other end of a unix socket had when it connected
// (SO_PEERGROUPS, since Linux 4.13).
func PeerGroups(socket int) ([]uint32, error) {
	list := make([]uint32, 32)
	for {
		size := uint32(len(list) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(socket), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && int(size) > len(list)*4: // size is now that of the list
			list = make([]uint32, size/4)
		case errno != 0:
			return nil, errno
		default:
			return list[:size/4], nil
		}
	}
}

// Seccomp installs a filter of system calls on all threads of the process. It needs no_new_privs or CAP_SYS_ADMIN.
func Seccomp(filter []bpf.RawInstruction) error {
	if len(filter) == 0 {
		return errors.New("seccomp: empty filter")
	}
	code := make([]unix.SockFilter, len(filter))
	for i, r := range filter {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	p := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p)))
	switch {
	case errno != 0:
		return fmt.Errorf("seccomp: %w", errno)
	case thread != 0:
		return fmt.Errorf("seccomp: thread %d has a filter of its own", thread)
	}
	return nil
}
