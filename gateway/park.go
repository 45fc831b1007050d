package gateway

import (
	"slices"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

const (
	// parkTime is how long a packet waits. The kernel gives up after three seconds; a little more lets it say so.
	parkTime = 4 * time.Second
	// askEvery is how often the routes are asked for what packets wait for: they answer so many questions of a client at a
	// time and leave the others.
	askEvery = 100 * time.Millisecond
)

// park keeps the packet at hand, as it arrived or was made whole, until the way that was looked up last is known.
func (w *worker) park() drop.Reason {
	until := w.now + parkTime
	if w.again != 0 {
		until = w.again
	}
	if w.now >= until {
		return drop.Neighbour
	}
	f := parkedFrame{
		frame: packet.Frame{Data: slices.Clone(w.top.Data), Offload: w.top.Offload},
		whole: w.whole, way: w.wanted, until: until,
	}
	if f.whole.Data != nil {
		f.whole.Data = f.frame.Data
	}
	if n := w.parked.add(f); n > 0 {
		w.count.Dropped(drop.NeighbourQueue, uint64(n))
	}
	if w.again == 0 {
		w.count.Happened(metrics.Parked)
	}
	return drop.None
}

// sender returns who sent the packet at hand.
func (w *worker) sender() packet.Client {
	if w.side == V4 {
		return w.host(*packet.IPv4(w.top.Data).Src())
	}
	return w.client(*packet.IPv6(w.top.Data).Src())
}

// client and host return an IPv6 and an IPv4 address as one on whose behalf ways are looked for.
func (w *worker) client(a packet.Addr6) packet.Client {
	return packet.Client{Addr: a, Prefix: packet.Mask6(a, w.conf.clientBits)}
}

func (w *worker) host(a packet.Addr4) packet.Client {
	return packet.Client{Addr: mapped4(a), Prefix: mapped4(a)}
}

// behind says whether packets wait that might go by now: what comes later goes behind them, lest it overtake its flow.
func (w *worker) behind() bool { return w.parked.len() > 0 && w.routes != w.g.routes.Generation() }

// unpark takes the packets whose way has become known through the gateway once more, from the start, and those that have
// waited too long, which are refused.
func (w *worker) unpark() {
	generation := w.g.routes.Generation()
	changed := generation != w.routes
	w.routes = generation
	if w.parked.len() == 0 {
		return
	}
	ask := w.now-w.parked.asked >= askEvery
	if !changed && !ask && !w.parked.late(w.now) {
		return
	}
	if ask {
		w.parked.asked = w.now
	}
	for _, p := range w.ready(ask) {
		w.again, w.whole = p.until, p.whole
		w.one(&p.frame)
	}
	w.again, w.whole = 0, fragment.Whole{}
	w.out.Flush() // before the memory of the packets is gone
}

// ready takes the packets from the parking that need not wait any longer, in the order in which they came. With ask it asks
// the routes for what the others wait for.
func (w *worker) ready(ask bool) (list []parkedFrame) {
	p := &w.parked
	for n := p.oldest(); n != 0; {
		e := &p.slots[n]
		next := e.links[ofAll].newer
		switch {
		case w.now >= e.until || !w.unknown(&e.way):
			list = append(list, p.take(n))
		case ask:
			w.ask(&e.way)
		}
		n = next
	}
	return list
}

// unknown reports whether a look-up still has no answer.
func (w *worker) unknown(y *way) (pending bool) {
	if y.side == V6 {
		_, pending, _ = w.hops.Hop6(&y.six)
	} else {
		_, pending, _ = w.hops.Hop4(&y.four)
	}
	return pending
}

// ask has the next hop of a way looked for.
func (w *worker) ask(y *way) {
	if y.side == V6 {
		w.g.routes.Resolve6(y.six, y.client)
	} else {
		w.g.routes.Resolve4(y.four, y.client)
	}
}

// hop6 and hop4 return the next hop of a packet that is about to leave, on behalf of a client. They have its link address looked for if
// that is not known, and again if the next hop did not answer the last time. With pending the packet has to wait.
func (w *worker) hop6(f *packet.Selector6, client packet.Client) (h packet.Hop, pending bool, r drop.Reason) {
	h, pending, r = w.out.Hop6(f)
	if pending || r == drop.Neighbour || w.behind() {
		pending = w.want(way{side: V6, six: *f, client: client}, pending, r)
	}
	return h, pending, r
}

func (w *worker) hop4(f *packet.Selector4, client packet.Client) (h packet.Hop, pending bool, r drop.Reason) {
	h, pending, r = w.out.Hop4(f)
	if pending || r == drop.Neighbour || w.behind() {
		pending = w.want(way{side: V4, four: *f, client: client}, pending, r)
	}
	return h, pending, r
}

// want has a way looked for, unless it is known, and reports whether the packet has to wait.
func (w *worker) want(y way, pending bool, r drop.Reason) (wait bool) {
	w.wanted = y
	if pending || r == drop.Neighbour {
		w.ask(&w.wanted)
	}
	return pending || w.behind()
}
