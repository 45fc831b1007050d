package pool4

import (
	"sync"
	"time"

	"nat64d/packet"
)

// heldPort is a port in hold-down: 8 bytes without pointers, because all ports of pool4 may be held down.
type heldPort struct {
	addr  uint32
	port  uint16
	proto packet.Proto
}

// queue is the ports in hold-down, in the order in which they were given back. Ports that are given back between two
// calls of pop share the time of the second call, so that push needs no clock; a hold-down is never too short.
type queue struct {
	mu           sync.Mutex
	first, last  *segment
	begin, end   int // of the ports: in first, and in last
	batches      []batch
	sinceLastPop int    // ports in no batch yet
	n            int    // all ports
	popped       uint64 // ports taken out so far
}

// batch is a number of consecutive ports that share a time.
type batch struct {
	since time.Duration
	n     int
}

// segment is a part of the queue, which grows and shrinks by segments without being copied.
type segment struct {
	ports [1024]heldPort
	next  *segment
}

// push adds a port. If the queue then has more than most ports, it removes and returns the one that has been held the
// longest; most is 0 for no limit.
func (q *queue) push(h heldPort, most int) (oldest heldPort, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(h)
	if most == 0 || q.n <= most {
		return heldPort{}, false
	}
	return q.shiftLocked(), true
}

// addLocked adds a port at the end. The caller holds q.mu.
func (q *queue) addLocked(h heldPort) {
	if q.last == nil || q.end == len(q.last.ports) {
		s := new(segment)
		if q.last == nil {
			q.first, q.begin = s, 0
		} else {
			q.last.next = s
		}
		q.last, q.end = s, 0
	}
	q.last.ports[q.end] = h
	q.end++
	q.sinceLastPop++
	q.n++
}

// pop removes up to budget ports: those that have been held for longer than hold, and the oldest of those beyond most.
// It reports whether there are more. The comparison is strict because the clock is coarse.
func (q *queue) pop(now, hold time.Duration, most, budget int) (ports []heldPort, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sinceLastPop > 0 {
		q.batches = append(q.batches, batch{now, q.sinceLastPop})
		q.sinceLastPop = 0
	}
	for len(q.batches) > 0 && (now-q.batches[0].since > hold || most != 0 && q.n > most) {
		if len(ports) == budget {
			return ports, true
		}
		ports = append(ports, q.shiftLocked())
	}
	return ports, false
}

// shiftLocked removes the port that has been held the longest. The queue is not empty; the caller holds q.mu.
func (q *queue) shiftLocked() heldPort {
	q.n--
	q.popped++
	if len(q.batches) == 0 {
		q.sinceLastPop--
	} else if b := &q.batches[0]; b.n > 1 {
		b.n--
	} else {
		q.batches = q.batches[1:]
	}
	h := q.first.ports[q.begin]
	if q.begin++; q.begin == len(q.first.ports) {
		q.first, q.begin = q.first.next, 0
	}
	if q.first == nil {
		q.last = nil
	}
	return h
}
