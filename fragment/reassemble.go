package fragment

import (
	"encoding/binary"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// key names a datagram: source, destination and Identification, in IPv4 also the protocol (RFC 791 section 3.2, RFC
// 8200 section 4.5). An IPv4 address stands in the first four bytes; proto, which is 0 in IPv6, keeps the families apart.
type key struct {
	src, dst packet.Addr6
	id       uint32
	proto    uint8
}

// datagram is one that has fragments waiting, or that has been abandoned: then it has no pieces, and is remembered so
// that what is still to come of it is refused, too.
type datagram struct {
	key          key
	source       uint32
	older, newer uint32 // by arrival
	arrived      time.Duration
	first, last  uint32 // pieces in the order of their offsets
	fragments    uint32 // that came and were kept
	have         int    // bytes of payload
	total        int    // bytes of payload when it is whole; 0: not known yet
	largest      int    // bytes of payload of the largest piece
	df, ce       bool
	abandoned    bool
}

// source is an address that has fragments waiting. An abandoned datagram counts as one fragment, so that nobody can fill
// the table with those.
type source struct {
	addr      packet.Addr6
	fragments int
	blocks    int
}

// Reassembler makes datagrams whole. One goroutine at a time may use it; a gateway has one for each worker and family.
// When a limit is reached new fragments are refused and those that wait go on waiting: to evict them would let a flood
// of fragments that never become whole displace all others. The pieces lie in memory without pointers.
type Reassembler struct {
	limits    Limits
	memory    memory
	datagrams slab[datagram]
	sources   slab[source]
	byKey     map[key]uint32
	byAddr    map[packet.Addr6]uint32
	oldest    uint32
	newest    uint32
	lost      int    // fragments that have been given up since Expire was last called
	whole     []byte // the datagram that was last returned
}

// New returns a Reassembler without fragments. It takes its memory as fragments come.
func New(l Limits) *Reassembler {
	return &Reassembler{
		limits: l.withDefaults(),
		byKey:  make(map[key]uint32),
		byAddr: make(map[packet.Addr6]uint32),
	}
}

// SetLimits changes the limits. What waits already is kept until its time is over, be it more than the new limits.
func (r *Reassembler) SetLimits(l Limits) { r.limits = l.withDefaults() }

// Len returns the number of datagrams that are not whole yet or have been abandoned.
func (r *Reassembler) Len() int { return len(r.byKey) }

// Bytes returns the memory that fragments take, in bytes, as Limits count it: in blocks of 2 KiB.
func (r *Reassembler) Bytes() int { return r.memory.used * blockLen }

// expireStep is how many datagrams one call frees at most: our own choice, so that no packet waits long.
const expireStep = 64

// Expire frees datagrams whose time is over, a bounded number in one call, and returns how many fragments have been
// discarded with their datagrams since it was last called, to be counted as drop.FragmentTimeout. Add needs no help from
// it to refuse what comes too late.
func (r *Reassembler) Expire(now time.Duration) (fragments int) {
	r.expire(now)
	fragments, r.lost = r.lost, 0
	return fragments
}

func (r *Reassembler) expire(now time.Duration) {
	for range expireStep {
		if r.oldest == 0 || !r.late(r.datagrams.at(r.oldest), now) {
			return
		}
		r.giveUp(r.oldest)
	}
}

// late says whether the time in which d's fragments may arrive is over.
func (r *Reassembler) late(d *datagram, now time.Duration) bool { return now-d.arrived > r.limits.Time }

// giveUp forgets a datagram whose time is over.
func (r *Reassembler) giveUp(n uint32) {
	r.lost += int(r.datagrams.at(n).fragments)
	r.remove(n)
}

// add keeps f or completes its datagram.
func (r *Reassembler) add(f *header, now time.Duration) (Whole, drop.Reason) {
	r.expire(now)
	n := r.byKey[f.key]
	if n != 0 && r.late(r.datagrams.at(n), now) {
		r.giveUp(n)
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
			return Whole{}, drop.None // RFC 8200 section 4.5 allows to ignore it
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

// room says what forbids to keep f, whose datagram is n or, when n is 0, a new one.
func (r *Reassembler) room(n uint32, f *header) drop.Reason {
	blocks := f.blocks()
	if (r.memory.used+blocks)*blockLen > r.limits.Bytes || n == 0 && len(r.byKey) >= r.limits.Datagrams {
		return drop.FragmentMemory
	}
	var s source
	if at := r.byAddr[f.key.src]; at != 0 {
		s = *r.sources.at(at)
	}
	if s.fragments >= r.limits.PerSource || (s.blocks+blocks)*blockLen > r.limits.PerSourceBytes {
		return drop.FragmentSource
	}
	return drop.None
}

// open makes a datagram without fragments, the newest.
func (r *Reassembler) open(f *header, now time.Duration) uint32 {
	from := r.byAddr[f.key.src]
	if from == 0 {
		from = r.sources.take()
		r.sources.at(from).addr = f.key.src
		r.byAddr[f.key.src] = from
	}
	n := r.datagrams.take()
	*r.datagrams.at(n) = datagram{key: f.key, source: from, older: r.newest, arrived: now}
	if r.newest != 0 {
		r.datagrams.at(r.newest).newer = n
	} else {
		r.oldest = n
	}
	r.newest = n
	r.byKey[f.key] = n
	return n
}

// remove forgets a datagram and frees what it has.
func (r *Reassembler) remove(n uint32) {
	d := r.datagrams.at(n)
	r.free(d)
	if d.abandoned {
		r.sources.at(d.source).fragments--
	}
	if s := r.sources.at(d.source); s.fragments == 0 {
		delete(r.byAddr, s.addr)
		r.sources.put(d.source)
	}
	if d.older != 0 {
		r.datagrams.at(d.older).newer = d.newer
	} else {
		r.oldest = d.newer
	}
	if d.newer != 0 {
		r.datagrams.at(d.newer).older = d.older
	} else {
		r.newest = d.older
	}
	delete(r.byKey, d.key)
	r.datagrams.put(n)
}

// free frees the pieces of d.
func (r *Reassembler) free(d *datagram) {
	s := r.sources.at(d.source)
	for p := d.first; p != 0; {
		next := r.memory.pieces[p].next
		s.blocks -= r.memory.drop(p)
		s.fragments--
		p = next
	}
	d.first, d.last = 0, 0
}

// abandon frees the pieces of d and remembers that there will be no others (RFC 5722 section 4).
func (r *Reassembler) abandon(d *datagram) {
	r.free(d)
	d.abandoned = true
	r.sources.at(d.source).fragments++
}

// complete returns the datagram n and forgets it.
func (r *Reassembler) complete(n uint32) (Whole, drop.Reason) {
	d := r.datagrams.at(n)
	head := int(r.memory.pieces[d.first].head)
	r.whole = r.whole[:0]
	for p := d.first; p != 0; p = r.memory.pieces[p].next {
		r.whole = r.memory.load(r.whole, p)
	}
	ipv6 := d.key.proto == 0
	if ipv6 && head-packet.IPv6Len+d.total > maxSpan || !ipv6 && head+d.total > maxSpan {
		d.fragments-- // the one at hand is refused
		r.abandon(d)  // the first fragment has longer headers than the others
		return Whole{}, drop.FragmentSpan
	}
	if ipv6 {
		finish6(r.whole, d)
	} else {
		finish4(r.whole, head, d)
	}
	w := Whole{Data: r.whole, ID: d.key.id, Largest: d.largest, DF: d.df}
	r.remove(n)
	return w, drop.None
}

// finish6 makes the headers of the first fragment, whose Next Header field has been set when it came, those of the whole
// datagram b (RFC 8200 section 4.5).
func finish6(b []byte, d *datagram) {
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
	if d.ce && b[1]>>4&ecnMask != 0 {
		b[1] |= ecnCE << 4 // RFC 3168 section 5.3
	}
}

// finish4 makes the header of the first fragment that of the whole datagram b (RFC 791 section 3.2).
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
