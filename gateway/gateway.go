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
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
)

// Options are the parameters of a gateway.
type Options struct {
	Config  Config
	Routes  Routes
	Hops    func() Hops // returns a new one for each worker
	View    func() Hops // the same for Explain: one whose queries have no effect; nil: Hops
	Pool4   *pool4.Pool
	Max     int         // number of bindings and of sessions for which there is room; Config.Session.Max limits new ones
	Workers int         // per side; they share its packets by flow; 0: one
	Key     [16]byte    // secret for hashes, from a cryptographic generator
	Files   table.Files // keep bindings and sessions when the process ends; nil: they end with it
	// Open opens a port on the NIC of a side, which receives packets of that family and sends any or, with send, only
	// sends. The ports of a side share its packets. The gateway calls Open again when a port has failed, and retries
	// while it returns fs.ErrNotExist. Any goroutine may call it.
	Open func(s packet.Family, send bool) (Port, error)
	// Loaded is called by a worker after a large batch, at most ten times a second. It must not block; may be nil.
	Loaded func()
	// Settle is called on the thread of each worker, the i-th of its side, before it processes packets; may be nil.
	Settle func(s packet.Family, i int)
	// Alive is called by the maintenance, at least once in two seconds; may be nil.
	Alive func()
	// Scarce is called by the maintenance, at least once a second, and reports whether memory is scarce; may be nil.
	Scarce func() bool
	// Panics records the panics of the goroutines of the gateway; nil: it ends the process after one that may have left a table
	// half changed.
	Panics *Panics
	Clock  func() time.Duration // monotonic time since the start; nil: the system's clock
	Log    *slog.Logger
	// RingAdvice is logged, at most once an hour, when the kernel drops more than 1 % of the packets for ten seconds
	// because the ring is full; empty: nothing is logged.
	RingAdvice string
}

// Gateway is a running NAT64. Its methods are safe for concurrent use.
type Gateway struct {
	Pool4    *pool4.Pool
	Bindings *bib.Table
	Sessions *session.Table
	Counters *metrics.Set
	SYNs     *synstore.Store

	routes   Routes
	epochs   *table.Epochs
	settings settings
	upkeep   upkeep
	workers  []*worker
	outages  [sides]outage
	paths    egress.Paths
	mail     mail
	hooks
	operator
}

// operator is what answers an operator's questions.
type operator struct {
	pings     pings
	explainer explainer
}

// hooks are functions of the gateway's user. All except clock may be nil.
type hooks struct {
	clock  func() time.Duration
	settle func(packet.Family, int)
	loaded func()
	alive  func()
	scarce func() bool
}

// settings are read once for each batch.
type settings struct {
	admin  sync.Mutex // held while conf is replaced
	conf   atomic.Pointer[conf]
	paused atomic.Bool
	taps   atomic.Pointer[tapSet] // nil: there are none

	accounting atomic.Pointer[accounting] // nil: off
}

// upkeep is what maintain counts and logs with.
type upkeep struct {
	count      *metrics.Worker
	max        int // maximum number of bindings and of sessions
	ringAdvice string
	log        *slog.Logger
	panics     *Panics
	beat       atomic.Int64 // when maintain last went round
}

// mail passes results of the sweep to the workers that send, and tells the deliverer of events.
type mail struct {
	events chan struct{}
	probes mailbox[session.Probe]
	syns   mailbox[synstore.SYN]
}

// limit returns the number of bindings, and of sessions, at which the tables are full for new ones.
func (o *Options) limit() int {
	if n := o.Config.Session.Max; n > 0 {
		return min(n, o.Max)
	}
	return o.Max
}

// New creates a gateway. It starts nothing; see Run.
func New(o Options) *Gateway {
	g := &Gateway{Pool4: o.Pool4, routes: o.Routes, hooks: hooks{clock: o.Clock, settle: o.Settle, loaded: o.Loaded, alive: o.Alive, scarce: o.Scarce}}
	g.mail.events = make(chan struct{}, 1)
	if g.explainer.hops = o.View; o.View == nil {
		g.explainer.hops = o.Hops
	}
	g.pings.init()
	g.upkeep.max, g.upkeep.ringAdvice, g.upkeep.log, g.upkeep.panics = o.limit(), o.RingAdvice, o.Log, o.Panics
	if o.Panics == nil {
		g.upkeep.panics = NewPanics(o.Log, nil)
	}
	if g.clock == nil {
		start := time.Now()
		g.clock = func() time.Duration { return time.Since(start) }
	}
	for s := range g.outages {
		g.outages[s].log = o.Log.With("side", packet.Family(s))
	}
	n := max(o.Workers, 1)
	g.epochs = table.NewEpochs(sides * n)
	g.Bindings = bib.New(o.Pool4, g.epochs, o.Max, o.Key, o.Files)
	g.SYNs = new(synstore.Store)
	g.Sessions = session.New(g.Bindings, g.epochs, o.Max, g.SYNs, o.Config.Session, o.Files)
	g.Sessions.OnEvent(g.happened)
	g.Counters = metrics.New(sides*n + 1)
	g.upkeep.count = g.Counters.Worker(sides * n)
	g.Configure(o.Config)
	for s := range packet.Family(sides) {
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

// Resume continues translation.
func (g *Gateway) Resume() { g.settings.paused.Store(false) }

// Paused reports whether translation is paused.
func (g *Gateway) Paused() bool { return g.settings.paused.Load() }

// Open opens all ports, so that an unusable NIC is detected before the gateway reports readiness. Run waits for NICs
// that do not exist. The ports open at the same time, because each waits for the kernel.
func (g *Gateway) Open() error {
	var group errgroup.Group
	for _, w := range g.workers {
		group.Go(w.in.first)
		group.Go(w.back.first)
	}
	err := group.Wait()
	if err != nil {
		g.Close()
	}
	return err
}

// Close closes the ports of a gateway that is not running, and delivers the events that others than packets have caused.
func (g *Gateway) Close() {
	g.Sessions.Deliver()
	for _, w := range g.workers {
		w.close()
	}
}

// Stuck returns the goroutines of the data path that have not gone round for that long: they wait for packets for idleWait at most.
func (g *Gateway) Stuck(after time.Duration) (names []string) {
	oldest := int64(g.clock() - after)
	for _, w := range g.workers {
		if w.in.beat.Load() < oldest {
			names = append(names, w.name())
		}
	}
	if g.upkeep.beat.Load() < oldest {
		names = append(names, "maintenance")
	}
	return names
}

// Wake makes all workers look after their ports, as they do when no packet arrives for some seconds.
func (g *Gateway) Wake() {
	for _, w := range g.workers {
		w.wake()
	}
}

// Run processes packets until ctx is done. It opens missing ports, and closes all ports at the end.
func (g *Gateway) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, g.Wake)()
	for _, w := range g.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	group.Go(func() error { return g.maintain(ctx) })
	stop := g.deliver()
	defer stop() // after the last event
	return group.Wait()
}
