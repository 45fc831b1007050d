package gateway

import (
	"time"

	"nat64d/fragment"
	"nat64d/packet"
)

// Limits per worker of the packets that wait for a next hop's link address: our own choices. A client and a
// destination may each have an eighth, and an address of a client a quarter of that, so that neither a scan of unused
// addresses nor a flood to a dead host displaces the packets of others.
const (
	maxParked      = 2048
	maxParkedBytes = 8 << 20
)

// parkedParts are the shares of these limits, as divisors.
var parkedParts = [shares]int{ofAll: 1, ofDestination: 8, ofPrefix: 8, ofAddress: 32}

// way is a look-up without a result: a packet of flow six or four that leaves on a side, on behalf of a client.
type way struct {
	side   packet.Family
	six    packet.Selector6
	four   packet.Selector4
	client packet.Client
}

// destination returns the destination of the packet.
func (y *way) destination() packet.Addr6 {
	if y.side == packet.V6 {
		return y.six.Dst
	}
	return mapped4(y.four.Dst)
}

// parkedFrame is a copy of a received packet. It is in the queues of three shares.
type parkedFrame struct {
	frame packet.Frame
	whole fragment.Whole // the fragments that it was reassembled from; its Data are the frame's
	way   way
	until time.Duration
	in    [shares]*share
	links [shares]struct{ older, newer int }
}

// The shares that a packet counts for.
const (
	ofAll = iota
	ofDestination
	ofPrefix
	ofAddress
	shares
)

// shareKey identifies a share; the total share has the zero address.
type shareKey struct {
	kind int
	addr packet.Addr6
}

// shares returns the shares that a packet counts for.
func (y *way) shares() [shares]shareKey {
	return [shares]shareKey{
		ofDestination: {ofDestination, y.destination()},
		ofPrefix:      {ofPrefix, y.client.Prefix},
		ofAddress:     {ofAddress, y.client.Addr},
	}
}

// share is a queue of the packets of a client, to a destination, or of all. It contains the indexes of their slots.
type share struct {
	oldest, newest int
	packets, bytes int
}

// full reports whether a packet of that size would exceed the share.
func (s *share) full(kind, size int) bool {
	part := parkedParts[kind]
	return s.packets >= maxParked/part || s.packets > 0 && s.bytes+size > maxParkedBytes/part
}

// frames returns the number of received frames that the packet is made of.
func (f *parkedFrame) frames() int { return max(f.whole.Fragments, 1) }

// parking holds the packets that wait for a link address. Where a share is full the oldest packet of that share is evicted.
// It allocates: the first packet to a neighbour is not the packet path.
type parking struct {
	slots  []parkedFrame // slot 0 is not used
	free   []int
	shares map[shareKey]*share
	frames int           // received frames that all packets are made of
	routes uint64        // the generation of the routes at the last check of the packets
	asked  time.Duration // when the next hops were last requested
}

func (p *parking) len() int {
	if s := p.shares[shareKey{}]; s != nil {
		return s.packets
	}
	return 0
}

// oldest returns the slot of the packet that arrived first, or 0.
func (p *parking) oldest() int {
	if s := p.shares[shareKey{}]; s != nil {
		return s.oldest
	}
	return 0
}

// late reports whether the packet that has waited longest has waited too long.
func (p *parking) late(now time.Duration) bool {
	n := p.oldest()
	return n != 0 && now >= p.slots[n].until
}

// add keeps f, whose memory is its own, and returns how many received frames were evicted for it.
func (p *parking) add(f parkedFrame) (gone int) {
	keys := f.way.shares()
	for kind, key := range keys {
		for s := p.shares[key]; s != nil && s.full(kind, len(f.frame.Data)); s = p.shares[key] {
			evicted := p.take(p.victim(s, kind, f.way.client.Addr))
			gone += evicted.frames()
		}
	}
	n := p.slot()
	p.slots[n] = f
	p.frames += f.frames()
	for kind, key := range keys {
		p.push(p.share(key), kind, n)
	}
	return gone
}

// victim returns the packet of s to evict for one of a client. At a destination that is the client's own, if it has
// one there: a client that floods a host which is about to answer only displaces its own packets.
func (p *parking) victim(s *share, kind int, client packet.Addr6) int {
	if kind == ofDestination {
		for n := s.oldest; n != 0; n = p.slots[n].links[kind].newer {
			if p.slots[n].way.client.Addr == client {
				return n
			}
		}
	}
	return s.oldest
}

// slot returns a free slot.
func (p *parking) slot() int {
	if n := len(p.free); n > 0 {
		slot := p.free[n-1]
		p.free = p.free[:n-1]
		return slot
	}
	if len(p.slots) == 0 {
		p.slots = append(p.slots, parkedFrame{})
	}
	p.slots = append(p.slots, parkedFrame{})
	return len(p.slots) - 1
}

func (p *parking) share(key shareKey) *share {
	s := p.shares[key]
	if s == nil {
		if p.shares == nil {
			p.shares = map[shareKey]*share{}
		}
		s = new(share)
		p.shares[key] = s
	}
	return s
}

// push adds the packet in slot n to the end of s.
func (p *parking) push(s *share, kind, n int) {
	e := &p.slots[n]
	e.in[kind] = s
	e.links[kind].older, e.links[kind].newer = s.newest, 0
	if s.newest != 0 {
		p.slots[s.newest].links[kind].newer = n
	} else {
		s.oldest = n
	}
	s.newest = n
	s.packets++
	s.bytes += len(e.frame.Data)
}

// take removes and returns the packet in slot n.
func (p *parking) take(n int) parkedFrame {
	f := p.slots[n]
	keys := f.way.shares()
	for kind, s := range f.in {
		l := f.links[kind]
		if l.older != 0 {
			p.slots[l.older].links[kind].newer = l.newer
		} else {
			s.oldest = l.newer
		}
		if l.newer != 0 {
			p.slots[l.newer].links[kind].older = l.older
		} else {
			s.newest = l.older
		}
		s.packets--
		s.bytes -= len(f.frame.Data)
		if s.packets == 0 {
			delete(p.shares, keys[kind])
		}
	}
	p.frames -= f.frames()
	p.slots[n] = parkedFrame{}
	p.free = append(p.free, n)
	return f
}
