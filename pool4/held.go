package pool4

import (
	"sync"
	"time"
)

// queue is the ports in hold-down, in the order in which they were given back. Ports that are given back between two
// calls of pop share the time of the second call, so that push needs no clock; a hold-down is never too short.
type queue struct {
	mu           sync.Mutex
	pieces       Pieces     // nil: the ports are on Go's heap
	segments     []*segment // all are full except the first and the last
	begin, end   int        // of the ports: in the first segment, and in the last
	batches      []batch
	sinceLastPop int           // ports in no batch yet
	n            int           // all ports
	taken        int           // those of them that takeEarly has taken
	popped       uint64        // ports taken out so far
	now          time.Duration // of the last call of pop
	of           *queue        // the queue that this one, of a trial, tries: it only counts in n and taken
}

// batch is a number of consecutive ports that share a time.
type batch struct {
	since time.Duration
	n     int
}

// segment is a part of the queue, which grows and shrinks by segments without being copied.
type segment struct {
	entries []byte
	piece   bool // entries came from Pieces
}

// segmentPorts is the number of ports in a segment.
const segmentPorts = PieceLen / HeldLen

func (s *segment) at(i int) heldEntry { return heldEntry(s.entries[i*HeldLen:][:HeldLen]) }

// push adds a port and returns the number of its place. If the queue then has more than most ports, it removes and returns
// the one that has been held the longest; most is 0 for no limit.
func (q *queue) push(h heldPort, most int) (seq uint32, oldest heldPort, over bool) {
	if q.of != nil {
		return q.pushTried(most)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	seq = q.addLocked(h)
	for most != 0 && q.n-q.taken > most && !over {
		oldest, over = q.shiftLocked()
	}
	return seq, oldest, over
}

// addLocked adds a port at the end, without a time, and returns the number of its place. The caller holds q.mu.
func (q *queue) addLocked(h heldPort) (seq uint32) {
	if len(q.segments) == 0 || q.end == segmentPorts {
		q.segments, q.end = append(q.segments, q.newSegment()), 0
	}
	q.segments[len(q.segments)-1].at(q.end).set(h)
	q.end++
	q.sinceLastPop++
	q.n++
	return uint32(q.popped) + uint32(q.n) - 1
}

func (q *queue) newSegment() *segment {
	if q.pieces != nil {
		if b := q.pieces.Piece(); b != nil {
			return &segment{b, true}
		}
	}
	return &segment{make([]byte, PieceLen), false}
}

// entryLocked returns the i-th port, from 0. The caller holds q.mu.
func (q *queue) entryLocked(i int) heldEntry {
	i += q.begin
	return q.segments[i/segmentPorts].at(i % segmentPorts)
}

// pop removes up to budget ports: those that have been held for longer than hold, and the oldest of those beyond most.
// It reports whether there are more. The comparison is strict because the clock is coarse.
func (q *queue) pop(now, hold time.Duration, most, budget int) (ports []heldPort, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now = now
	q.closeBatchLocked(now)
	for len(q.batches) > 0 && (now-q.batches[0].since > hold || most != 0 && q.n-q.taken > most) {
		if budget--; budget < 0 {
			return ports, true
		}
		if h, ok := q.shiftLocked(); ok {
			ports = append(ports, h)
		}
	}
	return ports, false
}

// closeBatchLocked gives the ports that have no time yet this one. The caller holds q.mu.
func (q *queue) closeBatchLocked(since time.Duration) {
	if q.sinceLastPop == 0 {
		return
	}
	for i := q.n - q.sinceLastPop; i < q.n; i++ {
		q.entryLocked(i).setSince(since)
	}
	q.batches = append(q.batches, batch{since, q.sinceLastPop})
	q.sinceLastPop = 0
}

// shiftLocked removes the port that has been held the longest. ok is false if takeEarly has taken it. The queue is not
// empty; the caller holds q.mu.
func (q *queue) shiftLocked() (h heldPort, ok bool) {
	first := q.segments[0]
	e := first.at(q.begin)
	if ok = !e.isFree(); !ok {
		q.taken--
	}
	h = e.port()
	h.seq = uint32(q.popped)
	e.free()
	q.n--
	q.popped++
	if len(q.batches) == 0 {
		q.sinceLastPop--
	} else if b := &q.batches[0]; b.n > 1 {
		b.n--
	} else {
		q.batches = q.batches[1:]
	}
	if q.begin++; q.begin == segmentPorts {
		q.segments[0] = nil // the array behind the slice keeps it otherwise
		q.segments, q.begin = q.segments[1:], 0
		if first.piece {
			q.pieces.Free(first.entries)
		}
	}
	return h, ok
}
