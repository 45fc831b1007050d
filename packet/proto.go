package packet

import "encoding/binary"

// Proto is one of the three protocols that a stateful NAT64 translates. It indexes arrays: RFC 6146 section 3.1 has
// one BIB and one session table per protocol.
type Proto uint8

// The protocols. ICMP means echo messages; their Identifier takes the place of the port.
const (
	TCP Proto = iota
	UDP
	ICMP
	// Protos is the number of protocols.
	Protos
)

// String returns tcp, udp or icmp.
func (p Proto) String() string { return [...]string{"tcp", "udp", "icmp"}[p] }

// Addr6 is an IPv6 address, in network order.
type Addr6 = [16]byte

// Mask6 returns the network address of a/bits.
func Mask6(a Addr6, bits int) Addr6 {
	high, low := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	binary.BigEndian.PutUint64(a[:8], high&^(^uint64(0)>>min(bits, 64)))
	binary.BigEndian.PutUint64(a[8:], low&^(^uint64(0)>>max(bits-64, 0)))
	return a
}

// Addr4 is an IPv4 address, in network order.
type Addr4 = [4]byte

// Endpoint6 is an IPv6 transport address (RFC 6146 section 2): comparable and without pointers.
type Endpoint6 struct {
	Addr Addr6
	Port uint16 // host order; the Identifier of an ICMP query
}

// Endpoint4 is an IPv4 transport address (RFC 6146 section 2): comparable and without pointers.
type Endpoint4 struct {
	Addr Addr4
	Port uint16 // host order; the Identifier of an ICMP query
}

// Tuple6 is the IPv6 5-tuple of a packet, without its protocol (RFC 6146 section 2).
type Tuple6 struct{ Src, Dst Endpoint6 }

// Tuple4 is the IPv4 5-tuple of a packet, without its protocol (RFC 6146 section 2).
type Tuple4 struct{ Src, Dst Endpoint4 }

// TCPEvent is the class of a segment in the TCP state machine of RFC 6146 section 3.5.2.2. If several flags are set,
// RST takes precedence over SYN and SYN over FIN.
type TCPEvent uint8

// The events. Other is a segment without any of the three flags.
const (
	Other TCPEvent = iota
	SYN
	FIN
	RST
)
