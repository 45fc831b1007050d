//go:build linux

// Package sandbox gives up what a program no longer needs, for all of its threads and for good: capabilities, files and system
// calls.
package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Needs are what a program still needs.
type Needs struct {
	Capabilities []cap.Value
	Files        Files
}

// Enter gives up everything else. It returns the version of Landlock that restricts the files, 0 if the kernel has none.
// A step that fails does not prevent the others. Files that only a capability opens must be open by now.
func Enter(n Needs) (landlock int, err error) {
	bounded := bound(n.Capabilities)
	landlock, restricted := n.Files.restrict() // while it may search the directories of other users
	return landlock, errors.Join(bounded, restricted, keep(n.Capabilities), forbidCalls())
}

// bound removes all capabilities but some from the bounding set.
func bound(needed []cap.Value) error {
	for c := range cap.MaxBits() {
		if slices.Contains(needed, c) {
			continue
		}
		err := cap.DropBound(c)
		if errors.Is(err, unix.EPERM) {
			return nil // without CAP_SETPCAP the bounding set stays; it only matters to execve, which is forbidden
		}
		if err != nil {
			return fmt.Errorf("give up %v: %w", c, err)
		}
	}
	return nil
}

// keep gives up all capabilities but some of those that the process has.
func keep(needed []cap.Value) error {
	had, next := cap.GetProc(), cap.NewSet()
	for _, c := range needed {
		has, err := had.GetFlag(cap.Permitted, c)
		if err == nil && has { // otherwise the kernel may be too old for it
			err = errors.Join(next.SetFlag(cap.Permitted, true, c), next.SetFlag(cap.Effective, true, c))
		}
		if err != nil {
			return fmt.Errorf("capability %v: %w", c, err)
		}
	}
	if err := next.SetProc(); err != nil { // without inheritable ones, the ambient ones go, too
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

// State is what a process may still do.
type State struct {
	Capabilities []string // the effective ones
	NoNewPrivs   bool
	Seccomp      bool // a filter of system calls, ours or that of a container
}

// Current returns the state of this process.
func Current() State {
	var s State
	set := cap.GetProc()
	for c := range cap.MaxBits() {
		if has, err := set.GetFlag(cap.Effective, c); err == nil && has {
			s.Capabilities = append(s.Capabilities, strings.ToUpper(c.String()))
		}
	}
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	s.NoNewPrivs = err == nil && n == 1
	n, err = unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	s.Seccomp = err == nil && n == unix.SECCOMP_MODE_FILTER
	return s
}
