// Package metrics counts what the gateway does: one set of counters for each worker, so that no core waits for
// another's cache line, added up when somebody asks (RFC 6146 asks for no particular counters; their names and
// sentences are ours).
package metrics

import (
	"sync/atomic"

	"nat64d/drop"
)

// Direction is a way through the gateway.
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

// Event is something that is worth counting and is neither a forwarded packet nor a drop.
type Event uint8

// The events.
const (
	ErrorSent6 Event = iota
	ErrorSent4
	ErrorLimited
	ErrorNoSource
	Parked
	Probe
	Reopened
	Stalled
	LimitNear
	LimitReached
	events
)

var eventRows = [events]struct{ name, kind, help string }{
	ErrorSent6:    {"icmp_errors_sent_v6", "error", "ICMPv6 errors that the gateway originated"},
	ErrorSent4:    {"icmp_errors_sent_v4", "error", "ICMPv4 errors that the gateway originated"},
	ErrorLimited:  {"icmp_errors_limited", "error", "ICMP errors not sent because their destination had been sent enough (icmp.rate_per_second, icmp.rate_too_big), or all together (icmp.rate_total)"},
	ErrorNoSource: {"icmp_errors_no_source", "error", "ICMP errors not sent because the host has no address to send them from, or no route to their destination"},
	Parked:        {"neighbour_waits", "packets", "packets that waited for a next hop's link address"},
	Probe:         {"tcp_probes", "packets", "keep-alive probes sent for TCP connections that fell silent (RFC 6146 section 3.5.2.2)"},
	Reopened:      {"ports_reopened", "error", "times a NIC had vanished, or a port had stalled, and was opened again"},
	Stalled:       {"ports_stalled", "error", "times a port had lost packets for want of room while none was received, and was given up to be opened again"},
	LimitNear:     {"limits_near", "error", "warnings in the log that 80 % of a limit are in use"},
	LimitReached:  {"limits_reached", "error", "warnings in the log that something is refused because a limit is reached"},
}

// Worker is the counters of one worker, who alone adds to them; anybody may read.
type Worker struct {
	packets, bytes [directions]atomic.Uint64
	drops          [drop.Count]atomic.Uint64
	events         [events]atomic.Uint64
	fragments      atomic.Int64
	_              [64]byte // the next worker's counters are on another cache line
}

// Forwarded counts a batch of translated packets and the bytes of their IP packets as they leave.
func (w *Worker) Forwarded(d Direction, packets, bytes uint64) {
	if packets > 0 {
		add(&w.packets[d], packets)
		add(&w.bytes[d], bytes)
	}
}

// Dropped counts n packets that were not forwarded.
func (w *Worker) Dropped(r drop.Reason, n uint64) { add(&w.drops[r], n) }

// RingDrops sets how many packets the kernel could not hand over; it keeps that count itself.
func (w *Worker) RingDrops(n uint64) { w.drops[drop.Ring].Store(n) }

// FragmentBytes sets how much memory fragments take that wait for the rest of their datagrams, in bytes.
func (w *Worker) FragmentBytes(n int) {
	if old := w.fragments.Load(); old != int64(n) { // a store costs more than a load, and this is called for each batch
		w.fragments.Store(int64(n))
	}
}

// Happened counts an event.
func (w *Worker) Happened(e Event) { add(&w.events[e], 1) }

// add needs no locked instruction: there is one writer.
func add(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }

// Set is the counters of all workers.
type Set struct{ workers []Worker }

// New returns counters for that many workers.
func New(workers int) *Set { return &Set{workers: make([]Worker, workers)} }

// Worker returns the counters of worker i.
func (s *Set) Worker(i int) *Worker { return &s.workers[i] }

// Traffic returns what was translated in one direction: packets (super-packets count once) and bytes.
func (s *Set) Traffic(d Direction) (packets, bytes uint64) {
	for i := range s.workers {
		packets += s.workers[i].packets[d].Load()
		bytes += s.workers[i].bytes[d].Load()
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

// FragmentBytes returns the most that fragments take at any worker, in bytes.
func (s *Set) FragmentBytes() (n int) {
	for i := range s.workers {
		n = max(n, int(s.workers[i].fragments.Load()))
	}
	return n
}

// Counter is one number with what it means.
type Counter struct {
	Name, Label, LabelValue string // Label is empty for a counter that stands alone
	Value                   uint64
	Help                    string
	Kind                    string // packets, drop or error
}

// All returns every counter in a fixed order.
func (s *Set) All() []Counter {
	var cs []Counter
	for d := range directions {
		p, b := s.Traffic(d)
		cs = append(cs,
			Counter{"translated_packets", "direction", d.String(), p, "packets translated; a super-packet of the NIC counts once", "packets"},
			Counter{"translated_bytes", "direction", d.String(), b, "bytes of translated IP packets, as they left", "packets"})
	}
	for e := range events {
		row := &eventRows[e]
		cs = append(cs, Counter{Name: row.name, Value: s.Event(e), Help: row.help, Kind: row.kind})
	}
	for r := drop.None + 1; r < drop.Count; r++ {
		cs = append(cs, Counter{"drops", "reason", r.String(), s.Drops(r), r.Help(), "drop"})
	}
	return cs
}
