package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machineSettings are what measurements change of the machine: these are not of any namespace.
var machineSettings = map[string]string{
	"net/netfilter/nf_conntrack_max": "2500000", // or NAT44 and Tayga cannot have a million flows
	"net/core/netdev_max_backlog":    "8000",
}

// restorer puts settings of the machine back.
type restorer map[string]string

// changeMachine changes the settings and returns what puts them back. One that cannot be changed, in a container for
// instance, stays as it is: figures of many flows then say less about the kernel.
func changeMachine() restorer {
	before := restorer{}
	for name, value := range machineSettings {
		path := filepath.Join("/proc/sys", name)
		if b, err := os.ReadFile(path); err == nil && os.WriteFile(path, []byte(value), 0) == nil {
			before[path] = strings.TrimSpace(string(b))
		}
	}
	return before
}

func (r restorer) restore() error {
	var errs []error
	for path, value := range r {
		errs = append(errs, os.WriteFile(path, []byte(value), 0))
	}
	return errors.Join(errs...)
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
	noiseWait   = 2 * time.Second
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
