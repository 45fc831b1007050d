package fragment

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// maxTransport is the longest transport header: TCP with 40 bytes of options.
const maxTransport = 60

// Pieces splits one packet. Split4 and Split6 choose the packet, then each Next writes one piece:
//
//	if r := p.Split4(o, mtu, id); r != drop.None {
//		return r
//	}
//	for p.Next(next()) {
//		...
//	}
//
// Split4 and Split6 copy the headers, so that Next may write the first piece over the packet that is split. The payload
// is not copied and belongs to the caller. Pieces belongs to one goroutine and may be reused.
type Pieces struct {
	ip        [packet.IPv6Len]byte // the IP header of the packet that is split
	room      [maxTransport]byte
	transport []byte // its transport header, in room
	payload   []byte
	ipLen     int
	id        uint32
	step      int // payload bytes of each piece but the last
	offset    int // of the next piece
}

// Split6 splits the packet in o, from IPv4, into IPv6 fragments of at most limit bytes, Fragment header included, with
// the Identification id (RFC 7915 section 4.1). A packet that needs no second piece gets no Fragment header (RFC 8021).
// The caller has checked that the packet may be split. Split6 refuses a super-packet, a head with more than a transport
// header, and a limit that leaves no room.
func (p *Pieces) Split6(o *packet.Out, limit int, id uint32) drop.Reason {
	return p.split(o, packet.IPv6Len, limit-packet.IPv6Len-packet.FragLen, id)
}

// Split4 splits the packet in o, from IPv6, into IPv4 fragments of at most limit bytes with DF=0 and the Identification
// id (RFC 7915 section 5.1). The header in o has no options. It refuses what Split6 refuses.
func (p *Pieces) Split4(o *packet.Out, limit int, id uint16) drop.Reason {
	return p.split(o, packet.IPv4Len, limit-packet.IPv4Len, uint32(id))
}

func (p *Pieces) split(o *packet.Out, ipLen, room int, id uint32) drop.Reason {
	if o.Offload.GSO != packet.GSONone {
		return drop.Offload
	}
	ip := o.Head[packet.Headroom:]
	transport := ip[ipLen:]
	if room < 8 || len(transport) > maxTransport {
		return drop.TooBig
	}
	copy(p.ip[:], ip[:ipLen])
	p.transport = p.room[:copy(p.room[:], transport)]
	p.payload, p.ipLen, p.id = o.Payload, ipLen, id
	p.step, p.offset = room&^7, 0
	if o.Offload.Checksum == packet.ChecksumPartial {
		finishChecksum(p.transport, p.payload, int(o.Offload.CsumOffset))
	}
	return drop.None
}

// finishChecksum completes a transport checksum that was left to the NIC and so far holds the sum of the pseudo-header:
// no NIC can complete the checksum of a fragmented packet.
func finishChecksum(transport, payload []byte, at int) {
	c := packet.Sum(0).Bytes(transport).Bytes(payload).Checksum()
	if c == 0 {
		c = 0xffff // 0 means "no checksum" in UDP; in TCP both are equal
	}
	binary.BigEndian.PutUint16(transport[at:], c)
}

// Next writes the next piece into o and reports whether there was one. o.Head needs a capacity of packet.Headroom + 108
// bytes; Next leaves the first Headroom bytes alone. o.Payload is a part of the payload of the packet that is split.
func (p *Pieces) Next(o *packet.Out) bool {
	size := len(p.transport) + len(p.payload)
	if p.offset >= size {
		return false
	}
	from, to := p.offset, min(p.offset+p.step, size)
	p.offset = to
	head := o.Head[:packet.Headroom]
	if p.ipLen == packet.IPv4Len {
		head = p.head4(head, from, to, to < size)
	} else {
		head = p.head6(head, from, to, to < size)
	}
	n := len(p.transport)
	o.Head = append(head, p.transport[min(from, n):min(to, n)]...)
	o.Payload = p.payload[max(from-n, 0):max(to-n, 0)]
	o.Offload = packet.Offload{}
	return true
}

// head4 appends the IPv4 header of the piece that carries the bytes from up to to.
func (p *Pieces) head4(head []byte, from, to int, more bool) []byte {
	head = append(head, p.ip[:packet.IPv4Len]...)
	h := head[packet.Headroom:]
	word := uint16(from / 8)
	if more {
		word |= flagMF
	}
	binary.BigEndian.PutUint16(h[2:], uint16(packet.IPv4Len+to-from))
	binary.BigEndian.PutUint16(h[4:], uint16(p.id))
	binary.BigEndian.PutUint16(h[6:], word)
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], packet.Sum(0).Bytes(h).Checksum())
	return head
}

// head6 appends the IPv6 header and the Fragment header of the piece that carries the bytes from up to to (RFC 8200
// section 4.5):
//
//	0                   1                   2                   3
//	0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|  Next Header  |   Reserved    |     Fragment Offset     |Res|M|
//	|                        Identification                         |
func (p *Pieces) head6(head []byte, from, to int, more bool) []byte {
	head = append(head, p.ip[:]...)
	h := head[packet.Headroom:]
	if from == 0 && !more {
		binary.BigEndian.PutUint16(h[4:], uint16(to)) // the packet may have been part of a longer one
		return head
	}
	binary.BigEndian.PutUint16(h[4:], uint16(packet.FragLen+to-from))
	next := h[6]
	h[6] = packet.NumFragment
	word := uint16(from)
	if more {
		word |= 1
	}
	head = append(head, next, 0)
	head = binary.BigEndian.AppendUint16(head, word)
	return binary.BigEndian.AppendUint32(head, p.id)
}
