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

// machineSettings are what measurements need of the machine, at the least: these are not of any namespace.
var machineSettings = map[string]int{
	"net/netfilter/nf_conntrack_max": 2500000, // or NAT44 and Tayga cannot have a million flows
	"net/core/netdev_max_backlog":    8000,
}

// lockPath is a file that a run locks.
const lockPath = "/run/nat64d-bench.lock"

// alone makes sure that no other run goes on: two would measure each other, and the one that ends last would put back as
// the machine's what the other had set. The lock ends with the file, or with this program.
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

// changeMachine changes the settings, gives the kernel's threads for soft interrupts the priority that this program has
// been started with, and returns what undoes both. What cannot be changed, in a container for instance, stays as it is:
// figures of many flows then say less about the kernel.
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

// niceness returns the nice value of a process, 0 for the one of this thread.
func niceness(pid int) int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		return 0
	}
	return 20 - n // the system call has it the other way round, so that it is not negative
}

// softInterrupts lists the threads that the kernel handles soft interrupts in when there are many. They compete with the
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

// machine says where and with what was measured.
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

// noise waits a little until others leave both processors alone, and returns the share of one that they still take.
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

// installed tells whether the programs that every measurement needs are there.
func installed() error {
	var errs []error
	for _, name := range []string{"ip", "nft", "ethtool", "ping"} {
		if _, err := exec.LookPath(name); err != nil {
			errs = append(errs, errors.New(name+" is not installed: run make deps"))
		}
	}
	return errors.Join(errs...)
}

// processors checks that the ends and the gateway have one each.
func processors(ends, gateway int) error {
	if n := runtime.NumCPU(); ends == gateway || ends < 0 || gateway < 0 || ends >= n || gateway >= n {
		return errors.New("processors " + strconv.Itoa(ends) + " and " + strconv.Itoa(gateway) + ": must be two different ones of the " +
			strconv.Itoa(n) + " that there are")
	}
	return nil
}
