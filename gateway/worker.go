package gateway

import (
	"context"
	"hash/maphash"
	"runtime"
	"time"

	"nat64d/egress"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/synstore"
)

// Our own choices: packets in a batch, and how long a worker waits for packets at most. It is woken for a stop, a probe and
// the answer to a SYN.
const (
	batch    = 64
	idleWait = 5 * time.Second        // until the kernel's counters of lost packets are read again
	busyWait = time.Second            // the same, just after packets have arrived
	dueWait  = 100 * time.Millisecond // while fragments wait for others, or a probe waits for a neighbour
	parkWait = 5 * time.Millisecond   // while packets wait for a neighbour
	retry    = 100 * time.Millisecond
)

// worker carries the packets that arrive on one side. Everything in it belongs to its goroutine, which is locked to a
// thread. The state of one packet is in its inflight.
type worker struct {
	g *Gateway
	place
	batchState
	in          ingress
	back        link // to the other side
	out         *egress.Sender
	hops        Hops
	count       *metrics.Worker
	ahead       ahead
	verified    verified
	reassembler *fragment.Reassembler
	parked      parking
	limit       limiter
	swept       swept
	hairpinBuf  []byte // a hairpinned packet between its two translations
}

// swept is the memory for results of the sweep, probes to send and SYNs to refuse, and for pings.
type swept struct {
	probes []session.Probe
	syns   []synstore.SYN
	pings  []ping
}

func newWorker(g *Gateway, p place, o *Options) *worker {
	side, other := p.side, 1-p.side
	w := &worker{g: g, place: p, hops: o.Hops(), reassembler: fragment.New(fragment.Limits{})}
	w.count = g.Counters.Worker(w.number())
	w.count.Receives([packet.Families]metrics.Direction{packet.V6: metrics.From6To4, packet.V4: metrics.From4To6}[side])
	w.limit.secret = maphash.MakeSeed()
	w.in.frames, w.in.look = make([]packet.Frame, batch), make(chan struct{}, 1)
	w.in.link = link{receives: true, open: func() (Port, error) { return o.Open(side, false) }, outage: &g.outages[side]}
	w.back = link{open: func() (Port, error) { return o.Open(other, true) }, outage: &g.outages[other]}
	w.out = w.newSender()
	return w
}

func (w *worker) close() {
	w.in.close()
	w.back.close()
}

// run processes batches until ctx is done. It waits for a NIC that was deleted.
func (w *worker) run(ctx context.Context) error {
	runtime.LockOSThread() // not unlocked: Settle changes the thread, which ends with the goroutine
	if settle := w.g.hooks.settle; settle != nil {
		settle(w.side, w.i)
	}
	defer w.close()
	for ctx.Err() == nil {
		if w.in.port == nil {
			w.reopen(ctx)
			continue // a wake may have missed the new port
		}
		if err := w.cycle(); err != nil {
			return err
		}
	}
	return nil
}

// cycle waits for packets and processes them. Its error is that of a panic that ends the gateway.
func (w *worker) cycle() (err error) {
	defer w.rescue(&err)
	if w.in.dense {
		w.in.port.Gather(w.conf.Moderation)
	}
	n, failed := w.in.port.Receive(w.in.frames, w.patience())
	if failed != nil {
		w.lose(failed)
		return nil
	}
	w.batch(w.in.frames[:n])
	if n > 0 {
		w.in.received, w.in.last = true, w.now
	}
	// Neither a single packet nor a backlog is delayed.
	w.in.dense = n > 1 && n < len(w.in.frames) && w.conf.Moderation > 0
	return nil
}

// patience returns how long to wait for packets. Without traffic it grows from busyWait to idleWait.
func (w *worker) patience() time.Duration {
	switch {
	case w.parked.len() > 0:
		return parkWait
	case w.reassembler.Len() > 0 || w.hasProbes() || w.hasSYNs() || w.hasPings():
		return dueWait
	}
	return min(max(w.now-w.in.last, busyWait), idleWait)
}

// wake ends the wait for packets or for a NIC, or prevents the next one. Any goroutine may call it.
func (w *worker) wake() {
	if p := w.in.current.Load(); p != nil {
		(*p).Wake()
		return
	}
	select {
	case w.in.look <- struct{}{}:
	default: // it will try anyway
	}
}

// The first worker of a side sends the probes, or refuses the SYNs.
func (w *worker) hasProbes() bool {
	return w.i == 0 && w.side == packet.V6 && w.g.mail.probes.any.Load()
}
func (w *worker) hasSYNs() bool { return w.i == 0 && w.side == packet.V4 && w.g.mail.syns.any.Load() }

// batch processes the frames of one Receive with one clock reading, one configuration and one transmit.
func (w *worker) batch(fs []packet.Frame) {
	w.now = w.g.clock()
	w.fs, w.at = fs, 0
	w.g.epochs.Enter(w.number()) // before the configuration is read: Configure waits for this batch
	packets := tally(w.count, fs)
	w.configure(w.g.settings.conf.Load())
	w.out.Begin(w.now, &w.conf.egress)
	w.tapped(w.g.settings.taps.Load())
	w.paused = w.g.settings.paused.Load()
	w.accounts = w.g.settings.accounting.Load().of(w.number())
	w.verified.refresh(circumstances{w.conf, w.g.routes.Generation(), w.g.Pool4.Version()})
	w.unpark()
	w.report(packets)
	hints := w.lookAhead(fs)
	for i := range fs {
		w.at = i
		if w.behind() {
			w.unpark()
		}
		p := newInflight(fs[i])
		if hints != nil {
			p.hint = &hints[i]
		}
		w.one(&p)
	}
	w.at = len(fs)
	w.expire()
	if w.hasPings() {
		w.sendPings()
	}
	w.g.epochs.Leave(w.number())
	if w.hasProbes() {
		w.sendProbes()
	}
	if w.hasSYNs() {
		w.refuseSYNs()
	}
	w.out.Flush()
	w.sample(len(fs))
	w.reassembler.Release()
	w.publish()
}

// sampleEvery is the number of batches of which one is measured: our own choice. The measurement reads the clock once.
const sampleEvery = 64

// sample measures how long the batch has taken until its packets have left, every sampleEvery batches with packets.
func (w *worker) sample(packets int) {
	if packets == 0 {
		return
	}
	if w.batches++; w.batches%sampleEvery == 0 {
		w.count.Took(w.g.clock() - w.now)
	}
}

// Batches is what a worker has received since it was made.
type Batches struct{ Frames, Batches uint64 }

// FullBatch is the number of frames of the largest batch.
const FullBatch = batch

// Batches appends for each worker how many frames it has received, and in about how many batches.
func (g *Gateway) Batches(to []Batches) []Batches {
	for i := range g.workers {
		frames, timed := g.Counters.Batches(i)
		to = append(to, Batches{frames, timed * sampleEvery})
	}
	return to
}

// configure applies a new configuration.
func (w *worker) configure(c *conf) {
	if w.conf == c {
		return
	}
	w.conf = c
	w.reassembler.SetLimits(c.Fragments)
}

// tapped makes the worker record what becomes of packets for the taps of s, which is nil if there are none.
func (w *worker) tapped(s *tapSet) {
	var r *tracer
	if s != nil {
		r = s.tracers[w.number()]
	}
	if r == w.tracer {
		return
	}
	w.tracer = r
	if r == nil {
		w.out.Watch(nil)
		return
	}
	r.forget() // a panic may have left something
	w.out.Watch(r)
}

// unpark processes packets that need not wait any longer from the start.
func (w *worker) unpark() {
	list := w.ready()
	for i := range list {
		w.rest += list[i].frames()
	}
	for i := range list {
		e := &list[i]
		w.unparked = e.frame.Data
		w.one(&inflight{arrived: e.frame, frame: e.frame, whole: e.whole, until: e.until})
		w.rest -= e.frames()
	}
	w.unparked = nil
	if len(list) > 0 {
		w.out.Flush() // before the memory of the packets is released
	}
}

// one processes one packet and counts the result.
func (w *worker) one(p *inflight) {
	if len(p.frame.Data) > maxPacket && w.takeLong(&p.frame) {
		return
	}
	w.settle(p, w.take(p))
}

func (w *worker) publish() {
	w.out.Publish()
	w.count.FragmentBytes(w.reassembler.Bytes())
	if w.tracer != nil {
		w.tracer.flush()
	}
	w.count.Settled(w.left)
	w.left = 0
	w.count.Waiting(metrics.ForFragments, w.reassembler.Waiting())
	w.count.Waiting(metrics.ForNeighbour, w.parked.frames)
	if w.now-w.in.asked >= dropsEvery { // a system call
		w.in.asked = w.now
		w.in.beat.Store(int64(w.now))
		w.account(w.in.drops())
	}
}
