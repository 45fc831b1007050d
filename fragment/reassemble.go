package fragment

import (
	"encoding/binary"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// key identifies a datagram: source, destination and Identification, in IPv4 also the protocol (RFC 791 section 3.2,
// RFC 8200 section 4.5). An IPv4 address is in the first four bytes; proto, which is 0 in IPv6, distinguishes the
// families.
type key struct {
	src, dst packet.Addr6
	id       uint32
	proto    uint8
}

// datagram is one that is not complete, or one that has been abandoned: an abandoned datagram has no pieces, and stays
// so that Add refuses its later fragments, too.
type datagram struct {
	key         key
	source      uint32
	links       [queues]links
	arrived     time.Duration
	begun       uint32 // source.begun when this one was begun
	first, last uint32 // pieces in the order of their offsets
	fragments   uint32 // that were stored
	blocks      int    // of its pieces; 1 when abandoned, so that the limits bound abandoned datagrams, too
	have        int    // bytes of payload
	total       int    // bytes of payload of the complete datagram; 0: not known yet
	largest     int    // bytes of payload of the largest piece
	df, ce      bool
	abandoned   bool
}

// source is an address, or an IPv6 prefix, with fragments that wait.
type source struct {
	addr      packet.Addr6
	waiting   queue
	fragments int    // that wait; an abandoned datagram counts as one
	blocks    int    // of all its datagrams
	begun     uint32 // number of datagrams since the source was made; it may wrap, only differences count
}

// Lost counts fragments that were stored and then discarded.
type Lost struct {
	Late   int // the datagram was not complete in time: drop.FragmentTimeout
	Source int // a limit of the source was reached: drop.FragmentSource
	Memory int // the limit of all sources was reached: drop.FragmentMemory
}

// Reassembler reassembles datagrams. One goroutine at a time may use it.
//
// The fragments of a datagram normally arrive within milliseconds, so the oldest datagram is the least likely to become
// complete, and is discarded when a limit is reached. A little loss then costs only the datagrams that lost a fragment.
// A flood from one source shortens the time in which the fragments of that source must arrive, and of no other. A flood
// from many sources shortens the time for all: 100,000 fragments a second leave 80 ms with the default limits. Pieces
// are stored in memory without pointers.
type Reassembler struct {
	limits    Limits
	memory    memory
	blocks    int // of all datagrams
	stored    int // fragments of all datagrams, those of abandoned ones included
	datagrams slab[datagram]
	sources   slab[source]
	byKey     map[key]uint32
	byAddr    map[packet.Addr6]uint32
	waiting   queue
	lost      Lost   // since Expire was last called
	whole     []byte // the datagrams that were returned since Release was last called
}

// New returns a Reassembler without fragments. It allocates memory as fragments arrive.
func New(l Limits) *Reassembler {
	return &Reassembler{
		limits: l.withDefaults(),
		byKey:  make(map[key]uint32),
		byAddr: make(map[packet.Addr6]uint32),
	}
}

// SetLimits changes the limits. Stored fragments stay until newer fragments need the room.
func (r *Reassembler) SetLimits(l Limits) { r.limits = l.withDefaults() }

// Len returns the number of datagrams that are not complete or have been abandoned.
func (r *Reassembler) Len() int { return len(r.byKey) }

// Waiting returns the number of fragments that are stored, and not returned or discarded yet.
func (r *Reassembler) Waiting() int { return r.stored }

// Bytes returns the memory that fragments take, as Limits count it: in blocks of 2 KiB, one for an abandoned datagram.
func (r *Reassembler) Bytes() int { return r.blocks * blockLen }

// expireStep is the number of datagrams that one call frees at most: our own choice, so that no packet waits long.
const expireStep = 64

// Expire frees datagrams whose time is over, a bounded number a call, and returns the number of fragments that have
// been discarded with their datagrams since the last call. Add refuses late fragments without it.
func (r *Reassembler) Expire(now time.Duration) Lost {
	r.expire(now)
	lost := r.lost
	r.lost = Lost{}
	return lost
}

func (r *Reassembler) expire(now time.Duration) {
	for range expireStep {
		n := r.waiting.oldest
		if n == 0 || !r.late(r.datagrams.at(n), now) {
			return
		}
		r.discard(n, &r.lost.Late)
	}
}

// idDistance is the number of datagrams that a source may begin after one whose fragments are still accepted. An IPv4
// source that sends fast reuses an Identification within the time limit (RFC 4963 section 2); fragments of the new
// datagram must not complete the old one.
const idDistance = 1 << 14

// late reports whether no more fragments of d are accepted.
func (r *Reassembler) late(d *datagram, now time.Duration) bool {
	return now-d.arrived > r.limits.Time || d.key.proto != 0 && r.sources.at(d.source).begun-d.begun > idDistance
}

// discard removes a datagram and counts its fragments in one field of lost.
func (r *Reassembler) discard(n uint32, lost *int) {
	fragments := int(r.datagrams.at(n).fragments)
	*lost += fragments
	r.stored -= fragments
	r.remove(n)
}

// add stores f or completes its datagram.
func (r *Reassembler) add(f *header, now time.Duration) (Whole, drop.Reason) {
	r.expire(now)
	n := r.byKey[f.key]
	if n != 0 && r.late(r.datagrams.at(n), now) {
		r.discard(n, &r.lost.Late)
		n = 0
	}
	at := place{}
	if n != 0 {
		d := r.datagrams.at(n)
		if d.abandoned {
			return Whole{}, drop.FragmentOverlap
		}
		var how fit
		switch at, how = r.find(d, f); how {
		case duplicate:
			return Whole{}, drop.FragmentTwice // RFC 8200 section 4.5 allows to ignore it
		case clashes:
			r.abandon(d)
			return Whole{}, drop.FragmentOverlap
		}
	}
	if bad := r.room(n, f); bad != drop.None {
		return Whole{}, bad
	}
	if n == 0 {
		n = r.open(f, now)
	}
	d := r.datagrams.at(n)
	r.insert(d, f, at)
	if d.have != d.total {
		return Whole{}, drop.None
	}
	return r.complete(n)
}

// room discards datagrams until f, of datagram n or of a new one if n is 0, fits within the limits. It refuses f if f
// alone exceeds a limit, or if it has discarded datagram n as the oldest.
func (r *Reassembler) room(n uint32, f *header) drop.Reason {
	blocks := f.blocks()
	switch size := blocks * blockLen; {
	case size > r.limits.PerSourceBytes:
		return drop.FragmentSource
	case size > r.limits.Bytes:
		return drop.FragmentMemory
	}
	for from := r.sourceOf(n, f); from != 0 && r.full(r.sources.at(from), blocks); {
		oldest := r.sources.at(from).waiting.oldest
		last := oldest == r.sources.at(from).waiting.newest
		r.discard(oldest, &r.lost.Source)
		switch {
		case oldest == n:
			return drop.FragmentSource
		case last:
			from = 0 // the source was freed with its last datagram
		}
	}
	for (r.blocks+blocks)*blockLen > r.limits.Bytes {
		oldest := r.waiting.oldest
		r.discard(oldest, &r.lost.Memory)
		if oldest == n {
			return drop.FragmentMemory
		}
	}
	return drop.None
}

// full reports whether s has no room for a fragment of that many blocks.
func (r *Reassembler) full(s *source, blocks int) bool {
	return s.fragments >= r.limits.PerSource || (s.blocks+blocks)*blockLen > r.limits.PerSourceBytes
}

// sourceOf returns the source of f, whose datagram is n if that is not 0, or 0 if the source has none yet.
func (r *Reassembler) sourceOf(n uint32, f *header) uint32 {
	if n != 0 {
		return r.datagrams.at(n).source
	}
	return r.byAddr[r.client(f)]
}

// client returns the address that identifies the source of f: an IPv4 address, or that of an IPv6 prefix.
func (r *Reassembler) client(f *header) packet.Addr6 {
	if f.key.proto != 0 {
		return f.key.src
	}
	return packet.Mask6(f.key.src, r.limits.PrefixLen)
}

// open makes a datagram without fragments, the newest.
func (r *Reassembler) open(f *header, now time.Duration) uint32 {
	addr := r.client(f)
	from := r.byAddr[addr]
	if from == 0 {
		from = r.sources.take()
		r.sources.at(from).addr = addr
		r.byAddr[addr] = from
	}
	s := r.sources.at(from)
	s.begun++
	n := r.datagrams.take()
	*r.datagrams.at(n) = datagram{key: f.key, source: from, arrived: now, begun: s.begun}
	r.push(&r.waiting, ofAll, n)
	r.push(&s.waiting, ofSource, n)
	r.byKey[f.key] = n
	return n
}

// remove deletes a datagram and frees its memory.
func (r *Reassembler) remove(n uint32) {
	d := r.datagrams.at(n)
	s := r.sources.at(d.source)
	r.free(d)
	if d.abandoned {
		s.fragments--
		r.charge(d, -1)
	}
	r.unlink(&r.waiting, ofAll, n)
	r.unlink(&s.waiting, ofSource, n)
	if s.waiting.oldest == 0 {
		delete(r.byAddr, s.addr)
		r.sources.put(d.source)
	}
	delete(r.byKey, d.key)
	r.datagrams.put(n)
}

// charge counts blocks that d takes, or gives back if blocks is negative.
func (r *Reassembler) charge(d *datagram, blocks int) {
	d.blocks += blocks
	r.sources.at(d.source).blocks += blocks
	r.blocks += blocks
}

// free frees the pieces of d.
func (r *Reassembler) free(d *datagram) {
	s := r.sources.at(d.source)
	for p := d.first; p != 0; {
		next := r.memory.pieces[p].next
		r.charge(d, -r.memory.drop(p))
		s.fragments--
		p = next
	}
	d.first, d.last = 0, 0
}

// abandon frees the pieces of d and marks d, so that later fragments are refused (RFC 5722 section 4).
func (r *Reassembler) abandon(d *datagram) {
	r.free(d)
	d.abandoned = true
	r.sources.at(d.source).fragments++
	r.charge(d, 1)
}

// Release invalidates all datagrams that have been returned.
func (r *Reassembler) Release() { r.whole = r.whole[:0] }

// Held returns the number of bytes that wait for Release.
func (r *Reassembler) Held() int { return len(r.whole) }

// complete returns the datagram n and removes it.
func (r *Reassembler) complete(n uint32) (Whole, drop.Reason) {
	d := r.datagrams.at(n)
	head := int(r.memory.pieces[d.first].head)
	start := len(r.whole)
	for p := d.first; p != 0; p = r.memory.pieces[p].next {
		r.whole = r.memory.load(r.whole, p)
	}
	ipv6 := d.key.proto == 0
	if ipv6 && head-packet.IPv6Len+d.total > maxSpan || !ipv6 && head+d.total > maxSpan {
		d.fragments-- // the last one is refused
		r.stored--
		r.abandon(d) // only the first fragment's headers count for maxSpan
		r.whole = r.whole[:start]
		return Whole{}, drop.FragmentSpan
	}
	if ipv6 {
		finish6(r.whole[start:], d)
	} else {
		finish4(r.whole[start:], head, d)
	}
	w := Whole{Data: r.whole[start:len(r.whole):len(r.whole)], ID: d.key.id, Largest: d.largest, DF: d.df, Fragments: int(d.fragments)}
	r.stored -= w.Fragments
	r.remove(n)
	return w, drop.None
}

// finish6 changes the headers of the first fragment, whose Next Header field store has set, into those of the whole
// datagram b (RFC 8200 section 4.5).
func finish6(b []byte, d *datagram) {
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
	if d.ce && b[1]>>4&ecnMask != 0 {
		b[1] |= ecnCE << 4 // RFC 3168 section 5.3
	}
}

// finish4 changes the header of the first fragment into that of the whole datagram b (RFC 791 section 3.2).
func finish4(b []byte, head int, d *datagram) {
	flags := uint16(0)
	if d.df {
		flags = flagDF
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], flags)
	if d.ce && b[1]&ecnMask != 0 {
		b[1] |= ecnCE
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], packet.Sum(0).Bytes(b[:head]).Checksum())
}
