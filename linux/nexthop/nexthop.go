//go:build linux

// Package nexthop determines the next hop of a packet, its link-layer addresses and the path MTU. Instead of
// implementing ARP (RFC 826), neighbour discovery (RFC 4861) and routing, it follows the kernel's links, addresses,
// routes and neighbours through netlink. It also answers ARP for addresses of pool4 that no interface owns.
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
type Interfaces struct {
	V6, V4 string

	// Host6 and Host4 are zero for a NIC. For one end of a pair whose other end belongs to the host's own stack, they are the MAC of that
	// end: it is the next hop of every destination, because the host routes what arrives there.
	Host6, Host4 [6]byte
	ServeOwn     bool // packets to IPv4 addresses of the host go there, too
}

// AnswerARP selects the proxied addresses (SetProxied) for which nat64d answers ARP requests.
type AnswerARP uint8

// The modes. In every mode, the kernel alone answers for addresses of an interface of the host.
const (
	ARPAuto AnswerARP = iota // addresses on a subnet of the v4 interface
	ARPOn                    // all addresses, including those that only neighbours treat as on-link
	ARPOff                   // no addresses
)

// Link is the state of one of the two interfaces.
type Link struct {
	Name  string
	Index int // 0: the interface does not exist
	MAC   [6]byte
	MTU   uint32 // of the family that the interface serves, in bytes; a route may have a smaller one (packet.Hop)
	Up    bool   // administratively up and with a carrier
	Type  string // of an interface that has the name but is no Ethernet one; the index is 0 then
}

// Table contains the next hops of all destinations; a Cache queries it. Look-ups take no lock and allocate nothing:
// they read an immutable snapshot that Run replaces. All methods are safe for concurrent use, except that Run may be
// called only once.
type Table struct {
	names atomic.Pointer[Interfaces]
	moved chan struct{} // signals that names have changed
	mode  AnswerARP
	log   *slog.Logger

	onLink, onSurroundings []func()
	blind                  bool // the process may not read IPsec policies

	state      atomic.Pointer[snapshot]
	generation atomic.Uint64

	asks  chan ask
	asked askFilter

	proxied atomic.Pointer[[]netip.Addr]
	reproxy chan struct{} // signals that proxied has changed
	claims  *claims       // the proxied addresses that qualify
	hurry   chan struct{} // signals that a step of the claims has become urgent
}

// New reads the state of the calling thread's network namespace. It fails if an interface is not an Ethernet one. An
// interface that does not exist may be created later. The answers do not change until Run is called.
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
		moved:   make(chan struct{}, 1),
		blind:   k.blind,
		mode:    mode,
		log:     log,
		asks:    make(chan ask, maxAsks),
		asked:   askFilter{seed: maphash.MakeSeed()},
		reproxy: make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		claims:  newClaims(rand.N[time.Duration], log),
	}
	t.names.Store(&i)
	t.proxied.Store(&[]netip.Addr{})
	t.publish(s)
	return t, nil
}

// publish makes s the state of look-ups. A cache reads the generation before the state, so publish stores the state
// first: an answer is never cached under a generation newer than the answer.
func (t *Table) publish(s *snapshot) {
	t.state.Store(s)
	t.generation.Add(1)
}

// Blind reports whether the process may not read the IPsec policies of the host (it lacks CAP_NET_ADMIN). Packets
// that policies cover are then not refused.
func (t *Table) Blind() bool { return t.blind }

// Generation increases with every change that can alter a next hop.
func (t *Table) Generation() uint64 { return t.generation.Load() }

// Resolve6 asks the kernel to resolve the next hop of s on the v6 interface. It never blocks. For each client and
// next hop it passes on at most one request a second, and the number of concurrent searches for a client is limited.
// Call it again while a next hop in use is unknown or has failed.
func (t *Table) Resolve6(s packet.Selector6, client packet.Client) { t.resolve(v6, flow6(&s), client) }

// Resolve4 asks the kernel to resolve the next hop of s on the v4 interface, as Resolve6 does.
func (t *Table) Resolve4(s packet.Selector4, client packet.Client) { t.resolve(v4, flow4(&s), client) }

// Local4 reports whether a is an address of the host, according to the routes for the v4 interface.
func (t *Table) Local4(a packet.Addr4) bool {
	return !t.names.Load().ServeOwn && t.state.Load().local(v4, netip.AddrFrom4(a))
}

// Source6 returns the source address for an ICMPv6 error to dst (RFC 4443 section 2.2): an address of the v6
// interface or, if it has none, of another interface. It returns false if the host has no address of a suitable
// scope.
func (t *Table) Source6(dst packet.Addr6) (packet.Addr6, bool) {
	a, ok := t.state.Load().sources[v6].best(netip.AddrFrom16(dst))
	if !ok {
		return packet.Addr6{}, false
	}
	return a.As16(), true
}

// Source4 returns the source address for an ICMP error to dst (RFC 1812 section 4.3.2.4): an address of the v4
// interface or, if it has none, of another interface. It returns false if the host has no address of a suitable
// scope.
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

// OnLink registers f, which Run's goroutine calls whenever the result of Link6 or Link4 changes: up, down, deleted,
// re-created with another index, another MTU or MAC. Call OnLink before Run; f must not block.
func (t *Table) OnLink(f func()) { t.onLink = append(t.onLink, f) }

// OnSurroundings registers f, which Run's goroutine calls whenever the results of Within, Broadcasts, HostAddresses or
// Primary4 may have changed. Call it before Run; f must not block.
func (t *Table) OnSurroundings(f func()) { t.onSurroundings = append(t.onSurroundings, f) }

// HostAddresses returns the addresses of all interfaces of the host. The caller owns the slice.
func (t *Table) HostAddresses() []netip.Addr { return slices.Clone(t.state.Load().hosts) }

// SetProxied replaces the addresses for which nat64d may answer ARP requests on the v4 interface: pool4 and static
// rows. Run determines which of them qualify, and repeats this when the host's addresses change. It probes each new
// one, and announces it if no other station has it (RFC 5227).
func (t *Table) SetProxied(addrs []netip.Addr) {
	own := slices.Clone(addrs)
	t.proxied.Store(&own)
	select {
	case t.reproxy <- struct{}{}:
	default: // Run has not processed the previous change and will see this one with it
	}
}

// Move makes the table follow other interfaces.
func (t *Table) Move(i Interfaces) {
	t.names.Store(&i)
	select {
	case t.moved <- struct{}{}:
	default: // Run has not processed the previous move and will see this one with it
	}
}

// String returns the name of the mode in configuration files.
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

// ParseAnswerARP parses auto, on or off.
func ParseAnswerARP(s string) (AnswerARP, error) {
	for _, m := range []AnswerARP{ARPAuto, ARPOn, ARPOff} {
		if m.String() == s {
			return m, nil
		}
	}
	return ARPAuto, fmt.Errorf("answer_arp %q: must be auto, on or off", s)
}
