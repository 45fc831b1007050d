//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"nat64d/config"
	"nat64d/linux/cpus"
	"nat64d/linux/nic"
	"nat64d/ops/control"
	"nat64d/packet"
)

// processors keeps the workers on the processors that cpus.Machine.Plan chooses. prepareThread and status may be called by
// any goroutine. look belongs to the task "interfaces".
type processors struct {
	log    *logs
	conf   func() *config.Interfaces
	nics   *nic.Manager
	reader cpus.Reader
	fixed  bool // the kernel does not let this program move NAPI threads
	placed
}

// placed is the plan in use and the workers that follow it.
type placed struct {
	mu      sync.Mutex
	allowed cpus.Set
	sides   [2]cpus.Side
	workers [2]map[int]int // the thread of each worker that runs
}

// prepareThread prepares the calling thread for the i-th worker of a side: short sleeps become exact, and the thread is
// bound to its processors, now and whenever the plan changes.
func (p *processors) prepareThread(s packet.Family, i int) {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // if it fails, Gather sleeps 50 µs longer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[s] == nil {
		p.workers[s] = map[int]int{}
	}
	p.workers[s][i] = unix.Gettid()
	if i < len(p.sides[s].Workers) { // else there is no plan yet, or look has failed
		p.warn(s, move(p.workers[s][i], p.sides[s].Workers[i]))
	}
}

func (p *processors) warn(s packet.Family, err error) {
	if err != nil {
		p.log.Warn("cannot bind a worker to its processors", "side", s, "error", err)
	}
}

// look plans again by what the kernel reports now.
func (p *processors) look() {
	allowed, err := cpus.Allowed()
	if err != nil {
		p.log.Warn("cannot place workers on processors", "error", err)
		return
	}
	c := p.conf()
	m := cpus.Machine{Allowed: allowed, Quiet: p.reader.Quiet(), Pin: c.Pin, Workers: workers(c)}
	var threads [2][]int
	for s, name := range []string{c.V6.NIC(), c.V4.NIC()} {
		m.NICs[s], threads[s] = p.nic(name)
	}
	sides := m.Plan()
	p.follow(allowed, sides)
	for s := range threads {
		for _, pid := range threads[s] {
			if err := move(pid, sides[s].Threads); err != nil && !p.fixed {
				p.log.Debug("cannot place NAPI threads (CAP_SYS_NICE), placing workers only", "interface", m.NICs[s].Name, "error", err)
				p.fixed = true
			}
		}
	}
}

// nic returns where a NIC receives, and its NAPI threads if they may be moved.
func (p *processors) nic(name string) (n cpus.NIC, threads []int) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return n, nil
	}
	dir, err := nic.Directory(i)
	if err != nil {
		dir = "" // of another namespace
	}
	n = p.reader.NIC(name, dir)
	threads, ours, err := p.nics.Threads(i)
	if err != nil {
		p.log.Debug("cannot place workers by the NAPI threads of the interface", "interface", name, "error", err)
	}
	if ours && !p.fixed {
		return n, threads
	}
	for _, pid := range threads {
		if set, err := cpus.Bound(pid); err == nil { // else the thread has ended
			n.Threads = n.Threads.Or(set)
		}
	}
	return n, nil
}

// follow binds the workers as planned. It repeats this without a change of the plan, because the kernel undoes it when a
// cpuset changes for a moment.
func (p *processors) follow(allowed cpus.Set, sides [2]cpus.Side) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.allowed.Empty() && allowed != p.allowed {
		runtime.SetDefaultGOMAXPROCS() // the runtime stops following the processors when a program sets it
		raiseGOMAXPROCS(p.conf())
	}
	before := p.sides
	p.allowed, p.sides = allowed, sides
	for s := range packet.Family(len(sides)) {
		changed := !reflect.DeepEqual(before[s], sides[s])
		if changed {
			p.log.Debug("processors of the workers", "side", s, "processors", fmt.Sprint(sides[s].Workers), "reason", sides[s].Why)
		}
		for i, tid := range p.workers[s] {
			if err := move(tid, sides[s].Workers[i]); changed {
				p.warn(s, err)
			}
		}
	}
}

// move binds a thread. It ignores one that has ended, as NAPI threads do when their NIC goes down.
func move(tid int, to cpus.Set) error {
	if set, err := cpus.Bound(tid); err == nil && set == to {
		return nil
	}
	if err := to.Bind(tid); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("processors %v: %w", to, err)
	}
	return nil
}

// status returns where the workers of a side may run.
func (p *processors) status(s packet.Family) (list []control.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, set := range p.sides[s].Workers {
		list = append(list, control.Worker{Processors: set.String(), Why: p.sides[s].Why})
	}
	return list
}
