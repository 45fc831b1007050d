//go:build linux

package nic

import (
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// NAPI threads run only on the processors of the program, also those that a veth creates when it comes up again.
// Threads that another program has enabled are not confined.
func TestNAPIThreadsAreConfined(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &before); err != nil {
		t.Fatal(err)
	}
	last := 0
	for c := range 1024 {
		if before.IsSet(c) {
			last = c
		}
	}
	one.Set(last)
	if before.Count() < 2 {
		t.Fatal("needs two processors")
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread gets its own mounts and ends with the goroutine
		result <- l.Gateway.Do(func() error { return confined(t, l, &one) })
	}()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func confined(t *testing.T, l *lab.Lab, want *unix.CPUSet) error {
	if err := unix.SchedSetaffinity(0, want); err != nil { // of this thread, which ends with its goroutine
		return err
	}
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	theirs, err := net.InterfaceByName(l.NIC4)
	if err != nil {
		return err
	}
	for n := range settings {
		if s := &settings[n]; Managed(true)[s.name] {
			if err := s.write(theirs, true); err != nil {
				return err
			}
		}
	}
	m := New([]string{l.NIC6, l.NIC4}, Managed(true), nil, func(Notes) error { return nil })
	check := func(when, name string, confined bool) {
		i, err := net.InterfaceByName(name)
		if err != nil {
			t.Error(err)
			return
		}
		threads, err := napiThreads(i)
		if err != nil || len(threads) == 0 {
			t.Errorf("%s: threads of %s: %v, %v", when, name, threads, err)
		}
		for _, pid := range threads {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(pid, &set); err != nil || (set == *want) != confined {
				t.Errorf("%s: a thread of %s may run on %v (%v); confined: %v", when, name, set[0], err, confined)
			}
		}
	}
	if _, warnings := m.SetUp(); len(warnings) != 0 {
		t.Error(warnings)
	}
	check("set up", l.NIC6, true)
	check("somebody else's", l.NIC4, false)
	for _, up := range []bool{false, true} {
		if err := l.Gateway.SetUp(l.NIC6, up); err != nil {
			return err
		}
		if _, warnings := m.SetUp(); len(warnings) != 0 {
			t.Error(warnings)
		}
	}
	check("up again", l.NIC6, true)
	return m.PutBack()
}
