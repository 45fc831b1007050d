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

// Timeouts are the lifetimes of sessions (RFC 6146 section 4), counted from the last packet that restarts them.
type Timeouts struct {
	UDP            time.Duration // UDP_DEFAULT
	ICMP           time.Duration // ICMP_DEFAULT
	TCPEstablished time.Duration // TCP_EST
	TCPOpening     time.Duration // TCP_TRANS while only one side has sent a SYN (RFC 7857 section 2.1)
	TCPTransitory  time.Duration // TCP_TRANS afterwards: FINs, a RST, or silence for TCP_EST
}

// Config is the configuration that can be replaced at run time. The zero value is strict: packets from IPv4 neither
// open nor refresh sessions, no SYN is stored, no port is held down.
type Config struct {
	Timeouts Timeouts

	AllowInboundTCP  bool // a V4 SYN opens a session (RFC 6146 section 3.5.2.2, state CLOSED); otherwise it vanishes
	AddressDependent bool // only IPv4 addresses that the client has spoken to may answer (RFC 4787 REQ-8)
	InboundRefresh   bool // UDP and ICMP packets of the Internet side prolong their session (RFC 4787 REQ-6, RFC 6146 section 5.3)
	InternetIsV6     bool // the Internet is the IPv6 side, not the IPv4 side
	RSTDuringFIN     bool // a RST after one FIN sets TCP_TRANS (RFC 7857 section 2.2), not TCP_EST (RFC 6146)
	CheckSequence    bool // a RST or FIN that is handed to TCP6 or TCP4 must lie in the window to have an effect

	MaxPerClient         int // sessions of a client; 0: no limit
	MaxBindingsPerClient int // dynamic bindings of a client; 0: no limit
	MaxPerBinding        int // sessions of a binding, static ones included; 0: no limit
	MaxInbound           int // sessions that IPv4 hosts have begun; 0: a quarter of the table
	MaxInboundPerClient  int // those of a client; 0: half of MaxInbound
	MaxInboundPerBinding int // those of a binding; 0: a quarter of MaxInbound
	NewPerSecond         int // sessions that a client may open in a second, and at once; 0: no limit
	ClientPrefixLen      int // the bits of an IPv6 address that make a client; 0: 64

	StoreSYNs     bool          // an unexpected V4 SYN is refused as drop.StoredSYN, for the caller to store
	MaxHeldPorts  int           // ports and Identifiers that rest at most, the oldest are let go; 0: no limit
	PortHoldDown  time.Duration // for how long a released UDP port or Identifier is not used again; 0: not at all
	PortBlockSize int           // consecutive ports that a client gets for itself at a time: pool4.Config.BlockSize
	HashFields    pool4.Fields  // what the choice of a port depends on

}

// policy is a Config in the form that packets need.
type policy struct {
	steps   machine
	limits  limits
	inbound bool
	stores  bool
	peers   *peers   // nil: endpoint-independent filtering
	windows *windows // nil: sequence numbers do not matter
}

// Prepare reserves the memory that Configure will need for c, so that Configure cannot fail. It returns a *table.NoMemory
// if there is none; nothing has changed then. It gives up what it has reserved before and Configure has not used.
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

// Configure replaces the configuration, that of the bindings and of pool4 included. New timeouts hold for the sessions
// that exist, too, counted from when their lifetime began. Lower limits end nothing by themselves; a new session may then end
// a few that IPv4 hosts have begun (see inbound).
//
// When address-dependent filtering is switched on, or limits of clients are or get another prefix length, it counts
// all sessions first, under the lock of one shard at a time, which takes about a second for ten million; until then,
// the new filter and limits do not hold.
func (t *Table) Configure(c Config) {
	t.configuring.Lock()
	defer t.configuring.Unlock()
	b := c.bindings()
	b.Log, b.Pool.LogBlock = t.bindingChanged, t.blockChanged
	t.bib.Configure(b, t.countClients)
	t.inbound.configure(c.inboundQuotas(t.max), b.Limits.PrefixLen)
	p := &policy{
		steps: steps.with(&c),
		limits: limits{
			lifeUDP:         table.TimeOf(c.Timeouts.UDP),
			lifeICMP:        table.TimeOf(c.Timeouts.ICMP),
			lifeEstablished: table.TimeOf(c.Timeouts.TCPEstablished),
			lifeOpening:     table.TimeOf(c.Timeouts.TCPOpening),
			lifeTransitory:  table.TimeOf(c.Timeouts.TCPTransitory),
			lifeIdle:        table.TimeOf(c.Timeouts.TCPTransitory),
		},
		inbound: c.AllowInboundTCP,
		stores:  c.StoreSYNs,
	}
	if c.AddressDependent {
		p.peers = t.knowPeers()
	}
	if c.CheckSequence {
		p.windows = t.knowWindows()
	}
	t.policy.Store(p)
	t.peers.Store(p.peers)
}

// inboundQuotas returns how many sessions IPv4 hosts may have begun in a table for max.
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

// bindings returns what concerns bindings and pool4.
func (c *Config) bindings() bib.Config {
	b := bib.Config{
		Limits: bib.Limits{
			PrefixLen:    cmp.Or(c.ClientPrefixLen, defaultPrefixLen),
			Bindings:     c.MaxBindingsPerClient,
			Sessions:     c.MaxPerClient,
			NewPerSecond: c.NewPerSecond,
		},
		SessionsPerBinding: c.MaxPerBinding,

		Pool: pool4.Config{
			HoldDown:  c.PortHoldDown,
			MaxHeld:   c.MaxHeldPorts,
			BlockSize: c.PortBlockSize,
			Fields:    c.HashFields,
		},
	}
	return b
}

// knowPeers returns the peers of all sessions. From the moment in which it makes them, new sessions and ends of
// sessions keep them right; those that exist it counts shard by shard.
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
	t.eachLocked(func(e *entry) {
		if e.peers != p.generation && p.add(e.binding, e.remote) {
			e.peers = p.generation
		}
	})
	return p
}

// knowWindows returns the windows that there are, or new ones, in which nothing is known yet.
func (t *Table) knowWindows() *windows {
	if old := t.policy.Load(); old != nil && old.windows != nil {
		return old.windows
	}
	return newWindows(t.entries.Cap())
}

// countClients has bib count all sessions.
func (t *Table) countClients() {
	t.eachLocked(func(e *entry) {
		e.client = t.bib.JoinLocked(t.bib.Client(e.binding).Addr, e.client)
	})
}

// eachLocked calls f for every session, under the lock of its shard.
func (t *Table) eachLocked(f func(*entry)) {
	for i := range t.index.Shards() {
		t.eachOfShard(i, f)
	}
}

func (t *Table) eachOfShard(i int, f func(*entry)) {
	s := t.index.LockShard(i)
	defer s.Unlock()
	s.Each(func(slot uint32) { f(t.entries.At(slot)) })
}

// admit returns whether a packet from IPv4 without a session may use its binding, and otherwise the reason.
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
