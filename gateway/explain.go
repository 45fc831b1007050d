package gateway

import (
	"hash/maphash"
	"sync"
	"time"

	"nat64d/egress"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
)

// Explanation is what would become of a packet.
type Explanation struct {
	Verdict
	Expires time.Duration  // remaining lifetime of its session after the packet; of a hairpin, of that of the second half
	Ends    []session.Flow // sessions that would end to make room for its own
}

// explainer makes the workers of Explain. They count and send nothing, so one at a time suffices.
type explainer struct {
	mu   sync.Mutex
	hops func() Hops
}

// Explain returns what would become of a packet that arrived now on a side, without an effect on anything: the packet takes the way
// of a real one through a worker of its own, whose tables are a trial, which asks for no next hop, and which sends, stores and
// counts nothing. Two limits of a real worker are not in it: the rates of ICMP errors and resets, and the room for packets that wait
// and for fragments.
func (g *Gateway) Explain(side packet.Family, data []byte) Explanation {
	g.explainer.mu.Lock()
	defer g.explainer.mu.Unlock()
	w := g.newDryWorker(side)
	g.epochs.Read(func() { w.explain(data) })
	return Explanation{Verdict: w.tracer.v, Expires: w.trial.Remaining, Ends: w.trial.Ended}
}

// newDryWorker returns a worker for one packet.
func (g *Gateway) newDryWorker(side packet.Family) *worker {
	w := &worker{g: g, place: place{side: side, of: 1}, hops: g.explainer.hops(), reassembler: fragment.New(fragment.Limits{})}
	w.count = metrics.New(1).Worker(0)
	w.limit.secret = maphash.MakeSeed()
	w.out = egress.New(egress.Options{
		Hops: w.hops, Paths: &g.paths, Count: w.count, Origin: w.origin(), Peers: 1, Links: [sides]egress.Link{unsent{}, unsent{}},
	})
	w.tracer = newTracer(nil)
	w.out.Watch(w.tracer)
	return w
}

// explain takes a packet through the gateway. The caller has entered an epoch.
func (w *worker) explain(data []byte) {
	w.now = w.g.clock()
	w.configure(w.g.settings.conf.Load())
	w.trial = w.g.Sessions.Trial()
	c := w.conf.egress
	c.Coalesce = false
	w.out.Begin(w.now, &c)
	w.paused = w.g.settings.paused.Load()
	p := newInflight(packet.Frame{Data: data})
	w.take(&p)
	w.out.Flush()
}

// unsent is a link that sends nothing: the tracer has seen the packets.
type unsent struct{}

func (unsent) Send([]packet.Out, time.Duration) (refused int) { return 0 }
