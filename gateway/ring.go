package gateway

import (
	"encoding/binary"
	"sync/atomic"

	"nat64d/packet"
)

// ring carries the verdicts of one worker to one Tap, with bytes of the packets. The worker pushes, one other goroutine pops.
// Neither waits for the other.
type ring struct {
	slots  []slot
	bytes  []byte // circular; the bytes of a slot are contiguous
	pushed atomic.Uint64
	popped atomic.Uint64
	freed  atomic.Uint64 // position in bytes behind which nothing is in use
	at     uint64        // position in bytes of the next; the worker's
	lost   atomic.Uint64 // verdicts for which there was no room
}

type slot struct {
	verdict  Verdict
	from, to uint64 // positions in bytes
}

func newRing(slots, bytes int) *ring {
	return &ring{slots: make([]slot, slots), bytes: make([]byte, bytes)}
}

// push adds a verdict, and room bytes that the caller writes into the memory it gets. It returns false if there is no room.
func (r *ring) push(v *Verdict, room int) (b []byte, ok bool) {
	n := r.pushed.Load()
	from, ok := r.reserve(uint64(room))
	if !ok || n-r.popped.Load() == uint64(len(r.slots)) {
		r.lost.Add(1)
		return nil, false
	}
	s := &r.slots[n%uint64(len(r.slots))]
	s.verdict, s.from, s.to = *v, from, from+uint64(room)
	r.at = s.to
	if room > 0 {
		i := from % uint64(len(r.bytes))
		b = r.bytes[i : i+uint64(room)]
	}
	return b, true
}

// publish makes the pushed verdict visible. It is separate from push, because the bytes are written in between.
func (r *ring) publish() { r.pushed.Add(1) }

// reserve returns the position of room contiguous bytes.
func (r *ring) reserve(room uint64) (from uint64, ok bool) {
	size := uint64(len(r.bytes))
	from = r.at
	if room == 0 {
		return from, true
	}
	if room > size/2 { // a larger one may not fit into an empty ring
		return 0, false
	}
	if from%size+room > size {
		from += size - from%size // the end is left empty
	}
	return from, from+room-r.freed.Load() <= size
}

// pop calls f with every verdict and its bytes, which are valid until f returns.
func (r *ring) pop(f func(v *Verdict, b []byte)) {
	n, end := r.popped.Load(), r.pushed.Load()
	for ; n < end; n++ {
		s := &r.slots[n%uint64(len(r.slots))]
		var b []byte
		if s.to > s.from {
			i := s.from % uint64(len(r.bytes))
			b = r.bytes[i : i+s.to-s.from]
		}
		f(&s.verdict, b)
		r.freed.Store(s.to)
		r.popped.Store(n + 1)
	}
}

// Packet is a packet of a capture: one that arrived, one that left for it, or an answer to it.
type Packet struct {
	Out    bool          // it left
	Family packet.Family // and with it the side
	Answer bool          // an ICMP error or a reset of the gateway's
	Length int           // of the IP packet
	Data   []byte        // its beginning, at most Snap bytes
	Start  uint16        // offset of the transport header, if the sender has left its checksum to the NIC; 0: it has not
	Offset uint16        // of the checksum in that header
}

// recordLen is the length of the header of a Packet in a ring.
const recordLen = 16

const (
	recordOut = 1 << iota
	recordV4
	recordAnswer
)

// put writes a packet with at most snap bytes of head and body into b and returns what follows. b has recordSize bytes.
func (p *Packet) put(b []byte, snap int, head, body []byte) []byte {
	var flags uint32
	if p.Out {
		flags |= recordOut
	}
	if p.Family == packet.V4 {
		flags |= recordV4
	}
	if p.Answer {
		flags |= recordAnswer
	}
	n := min(snap, len(head)+len(body))
	binary.NativeEndian.PutUint32(b, uint32(n)<<8|flags)
	binary.NativeEndian.PutUint32(b[4:], uint32(p.Length))
	binary.NativeEndian.PutUint16(b[8:], p.Start)
	binary.NativeEndian.PutUint16(b[10:], p.Offset)
	data := b[recordLen : recordLen+n]
	copy(data[copy(data, head):], body)
	return b[recordLen+n:]
}

// next reads the first packet of b, and returns what follows.
func (p *Packet) next(b []byte) []byte {
	w := binary.NativeEndian.Uint32(b)
	n := int(w >> 8)
	*p = Packet{Out: w&recordOut != 0, Answer: w&recordAnswer != 0, Length: int(binary.NativeEndian.Uint32(b[4:]))}
	if w&recordV4 != 0 {
		p.Family = packet.V4
	}
	p.Start, p.Offset = binary.NativeEndian.Uint16(b[8:]), binary.NativeEndian.Uint16(b[10:])
	p.Data = b[recordLen : recordLen+n]
	return b[recordLen+n:]
}
