package gateway

import (
	"context"
	"errors"
	"hash/maphash"
	"runtime"
	"time"

	"nat64d/drop"
	"nat64d/egress"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
)

// Our own choices: packets in a batch, and how long a worker sleeps at most. The latter bounds how late it notices that
// it is to stop, or that a probe is to be sent.
const (
	batch    = 64
	idleWait = 100 * time.Millisecond
	parkWait = 5 * time.Millisecond // while packets wait for a neighbour
	retry    = 100 * time.Millisecond
)

// worker carries the packets that arrive on one side. Everything in it belongs to its goroutine, which is locked to a
// thread.
type worker struct {
	g *Gateway
	place
	number   int  // among all workers
	in       link // where packets arrive
	back     link // to the other side
	out      *egress.Sender
	hops     Hops
	routes   uint64 // the generation of the routes when waiting packets were last looked at
	count    *metrics.Worker
	frames   []packet.Frame
	limit    limiter
	parked   parking
	probes   []session.Probe
	syns     []synstore.SYN
	ahead    ahead
	parts    assemblers
	verified verified
	hair     []byte        // a hairpinned packet between its two translations
	asked    time.Duration // when the port was last asked for its drops
	lost     packet.Drops  // what it said
	received bool          // it has handed packets over since
	dense    bool          // packets come so fast that it pays to let them gather
	settle   func()        // called once on the worker's thread

	moment
}

// moment is what a worker is at: a batch, and in it one packet.
type moment struct {
	conf    *conf
	now     time.Duration
	paused  bool
	hairpin bool           // the packet has been translated to IPv4 already
	again   time.Duration  // until when the packet, which has waited for a neighbour, may wait; 0: it has not
	wanted  way            // the last look-up that had no answer
	message message        // the ICMP error that the packet is
	top     packet.Frame   // the packet, as it arrived or was made whole
	whole   fragment.Whole // what the packet was before it was whole; zero: it came whole
	hint    *session.Hint  // where the packet's session probably is; nil: nobody has looked
}

func newWorker(g *Gateway, p place, o *Options) *worker {
	s := p.side
	w := &worker{g: g, place: p, number: int(s)*p.of + p.i, hops: o.Hops()}
	w.count = g.Counters.Worker(w.number)
	w.frames = make([]packet.Frame, batch)
	w.limit.secret = maphash.MakeSeed()
	w.parts = assemblers{six: fragment.New(fragment.Limits{}), four: fragment.New(fragment.Limits{})}
	w.settle = func() {
		if o.Settle != nil {
			o.Settle(s, p.i)
		}
	}
	other := 1 - s
	w.in = link{receives: true, open: func() (Port, error) { return o.Open(s, false) }, outage: &g.outages[s]}
	w.back = link{open: func() (Port, error) { return o.Open(other, true) }, outage: &g.outages[other]}
	out := egress.Options{Hops: w.hops, Paths: &g.paths, Count: w.count, Origin: w.origin(), Worker: p.i, Peers: p.of}
	out.Links[s], out.Links[other] = &w.in, &w.back
	w.out = egress.New(out)
	return w
}

func (w *worker) open() error {
	return errors.Join(w.in.first(), w.back.first())
}

func (w *worker) close() {
	w.in.close()
	w.back.close()
}

// run carries batches until ctx ends. A NIC that vanishes is waited for.
func (w *worker) run(ctx context.Context) error {
	runtime.LockOSThread() // for good: settle changes the thread, which ends with the goroutine
	w.settle()
	defer w.close()
	for ctx.Err() == nil {
		if w.in.port == nil && !w.reopen(ctx) {
			continue
		}
		if w.dense {
			w.in.port.Gather(w.conf.Moderation)
		}
		n, err := w.in.port.Receive(w.frames, w.patience())
		if err != nil {
			w.lose(err)
			continue
		}
		w.received = w.received || n > 0
		w.batch(w.frames[:n])
		// A lone packet is never delayed, and neither is a backlog.
		w.dense = n > 1 && n < len(w.frames) && w.conf.Moderation > 0
	}
	return nil
}

// lose gives up a port that has failed.
func (w *worker) lose(err error) {
	w.g.outages[w.side].lost(err)
	w.in.close()
}

// reopen tries to open the port again, and waits a little if it cannot be.
func (w *worker) reopen(ctx context.Context) bool {
	if err := w.in.again(); err != nil {
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		return false
	}
	if w.g.outages[w.side].found() {
		w.count.Happened(metrics.Reopened)
	}
	return true
}

func (w *worker) patience() time.Duration {
	if w.parked.len() > 0 {
		return parkWait
	}
	return idleWait
}

// batch takes the frames of one Receive through the gateway; one clock reading, one configuration and one transmit
// serve them all.
func (w *worker) batch(fs []packet.Frame) {
	w.now = w.g.clock()
	w.g.epochs.Enter(w.number) // before the configuration is read: who replaces it waits for this batch
	w.configure(w.g.conf.Load())
	w.out.Begin(w.now, &w.conf.egress)
	w.paused = w.g.paused.Load()
	w.verified.refresh(circumstances{w.conf, w.g.routes.Generation(), w.g.Pool4.Version()})
	w.unpark()
	hints := w.lookAhead(fs)
	for i := range fs {
		if w.behind() {
			w.hint = nil
			w.unpark()
		}
		if hints != nil {
			w.hint = &hints[i]
		}
		w.one(&fs[i])
	}
	w.hint = nil
	w.expire()
	w.g.epochs.Leave(w.number)
	switch {
	case w.i > 0: // the first worker of a side does what is to be done once
	case w.side == V6 && w.g.probes.any.Load():
		w.sendProbes()
	case w.side == V4 && w.g.syns.any.Load():
		w.refuseSYNs()
	}
	w.out.Flush()
	w.parts.release()
	w.publish()
}

// configure takes over a new configuration.
func (w *worker) configure(c *conf) {
	if w.conf == c {
		return
	}
	w.conf = c
	w.parts.six.SetLimits(c.Fragments)
	w.parts.four.SetLimits(c.Fragments)
}

// one takes one frame through the gateway and counts what became of it.
func (w *worker) one(f *packet.Frame) {
	if len(f.Data) > maxPacket && w.takeLong(f) {
		return
	}
	if r := w.take(f); r != drop.None {
		w.count.Dropped(r, 1)
	}
}

// take takes one frame through the gateway.
func (w *worker) take(f *packet.Frame) drop.Reason {
	w.hairpin, w.top = false, *f
	if w.side == V6 {
		return w.from6(f)
	}
	return w.from4(f)
}

// tables returns the time of the batch for the tables.
func (w *worker) tables() table.Time { return table.Time(w.now / table.Tick) }

// origin returns where the worker's packets have arrived.
func (w *worker) origin() packet.Origin {
	if w.side == V6 {
		return packet.FromV6
	}
	return packet.FromV4
}

func (w *worker) publish() {
	w.out.Publish()
	w.count.FragmentBytes(max(w.parts.six.Bytes(), w.parts.four.Bytes()))
	if w.now-w.asked >= time.Second { // it is a system call
		w.asked = w.now
		w.account(w.in.drops())
	}
}

// account takes over what the port says it has lost, and opens it anew if it has lost packets and handed over none: whatever the
// reason, it will not go on by itself.
func (w *worker) account(lost packet.Drops) {
	w.count.RingDrops(lost.Room)
	w.count.Dropped(drop.Offload, lost.Offload-w.lost.Offload)
	w.count.Dropped(drop.Large, lost.Large-w.lost.Large)
	stalled := lost.Room > w.lost.Room && !w.received
	w.lost, w.received = lost, false
	if stalled && w.in.port != nil {
		w.count.Happened(metrics.Stalled)
		w.g.outages[w.side].stalled()
		w.in.close()
	}
}
