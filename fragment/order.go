package fragment

import "nat64d/packet"

// place is a position between two pieces of a datagram; 0 is either end.
type place struct{ prev, next uint32 }

// blocks returns the number of blocks that f takes.
func (f *header) blocks() int {
	n := len(f.data)
	if f.offset == 0 {
		n += len(f.ip)
	}
	return blocksFor(n)
}

// fit is the relation of a fragment to the stored ones.
type fit uint8

const (
	clashes   fit = iota // it overlaps or contradicts a stored fragment
	fits                 // it is new
	duplicate            // the same fragment is stored, byte for byte
)

// find returns the position of fragment f in d, and how it fits there.
func (r *Reassembler) find(d *datagram, f *header) (place, fit) {
	at := r.between(d, f.offset)
	end := f.offset + len(f.data)
	if at.next != 0 {
		p := &r.memory.pieces[at.next]
		isLast := d.total == p.end()
		switch {
		case int(p.offset) == f.offset && isLast == !f.more && r.memory.holds(at.next, f.data):
			return at, duplicate
		case end > int(p.offset):
			return at, clashes
		}
	}
	switch {
	case at.prev != 0 && r.memory.pieces[at.prev].end() > f.offset,
		at.next == 0 && d.total != 0, // after the last
		at.next != 0 && !f.more:      // the last, but one after it is stored
		return at, clashes
	}
	return at, fits
}

// between returns the position before the first piece whose offset is not lower than offset. Most fragments arrive in
// order, and their position is the end.
func (r *Reassembler) between(d *datagram, offset int) place {
	if int(r.memory.pieces[d.last].offset) < offset {
		return place{prev: d.last}
	}
	at := place{next: d.first}
	for at.next != 0 && int(r.memory.pieces[at.next].offset) < offset {
		at = place{at.next, r.memory.pieces[at.next].next}
	}
	return at
}

// insert stores a copy of f in d.
func (r *Reassembler) insert(d *datagram, f *header, at place) {
	n := r.store(f)
	r.memory.pieces[n].offset, r.memory.pieces[n].next = uint16(f.offset), at.next
	if at.prev != 0 {
		r.memory.pieces[at.prev].next = n
	} else {
		d.first = n
	}
	if at.next == 0 {
		d.last = n
	}
	r.sources.at(d.source).fragments++
	r.charge(d, f.blocks())
	d.fragments++
	r.stored++
	d.have += len(f.data)
	d.largest = max(d.largest, len(f.data))
	d.df, d.ce = d.df || f.df, d.ce || f.ce
	if !f.more {
		d.total = f.offset + len(f.data)
	}
}

// store copies f into memory. It copies the headers of the first fragment only: those of the others are not used.
func (r *Reassembler) store(f *header) uint32 {
	if f.offset != 0 {
		return r.memory.store(nil, f.data)
	}
	n := r.memory.store(f.ip, f.data)
	if f.key.proto == 0 {
		r.memory.at(n)[nextHeaderAt(f.ip)] = f.next
	}
	return n
}

// nextHeaderAt returns the offset of the last Next Header field of the IPv6 headers h, which View.Extensions6 has validated.
func nextHeaderAt(h []byte) int {
	at := 6
	for next := packet.IPv6Len; next < len(h); {
		at = next
		next += int(h[next+1])*8 + 8
	}
	return at
}
