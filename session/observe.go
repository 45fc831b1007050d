package session

import (
	"slices"
	"sync"
	"sync/atomic"

	"nat64d/table"
)

// observers carries events from workers and other goroutines to observers. The goroutine that causes an event puts it
// into a ring: it takes no lock, allocates nothing and never waits. Deliver takes the events out. If a ring is full,
// the event is lost and counted by its kind, and every observer of that kind gets the number of lost events.
//
// Events of one transport address of pool4 use the same ring, so that they arrive in order.
type observers struct {
	wanted atomic.Uint32 // Kinds with an observer; without any, emit is never called
	clock  atomic.Uint32 // the latest time of a packet or of the sweep, from origin
	rings  atomic.Pointer[[1 << ringBits]ring]
	lost   [eventKinds]atomic.Uint64

	waiting atomic.Bool // the last Deliver has found nothing, and the next event calls onEvent
	onEvent func()

	mu    sync.Mutex // guards what follows; held while observers are called
	all   []*Observer
	batch []Event
}

const (
	ringBits  = 2
	ringLen   = 1 << 14 // events of a ring: with four of them 1.2 MB each, and 20 ms between two calls of Deliver, 3 million a second
	maxEvents = 1024    // events that an observer gets at a time
)

// Observer receives events of some kinds until it is closed.
type Observer struct {
	table *Table
	f     func(batch []Event, lost uint64)
	kinds Kinds // guarded by observers.mu

	told [eventKinds]uint64 // lost events of each kind that f has got the number of; guarded by observers.mu
}

// Observe makes Deliver call f with the events of some kinds, and with the number of events that were lost since the
// last call. The lost ones happened before the last of batch, or since the last call if batch is empty. batch is valid
// until f returns. A slow f causes lost events, but delays no packet. f must not call Observe or a method of an
// Observer.
func (t *Table) Observe(kinds Kinds, f func(batch []Event, lost uint64)) *Observer {
	o := &Observer{table: t, f: f}
	x := &t.observers
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, o)
	o.observeLocked(kinds)
	return o
}

// Configure replaces the kinds of events that an observer receives. It applies to events that wait for Deliver, too.
func (o *Observer) Configure(kinds Kinds) {
	x := &o.table.observers
	x.mu.Lock()
	defer x.mu.Unlock()
	o.observeLocked(kinds)
}

// Close ends an observer. Events that wait for Deliver are not delivered to it.
func (o *Observer) Close() {
	x := &o.table.observers
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = slices.DeleteFunc(x.all, func(other *Observer) bool { return other == o })
	o.observeLocked(0)
}

// observeLocked replaces the kinds of an observer. The caller holds observers.mu.
func (o *Observer) observeLocked(kinds Kinds) {
	x := &o.table.observers
	for k := range eventKinds {
		if !o.kinds.Has(k) {
			o.told[k] = x.lost[k].Load()
		}
	}
	o.kinds = kinds
	union := Kinds(0)
	for _, other := range x.all {
		union |= other.kinds
	}
	if union != 0 && x.rings.Load() == nil {
		x.rings.Store(newRings())
	}
	x.wanted.Store(uint32(union))
}

// Lost returns the number of events of some kinds that were lost because a ring was full.
func (t *Table) Lost(kinds Kinds) (n uint64) {
	for k := range eventKinds {
		if kinds.Has(k) {
			n += t.observers.lost[k].Load()
		}
	}
	return n
}

// OnEvent has f called when an event happens after Deliver has returned 0. It is called before the table is in use. f must
// not wait: packets and the sweep call it, some with the lock of a shard.
func (t *Table) OnEvent(f func()) { t.observers.onEvent = f }

// Deliver delivers the events that are in the rings and returns their number. Concurrent calls wait for each other.
func (t *Table) Deliver() (n int) {
	x := &t.observers
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting.Store(false)
	if n = x.deliverLocked(); n == 0 {
		x.waiting.Store(true)
		n = x.deliverLocked() // an event of the time before calls nothing
	}
	return n
}

// deliverLocked is Deliver. The caller holds observers.mu.
func (x *observers) deliverLocked() (n int) {
	rings := x.rings.Load()
	if rings == nil {
		return 0
	}
	for i := range rings {
		for more := ringLen; more > 0; more -= maxEvents { // the next call delivers events that come meanwhile
			x.batch = rings[i].take(x.batch[:0])
			if len(x.batch) == 0 {
				break
			}
			n += len(x.batch)
			for _, o := range x.all {
				o.tellLocked(x.batch)
			}
		}
	}
	for _, o := range x.all {
		o.tellLocked(nil)
	}
	return n
}

// tellLocked calls an observer if there are events for it, or lost ones. The caller holds observers.mu.
func (o *Observer) tellLocked(events []Event) {
	x := &o.table.observers
	lost := uint64(0)
	for k := range eventKinds {
		if o.kinds.Has(k) {
			n := x.lost[k].Load()
			lost += n - o.told[k]
			o.told[k] = n
		}
	}
	mine := events
	if slices.ContainsFunc(events, func(e Event) bool { return !o.kinds.Has(e.Kind) }) {
		mine = slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return !o.kinds.Has(e.Kind) })
	}
	if len(mine) > 0 || lost > 0 {
		o.f(mine, lost)
	}
}

// wants reports whether an observer receives events of a kind.
func (x *observers) wants(k EventKind) bool { return Kinds(x.wanted.Load()).Has(k) }

// advance stores the time, for events that have no time of their own.
func (x *observers) advance(now table.Time) {
	if old := x.clock.Load(); uint32(now) > old && x.wanted.Load() != 0 {
		x.clock.CompareAndSwap(old, uint32(now))
	}
}

// now returns the latest time of advance, which counts from origin.
func (x *observers) now() table.Time { return max(table.Time(x.clock.Load()), origin) }

// emit puts an event of a wanted kind into its ring, or counts it as lost.
func (x *observers) emit(e *Event) {
	if !x.rings.Load()[ringOf(e.Mapped)].put(e) {
		x.lost[e.Kind].Add(1)
	}
	if x.waiting.Load() && x.waiting.CompareAndSwap(true, false) && x.onEvent != nil {
		x.onEvent()
	}
}

// ring is a bounded queue of events for many producers and one consumer. A turn is the number of an event. A place
// holds the event of a turn: seq is the turn that may write the place, or that turn plus one after it has.
type ring struct {
	_      [64]byte
	tail   atomic.Uint64 // the next turn of a producer
	_      [56]byte
	head   uint64 // the next turn of the consumer
	places []place
}

type place struct {
	seq   atomic.Uint64
	event Event
}

func newRings() *[1 << ringBits]ring {
	rings := new([1 << ringBits]ring)
	for i := range rings {
		r := &rings[i]
		r.places = make([]place, ringLen)
		for seq := range r.places {
			r.places[seq].seq.Store(uint64(seq))
		}
	}
	return rings
}

// put adds an event and reports whether there was room.
func (r *ring) put(e *Event) bool {
	for {
		turn := r.tail.Load()
		p := &r.places[turn%ringLen]
		switch seq := p.seq.Load(); {
		case seq == turn:
			if r.tail.CompareAndSwap(turn, turn+1) {
				p.event = *e
				p.seq.Store(turn + 1)
				return true
			}
		case seq < turn: // the event of the last round is still there
			return false
		}
	}
}

// take moves events to the end of batch, maxEvents at most.
func (r *ring) take(batch []Event) []Event {
	for range maxEvents {
		p := &r.places[r.head%ringLen]
		if p.seq.Load() != r.head+1 {
			break
		}
		batch = append(batch, p.event)
		p.seq.Store(r.head + ringLen)
		r.head++
	}
	return batch
}
