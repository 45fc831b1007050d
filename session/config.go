package session

import (
	"cmp"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Timeouts are the lifetimes of sessions (RFC 6146 section 4), from the last packet that restarts them.
type Timeouts struct {
	UDP            time.Duration // UDP_DEFAULT
	UDPDNS         time.Duration // of a UDP session to port 53 or 123 after the first answer; 0: as long as UDP
	ICMP           time.Duration // ICMP_DEFAULT
	TCPEstablished time.Duration // TCP_EST
	TCPOpening     time.Duration // TCP_TRANS until both sides have sent a SYN (RFC 7857 section 2.1)
	TCPTransitory  time.Duration // TCP_TRANS after FINs, a RST, or TCP_EST without a packet
}

// Config is the configuration that may change while packets flow. The zero value is strict: packets from the Internet
// neither open nor refresh sessions, no SYN is stored, no port is held down.
type Config struct {
	Timeouts Timeouts

	AllowInboundTCP  bool // a V4 SYN opens a session (RFC 6146 section 3.5.2.2, state CLOSED); otherwise it is dropped
	AddressDependent bool // only IPv4 addresses to which the client has sent may answer (RFC 4787 REQ-8)
	InboundRefresh   bool // UDP and ICMP packets of the Internet side prolong their session (RFC 4787 REQ-6, RFC 6146 section 5.3)
	InternetIsV6     bool // the Internet is the IPv6 side, not the IPv4 side
	RSTDuringFIN     bool // a RST after one FIN sets TCP_TRANS (RFC 7857 section 2.2), not TCP_EST (RFC 6146)
	CheckSequence    bool // a RST or FIN must be in the window to have an effect

	Max                  int  // sessions, restored ones aside; 0: as many as fit. Only New reads it
	MaxPerClient         int  // sessions of a client; 0: no limit
	MaxBindingsPerClient int  // dynamic bindings of a client; 0: no limit
	FairShare            bool // bib.Limits.FairShare
	MaxPerBinding        int  // sessions of a binding, static ones included; 0: no limit
	MaxInbound           int  // sessions that IPv4 hosts have opened; 0: a quarter of the table
	MaxInboundPerClient  int  // those of a client; 0: half of MaxInbound
	MaxInboundPerBinding int  // those of a binding; 0: a quarter of MaxInbound
	NewPerSecond         int  // sessions that a client may open a second, and in a burst; 0: no limit
	ClientPrefixLen      int  // length of the prefix that makes a client; 0: 64

	Reclaim       bool          // new sessions take the ports of closed ones when no other is free (against RFC 6888 REQ-11 D)
	StoreSYNs     bool          // an unexpected V4 SYN is refused as drop.StoredSYN, and the caller stores it
	MaxHeldPorts  int           // ports and Identifiers in hold-down; beyond it the oldest are freed; 0: no limit
	PortHoldDown  time.Duration // of a released UDP port or Identifier; 0: none
	PortRest      time.Duration // pool4.Config.RestAtLeast
	PortBlockSize int           // pool4.Config.BlockSize
	HashFields    pool4.Fields  // of a flow on which the choice of a port depends

}

// policy is the part of a Config that packets need, precomputed.
type policy struct {
	steps    machine
	limits   limits
	inbound  bool
	stores   bool
	shortens bool     // answers shorten the lifetime of sessions to the ports of shortLived
	reclaims bool     // closed sessions give their ports to new ones
	peers    *peers   // nil: endpoint-independent filtering
	windows  *windows // nil: sequence numbers do not matter
}

// Prepare reserves the memory that Configure will need for c, so that Configure cannot fail. It returns a
// *table.NoMemory if the kernel refuses it, and then changes nothing. It frees memory that it has reserved before and
// that Configure has not used.
func (t *Table) Prepare(c Config) error {
	t.configuring.Lock()
	defer t.configuring.Unlock()
	t.prepared = nil
	err := table.Reserved(func() {
		t.bib.Prepare(c.bindings())
		if c.AddressDependent && t.peers.Load() == nil {
			t.prepared = newPeers(t.max, t.key, t.epochs)
		}
	})
	if err != nil {
		t.bib.Prepare(bib.Config{}) // nothing
	}
	return err
}

// Configure replaces the configuration, that of the bindings and of pool4 included. New timeouts apply to existing
// sessions, too, from the beginning of their lifetime. Lower limits end nothing by themselves; a new session can then
// evict a few that IPv4 hosts have opened (see inbound).
//
// If it switches address-dependent filtering or limits of clients on, or changes their prefix length, it first counts
// all sessions, under the lock of one shard at a time, which takes about a second for ten million. Until then the new
// filter and limits do not apply.
func (t *Table) Configure(c Config) {
	t.configuring.Lock()
	defer t.configuring.Unlock()
	b := c.bindings()
	b.Log, b.Pool.LogBlock = t.bindingChanged, t.blockChanged
	t.bib.Configure(b, t.countClients)
	t.inbound.configure(c.inboundQuotas(t.limit), b.Limits.PrefixLen)
	p := &policy{
		steps: steps.with(&c),
		limits: limits{
			lifeUDP:         table.TimeOf(c.Timeouts.UDP),
			lifeICMP:        table.TimeOf(c.Timeouts.ICMP),
			lifeEstablished: table.TimeOf(c.Timeouts.TCPEstablished),
			lifeOpening:     table.TimeOf(c.Timeouts.TCPOpening),
			lifeTransitory:  table.TimeOf(c.Timeouts.TCPTransitory),
			lifeIdle:        table.TimeOf(c.Timeouts.TCPTransitory),
			lifeAnswered:    table.TimeOf(c.Timeouts.UDP),
			lifeRefused:     table.TimeOf(c.Timeouts.TCPOpening),
		},
		inbound:  c.AllowInboundTCP,
		stores:   c.StoreSYNs,
		shortens: 0 < c.Timeouts.UDPDNS && c.Timeouts.UDPDNS < c.Timeouts.UDP,
	}
	if p.shortens {
		p.limits[lifeAnswered] = table.TimeOf(c.Timeouts.UDPDNS)
	}
	if c.AddressDependent {
		p.peers = t.knowPeers()
	}
	if c.CheckSequence {
		p.windows = t.knowWindows()
	}
	p.reclaims = c.Reclaim
	was := t.policy.Swap(p)
	if p.reclaims && (was == nil || !was.reclaims) {
		t.noteAllClosed()
	}
	t.round.overtaken.Store(true)
	t.peers.Store(p.peers)
}

// inboundQuotas returns the quotas of sessions that IPv4 hosts open in a table of max sessions.
func (c *Config) inboundQuotas(max int64) (q [scopes]uint32) {
	share := func(n int, of, part uint32) uint32 {
		if n != 0 {
			return uint32(n)
		}
		return (of + part - 1) / part
	}
	q[inAll] = share(c.MaxInbound, uint32(max), 4)
	q[ofClient] = share(c.MaxInboundPerClient, q[inAll], 2)
	q[ofBinding] = share(c.MaxInboundPerBinding, q[inAll], 4)
	return q
}

// defaultPrefixLen makes a client of one link (RFC 4291 section 2.5.4).
const defaultPrefixLen = 64

// bindings returns the configuration of bindings and pool4.
func (c *Config) bindings() bib.Config {
	b := bib.Config{
		Limits: bib.Limits{
			PrefixLen:    cmp.Or(c.ClientPrefixLen, defaultPrefixLen),
			Bindings:     c.MaxBindingsPerClient,
			FairShare:    c.FairShare,
			Sessions:     c.MaxPerClient,
			NewPerSecond: c.NewPerSecond,
		},
		SessionsPerBinding: c.MaxPerBinding,

		Pool: pool4.Config{
			HoldDown:    c.PortHoldDown,
			RestAtLeast: c.PortRest,
			MaxHeld:     c.MaxHeldPorts,
			BlockSize:   c.PortBlockSize,
			Fields:      c.HashFields,
		},
	}
	return b
}

// knowPeers returns the peers of all sessions. It publishes new peers first, which new and ending sessions then update,
// and counts the existing sessions shard by shard.
func (t *Table) knowPeers() *peers {
	if p := t.peers.Load(); p != nil {
		return p
	}
	t.generation = t.generation.Next()
	p := t.prepared
	if p == nil {
		p = newPeers(t.max, t.key, t.epochs)
	}
	t.prepared, p.generation = nil, t.generation
	t.peers.Store(p)
	t.allEntries(func(e *entry) {
		if e.peers != p.generation && p.add(e.binding, e.remote) {
			e.peers = p.generation
		}
	})
	return p
}

// knowWindows returns the existing windows, or new ones, all unknown.
func (t *Table) knowWindows() *windows {
	if old := t.policy.Load(); old != nil && old.windows != nil {
		return old.windows
	}
	return newWindows(t.entries.Cap(), t.files)
}

// countClients counts all sessions for the limits of their clients.
func (t *Table) countClients() {
	t.allEntries(func(e *entry) {
		e.client = t.bib.JoinLocked(t.bib.Client(e.binding).Addr, e.client)
	})
}

// allEntries calls f for every session, under the lock of its shard.
func (t *Table) allEntries(f func(*entry)) {
	for i := range t.index.Shards() {
		t.eachOfShard(i, f)
	}
}

func (t *Table) eachOfShard(i int, f func(*entry)) {
	s := t.index.LockShard(i)
	defer s.Unlock()
	s.Each(func(slot uint32) { f(t.entries.At(slot)) })
}

// admit returns drop.None if a packet from IPv4 without a session may pass to its binding.
func (c *policy) admit(id bib.ID, q *event) drop.Reason {
	syn := q.proto == packet.TCP && q.tcp == packet.SYN
	switch {
	case syn && !c.inbound:
		return drop.Filtered
	case c.peers == nil || c.peers.has(id, q.remote.Addr):
		return drop.None
	case syn && c.stores:
		return drop.StoredSYN
	}
	return drop.FilteredAddress
}
