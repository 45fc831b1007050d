package gateway

import (
	"slices"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

const (
	// parkTime is how long a packet waits: slightly longer than the three seconds after which the kernel gives up.
	parkTime = 4 * time.Second
	// askEvery is the interval of requests for the next hops that packets wait for. The routes process a limited
	// number of requests per client at a time and ignore the others.
	askEvery = 100 * time.Millisecond
)

// park stores a copy of a packet until the next hop of y is known, on behalf of its sender.
func (w *worker) park(p *inflight, y way) drop.Reason {
	until := p.until
	if until == 0 {
		until = w.now + parkTime
	}
	if w.now >= until {
		return drop.Neighbour
	}
	y.client = w.sender(p)
	f := parkedFrame{
		frame: packet.Frame{Data: slices.Clone(p.arrived.Data), Offload: p.arrived.Offload},
		whole: p.whole, way: y, until: until,
	}
	if f.whole.Data != nil {
		f.whole.Data = f.frame.Data
	}
	if n := w.parked.add(f); n > 0 {
		w.count.Dropped(drop.NeighbourQueue, uint64(n))
		w.lost(drop.NeighbourQueue, n)
	}
	if p.until == 0 {
		w.count.Happened(metrics.Parked)
	}
	if w.tap != nil {
		w.tap.parked = true
	}
	return drop.None
}

// sender returns the client or host that sent a packet.
func (w *worker) sender(p *inflight) packet.Client {
	if data := p.arrived.Data; data[0]>>4 == 6 {
		return w.client(*packet.IPv6(data).Src())
	}
	a := mapped4(*packet.IPv4(p.arrived.Data).Src())
	return packet.Client{Addr: a, Prefix: a}
}

// client returns the client that an IPv6 address belongs to, for the resolution of next hops.
func (w *worker) client(a packet.Addr6) packet.Client {
	return packet.Client{Addr: a, Prefix: packet.Mask6(a, w.conf.clientBits)}
}

// behind reports whether packets wait whose next hop may be known by now. Later packets queue behind them, so that none overtakes
// its flow.
func (w *worker) behind() bool {
	return w.parked.len() > 0 && w.parked.routes != w.g.routes.Generation()
}

// ready removes the packets that need not wait any longer, in order of arrival: those whose next hop is known, and
// those that have waited too long. It requests the next hops of the others.
func (w *worker) ready() (list []parkedFrame) {
	q, generation := &w.parked, w.g.routes.Generation()
	changed := generation != q.routes
	q.routes = generation
	if q.len() == 0 {
		return nil
	}
	ask := w.now-q.asked >= askEvery
	if !changed && !ask && !q.late(w.now) {
		return nil
	}
	if ask {
		q.asked = w.now
	}
	for n := q.oldest(); n != 0; {
		e := &q.slots[n]
		next := e.links[ofAll].newer
		switch {
		case w.now >= e.until || !w.unknown(&e.way):
			list = append(list, q.take(n))
		case ask:
			w.ask(&e.way)
		}
		n = next
	}
	return list
}

// unknown reports whether a look-up still has no answer.
func (w *worker) unknown(y *way) (pending bool) {
	if y.side == packet.V6 {
		_, pending, _ = w.hops.Hop6(&y.six)
	} else {
		_, pending, _ = w.hops.Hop4(&y.four)
	}
	return pending
}

// ask requests the next hop of a way.
func (w *worker) ask(y *way) {
	if y.side == packet.V6 {
		w.g.routes.Resolve6(y.six, y.client)
	} else {
		w.g.routes.Resolve4(y.four, y.client)
	}
}

// hop6 and hop4 return the next hop of p's translation, or of a reply to p. They request its link address if it is
// unknown or the next hop did not answer. wait means that the packet must be parked.
func (w *worker) hop6(p *inflight, f *packet.Selector6) (h packet.Hop, wait bool, r drop.Reason) {
	h, wait, r = w.out.Hop6(f)
	if (wait || r == drop.Neighbour) && w.trial == nil {
		w.g.routes.Resolve6(*f, w.sender(p))
	}
	return h, wait || w.behind(), r
}

func (w *worker) hop4(p *inflight, f *packet.Selector4) (h packet.Hop, wait bool, r drop.Reason) {
	h, wait, r = w.out.Hop4(f)
	if (wait || r == drop.Neighbour) && w.trial == nil {
		w.g.routes.Resolve4(*f, w.sender(p))
	}
	return h, wait || w.behind(), r
}
