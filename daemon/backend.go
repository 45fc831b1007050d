//go:build linux

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/linux/afpacket"
	"nat64d/linux/nexthop"
	"nat64d/linux/nic"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
)

// page is how many rows of a table are copied at a time, so that a listing never holds up packets.
const page = 1024

// backend shows and changes the running gateway.
type backend struct{ *Daemon }

// Version implements control.Backend.
func (b *backend) Version() control.Version { return b.options.Version }

// Status implements control.Backend.
func (b *backend) Status() control.Status {
	st := control.Status{
		Version: b.options.Version, PID: os.Getpid(), Uptime: control.Seconds(time.Since(b.started)), Paused: b.gateway.Paused(),
		Interfaces: []control.Interface{b.link(gateway.V6, b.routes.Link6()), b.link(gateway.V4, b.routes.Link4())},
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
		if r != drop.NotPool6 && r != drop.Bypassed && r != drop.NotPool4 { // those are the host's
			st.Drops += b.gateway.Counters.Drops(r)
		}
	}
	addresses := b.routes.Addresses()
	st.NotReady = b.notReady(&st, addresses)
	st.Ready = len(st.NotReady) == 0
	st.Warnings = append(b.warnings(), contested(addresses)...)
	return st
}

func (b *backend) link(s gateway.Side, l nexthop.Link) control.Interface {
	engine := afpacket.Engine(b.engines[s].Load()).String()
	offloads, _ := nic.On(l.Name) // as far as they can be told, and of a NIC that is there
	return control.Interface{Side: s.String(), Name: l.Name, MTU: int(l.MTU), Up: l.Up, Engine: engine, Bursts: b.bursts[s].Load(), Offloads: offloads}
}

func (b *backend) usage() []control.Protocol {
	ps := make([]control.Protocol, len(protocols))
	for i, p := range protocols {
		ps[i] = control.Protocol{Protocol: p.String(), Bindings: b.gateway.Bindings.Len(p), Sessions: b.gateway.Sessions.Len(p)}
	}
	last := make([]netip.Addr, len(protocols))
	for _, u := range b.pool.Usage() {
		p := &ps[u.Proto]
		p.Pool4Ports += ports(u.Entry)
		p.Pool4Used += u.Used
		if last[u.Proto] != u.Addr {
			last[u.Proto] = u.Addr
			p.Pool4Addresses++
		}
	}
	return ps
}

func ports(e pool4.Entry) int { return int(e.Hi) - int(e.Lo) + 1 }

func (b *backend) warnings() (ws []string) {
	ws = append(ws, b.log.warnings()...)
	ws = append(ws, b.guard.warnings()...)
	if b.gateway.LetsPrivatePass() {
		ws = append(ws, "packets to private IPv4 addresses pass behind 64:ff9b::/96 (pool6 private_v4), against RFC 6052 section 3.1")
	}
	if b.pool.HoldingDownAll() {
		ws = append(ws, "new UDP flows and pings are refused for sessions.port_hold_down after the start (sessions.hold_after_start)")
	}
	if b.routes.Blind() {
		ws = append(ws, "nat64d may not read the IPsec policies of this machine (CAP_NET_ADMIN): packets that they cover leave in clear")
	}
	ws = append(ws, b.names.warnings()...)
	return append(ws, b.overlaps.warnings()...)
}

// Pool4 implements control.Backend.
func (b *backend) Pool4() []control.Pool4Entry {
	var es []control.Pool4Entry
	states := make(map[netip.Addr]nexthop.AddressState)
	for _, a := range b.routes.Addresses() {
		states[a.Addr] = a.State
	}
	for _, u := range b.pool.Usage() {
		state, known := states[u.Addr]
		if !known { // it has just come
			state = nexthop.AddressWaiting
		}
		es = append(es, control.Pool4Entry{
			Pool4Range: pool4Range(u.Entry), Used: u.Used, Free: ports(u.Entry) - u.Used, State: state.String(),
		})
	}
	return es
}

func pool4Range(e pool4.Entry) control.Pool4Range {
	r := control.Pool4Range{Address: e.Addr, Protocol: e.Proto.String(), Ports: fmt.Sprintf("%d-%d", e.Lo, e.Hi)}
	if e.Lo == e.Hi {
		r.Ports = fmt.Sprint(e.Lo)
	}
	return r
}

func pool4Ranges(es []pool4.Entry) []control.Pool4Range {
	rs := make([]control.Pool4Range, len(es))
	for i := range es {
		rs[i] = pool4Range(es[i])
	}
	return rs
}

func parseChange(c control.Pool4Change) ([]pool4.Entry, error) {
	var protos []packet.Proto
	for _, name := range c.Protocols {
		p, err := parseProto(name)
		if err != nil {
			return nil, err
		}
		protos = append(protos, p)
	}
	return pool4.ParseRange(c.Addresses, c.Ports, protos...)
}

func parseProto(name string) (packet.Proto, error) {
	for _, p := range protocols {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("protocol %q: must be tcp, udp or icmp", name)
}

// AddPool4 implements control.Backend.
func (b *backend) AddPool4(c control.Pool4Change) (control.Pool4Result, error) {
	wanted, err := parseChange(c)
	if err != nil {
		return control.Pool4Result{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	if err := b.guard.refuse(wanted, c.Force); err != nil {
		return control.Pool4Result{}, err
	}
	if err := b.guard.cover(wanted, nil, nil, b.near.bypass); err != nil {
		return control.Pool4Result{}, fmt.Errorf("nothing was added: %w", err)
	}
	added, merged, err := b.pool.Add(wanted)
	r := control.Pool4Result{Added: pool4Ranges(added), Merged: pool4Ranges(merged)}
	if warning := b.settled(); warning != nil {
		r.Warnings = append(r.Warnings, warning.Error())
	}
	return r, err
}

// RemovePool4 implements control.Backend.
func (b *backend) RemovePool4(c control.Pool4Change) (control.Pool4Result, error) {
	wanted, err := parseChange(c)
	if err != nil {
		return control.Pool4Result{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	if c.Ports == "" {
		wanted = b.whole(wanted)
	}
	removed, err := b.pool.Remove(wanted)
	if err != nil {
		return control.Pool4Result{}, err
	}
	return b.removed(removed)
}

// FlushPool4 implements control.Backend.
func (b *backend) FlushPool4() (control.Pool4Result, error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	all := b.pool.Entries()
	b.pool.Flush()
	return b.removed(all)
}

// removed ends the bindings that have lost their transport address. The guard is lifted last: the host must not see the
// packets of a connection that is still translated.
func (b *backend) removed(gone []pool4.Entry) (control.Pool4Result, error) {
	bindings, sessions := b.purge()
	r := control.Pool4Result{Removed: pool4Ranges(gone), Bindings: bindings, Sessions: sessions}
	if err := b.settled(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// whole returns what pool4 has of the addresses and protocols wanted, whatever the ports, or those if it has
// nothing.
func (b *backend) whole(wanted []pool4.Entry) (all []pool4.Entry) {
	for _, have := range b.pool.Entries() {
		if slices.ContainsFunc(wanted, func(e pool4.Entry) bool { return e.Addr == have.Addr && e.Proto == have.Proto }) {
			all = append(all, have)
		}
	}
	if len(all) == 0 {
		return wanted
	}
	return all
}

// Pool6 implements control.Backend.
func (b *backend) Pool6() []control.Pool6Entry {
	var es []control.Pool6Entry
	for _, p := range b.config().Pool6 {
		es = append(es, control.Pool6Entry{Prefix: p.Prefix()})
	}
	return es
}

// Bindings implements control.Backend.
func (b *backend) Bindings(ctx context.Context, f control.Filter, yield func(control.Binding) error) error {
	return pages(ctx, b.gateway.Bindings.List, func(row *bib.Binding) error {
		if !f.Match(row.Proto.String(), netip.AddrFrom16(row.Client.Addr), netip.Addr{}) {
			return nil
		}
		return yield(control.Binding{
			Protocol: row.Proto.String(), Client: addrPort6(row.Client), Mapped: addrPort4(row.Mapped),
			Static: row.Static, Sessions: row.Sessions,
		})
	})
}

// Sessions implements control.Backend.
func (b *backend) Sessions(ctx context.Context, f control.Filter, yield func(control.Session) error) error {
	list := func(cursor uint32, buf []session.Session) (int, uint32) {
		return b.gateway.Sessions.List(cursor, buf, b.gateway.Now())
	}
	each := func(row *session.Session) error {
		s := b.session(row)
		if !f.Match(s.Protocol, s.Client.Addr(), s.Peer.Addr()) {
			return nil
		}
		return yield(s)
	}
	if err := pages(ctx, list, each); err != nil {
		return err
	}
	for _, row := range b.gateway.StoredSYNs() {
		if err := each(&row); err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) session(row *session.Session) control.Session {
	prefix := b.gateway.Prefix(row.Prefix)
	s := control.Session{
		Protocol: row.Proto.String(), Mapped: addrPort4(row.Mapped), Peer: addrPort4(row.Remote),
		Peer6:   netip.AddrPortFrom(netip.AddrFrom16(prefix.Embed(row.Remote.Addr)), row.Remote.Port),
		Expires: control.Seconds(row.Remaining),
	}
	if row.Client != (packet.Endpoint6{}) { // else it is a stored SYN
		s.Client = addrPort6(row.Client)
	}
	if row.Proto == packet.TCP {
		s.State = row.State.String()
	}
	return s
}

// pages copies a table page by page and hands the rows out between the pages.
func pages[T any](ctx context.Context, list func(cursor uint32, buf []T) (int, uint32), each func(*T) error) error {
	rows := make([]T, page)
	for cursor := uint32(0); ; {
		var n int
		n, cursor = list(cursor, rows)
		for i := range rows[:n] {
			if err := each(&rows[i]); err != nil {
				return err
			}
		}
		if cursor == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func addrPort6(e packet.Endpoint6) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.Addr), e.Port)
}

func endpoint6(a netip.AddrPort) packet.Endpoint6 {
	return packet.Endpoint6{Addr: a.Addr().As16(), Port: a.Port()}
}

func addrPort4(e packet.Endpoint4) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port)
}

// Stats implements control.Backend.
func (b *backend) Stats() []control.Counter {
	var cs []control.Counter
	for _, c := range b.gateway.Counters.All() {
		n := control.Counter{Name: c.Name, Value: c.Value, Help: c.Help, Kind: c.Kind}
		if c.Label != "" {
			n.Labels = map[string]string{c.Label: c.LabelValue}
		}
		cs = append(cs, n)
	}
	for _, p := range b.usage() {
		labels := map[string]string{"protocol": p.Protocol}
		for _, row := range []struct {
			name, help string
			value      int
		}{
			{"bindings", "bindings at present", p.Bindings},
			{"sessions", "sessions at present", p.Sessions},
			{"pool4_ports", "transport addresses in pool4", p.Pool4Ports},
			{"pool4_used", "transport addresses of pool4 that are bound", p.Pool4Used},
		} {
			cs = append(cs, control.Counter{Name: row.name, Labels: labels, Value: uint64(row.value), Help: row.help, Kind: "table"})
		}
	}
	cs = append(cs,
		control.Counter{Name: "inbound_sessions", Value: uint64(b.gateway.Sessions.InboundLen()), Help: "sessions at present that IPv4 hosts have begun", Kind: "table"},
		control.Counter{Name: "inbound_sessions_evicted", Value: b.gateway.Sessions.Evicted(), Help: "sessions begun by IPv4 hosts that made way for newer ones (sessions.max_inbound)", Kind: "table"})
	cs = append(cs, b.log.counter())
	cs = append(cs, control.Counter{Name: "guard_repairs", Value: b.guard.repaired(), Kind: "error",
		Help: "times the guard's nftables table was changed or deleted by somebody else, and restored"})
	cs = append(cs, control.Counter{Name: "arp_conflicts", Value: b.routes.AddressConflicts(), Kind: "error",
		Help: "times another station was found to have an address of pool4 (RFC 5227)"})
	return append(cs, b.names.Counters()...)
}

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
