package gateway

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nat64d/bib"
	"nat64d/egress"
	"nat64d/ops/metrics"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
)

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

	routes   Routes
	epochs   *table.Epochs
	clock    func() time.Duration
	settle   func(Side, int)
	settings settings
	upkeep   upkeep
	workers  []*worker
	outages  [sides]outage
	paths    egress.Paths
	mail     mail
}

// settings are read once for each batch.
type settings struct {
	admin  sync.Mutex // held while conf is replaced
	conf   atomic.Pointer[conf]
	paused atomic.Bool
}

// upkeep is what maintain counts and logs with.
type upkeep struct {
	count      *metrics.Worker
	max        int // bindings and sessions that fit
	ringAdvice string
	log        *slog.Logger
}

// mail is what the sweep finds and workers send.
type mail struct {
	probes mailbox[session.Probe]
	syns   mailbox[synstore.SYN]
}

// New makes a gateway. Nothing runs until Run is called.
func New(o Options) *Gateway {
	g := &Gateway{Pool4: o.Pool4, routes: o.Routes, clock: o.Clock, settle: o.Settle}
	g.upkeep = upkeep{max: o.Max, ringAdvice: o.RingAdvice, log: o.Log}
	if g.clock == nil {
		start := time.Now()
		g.clock = func() time.Duration { return time.Since(start) }
	}
	for s := range g.outages {
		g.outages[s].log = o.Log.With("side", Side(s))
	}
	n := max(o.Workers, 1)
	g.epochs = table.NewEpochs(sides * n)
	g.Bindings = bib.New(o.Pool4, g.epochs, o.Max, o.Key)
	g.SYNs = new(synstore.Store)
	g.Sessions = session.New(g.Bindings, g.epochs, o.Max, g.SYNs, o.Config.Session)
	g.Counters = metrics.New(sides*n + 1)
	g.upkeep.count = g.Counters.Worker(sides * n)
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

// Pause stops translating; sessions live on until they expire. Resume continues.
func (g *Gateway) Pause() { g.settings.paused.Store(true) }

// Resume ends a Pause.
func (g *Gateway) Resume() { g.settings.paused.Store(false) }

// Paused reports whether translation is paused.
func (g *Gateway) Paused() bool { return g.settings.paused.Load() }

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

// Close closes the ports of a gateway that is not running, and delivers the events that others than packets have caused.
func (g *Gateway) Close() {
	g.Sessions.Deliver()
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
	stop := g.deliver()
	defer stop() // after the last event
	return group.Wait()
}
