package pool4

import (
	"encoding/binary"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// Our own choices for ports that leave hold-down early: the number that one packet frees at most, which is more than one only
// with port blocks, and the number of addresses at which a new client looks for one.
const (
	maxEarly     = 256
	maxEarlyRows = 16
)

// restingPort is a port of a row in hold-down, and the number of its place in the queue, modulo 2^32.
type restingPort struct {
	seq  uint32
	port uint16
}

// resting is the ports of one row in hold-down, in the order in which they were given back. The row's lock guards it.
type resting struct {
	ports []restingPort
	begin int
}

func (l *resting) add(p restingPort) {
	if l.begin > 64 && l.begin > len(l.ports)/2 {
		l.ports = l.ports[:copy(l.ports, l.ports[l.begin:])]
		l.begin = 0
	}
	l.ports = append(l.ports, p)
}

// trim removes the ports up to a place in the queue: they have left it.
func (l *resting) trim(seq uint32) {
	for l.begin < len(l.ports) && int32(l.ports[l.begin].seq-seq) <= 0 {
		l.begin++
	}
	l.release()
}

// release frees the memory of a long list that has become empty.
func (l *resting) release() {
	if l.begin == len(l.ports) && cap(l.ports) > 1024 {
		*l = resting{}
	}
}

// next removes and returns the first port that has been held for at least age, and takes it out of the queue.
func (l *resting) next(q *queue, age time.Duration) (port uint16, ok bool) {
	for l.begin < len(l.ports) {
		p := l.ports[l.begin]
		switch q.takeEarly(p.seq, age) {
		case tooYoung:
			return 0, false
		case taken:
			l.begin++
			return p.port, true
		}
		l.begin++
	}
	return 0, false
}

// early is a result of takeEarly.
type early int

const (
	notHeld early = iota
	tooYoung
	taken
)

// takeEarly takes a port out of the middle of the queue, if it is still there and has been held for at least age. Its
// entry stays until those before it have left.
func (q *queue) takeEarly(seq uint32, age time.Duration) early {
	if q.of != nil {
		q.of.mu.Lock()
		defer q.of.mu.Unlock()
		_, result := q.of.restedLocked(seq, age)
		return result // the row that the trial has copied forgets the port
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	e, result := q.restedLocked(seq, age)
	if result == taken {
		e.free()
		q.taken++
	}
	return result
}

// restedLocked returns a port that takeEarly may take, and taken, or why it may not. The caller holds q.mu.
func (q *queue) restedLocked(seq uint32, age time.Duration) (e heldEntry, result early) {
	i := seq - uint32(q.popped)
	if i >= uint32(q.n) {
		return nil, notHeld
	}
	if e = q.entryLocked(int(i)); e.isFree() {
		return nil, notHeld
	}
	if since := binary.NativeEndian.Uint32(e[8:]); since == 0 || time.Duration(int32(ticks(q.now)-since))*tick < age {
		return nil, tooYoung
	}
	return e, taken
}

// endEarlyLocked ends the hold-down of the row's port that has been held the longest, if that is RestAtLeast or more. The
// caller holds r.mu.
func (r *row) endEarlyLocked(owner *blockOwner) bool {
	port, ok := r.resting.next(owner.held, owner.restAtLeast)
	if !ok {
		return false
	}
	r.ports.endHoldDown(port)
	r.held--
	r.portChangedLocked(port)
	owner.early++
	return true
}

// allocateResting takes a port out of hold-down, when Allocate has found no other.
func (p *Pool) allocateResting(a *addresses, g *group, q *Request, f uint64, owner *blockOwner) (packet.Endpoint4, drop.Reason) {
	owner.held, owner.restAtLeast = &p.held, p.conf.Load().RestAtLeast
	defer func() { p.restedShort.Add(owner.early) }()
	if i, ok := a.find(binary.BigEndian.Uint32(q.Paired[:])); ok && g.has(i) {
		return a.allocate(i, q, f, owner)
	}
	client := q.Client.Addr
	if owner.blockSize != 0 {
		client = q.Owner
	}
	n := g.size(len(a.addrs))
	start := g.place(p.start(client), len(a.addrs))
	for k := range min(n, maxEarlyRows) {
		i := g.index((start + k) % n)
		if e, r := a.allocate(i, q, f, owner); r == drop.None {
			return e, r
		}
	}
	return packet.Endpoint4{}, drop.PoolExhausted
}

// RestedShort returns the number of ports that left hold-down early, because a client needed a port and no other was free.
func (p *Pool) RestedShort() uint64 { return p.restedShort.Load() }
