package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sizes of the headers in front of the IP header of an outgoing packet.
const (
	VnetLen  = 10               // struct virtio_net_hdr, written by the packet engine
	EthLen   = 14               // Ethernet header, written by the gateway
	Headroom = VnetLen + EthLen // where the IP header of Out.Head begins
)

// Frame is one received packet. Its memory belongs to the port that received it and stays valid until that port's
// next Receive.
type Frame struct {
	Data    []byte  // starts with the IP header; may be longer than the IP packet (Ethernet padding)
	Offload Offload // offsets relative to Data
}

// Packets returns the number of packets on the wire that became this frame.
func (f *Frame) Packets() int {
	o := &f.Offload
	if o.GSO == GSONone || o.GSOSize == 0 || len(f.Data) <= int(o.HdrLen) {
		return 1
	}
	return (len(f.Data) - int(o.HdrLen) + int(o.GSOSize) - 1) / int(o.GSOSize)
}

// Drops counts the packets that arrived at a port and were not delivered to the gateway, by reason.
type Drops struct {
	Room    uint64 // the receive ring or socket buffer was full
	Offload uint64 // super-packets of a kind, or with metadata, that Offload cannot represent
	Large   uint64 // longer than the port's largest frame
}

// Add adds the counters of o.
func (d *Drops) Add(o Drops) {
	d.Room += o.Room
	d.Offload += o.Offload
	d.Large += o.Large
}

// Out is a packet to send: a header written by the gateway and a payload that usually still lies in the received
// frame. The caller owns the memory of both until Send returns.
type Out struct {
	Head    []byte   // Headroom bytes (virtio-net header, left to the engine, and Ethernet), then the IP header
	Payload []byte   // follows Head on the wire; may be empty
	More    [][]byte // follows Payload on the wire: the payloads of packets coalesced into this one
	Offload Offload  // offsets relative to the IP header, Head[Headroom]
	Inner   Inner    // checksum to write into Payload just before sending
}

// Inner is the checksum of a packet tunnelled in the payload, which the sender left to the NIC. The gateway writes it
// last: until then the received packet may still be parked or quoted in an ICMP error, which needs the bytes as
// received. The zero value means that there is none.
type Inner struct {
	At  uint16 // offset in the payload, plus 1
	Sum uint16
}

// Complete writes Inner into b, a payload.
func (i Inner) Complete(b []byte) {
	if i.At != 0 {
		binary.BigEndian.PutUint16(b[i.At-1:], i.Sum)
	}
}

// Change returns by how much Complete changes the sum of b. The offset of b in the summed data is even.
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

// Len returns the length of the IP packet in bytes, without coalesced payloads.
func (o *Out) Len() int { return len(o.Head) - Headroom + len(o.Payload) }

// SegmentLen returns the length of the largest IP packet that o becomes on the wire: that of o itself, or of one
// segment of a super-packet.
func (o *Out) SegmentLen() int {
	if o.Offload.GSO == GSONone {
		return o.Len()
	}
	return min(o.Len(), int(o.Offload.HdrLen)+int(o.Offload.GSOSize))
}

// Checksum is the state of a packet's transport checksum.
type Checksum uint8

// The states of a transport checksum.
const (
	ChecksumUnknown Checksum = iota // it is in the packet, unverified
	ChecksumGood                    // the kernel or the NIC has verified it
	ChecksumPartial                 // the field holds the pseudo-header sum, the NIC or the kernel adds the rest
)

// GSO is the kind of a super-packet: several wire packets of one flow that share one header (gso_type of struct
// virtio_net_hdr without its ECN bit).
type GSO uint8

// The kinds of super-packets, with the numbers of linux/virtio_net.h.
const (
	GSONone  GSO = 0
	GSOTCPv4 GSO = 1
	GSOTCPv6 GSO = 4
	GSOUDPL4 GSO = 5
)

// Offload is the metadata that the kernel delivers with a packet. The zero value describes an ordinary wire packet.
type Offload struct {
	Checksum   Checksum
	GSO        GSO
	ECN        bool   // a TCP super-packet with CWR set
	GSOSize    uint16 // payload bytes of each segment of a super-packet
	HdrLen     uint16 // length of the headers of a super-packet, starting with the IP header
	CsumStart  uint16 // with ChecksumPartial: offset of the transport header
	CsumOffset uint16 // with ChecksumPartial: offset of the checksum field in the transport header
}
