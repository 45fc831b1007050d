package egress

import (
	"time"

	"nat64d/packet"
	"nat64d/xlat"
)

// Our own choices: how many packets of a family leave together, and the room for the largest header that is written: Ethernet,
// IPv6, ICMPv6 or a TCP header with all its options.
const (
	batch   = 64
	scratch = 192
)

// Link transmits packets on a network interface.
type Link interface {
	// Send transmits the packets in their order and returns how many of them could not be sent, each of More being one. now
	// is the time of the batch.
	Send(out []packet.Out, now time.Duration) (refused int)
}

// outbox is the packets of one batch that leave into one network.
type outbox struct {
	link  Link
	outs  [batch]packet.Out
	n     int
	bytes [batch][scratch]byte
	big   [batch][]byte // for ICMP errors, whose quoted packet is rewritten; made when first needed
}

// next returns the free slot with room for headers; it is the caller's until keep.
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

// keep takes the free slot into the batch and reports whether the outbox is now full.
func (b *outbox) keep() (full bool) {
	b.n++
	return b.n == batch
}

// flush sends the packets, joined where they can be if there is a merger, and returns how many could not be sent.
func (b *outbox) flush(now time.Duration, m *merger, id func(*packet.Out, int) uint16) (refused int) {
	if b.n == 0 {
		return 0
	}
	outs := b.outs[:b.n]
	b.n = 0
	if m != nil {
		outs = m.merge(outs, id)
	}
	return b.link.Send(outs, now)
}
