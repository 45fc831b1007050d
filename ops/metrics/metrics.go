// Package metrics counts the events of the gateway. Each worker has its own set of counters, so that workers do not
// share cache lines; readers add them up. RFC 6146 requires no particular counters; their names and help texts are
// our own choice.
package metrics

import (
	"sync/atomic"

	"nat64d/drop"
)

// Direction is a direction through the gateway.
type Direction uint8

// The directions.
const (
	From6To4 Direction = iota
	From4To6
	Hairpin
	directions
)

// String returns 6to4, 4to6 or hairpin.
func (d Direction) String() string { return [directions]string{"6to4", "4to6", "hairpin"}[d] }

// Protocol is one of the three protocols that are translated, in the order of packet.Proto.
type Protocol uint8

const protocols = 3

// String returns tcp, udp or icmp.
func (p Protocol) String() string { return [protocols]string{"tcp", "udp", "icmp"}[p] }

// Worker contains the counters of one worker. Only that worker adds to them; any goroutine may read them.
type Worker struct {
	direction      Direction // of the frames that it receives
	received       received
	settled        settled
	packets, bytes [directions][protocols]atomic.Uint64
	drops          [drop.Count]atomic.Uint64
	refused        [2]atomic.Uint64         // packets that a NIC has refused, by the side: IPv6, IPv4
	noPort         [protocols]atomic.Uint64 // packets for which pool4 had no port
	reassembled    atomic.Uint64            // fragments
	events         [events]atomic.Uint64
	durations      durations
	fragments      atomic.Int64
	_              [64]byte // keeps the next worker's counters on another cache line
}

// settled are counters of received frames by what became of them. Frames that were dropped are in Worker.drops.
type settled struct {
	more      atomic.Uint64 // frames that are in no batch: lost by the port, and parts of a super-packet after the first
	forwarded atomic.Uint64
	waiting   [waits]atomic.Int64
}

// Wait is what a frame waits for in the gateway.
type Wait uint8

// The waits.
const (
	ForNeighbour Wait = iota // the link address of a next hop
	ForFragments             // the other fragments of its datagram
	waits
)

// String returns neighbour or fragments.
func (w Wait) String() string { return [waits]string{"neighbour", "fragments"}[w] }

// received are counters of received packets.
type received struct{ frames, packets, merged, adjacent atomic.Uint64 }

// Arrived counts a batch of received frames: how many, the packets in them, and the datagrams that were coalesced with
// the one before.
func (w *Worker) Arrived(frames, packets, merged uint64) {
	add(&w.received.frames, frames)
	add(&w.received.packets, packets)
	if merged > 0 {
		add(&w.received.merged, merged)
	}
}

// Receives sets the direction of the frames that the worker receives, before it starts. From6To4 includes hairpins.
func (w *Worker) Receives(d Direction) { w.direction = d }

// ArrivedMore counts frames that are in no batch of Arrived, but are dropped or forwarded like those.
func (w *Worker) ArrivedMore(n uint64) {
	if n > 0 {
		add(&w.settled.more, n)
	}
}

// Settled counts received frames that were translated and left.
func (w *Worker) Settled(n uint64) {
	if n > 0 {
		add(&w.settled.forwarded, n)
	}
}

// Waiting sets the number of received frames that wait.
func (w *Worker) Waiting(what Wait, n int) { set(&w.settled.waiting[what], int64(n)) }

// Joined counts datagrams that the gateway has coalesced with the one before.
func (w *Worker) Joined(n uint64) { add(&w.received.adjacent, n) }

// Forwarded counts a batch of translated packets and the bytes of their IP packets after translation.
func (w *Worker) Forwarded(d Direction, p Protocol, packets, bytes uint64) {
	if packets > 0 {
		add(&w.packets[d][p], packets)
		add(&w.bytes[d][p], bytes)
	}
}

// Dropped counts n packets that were not forwarded.
func (w *Worker) Dropped(r drop.Reason, n uint64) { add(&w.drops[r], n) }

// Refused counts n packets that the NIC of a side, 0 for IPv6 and 1 for IPv4, has refused to send.
func (w *Worker) Refused(side int, n uint64) {
	add(&w.drops[drop.Transmit], n)
	add(&w.refused[side], n)
}

// NoPort counts a packet of a new flow for which pool4 had no port, in addition to Dropped.
func (w *Worker) NoPort(p Protocol) { add(&w.noPort[p], 1) }

// Reassembled counts the fragments of a datagram that is complete.
func (w *Worker) Reassembled(n uint64) { add(&w.reassembled, n) }

// RingDrops sets the number of packets that the kernel dropped because the ring was full. The kernel maintains that
// count.
func (w *Worker) RingDrops(n uint64) { w.drops[drop.Ring].Store(n) }

// FragmentBytes sets the memory in bytes of fragments that await reassembly.
func (w *Worker) FragmentBytes(n int) { set(&w.fragments, int64(n)) }

// set stores n if it is new: a load is cheaper than a store, and each batch calls set.
func set(c *atomic.Int64, n int64) {
	if c.Load() != n {
		c.Store(n)
	}
}

// Happened counts an event.
func (w *Worker) Happened(e Event) { add(&w.events[e], 1) }

// add needs no atomic read-modify-write, because there is a single writer.
func add(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }

// Set contains the counters of all workers.
type Set struct{ workers []Worker }

// New returns counters for that many workers.
func New(workers int) *Set { return &Set{workers: make([]Worker, workers)} }

// Worker returns the counters of worker i.
func (s *Set) Worker(i int) *Worker { return &s.workers[i] }

// Batches returns how many frames worker i has received, and how many of its batches were timed with Took.
func (s *Set) Batches(i int) (frames, timed uint64) {
	w := &s.workers[i]
	for k := range w.durations.counts {
		timed += w.durations.counts[k].Load()
	}
	return w.received.frames.Load(), timed
}

// Received returns how many frames have arrived, the packets in them, the datagrams that had been coalesced, and those
// that the gateway has coalesced.
func (s *Set) Received() (frames, packets, merged, adjacent uint64) {
	for i := range s.workers {
		r := &s.workers[i].received
		frames += r.frames.Load()
		packets += r.packets.Load()
		merged += r.merged.Load()
		adjacent += r.adjacent.Load()
	}
	return frames, packets, merged, adjacent
}

// Traffic returns the packets (a super-packet counts once) and bytes translated in one direction.
func (s *Set) Traffic(d Direction) (packets, bytes uint64) {
	for p := range Protocol(protocols) {
		n, b := s.traffic(d, p)
		packets += n
		bytes += b
	}
	return packets, bytes
}

// traffic is that of one protocol.
func (s *Set) traffic(d Direction, p Protocol) (packets, bytes uint64) {
	for i := range s.workers {
		packets += s.workers[i].packets[d][p].Load()
		bytes += s.workers[i].bytes[d][p].Load()
	}
	return packets, bytes
}

// Drops returns how many packets were not forwarded for reason r.
func (s *Set) Drops(r drop.Reason) (n uint64) {
	for i := range s.workers {
		n += s.workers[i].drops[r].Load()
	}
	return n
}

// Event returns how often e has happened.
func (s *Set) Event(e Event) (n uint64) {
	for i := range s.workers {
		n += s.workers[i].events[e].Load()
	}
	return n
}

// FragmentBytes returns the maximum over all workers of the memory of fragments, in bytes.
func (s *Set) FragmentBytes() (n int) {
	for i := range s.workers {
		n = max(n, int(s.workers[i].fragments.Load()))
	}
	return n
}

// Balance is the frames that arrived in one direction, and what became of them. At a moment without traffic Arrived is
// the sum of the others.
type Balance struct {
	Arrived   uint64             // lost ones and the parts of super-packets of more than 64 KiB included
	Forwarded uint64             // translated, and given to the NIC
	Host      uint64             // not for the gateway
	Dropped   [drop.Count]uint64 // by reason
	Waiting   [waits]uint64
}

// Balance returns the balance of one direction; that of From6To4 includes hairpins.
func (s *Set) Balance(d Direction) (b Balance) {
	for i := range s.workers {
		w := &s.workers[i]
		if w.direction != d {
			continue
		}
		b.Arrived += w.received.frames.Load() + w.settled.more.Load() + w.drops[drop.Ring].Load()
		b.Forwarded += w.settled.forwarded.Load()
		for r := drop.None + 1; r < drop.Count; r++ {
			switch n := w.drops[r].Load(); {
			case r == drop.Transmit: // of frames that count as forwarded
			case r.Host():
				b.Host += n
			default:
				b.Dropped[r] += n
			}
		}
		for i := range waits {
			b.Waiting[i] += uint64(w.settled.waiting[i].Load())
		}
	}
	return b
}
