package session

import (
	"sync/atomic"

	"nat64d/packet"
	"nat64d/table"
)

// Segment holds the fields of a TCP header for the check of sequence numbers.
type Segment struct {
	Event    packet.TCPEvent
	Seq, Ack uint32
	Len      uint32 // of the data, in bytes; that of the whole super-packet with segmentation offload
	HasAck   bool   // the ACK flag is set
	Window   uint16 // as in the header
	Scale    uint8  // of a SYN: that of its window scale option (RFC 7323 section 2.2), 0 without one
}

// void is the event of a RST or FIN outside of the window: it is forwarded to the receiver, which checks it itself, but
// changes no state here (RFC 6146 section 5.2).
const (
	void   = packet.RST + 1
	events = void + 1
)

// windows is a side table with the receive windows of both sides of each session, by slot, so that it takes memory only
// while the check is on: 16 bytes a session. An unknown window, of a connection that began while the check was off,
// accepts every segment.
//
// Any worker may call the methods; they take no lock.
type windows struct {
	chunks []atomic.Pointer[windowChunk]
	memory *table.Pieces[windowChunk]
}

const windowChunkLen = 1024

type windowChunk [windowChunkLen][sides]window

// window is the receive window of one side, in one word:
//
//	bits  0-31  the sequence number that it expects next: the highest that it has acknowledged
//	bits 32-47  its window, as in the header
//	bits 48-51  the scale of the window, plus one; 0 is unknown
//	bit  52     whether it has acknowledged anything
//
// The zero window is one of which nothing is known.
type window struct{ atomic.Uint64 }

type windowWord uint64

const (
	acked     = 1 << 52
	maxScale  = 14 // RFC 7323 section 2.3
	minWindow = 65535
)

func newWindows(slots int, f table.Files) *windows {
	n := slots/windowChunkLen + 1
	return &windows{
		chunks: make([]atomic.Pointer[windowChunk], n),
		memory: table.NewPieces[windowChunk](n, f, windowsName),
	}
}

// at returns the windows of a session.
func (w *windows) at(slot uint32) *[sides]window {
	p := &w.chunks[slot/windowChunkLen]
	if p.Load() == nil {
		p.CompareAndSwap(nil, w.memory.Piece(int(slot/windowChunkLen)))
	}
	return &p.Load()[slot%windowChunkLen]
}

// forget gives back the windows of slots that no one uses.
func (w *windows) forget(from, to uint32) {
	for i := from / windowChunkLen; i < to/windowChunkLen; i++ {
		if w.chunks[i].Swap(nil) != nil {
			w.memory.Forget(int(i))
		}
	}
}

func (w windowWord) next() uint32      { return uint32(w) }
func (w windowWord) scale() windowWord { return w & (15 << 48) }

// size returns an upper bound of the bytes in flight to the side: a window in a SYN is not scaled, an unknown scale is
// the largest, and a zero window may be probed.
func (w windowWord) size() uint32 {
	scale := uint32(maxScale)
	if s := uint32(w.scale() >> 48); s != 0 {
		scale = s - 1
	}
	return max(uint32(uint16(w>>32))<<scale, minWindow)
}

// expects reports whether a segment is in the window of the side.
func (w windowWord) expects(s *Segment) bool {
	return w&acked == 0 || int32(s.Seq+s.Len-w.next()) >= 0 && int32(w.next()+w.size()-s.Seq) >= 0
}

// acknowledge returns the window after a segment of its side. It ignores an acknowledgment beyond the window, which may
// be forged, and a lower one, or a smaller window, which may be late.
func (w windowWord) acknowledge(s *Segment) windowWord {
	ahead := s.Ack - w.next() // of a late one, more than any window
	if w&acked != 0 && (ahead > w.size() || ahead == 0 && s.Window < uint16(w>>32)) {
		return w
	}
	return w&^(1<<48-1) | acked | windowWord(s.Window)<<32 | windowWord(s.Ack)
}

// begin returns the window after the SYN of its side.
func (w windowWord) begin(s *Segment) windowWord {
	return w&^(1<<53-1) | windowWord(min(s.Scale, maxScale)+1)<<48 | windowWord(s.Window)<<32
}

// examine updates the windows of a session by a segment, if the check is on, and returns the segment's event for the
// state machine.
func (t *Table) examine(slot uint32, e *entry, q *event) packet.TCPEvent {
	all := t.policy.Load().windows
	if all == nil || q.segment == nil {
		return q.tcp
	}
	w := word(e.word.Load())
	pair := all.at(slot)
	own, other := &pair[q.from], windowWord(pair[1-q.from].Load())
	switch {
	case q.tcp == packet.RST || q.tcp == packet.FIN:
		if !other.expects(q.segment) {
			return void
		}
	case q.trial != nil:
		return q.tcp
	case q.tcp == packet.SYN && w.mayBegin(q.now, &t.policy.Load().limits):
		own.update(func(x windowWord) windowWord { return x.begin(q.segment) })
	}
	if q.segment.HasAck && q.trial == nil {
		own.update(func(x windowWord) windowWord { return x.acknowledge(q.segment) })
	}
	return q.tcp
}

// update changes a window.
func (w *window) update(f func(windowWord) windowWord) {
	for {
		old := windowWord(w.Load())
		if x := f(old); x == old || w.CompareAndSwap(uint64(old), uint64(x)) {
			return
		}
	}
}

// resetWindowsLocked clears the windows in a slot for the session that begins there. The caller holds the
// shard's lock, and no packet can find the session yet.
func (t *Table) resetWindowsLocked(slot uint32) {
	all := t.policy.Load().windows
	if all == nil {
		return
	}
	if c := all.chunks[slot/windowChunkLen].Load(); c != nil {
		for i := range c[slot%windowChunkLen] {
			c[slot%windowChunkLen][i].Store(0)
		}
	}
}

// mayBegin reports whether a SYN can begin a connection, rather than be a stray or forged one during a connection.
func (w word) mayBegin(now table.Time, l *limits) bool {
	switch w = w.settle(now, l); w.state() {
	case Established, V4FinRcv, V6FinRcv:
		return w.expired(now, l)
	}
	return true
}
