// Package gateway puts ports, tables and translator together: a stateful NAT64 (RFC 6146). It starts all goroutines of
// the data path.
package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nat64d/bib"
	"nat64d/config"
	"nat64d/drop"
	"nat64d/egress"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
	"nat64d/xlat"
)

// Side is one of the two networks.
type Side uint8

// The sides.
const (
	V6 Side = iota
	V4
)

// String returns v6 or v4.
func (s Side) String() string { return [...]string{"v6", "v4"}[s] }

// Config is what may be replaced while packets flow. It is immutable once given to the gateway.
type Config struct {
	Pool6           []pool6.Prefix     // at least one; the first is that of sessions which IPv4 hosts begin
	Private         []config.PrivateV4 // for each prefix of Pool6; those that are missing are Auto
	Xlat            xlat.Config
	Bypass          []netip.Prefix     // parts of the prefixes that are the host's to forward, unless a prefix inside has them
	Allow4          []netip.Prefix     // IPv4 destinations that may be reached; empty: all
	Deny4           []netip.Prefix     // IPv4 destinations that may not be reached, even if they are in Allow4
	DenyPorts       []PortRule         // some of whose ports may not be reached
	Broadcasts      []packet.Addr4     // of the IPv4 interface's own subnets: nothing comes from them (RFC 1812 section 5.3.7)
	Allow6          []netip.Prefix     // clients that may use the gateway; empty: all
	SourceCheck     config.SourceCheck // of packets from IPv6
	NoEcho          bool               // refuse ICMPv6 echo (RFC 6146 section 3.5.3)
	MTU6, MTU4      uint32             // of the two links, in bytes, where they are less than the kernel says; 0: as it says
	LowestIPv6MTU   int                // largest IPv6 packet made of an IPv4 packet that may be fragmented, in bytes
	ClampMSS        int                // upper bound of the TCP MSS option; 0: none, AutoMSS: what the links carry
	Plateaus        []uint16           // MTUs that a router which reports none may have meant (RFC 1191 section 7)
	Fragments       fragment.Limits
	Coalesce        Coalescing         // which packets of a flow leave as one super-packet
	Moderation      time.Duration      // how long the next packets may gather after some came together; 0: not at all
	Answers         [drop.Choices]bool // which of the choices are made, so that their errors are sent
	ErrorsPerSecond int                // ICMP errors of each icmp.Kind but Size to one destination; 0: no limit
	ErrorsTotal     int                // ICMP errors of each icmp.Kind but Size, and of one family; 0: no limit
	TooBigPerSecond int                // ICMP errors of icmp.Size to one destination; 0: no limit
	Source6         packet.Addr6       // of our own errors; zero: chosen by Routes
	Source4         packet.Addr4       // of our own errors; zero: chosen by Routes
	// LiteralReporter has translated ICMPv4 errors come from the destination of the packet they are about, as RFC 6146
	// section 3.6.2 says, instead of the router that reports it.
	LiteralReporter bool
	Session         session.Config // Configure sets StoreSYNs
	SYNs            synstore.Limits
}

// PortRule is about the transport addresses of IPv4 hosts: ports Lo to Hi of a protocol. All of ICMP is Lo 0, Hi 65535.
type PortRule struct {
	Prefix netip.Prefix
	Proto  packet.Proto
	Lo, Hi uint16
}

// AutoMSS as Config.ClampMSS keeps TCP segments within the MTUs of both links.
const AutoMSS = egress.AutoMSS

// Coalescing says which protocols' packets leave as one super-packet when they are consecutive ones of a flow.
type Coalescing uint8

// The kinds of coalescing.
const (
	CoalesceNone Coalescing = iota
	CoalesceTCP             // for kernels that take no other super-packets
	CoalesceAll
)

// Routes knows the host's routes, neighbours and addresses; it is implemented by nexthop.Table. All methods are for any
// number of goroutines.
type Routes interface {
	// Generation grows with every change that can alter an answer of Hops.
	Generation() uint64
	// Resolve6 and Resolve4 make the next hop's link address known, some time after they have returned. How much is
	// looked for at a time on behalf of one client is bounded: ask again for what stays unknown.
	Resolve6(f packet.Selector6, client packet.Client)
	Resolve4(f packet.Selector4, client packet.Client)
	// Local4 reports whether an IPv4 address is the host's own.
	Local4(a packet.Addr4) bool
	// Source6 and Source4 return the address of the host that an ICMP error to dst comes from.
	Source6(dst packet.Addr6) (packet.Addr6, bool)
	Source4(dst packet.Addr4) (packet.Addr4, bool)
}

// Hops is one worker's view of Routes, implemented by nexthop.Cache. Pending means that the answer is on its way: ask
// again when the generation has changed. One goroutine uses it.
type Hops interface {
	egress.Hops
	// ByDestination reports whether the last answer was the same for all flows to the destination.
	ByDestination() bool
}

// Options are what a gateway is made of.
type Options struct {
	Config  Config
	Routes  Routes
	Hops    func() Hops // a new one for each worker
	Pool4   *pool4.Pool
	Max     int      // bindings and sessions that fit
	Workers int      // of each side, that share its packets by flow; 0: one
	Key     [16]byte // secret of hashes, from a cryptographic generator
	// Open opens a port on the NIC of a side, to receive packets of that family and send any; with send only to
	// send. Ports of one side share its packets. It is called again when a port has failed, and until
	// the NIC is there after fs.ErrNotExist.
	Open func(s Side, send bool) (Port, error)
	// Settle is called on the thread of each worker, the i-th of its side, before it carries packets; may be nil.
	Settle func(s Side, i int)
	Clock  func() time.Duration // time since the start, never going back; nil: the system's
	Log    *slog.Logger
	// RingAdvice is what to log, at most once an hour, when the kernel cannot hand over more than one packet in a hundred
	// for ten seconds; empty: nothing.
	RingAdvice string
}

// Gateway is a running NAT64. Its methods may be called by any goroutine.
type Gateway struct {
	Pool4    *pool4.Pool
	Bindings *bib.Table
	Sessions *session.Table
	Counters *metrics.Set
	SYNs     *synstore.Store

	routes Routes
	max    int             // bindings and sessions that fit
	upkeep *metrics.Worker // of maintain
	epochs *table.Epochs
	clock  func() time.Duration
	log    *slog.Logger

	ringAdvice string

	admin   sync.Mutex // held while conf is replaced
	conf    atomic.Pointer[conf]
	paused  atomic.Bool
	workers []*worker

	outages [sides]outage
	paths   egress.Paths
	probes  mailbox[session.Probe] // for the worker of the IPv6 side
	syns    mailbox[synstore.SYN]  // for the worker of the IPv4 side
}

const sides = 2

// place says which worker of how many of a side one is.
type place struct {
	side  Side
	i, of int
}

// New makes a gateway. Nothing runs until Run is called.
func New(o Options) *Gateway {
	g := &Gateway{Pool4: o.Pool4, max: o.Max, routes: o.Routes, clock: o.Clock, log: o.Log, ringAdvice: o.RingAdvice}
	if g.clock == nil {
		start := time.Now()
		g.clock = func() time.Duration { return time.Since(start) }
	}
	for s := range g.outages {
		g.outages[s].log = g.log.With("side", Side(s))
	}
	n := max(o.Workers, 1)
	g.epochs = table.NewEpochs(sides * n)
	g.Bindings = bib.New(o.Pool4, g.epochs, o.Max, o.Key)
	g.SYNs = new(synstore.Store)
	g.Sessions = session.New(g.Bindings, g.epochs, o.Max, g.SYNs, o.Config.Session)
	g.Counters = metrics.New(sides*n + 1)
	g.upkeep = g.Counters.Worker(sides * n)
	g.Configure(o.Config)
	for s := range Side(sides) {
		for i := range n {
			g.workers = append(g.workers, newWorker(g, place{s, i, n}, &o))
		}
	}
	return g
}

// Now returns the time of the tables.
func (g *Gateway) Now() table.Time { return table.Time(g.clock() / table.Tick) }

// Pause stops translating; sessions live on until they expire. Resume goes on.
func (g *Gateway) Pause() { g.paused.Store(true) }

// Resume ends a Pause.
func (g *Gateway) Resume() { g.paused.Store(false) }

// Paused says whether translation is paused.
func (g *Gateway) Paused() bool { return g.paused.Load() }

// Open opens all ports, so that a NIC that cannot be used is known before the gateway says that it is ready. One that is not
// there yet is waited for by Run.
func (g *Gateway) Open() error {
	for _, w := range g.workers {
		if err := w.open(); err != nil {
			g.Close()
			return err
		}
	}
	return nil
}

// Close closes the ports of a gateway that is not running.
func (g *Gateway) Close() {
	for _, w := range g.workers {
		w.close()
	}
}

// Run carries packets until ctx ends. It opens the ports that are not open, and closes all of them in the end.
func (g *Gateway) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range g.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	group.Go(func() error { return g.maintain(ctx) })
	return group.Wait()
}

// mailbox hands what the sweep has found to the worker that sends on the side concerned.
type mailbox[T any] struct {
	mu      sync.Mutex
	waiting []T
	any     atomic.Bool
}

// maxMail is how many may wait: more connections than that fall silent in one sweep only after an outage.
const maxMail = 1024

func (m *mailbox[T]) put(t T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) < maxMail {
		m.waiting = append(m.waiting, t)
		m.any.Store(true)
	}
}

// take moves what waits into the worker's own slice.
func (m *mailbox[T]) take(into []T) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	into = append(into[:0], m.waiting...)
	m.waiting = m.waiting[:0]
	m.any.Store(false)
	return into
}
