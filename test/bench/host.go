package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machineSettings are minimum values of settings that are not per namespace.
var machineSettings = map[string]int{
	"net/netfilter/nf_conntrack_max": 2500000, // NAT44 and Tayga need a million flows
	"net/core/netdev_max_backlog":    8000,
}

// lockPath is a file that a run locks.
const lockPath = "/run/nat64d-bench.lock"

// alone ensures that no other run is active: two would disturb each other, and the last one would restore settings
// that the other had set. The kernel releases the lock when the file is closed or the program ends.
func alone() (*os.File, error) {
	f, err := os.OpenFile(lockPath, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("another bench is running: wait for its end: %s: %w", lockPath, err)
	}
	return f, nil
}

// changeMachine changes the settings and gives the kernel's soft-interrupt threads the priority of this program. It
// returns a function that restores both. It ignores settings that it cannot change, for example in a container; then
// figures of many flows are less meaningful for the kernel.
func changeMachine() (restore func() error) {
	var undo []func() error
	for name, value := range machineSettings {
		path := filepath.Join("/proc/sys", name)
		before, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		have, err := strconv.Atoi(strings.TrimSpace(string(before)))
		if err == nil && have < value && os.WriteFile(path, []byte(strconv.Itoa(value)), 0) == nil {
			undo = append(undo, func() error { return os.WriteFile(path, before, 0) })
		}
	}
	own := niceness(0)
	for _, pid := range softInterrupts() {
		if before := niceness(pid); before != own && unix.Setpriority(unix.PRIO_PROCESS, pid, own) == nil {
			undo = append(undo, func() error { return unix.Setpriority(unix.PRIO_PROCESS, pid, before) })
		}
	}
	return func() error {
		var errs []error
		for _, f := range undo {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
}

// niceness returns the nice value of a process, or of this thread for 0.
func niceness(pid int) int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		return 0
	}
	return 20 - n // the system call returns 20 - nice, which is never negative
}

// softInterrupts returns the threads in which the kernel processes soft interrupts under load. They compete with the
// programs on their processors.
func softInterrupts() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is well-formed
	for _, path := range names {
		b, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(b), "ksoftirqd/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// machine describes the machine and the versions of a measurement.
type machine struct {
	Processor  string    `json:"processor"`
	Processors int       `json:"processors"`
	Kernel     string    `json:"kernel"`
	Version    string    `json:"version"` // of nat64d
	Date       time.Time `json:"date"`
}

func describe(ctx context.Context, nat64d program) machine {
	m := machine{Processors: runtime.NumCPU(), Date: time.Now().UTC().Truncate(time.Second)}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if f := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(b); f != nil {
			m.Processor = string(f[1])
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if out, err := nat64d.command(ctx, "--version").Output(); err == nil {
		m.Version = strings.TrimSpace(string(out))
	}
	return m
}

const (
	noiseWindow = 250 * time.Millisecond
	noiseLimit  = 0.08 // of a processor
	noiseWait   = 4 * time.Second
)

// noise waits for a limited time until other programs leave both processors idle, and returns the share of one that
// they still use.
func (b *bed) noise(ctx context.Context) (float64, error) {
	for end := time.Now().Add(noiseWait); ; {
		ends := callBeside[idleResult](ctx, b.client, toolIdle, idleOrder{noiseWindow})
		middle, err := call[idleResult](ctx, b.gateway, toolIdle, idleOrder{noiseWindow})
		a := <-ends
		if err := errors.Join(err, a.err); err != nil {
			return 0, err
		}
		share := max(middle.share(), a.result.share())
		if share < noiseLimit || time.Now().After(end) {
			return share, nil
		}
	}
}

// installed returns an error if a program that every measurement needs is missing.
func installed() error {
	var errs []error
	for _, name := range []string{"ip", "nft", "ethtool", "ping"} {
		if _, err := exec.LookPath(name); err != nil {
			errs = append(errs, errors.New(name+" is not installed: run make deps"))
		}
	}
	return errors.Join(errs...)
}

// processors checks that the ends and the gateway have different processors.
func processors(ends, gateway int) error {
	if n := runtime.NumCPU(); ends == gateway || ends < 0 || gateway < 0 || ends >= n || gateway >= n {
		return errors.New("processors " + strconv.Itoa(ends) + " and " + strconv.Itoa(gateway) + ": must be two different ones of the " +
			strconv.Itoa(n) + " that there are")
	}
	return nil
}
