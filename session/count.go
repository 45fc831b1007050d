package session

import (
	"nat64d/packet"
	"nat64d/table"
)

// Begun returns the number of sessions of a protocol that have begun since the start, restored ones included.
func (t *Table) Begun(p packet.Proto) uint64 { return t.begun[p].Load() }

// Ended returns the number of sessions that have ended since the start for a cause.
func (t *Table) Ended(c Cause) uint64 { return t.over[c].Load() }

// Causes returns the causes of Ended.
func Causes() (list []Cause) {
	for c := NoCause + 1; c < causes; c++ {
		list = append(list, c)
	}
	return list
}

// Population is the number of sessions by protocol and state.
type Population [packet.Protos][states]int

// Of returns the states that sessions of a protocol can have.
func (p *Population) Of(proto packet.Proto) (list []State) {
	if proto != packet.TCP {
		return []State{Active}
	}
	for s := V4Init; s < states; s++ {
		list = append(list, s)
	}
	return list
}

// Population counts the sessions that live at a time. It visits every slot in use, which takes about 15 ms for a million; packets
// do not wait for it.
func (t *Table) Population(now table.Time) *Population {
	const step = 8192 // sessions at a time
	n, cursor := new(Population), uint32(1)
	for more := true; more; more = cursor != 0 {
		t.epochs.Read(func() {
			_, cursor = t.each(cursor, step, now, func(_ int, _ uint32, e *entry, w word) { n[e.proto][w.state()]++ })
		})
	}
	return n
}
