//go:build linux

// Package nexthop says where a packet leaves: link-layer addresses and path MTU. It follows the kernel's links,
// addresses, routes and neighbours through netlink instead of doing ARP (RFC 826), neighbour discovery (RFC 4861)
// and routing itself, and it answers ARP for addresses of pool4 that no interface owns.
package nexthop

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"nat64d/packet"
)

// Interfaces names the two network interfaces of the gateway. They may be the same one.
type Interfaces struct{ V6, V4 string }

// AnswerARP says for which of the proxied addresses (SetProxied) ARP requests are answered.
type AnswerARP uint8

// The modes. An address that an interface of the host owns is never answered for: the kernel does that.
const (
	ARPAuto AnswerARP = iota // those on a subnet of the v4 interface
	ARPOn                    // all of them, also those that only the neighbours take for on-link
	ARPOff                   // none
)

// Link is the state of one of the two interfaces.
type Link struct {
	Name  string
	Index int // 0: there is no such interface at the moment
	MAC   [6]byte
	MTU   uint32 // of the family that the interface serves, in bytes; a route may have a smaller one (packet.Hop)
	Up    bool   // administratively up and with a carrier
	Type  string // of an interface that has the name but is no Ethernet one; the index is 0 then
}

// Table knows the way to every destination, and a Cache asks it. Look-ups take no lock and allocate nothing: they read an
// immutable snapshot that Run replaces. Any number of goroutines may call any of its methods, except that there is one
// Run.
type Table struct {
	names Interfaces
	mode  AnswerARP
	log   *slog.Logger

	onLink, onSurroundings []func()
	blind                  bool // the IPsec policies cannot be read

	state      atomic.Pointer[snapshot]
	generation atomic.Uint64

	asks  chan ask
	asked askFilter

	proxied atomic.Pointer[[]netip.Addr]
	reproxy chan struct{} // proxied has changed
	claims  *claims       // those of proxied that are answered for
	hurry   chan struct{} // a step of the claims has become urgent
}

// New reads the state of the calling thread's network namespace. It fails when an interface is not an Ethernet one;
// one that does not exist is waited for, as one that has gone is. The answers stay as they are until Run is called.
func New(i Interfaces, mode AnswerARP, log *slog.Logger) (*Table, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.close()
	missing, err := k.checkInterfaces(i)
	if err != nil {
		return nil, err
	}
	for _, m := range missing {
		log.Warn(m)
	}
	s, err := k.snapshot(i, &snapshot{})
	if err != nil {
		return nil, err
	}
	t := &Table{
		names:   i,
		blind:   k.blind,
		mode:    mode,
		log:     log,
		asks:    make(chan ask, maxAsks),
		asked:   askFilter{seed: maphash.MakeSeed()},
		reproxy: make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		claims:  newClaims(rand.N[time.Duration], log),
	}
	t.proxied.Store(&[]netip.Addr{})
	t.publish(s)
	return t, nil
}

// publish makes s the state that look-ups read. A cache reads the generation before the state, so the state is
// stored first: an answer is never remembered under a generation newer than itself.
func (t *Table) publish(s *snapshot) {
	t.state.Store(s)
	t.generation.Add(1)
}

// Blind reports whether the process may not read the IPsec policies of the host (CAP_NET_ADMIN), so that packets which they
// cover are not refused.
func (t *Table) Blind() bool { return t.blind }

// Generation grows with every change that can alter the way to a destination.
func (t *Table) Generation() uint64 { return t.generation.Load() }

// Resolve6 asks the kernel to find the next hop of s on the v6 interface. It never blocks, and passes on at most
// one request a second of a client for each next hop. How many are looked for on behalf of a client at a time is bounded: ask
// again for one that stays unknown, or that has failed and is in use.
func (t *Table) Resolve6(s packet.Selector6, client packet.Client) { t.resolve(v6, flow6(&s), client) }

// Resolve4 asks the kernel to find the next hop of s on the v4 interface, as Resolve6 does.
func (t *Table) Resolve4(s packet.Selector4, client packet.Client) { t.resolve(v4, flow4(&s), client) }

// Local4 reports whether a is an address of the host, by the routes of the v4 interface.
func (t *Table) Local4(a packet.Addr4) bool { return t.state.Load().local(v4, netip.AddrFrom4(a)) }

// Source6 returns the address of ours that an ICMPv6 error to dst should come from (RFC 4443 section 2.2): one of the
// v6 interface, or else one of another interface; false if the host has none of fitting scope.
func (t *Table) Source6(dst packet.Addr6) (packet.Addr6, bool) {
	a, ok := t.state.Load().sources[v6].best(netip.AddrFrom16(dst))
	if !ok {
		return packet.Addr6{}, false
	}
	return a.As16(), true
}

// Source4 returns the address of ours that an ICMPv4 error to dst should come from (RFC 1812 section 4.3.2.4): one of
// the v4 interface, or else one of another interface; false if the host has none of fitting scope.
func (t *Table) Source4(dst packet.Addr4) (packet.Addr4, bool) {
	a, ok := t.state.Load().sources[v4].best(netip.AddrFrom4(dst))
	if !ok {
		return packet.Addr4{}, false
	}
	return a.As4(), true
}

// Link6 returns the state of the v6 interface.
func (t *Table) Link6() Link { return t.state.Load().nics[v6].Link }

// Link4 returns the state of the v4 interface.
func (t *Table) Link4() Link { return t.state.Load().nics[v4].Link }

// OnLink has f called from Run's goroutine whenever Link6 or Link4 gives a new answer: up, down, gone, back with
// another index, another MTU or MAC. Call it before Run; f must not block.
func (t *Table) OnLink(f func()) { t.onLink = append(t.onLink, f) }

// OnSurroundings has f called from Run's goroutine whenever Within, Broadcasts or HostAddresses may give a new
// answer. Call it before Run; f must not block.
func (t *Table) OnSurroundings(f func()) { t.onSurroundings = append(t.onSurroundings, f) }

// HostAddresses returns all addresses of the host, on whatever interface. The caller owns the slice.
func (t *Table) HostAddresses() []netip.Addr { return slices.Clone(t.state.Load().hosts) }

// SetProxied replaces the addresses for which ARP requests on the v4 interface may have to be answered: pool4 and
// static rows. Run decides which of them qualify, again with every change of the host's addresses; each that newly does
// is probed, and announced if no other station has it (RFC 5227).
func (t *Table) SetProxied(addrs []netip.Addr) {
	own := slices.Clone(addrs)
	t.proxied.Store(&own)
	select {
	case t.reproxy <- struct{}{}:
	default: // Run has yet to look at the previous change and will see this one too
	}
}

// String returns the word that configuration files use for the mode.
func (m AnswerARP) String() string {
	switch m {
	case ARPAuto:
		return "auto"
	case ARPOn:
		return "on"
	case ARPOff:
		return "off"
	}
	return fmt.Sprintf("AnswerARP(%d)", uint8(m))
}

// ParseAnswerARP reads auto, on or off.
func ParseAnswerARP(s string) (AnswerARP, error) {
	for _, m := range []AnswerARP{ARPAuto, ARPOn, ARPOff} {
		if m.String() == s {
			return m, nil
		}
	}
	return ARPAuto, fmt.Errorf("answer_arp %q: must be auto, on or off", s)
}
