//go:build linux

package daemon

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/linux/afpacket"
	"nat64d/linux/nexthop"
	"nat64d/pool4"
	"nat64d/state"
)

// ioThreads is the number of threads per worker and side that may block in the kernel. GOMAXPROCS must exceed the
// total, otherwise a woken thread waits until the scheduler notices it (measured: the p99 of the round trip doubles).
const ioThreads = 2

// workers returns the number of threads that process the packets of each side. The default is one for four processors
// that the daemon may use: receiving and sending in the kernel, and the other side, need about as much each.
func workers(c *config.Interfaces) int {
	const most = 8
	switch {
	case c.Workers > 0:
		return c.Workers
	case c.Engine == afpacket.Simple.String(): // the engine does not support groups
		return 1
	}
	return min(max(runtime.NumCPU()/4, 1), most)
}

// raiseGOMAXPROCS makes room for the threads that block in the kernel.
func raiseGOMAXPROCS(c *config.Interfaces) {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), ioThreads*workers(c)+2))
}

// preparePorts begins to open the ports.
func (d *Daemon) preparePorts() error {
	engine, err := afpacket.ParseEngine(d.config().Interfaces.Engine)
	if err != nil {
		return err
	}
	var key [2]byte
	_, _ = rand.Read(key[:])                            // never fails
	group := binary.BigEndian.Uint16(key[:])&0xfffe | 2 // even, and not 0; another process is unlikely to use it
	d.ports = &ports{log: d.log, conf: func() *config.Interfaces { return &d.config().Interfaces }, engine: engine, group: group}
	if d.kept.saved != nil {
		d.ports.screens.Know(d.kept.saved.Header.Kernel)
	}
	d.ports.openEarly()
	return nil
}

// build creates the components in order of their dependencies. It does not change anything outside of the process.
func (d *Daemon) build() (err error) {
	loaded := lists(d.config())
	r := d.resumeLists(d.config())
	c := r.conf
	d.conf.Store(c)
	mode, err := nexthop.ParseAnswerARP(c.Host.AnswerARP)
	if err != nil {
		return err
	}
	d.routes, err = nexthop.New(names(c), mode, d.log.Logger)
	if err != nil {
		return err
	}
	if err := errors.Join(d.checkPool6(c), checkZones(nil, c)); err != nil {
		return err
	}
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	d.pool = pool4.New(key)
	if _, _, err := d.pool.Add(r.ranges); err != nil {
		return err
	}
	followed, err := d.followed().withRows(r.followed, d.routes)
	if err != nil {
		return err
	}
	followed.rules = c.Pool4Rules
	d.holdLocked(followed, false)
	if c.Sessions.HoldAfterStart && d.kept.saved == nil {
		d.pool.HoldDownAll()
	}
	d.admin.local = d.localRoutesForLocked(c)
	d.guard = newHostGuard(c, d.pool, d.events.pairs, d.log.Logger)
	d.processors = &processors{log: d.log, conf: func() *config.Interfaces { return &d.config().Interfaces }}
	d.ports.guard = d.guard
	if err := d.guard.refuse(minus(slices.Concat(mapped(r.static), r.ranges, followed.held), r.checked), c.Host.Force); err != nil {
		return err
	}
	_, _ = rand.Read(key[:])
	start, monotonic := time.Now(), state.Monotonic()
	d.beginState(monotonic, loaded)
	d.keepHeld()
	if d.memory, err = newMemory(c.MemoryLimit, c.Sessions.Max, d.sessions, d.log.Logger); err != nil {
		return err
	}
	options := gateway.Options{
		Config: d.gatewayConfigLocked(c), Max: max(c.Sessions.Max, d.kept.saved.Most()), Workers: workers(&c.Interfaces), Key: key,
		Clock: func() time.Duration { return time.Since(start) }, Files: d.tableFiles(), Alive: d.aliveHook(), Scarce: d.memory.scarce,
		Pool4: d.pool, Routes: d.routes, Hops: func() gateway.Hops { return nexthop.NewCache(d.routes) },
		View: func() gateway.Hops { return nexthop.NewView(d.routes) },
		Open: d.ports.open, Settle: d.processors.prepareThread, Loaded: d.events.load.signal,
		Log: d.log.Logger, Panics: d.panics, RingAdvice: ringAdvice[c.Interfaces.Offloads],
	}
	if err := d.affordable(c, options); err != nil {
		return err
	}
	d.observe(c)
	d.setAccounting(c.Sessions.Accounting)
	if err := d.bindLocked(r.static, true); err != nil {
		return err
	}
	d.resumeRowsLocked(r.added)
	d.resumeEnding()
	d.selfTest.options = options
	d.dns64, _ = newDNS64Service(d.basisLocked(), d.options.Version, d.log.Logger, d.panics) // run retries addresses that it cannot listen on, and the status shows them
	return nil
}

// checkPool6 returns an error if a prefix contains an address of the host, because the host's own traffic would be
// translated.
func (d *Daemon) checkPool6(c *config.Config) error {
	for _, prefix := range c.Pool6 {
		for _, a := range d.routes.HostAddresses() {
			if prefix.Prefix().Contains(a) {
				return fmt.Errorf("pool6 %v contains %v, an address of this machine: choose a prefix that no host uses", prefix, a)
			}
		}
	}
	return nil
}
