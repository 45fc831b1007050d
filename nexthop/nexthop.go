// Package nexthop says where a packet leaves: link-layer addresses and path MTU. It follows the kernel's links,
// addresses, routes and neighbours through netlink instead of doing ARP (RFC 826), neighbour discovery (RFC 4861)
// and routing itself, and it answers ARP for addresses of pool4 that no interface owns.
package nexthop

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
)

// Interfaces names the two network interfaces of the gateway. They may be the same one.
type Interfaces struct{ V6, V4 string }

// AnswerARP says for which of the proxied addresses (SetProxied) ARP requests are answered.
type AnswerARP uint8

// The modes. An address that an interface of the host owns is never answered for: the kernel does that.
const (
	ARPAuto AnswerARP = iota // those on a subnet of the v4 interface
	ARPOn                    // all of them, also those that the neighbours take for on-link although the host does not
	ARPOff                   // none
)

// Hop is the way to a destination.
type Hop struct {
	Dst, Src [6]byte // link-layer addresses of the next hop and of the interface
	MTU      uint32  // bytes of the largest IP packet on this route
}

// Link is the state of one of the two interfaces.
type Link struct {
	Name  string
	Index int // 0: there is no such interface at the moment
	MAC   [6]byte
	MTU   uint32
	Up    bool // administratively up and with a carrier
}

// Table knows the way to every destination. Look-ups take no lock and allocate nothing; any number of goroutines may
// call any of its methods, except that there is one Run.
type Table struct {
	names Interfaces
	mode  AnswerARP
	log   *slog.Logger

	state      atomic.Pointer[snapshot]
	generation atomic.Uint64
}

type snapshot struct{}

// New reads the state of the calling thread's network namespace. It fails when an interface does not exist or is not
// an Ethernet one. The answers stay as they are until Run is called.
func New(i Interfaces, mode AnswerARP, log *slog.Logger) (*Table, error) {
	return &Table{names: i, mode: mode, log: log}, nil
}

// Run follows the kernel until ctx ends, then returns nil. In a process that uses several network namespaces, the
// calling goroutine must be locked to a thread in that of New.
func (t *Table) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Hop6 returns the way to dst by the v6 interface. With drop.None the hop is usable. With pending it is not known
// yet: queue the packet, call Resolve6, and ask again when Generation has changed. Other reasons are final until
// Generation changes: drop.NoRoute, drop.OtherInterface, drop.HostAddress, and drop.Neighbour for a next hop that
// does not answer.
func (t *Table) Hop6(dst packet.Addr6) (h Hop, pending bool, r drop.Reason) {
	return Hop{}, false, drop.NoRoute
}

// Hop4 returns the way to dst by the v4 interface, as Hop6 does.
func (t *Table) Hop4(dst packet.Addr4) (h Hop, pending bool, r drop.Reason) {
	return Hop{}, false, drop.NoRoute
}

// Resolve6 asks the kernel to find the next hop to dst on the v6 interface. It never blocks, and passes on at most
// one request a second for each next hop.
func (t *Table) Resolve6(dst packet.Addr6) {}

// Resolve4 asks the kernel to find the next hop to dst on the v4 interface, as Resolve6 does.
func (t *Table) Resolve4(dst packet.Addr4) {}

// Generation grows with every change that can alter an answer of Hop6 or Hop4.
func (t *Table) Generation() uint64 { return t.generation.Load() }

// Source6 returns the address of ours that an ICMPv6 error to dst should come from (RFC 4443 section 2.2): one of the
// v6 interface, or else one of another interface; false if the host has none of fitting scope.
func (t *Table) Source6(dst packet.Addr6) (packet.Addr6, bool) { return packet.Addr6{}, false }

// Source4 returns the address of ours that an ICMPv4 error to dst should come from (RFC 1812 section 4.3.2.4): one of
// the v4 interface, or else one of another interface; false if the host has none of fitting scope.
func (t *Table) Source4(dst packet.Addr4) (packet.Addr4, bool) { return packet.Addr4{}, false }

// Link6 returns the state of the v6 interface.
func (t *Table) Link6() Link { return Link{} }

// Link4 returns the state of the v4 interface.
func (t *Table) Link4() Link { return Link{} }

// MTU6 returns the MTU of the v6 interface in bytes.
func (t *Table) MTU6() uint32 { return t.Link6().MTU }

// MTU4 returns the MTU of the v4 interface in bytes.
func (t *Table) MTU4() uint32 { return t.Link4().MTU }

// OnLink has f called from Run's goroutine whenever Link6 or Link4 gives a new answer: up, down, gone, back with
// another index, another MTU or MAC. Call it before Run; f must not block.
func (t *Table) OnLink(f func()) {}

// HostAddresses returns all addresses of the host, on whatever interface. The caller owns the slice.
func (t *Table) HostAddresses() []netip.Addr { return nil }

// SetProxied replaces the addresses for which ARP requests on the v4 interface may have to be answered: pool4 and
// static rows. Which of them qualify is decided here, again with every change of the host's addresses; each that
// newly does is announced (RFC 5227 section 3).
func (t *Table) SetProxied(addrs []netip.Addr) {}

// Cache is one worker's memory of the answers of a Table: a plain array, direct-mapped by address, that forgets
// everything when Generation changes. It takes no lock and allocates nothing. One goroutine may use it.
type Cache struct{ t *Table }

// NewCache returns an empty cache in front of t.
func NewCache(t *Table) *Cache { return &Cache{t: t} }

// Hop6 is Table.Hop6, remembered.
func (c *Cache) Hop6(dst packet.Addr6) (h Hop, pending bool, r drop.Reason) { return c.t.Hop6(dst) }

// Hop4 is Table.Hop4, remembered.
func (c *Cache) Hop4(dst packet.Addr4) (h Hop, pending bool, r drop.Reason) { return c.t.Hop4(dst) }
