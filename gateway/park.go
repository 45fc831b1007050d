package gateway

import (
	"slices"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/metrics"
	"nat64d/packet"
)

// Bounds of the packets that wait for a next hop's link address: our own choices. The kernel gives up after three
// seconds; a little more lets it say so.
const (
	maxParked      = 64
	maxParkedBytes = 1 << 20
	parkTime       = 4 * time.Second
)

// parking holds copies of received packets whose next hop is being asked for its link address. When anything has changed
// they go through the gateway once more, from the start. It allocates: the first packet to a neighbour is not the
// packet path.
type parking struct {
	waiting []parkedFrame
	bytes   int
}

type parkedFrame struct {
	frame packet.Frame
	whole fragment.Whole // what it was before it was whole; its Data are the frame's
	until time.Duration
}

func (p *parking) len() int { return len(p.waiting) }

// late says whether the packet that has waited longest has waited too long.
func (p *parking) late(now time.Duration) bool {
	return len(p.waiting) > 0 && now >= p.waiting[0].until
}

func (p *parking) add(f *packet.Frame, whole fragment.Whole, until time.Duration) bool {
	if len(p.waiting) >= maxParked || p.bytes+len(f.Data) > maxParkedBytes {
		return false
	}
	p.bytes += len(f.Data)
	copied := packet.Frame{Data: slices.Clone(f.Data), Offload: f.Offload}
	if whole.Data != nil {
		whole.Data = copied.Data
	}
	p.waiting = append(p.waiting, parkedFrame{copied, whole, until})
	return true
}

// take empties the parking.
func (p *parking) take() []parkedFrame {
	waiting := p.waiting
	p.waiting, p.bytes = nil, 0
	return waiting
}

// park keeps the packet at hand, as it arrived or was made whole, while its next hop is being asked for its link address.
func (w *worker) park() drop.Reason {
	until := w.now + parkTime
	if w.again != 0 {
		until = w.again
	}
	if w.now >= until {
		return drop.Neighbour
	}
	if !w.parked.add(&w.top, w.whole, until) {
		return drop.NeighbourQueue
	}
	if w.again == 0 {
		w.count.Happened(metrics.Parked)
	}
	return drop.None
}

// behind says whether packets wait that might go by now: what comes later goes behind them, lest it overtake its flow.
func (w *worker) behind() bool { return w.parked.len() > 0 && w.routes != w.g.routes.Generation() }

// unpark takes the waiting packets through the gateway once more, if anything has changed for them.
func (w *worker) unpark() {
	generation := w.g.routes.Generation()
	changed := generation != w.routes
	w.routes = generation
	if w.parked.len() == 0 || !changed && !w.parked.late(w.now) {
		return
	}
	for _, p := range w.parked.take() {
		w.again, w.whole = p.until, p.whole
		w.one(&p.frame)
	}
	w.again, w.whole = 0, fragment.Whole{}
	w.flush() // their memory is not the port's, but it is not kept either
}
