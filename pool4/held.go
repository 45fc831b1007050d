package pool4

import (
	"sync"
	"time"

	"nat64d/packet"
)

// heldPort names a port in hold-down: 8 bytes without pointers, since there may be as many as pool4 has ports.
type heldPort struct {
	addr  uint32
	port  uint16
	proto packet.Proto
}

// queue is the ports in hold-down, in the order in which they were given back. Ports given back between two calls of
// pop share a time, that of the second call, so that whoever gives a port back needs no clock; it is never too early.
type queue struct {
	mu           sync.Mutex
	first, last  *segment
	begin, end   int // of the ports: in first, and in last
	batches      []batch
	sinceLastPop int    // ports in no batch yet
	n            int    // all ports
	popped       uint64 // ports taken out so far
}

// batch is how many ports in a row have been held since when.
type batch struct {
	since time.Duration
	n     int
}

// segment is a piece of the queue, so that neither its growth nor its shrinking ever copies it.
type segment struct {
	ports [1024]heldPort
	next  *segment
}

// push puts a port in. If there are more than most then, it takes out the one that has been held the longest and
// returns it; most is 0 for no limit.
func (q *queue) push(h heldPort, most int) (oldest heldPort, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(h)
	if most == 0 || q.n <= most {
		return heldPort{}, false
	}
	return q.shiftLocked(), true
}

// addLocked puts a port at the end. The caller holds q.mu.
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

// pop takes out the ports that have been held for longer than hold, and the oldest of those that are more than most, budget
// of them at most, and returns whether there are more. It is strictly longer because the clock is coarse.
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

// shiftLocked takes out the port that has been held the longest. The queue is not empty; the caller holds q.mu.
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
