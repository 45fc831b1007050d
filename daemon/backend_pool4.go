//go:build linux

package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"nat64d/linux/nexthop"
	"nat64d/ops/control"
	"nat64d/packet"
	"nat64d/pool4"
)

// Pool4 implements control.Backend.
func (b *backend) Pool4() []control.Pool4Entry {
	var es []control.Pool4Entry
	states := make(map[netip.Addr]nexthop.AddressState)
	for _, a := range b.routes.Addresses() {
		states[a.Addr] = a.State
	}
	f := b.followed()
	for _, u := range b.pool.Usage() {
		state, known := states[u.Addr]
		if !known { // the address is new
			state = nexthop.AddressWaiting
		}
		r := pool4Range(u.Entry)
		r.Interface = f.source(u.Entry)
		es = append(es, control.Pool4Entry{Pool4Range: r, Used: u.Used, Free: portCount(u.Entry) - u.Used, State: state.String(), Pool4Rule: b.ruleOf(u.Proto, u.Addr)})
	}
	return append(es, b.followedEntries()...)
}

// ruleOf returns the rule for an address.
func (b *backend) ruleOf(proto packet.Proto, a netip.Addr) (r control.Pool4Rule) {
	if rule, ok := b.pool.RuleOf(proto, a); ok {
		r.Source6, r.Weight = rule.Sources, rule.Weight
	}
	return r
}

// AddPool4 implements control.Backend.
func (b *backend) AddPool4(c control.Pool4Change) (control.Pool4Result, error) {
	wanted, rows, err := parseChange(c)
	if err != nil {
		return control.Pool4Result{}, err
	}
	if rows != nil {
		return b.addFollowed(rows, c.Force)
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	if err := b.guard.refuse(wanted, c.Force); err != nil {
		return control.Pool4Result{}, err
	}
	if err := b.coverMoreLocked(additions{pool4: wanted}, b.admin.local.bypass); err != nil {
		return control.Pool4Result{}, fmt.Errorf("nothing was added: %w", err)
	}
	added, merged, err := b.pool.Add(wanted)
	if err == nil {
		b.holdAgainLocked(wanted)
	}
	r := control.Pool4Result{Added: pool4Ranges(added), Merged: pool4Ranges(merged)}
	if warning := b.settledLocked(); warning != nil {
		r.Warnings = append(r.Warnings, warning.Error())
	}
	return r, err
}

// RemovePool4 implements control.Backend.
func (b *backend) RemovePool4(c control.Pool4Change) (control.Pool4Result, error) {
	wanted, rows, err := parseChange(c)
	if err != nil {
		return control.Pool4Result{}, err
	}
	if rows != nil {
		return b.removeFollowed(rows, rows[0].Auto)
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	if c.Ports == "" {
		wanted = b.whole(wanted)
	}
	if err := b.refuseFollowed(wanted); err != nil {
		return control.Pool4Result{}, err
	}
	removed, err := b.pool.Remove(wanted)
	if err != nil {
		return control.Pool4Result{}, err
	}
	b.holdAgainLocked(nil)
	return b.removed(removed)
}

// FlushPool4 implements control.Backend.
func (b *backend) FlushPool4() (control.Pool4Result, error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	all := b.pool.Entries()
	b.pool.Flush()
	b.admin.followed.Store(&following{rules: b.followed().rules})
	return b.removed(all)
}

// removed ends the bindings whose transport address was removed, and then updates the guard: the host must not
// receive packets of a connection that is still translated.
func (b *backend) removed(gone []pool4.Entry) (control.Pool4Result, error) {
	bindings, sessions := b.purgeLocked()
	r := control.Pool4Result{Removed: pool4Ranges(gone), Bindings: bindings, Sessions: sessions}
	if err := b.settledLocked(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// whole returns the entries of pool4 with the wanted addresses and protocols and any port, or wanted if there are
// none.
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

// parseChange returns the ranges of a change, or its rows of interfaces.
func parseChange(c control.Pool4Change) ([]pool4.Entry, []pool4.Followed, error) {
	var protos []packet.Proto
	for _, name := range c.Protocols {
		p, err := parseProto(name)
		if err != nil {
			return nil, nil, err
		}
		protos = append(protos, p)
	}
	if name, ports, ok := pool4.SplitInterface(c.Addresses); ok {
		rows, err := pool4.ParseFollowed(name, cmp.Or(c.Ports, ports), protos...)
		return nil, rows, err
	}
	entries, err := pool4.ParseRange(c.Addresses, c.Ports, protos...)
	return entries, nil, err
}

func parseProto(name string) (packet.Proto, error) {
	for _, p := range protocols {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("protocol %q: must be tcp, udp or icmp", name)
}

// protocols are in the order of output.
var protocols = []packet.Proto{packet.TCP, packet.UDP, packet.ICMP}

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
