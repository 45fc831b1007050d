//go:build linux

package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/linux/afpacket"
	"nat64d/linux/nexthop"
	"nat64d/linux/nic"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// backend implements control.Backend for the running gateway.
type backend struct{ *Daemon }

// Version implements control.Backend.
func (b *backend) Version() control.Version { return b.options.Version }

// Status implements control.Backend.
func (b *backend) Status() control.Status {
	st := control.Status{
		Version: b.options.Version, PID: os.Getpid(), Uptime: control.Seconds(time.Since(b.started)), Paused: b.gateway.Paused(),
		Interfaces: []control.Interface{b.link(packet.V6, b.routes.Link6()), b.link(packet.V4, b.routes.Link4())},
	}
	for _, p := range b.config().Pool6 {
		st.Pool6 = append(st.Pool6, p.String())
	}
	st.Protocols = b.usage()
	for _, d := range []metrics.Direction{metrics.From6To4, metrics.From4To6, metrics.Hairpin} {
		packets, bytes := b.gateway.Counters.Traffic(d)
		st.Traffic = append(st.Traffic, control.Traffic{Direction: d.String(), Packets: packets, Bytes: bytes})
	}
	for r := drop.None + 1; r < drop.Count; r++ {
		if !r.Host() {
			st.Drops += b.gateway.Counters.Drops(r)
		}
	}
	st.Offloads = b.nics.status(b.config().Interfaces.Offloads)
	st.Kept = b.keptStatus()
	st.Sandbox = b.sandbox()
	st.Memory, st.Goroutines = b.memory.status(), runtime.NumGoroutine()
	st.Panics, _ = b.panics.Count()
	st.Checks = b.readiness.checks()
	st.NotReady = b.readiness.reasons()
	st.Ready = len(st.NotReady) == 0
	st.Warnings = b.allWarnings()
	return st
}

func (b *backend) link(s packet.Family, l nexthop.Link) control.Interface {
	engine := afpacket.Engine(b.ports.sides[s].engine.Load()).String()
	offloads, _ := nic.On(l.Name) // a NIC that does not exist, or a missing kernel feature, is not an error here
	return control.Interface{Side: s.String(), Name: l.Name, MTU: int(l.MTU), Up: l.Up, Engine: engine, Bursts: b.ports.sides[s].bursts.Load(), Offloads: offloads,
		Workers: b.workers(s)}
}

// workers returns where the workers of a side run, and how busy they are.
func (b *backend) workers(s packet.Family) []control.Worker {
	list := b.processors.status(s)
	busy := b.readings.busy.look(time.Now(), b.started, b.processors.used())
	for i := range list {
		list[i].Busy = busy[fmt.Sprintf("%v/%d", s, i)]
	}
	return list
}

// usage returns how full pool4 and the tables are.
func (d *Daemon) usage() []control.Protocol {
	ps := make([]control.Protocol, len(protocols))
	for i, p := range protocols {
		ps[i] = control.Protocol{Protocol: p.String(), Bindings: d.gateway.Bindings.Len(p), Sessions: d.gateway.Sessions.Len(p)}
	}
	last := make([]netip.Addr, len(protocols))
	for _, u := range d.pool.Usage() {
		p := &ps[u.Proto]
		p.Pool4Ports += portCount(u.Entry)
		p.Pool4Used += u.Used
		if last[u.Proto] != u.Addr {
			last[u.Proto] = u.Addr
			p.Pool4Addresses++
		}
	}
	return ps
}

// allWarnings returns what an operator should look at, a sentence each.
func (b *backend) allWarnings() []string {
	return append(b.warnings(), contested(b.routes.Addresses())...)
}

func (b *backend) warnings() []string {
	return slices.Concat(b.ownWarnings(), b.guard.natWarnings(), b.sockets.warnings())
}

// ownWarnings returns the warnings that are not about NAT rules and sockets of the host.
func (b *backend) ownWarnings() (ws []string) {
	ws = append(ws, b.config().Warnings...)
	ws = append(ws, panicWarnings(b.panics)...)
	ws = append(ws, b.log.warnings()...)
	ws = append(ws, b.guard.warnings()...)
	ws = append(ws, b.followedWarnings()...)
	if b.gateway.LetsPrivatePass() {
		ws = append(ws, "packets to private IPv4 addresses pass behind 64:ff9b::/96 (pool6 private_v4), against RFC 6052 section 3.1")
	}
	if b.pool.HoldingDownAll() {
		ws = append(ws, "new UDP flows and pings are refused for sessions.port_hold_down after the start (sessions.hold_after_start)")
	}
	ws = append(ws, b.shortage.warnings(time.Now())...)
	if b.routes.Blind() {
		ws = append(ws, "nat64d may not read the IPsec policies of this machine (CAP_NET_ADMIN): packets that they cover leave in clear")
	}
	ws = append(ws, b.metrics.warnings()...)
	ws = append(ws, b.web.warnings()...)
	return append(ws, b.dns64.warnings()...)
}

// Stats implements control.Backend.
func (b *backend) Stats() []control.Counter { return countersOf(b.samples()) }

// Pause implements control.Backend.
func (b *backend) Pause() error {
	b.gateway.Pause()
	return nil
}

// Resume implements control.Backend.
func (b *backend) Resume() error {
	b.gateway.Resume()
	return nil
}

var _ control.Backend = (*backend)(nil)
var _ gateway.Routes = (*nexthop.Table)(nil)
