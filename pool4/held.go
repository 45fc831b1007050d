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
	sinceLastPop int // ports in no batch yet
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

func (q *queue) push(h heldPort) {
	q.mu.Lock()
	defer q.mu.Unlock()
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
}

// pop takes out the ports that have been held for longer than hold, budget of them at most, and returns whether there
// are more. It is strictly longer because the clock is coarse.
func (q *queue) pop(now, hold time.Duration, budget int) (ports []heldPort, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sinceLastPop > 0 {
		q.batches = append(q.batches, batch{now, q.sinceLastPop})
		q.sinceLastPop = 0
	}
	for len(q.batches) > 0 && now-q.batches[0].since > hold {
		b := &q.batches[0]
		for ; b.n > 0; b.n-- {
			if len(ports) == budget {
				return ports, true
			}
			ports = append(ports, q.shift())
		}
		q.batches = q.batches[1:]
	}
	return ports, false
}

// shift takes out the port that has been held the longest. The caller holds the lock, and there is one.
func (q *queue) shift() heldPort {
	h := q.first.ports[q.begin]
	if q.begin++; q.begin == len(q.first.ports) {
		q.first, q.begin = q.first.next, 0
	}
	if q.first == nil {
		q.last = nil
	}
	return h
}
