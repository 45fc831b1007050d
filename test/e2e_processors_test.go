package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"nat64d/lab"
	"nat64d/linux/cpus"
)

// Workers run apart from the processors that receive, NAPI threads on these, and both follow changes of receive packet
// steering and of the processors that nat64d may use.
func TestWorkersFollowTheProcessors(t *testing.T) {
	l := network(t, lab.Options{})
	allowed, err := cpus.Allowed()
	if err != nil || allowed.Len() < 2 {
		t.Fatalf("needs two processors, has %v (%v)", allowed, err)
	}
	first, last := 0, 0
	for c := range 1024 {
		if allowed.Has(c) {
			first, last = min(first, c), c
		}
	}
	g := startManaged(t, l, "manage")
	eventually(t, recoverWithin, "workers of interfaces without interrupts may run anywhere", func() error {
		return g.expectWorker(l.NIC6, allowed, allowed, l.NIC6+" has no interrupts")
	})

	steer := fmt.Sprintf("echo %x > /sys/class/net/%s/queues/rx-0/rps_cpus", 1<<first, l.NIC6)
	ip, _ := tool(t, "ip")
	if out, err := l.Gateway.Output(limit(t, recoverWithin), ip, "netns", "exec", l.Gateway.Name, "sh", "-c", steer); err != nil {
		t.Fatalf("%s: %v: %s", steer, err, out)
	}
	g.linkEvent()
	others := allowed.Without(cpus.Of(first))
	eventually(t, recoverWithin, "the worker leaves the processor of receive packet steering", func() error {
		return g.expectWorker(l.NIC6, others, cpus.Of(first), fmt.Sprintf("%s receives on %d", l.NIC6, first))
	})
	checkPing(t, l)

	for _, tid := range g.threads() {
		if err := cpus.Of(last).Bind(tid); err != nil {
			t.Fatal(err)
		}
	}
	g.linkEvent()
	eventually(t, recoverWithin, "the worker has the only processor", func() error {
		return g.expectWorker(l.NIC6, cpus.Of(last), cpus.Of(last), "the only processor")
	})
	checkPing(t, l)
}

// linkEvent makes the kernel report a change of an interface, at which nat64d looks at the processors again.
func (g *daemon) linkEvent() {
	g.t.Helper()
	ip, _ := tool(g.t, "ip")
	if out, err := g.lab.Gateway.Output(limit(g.t, recoverWithin), ip, "link", "set", g.lab.NIC4, "mtu", "1499"); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	if out, err := g.lab.Gateway.Output(limit(g.t, recoverWithin), ip, "link", "set", g.lab.NIC4, "mtu", "1500"); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
}

// threads returns the threads of nat64d.
func (g *daemon) threads() (tids []int) {
	g.t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", g.status().PID))
	if err != nil || len(paths) == 0 {
		g.t.Fatal("no threads", err)
	}
	for _, path := range paths {
		tid, _ := strconv.Atoi(filepath.Base(path))
		tids = append(tids, tid)
	}
	return tids
}

// expectWorker returns nil if the worker of an interface has these processors for this reason, by the status and by the
// kernel, and the NAPI threads of the interface have theirs.
func (g *daemon) expectWorker(nic string, processors, threads cpus.Set, why string) error {
	g.t.Helper()
	for _, i := range g.status().Interfaces {
		if i.Name != nic {
			continue
		}
		if w := i.Workers[0]; w.Processors != processors.String() || w.Why != why {
			return fmt.Errorf("the status has %+v, want %v: %s", w, processors, why)
		}
	}
	if !hasThread(g.threads(), processors) {
		return fmt.Errorf("no thread of nat64d is bound to %v", processors)
	}
	var napi []int
	names, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is well-formed
	for _, path := range names {
		if name, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(name), "napi/"+nic+"-") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			napi = append(napi, pid)
		}
	}
	if !hasThread(napi, threads) {
		return fmt.Errorf("no NAPI thread of %s is bound to %v", nic, threads)
	}
	return nil
}

func hasThread(tids []int, bound cpus.Set) bool {
	for _, tid := range tids {
		if set, err := cpus.Bound(tid); err == nil && set == bound {
			return true
		}
	}
	return false
}
