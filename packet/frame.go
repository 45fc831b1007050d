package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sizes in front of the IP header of an outgoing packet.
const (
	VnetLen  = 10               // struct virtio_net_hdr, written by the engine
	EthLen   = 14               // Ethernet header, written by the gateway
	Headroom = VnetLen + EthLen // where the IP header of Out.Head begins
)

// Frame is one received packet. Its memory belongs to the port that received it and stays valid until that port's
// next Receive.
type Frame struct {
	Data    []byte  // from the IP header on; may be longer than the IP packet (Ethernet padding)
	Offload Offload // offsets relative to Data
}

// Drops counts the packets that arrived at a port and were not handed to the gateway, by the reason.
type Drops struct {
	Room    uint64 // the kernel had no room for them
	Offload uint64 // super-packets of a kind, or with metadata, that Offload does not describe
	Large   uint64 // longer than any frame that the port has room for
}

// Add adds what o has counted.
func (d *Drops) Add(o Drops) {
	d.Room += o.Room
	d.Offload += o.Offload
	d.Large += o.Large
}

// Out is one packet to be sent: a header that the gateway wrote and a payload that usually still lies in the frame
// it came in. The caller owns both until Send returns.
type Out struct {
	Head    []byte   // Headroom bytes (virtio-net header free for the engine, then Ethernet), then the IP header on
	Payload []byte   // what follows Head on the wire; may be empty
	More    [][]byte // what follows Payload: the payloads of packets that were joined to this one
	Offload Offload  // offsets relative to the IP header, Head[Headroom]
	Inner   Inner    // what is to be written into Payload before it is sent
}

// Inner is a checksum of a packet inside the payload, which the sender left to the NIC. It is written when nothing can park
// the received packet or quote it any more, since that must happen with the bytes that came. The zero value is none.
type Inner struct {
	At  uint16 // where in the payload it is, plus 1
	Sum uint16
}

// Complete writes Inner into b, a payload.
func (i Inner) Complete(b []byte) {
	if i.At != 0 {
		binary.BigEndian.PutUint16(b[i.At-1:], i.Sum)
	}
}

// Change returns what Complete changes of the sum of b, whose offset in the summed data is even.
func (i Inner) Change(b []byte) Sum {
	if i.At == 0 {
		return 0
	}
	old, c := binary.BigEndian.Uint16(b[i.At-1:]), i.Sum
	if i.At%2 == 0 { // an odd offset: the field straddles two words, so its bytes are swapped in the sum (RFC 1071 section 2)
		old, c = bits.ReverseBytes16(old), bits.ReverseBytes16(c)
	}
	return Sum(0).Less(old).Word(c)
}

// Len returns the length of the IP packet in bytes, as it was before others were joined to it.
func (o *Out) Len() int { return len(o.Head) - Headroom + len(o.Payload) }

// SegmentLen returns the length of the largest IP packet that o becomes on the wire: o itself, or one segment of a
// super-packet.
func (o *Out) SegmentLen() int {
	if o.Offload.GSO == GSONone {
		return o.Len()
	}
	return min(o.Len(), int(o.Offload.HdrLen)+int(o.Offload.GSOSize))
}

// Checksum says what is known of a packet's transport checksum.
type Checksum uint8

// What may be known of a transport checksum.
const (
	ChecksumUnknown Checksum = iota // it is in the packet, unverified
	ChecksumGood                    // the kernel or the NIC has verified it
	ChecksumPartial                 // the field holds the pseudo-header sum, the NIC or the kernel adds the rest
)

// GSO is the kind of a super-packet: several wire packets of one flow that share a header (struct virtio_net_hdr,
// gso_type without its ECN bit).
type GSO uint8

// The kinds of super-packets, with the numbers of linux/virtio_net.h.
const (
	GSONone  GSO = 0
	GSOTCPv4 GSO = 1
	GSOTCPv6 GSO = 4
	GSOUDPL4 GSO = 5
)

// Offload is what the kernel says of a packet beside its bytes. The zero value is an ordinary wire packet.
type Offload struct {
	Checksum   Checksum
	GSO        GSO
	ECN        bool   // a TCP super-packet that carries CWR
	GSOSize    uint16 // payload bytes of each segment of a super-packet
	HdrLen     uint16 // bytes of headers of a super-packet, from the IP header on
	CsumStart  uint16 // with ChecksumPartial: where the transport header begins
	CsumOffset uint16 // with ChecksumPartial: where in it the checksum field is
}
