package egress

import (
	"time"

	"nat64d/packet"
	"nat64d/xlat"
)

// Our own choices: the maximum number of packets of a family that are sent together, and the room for the largest
// headers: Ethernet, IPv6, and ICMPv6 or a TCP header with all options.
const (
	batch   = 64
	scratch = 192
)

// Link transmits packets on a network interface.
type Link interface {
	// Send transmits the packets in order and returns how many of them could not be sent; each element of More counts
	// as one. now is the time of the batch.
	Send(out []packet.Out, now time.Duration) (refused int)
}

// outbox contains the packets of one batch to one network.
type outbox struct {
	link  Link
	outs  [batch]packet.Out
	n     int
	bytes [batch][scratch]byte
	big   [batch][]byte // for ICMP errors with a rewritten quote; allocated on first use
}

// next returns the free slot with room for headers. The caller may use it until keep.
func (b *outbox) next() *packet.Out {
	o := &b.outs[b.n]
	o.Head, o.More = b.bytes[b.n][:0], nil
	return o
}

// large returns the free slot with room for a whole ICMP error.
func (b *outbox) large() *packet.Out {
	if b.big[b.n] == nil {
		b.big[b.n] = make([]byte, xlat.ErrorRoom)
	}
	o := &b.outs[b.n]
	o.Head, o.More = b.big[b.n][:0], nil
	return o
}

// keep adds the free slot to the batch and reports whether the outbox is now full.
func (b *outbox) keep() (full bool) {
	b.n++
	return b.n == batch
}

// flush sends the packets, coalesced if there is a merger, and returns how many could not be sent.
func (b *outbox) flush(now time.Duration, m *merger, id func(*packet.Out, int) uint16) (refused int) {
	if b.n == 0 {
		return 0
	}
	outs := b.outs[:b.n]
	if m != nil {
		outs = m.merge(outs, id)
	}
	refused = b.link.Send(outs, now)
	b.n = 0 // after Send: if it panics, Waiting counts them
	return refused
}
