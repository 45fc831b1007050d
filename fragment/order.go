package fragment

import "nat64d/packet"

// place is between two pieces of a datagram; 0 stands for either end.
type place struct{ prev, next uint32 }

// blocks returns how many blocks of memory f takes.
func (f *header) blocks() int {
	n := len(f.data)
	if f.offset == 0 {
		n += len(f.ip)
	}
	return blocksFor(n)
}

// fit says how a fragment goes with those that are there.
type fit uint8

const (
	clashes   fit = iota // it contradicts another one
	fits                 // it is new
	duplicate            // it is there already, byte for byte
)

// find returns where in d the fragment f belongs, and how it fits there.
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
		at.next == 0 && d.total != 0, // behind the last
		at.next != 0 && !f.more:      // the last, but there is one behind it
		return at, clashes
	}
	return at, fits
}

// between returns the place in front of the first piece that does not begin before offset. Most fragments come in order
// and belong at the end.
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

// insert keeps a copy of f in d.
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
	d.have += len(f.data)
	d.largest = max(d.largest, len(f.data))
	d.df, d.ce = d.df || f.df, d.ce || f.ce
	if !f.more {
		d.total = f.offset + len(f.data)
	}
}

// store copies f into memory, the headers only of the first fragment: the others' are of no more use.
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

// nextHeaderAt returns where the Next Header field is that announces what follows the IPv6 headers h. View.Extensions6
// has found them to be well-formed.
func nextHeaderAt(h []byte) int {
	at := 6
	for next := packet.IPv6Len; next < len(h); {
		at = next
		next += int(h[next+1])*8 + 8
	}
	return at
}
