package packet

// Selector6 contains the fields of an outgoing IPv6 packet that the kernel's routing rules and IPsec policies match
// (the selectors of RFC 4301 section 4.4.1.1). Packets of nat64d have no mark.
type Selector6 struct {
	Src, Dst         Addr6
	SrcPort, DstPort uint16 // for ICMPv6, type and code
	Proto            uint8  // the number in the IP header
	TOS              uint8  // the traffic class
	Origin           Origin
}

// Selector4 is Selector6 for IPv4.
type Selector4 struct {
	Src, Dst         Addr4
	SrcPort, DstPort uint16 // for ICMP, type and code
	Proto            uint8
	TOS              uint8
	Origin           Origin
}

// Origin is where a packet comes from, because the kernel's routing rules can match the incoming interface.
type Origin uint8

// The origins.
const (
	FromV6   Origin = iota // received on the v6 interface
	FromV4                 // received on the v4 interface
	FromHost               // originated by the gateway: an ICMP error, a probe
)

// Hop is the next hop of a packet.
type Hop struct {
	Dst, Src [6]byte // link-layer addresses of the next hop and of the interface
	MTU      uint32  // length of the largest IP packet on this route
}

// Client identifies the host for which a next hop is resolved, so that each client gets its share: an IPv6 address
// and its client prefix, or an IPv4-mapped address in both fields (RFC 4291 section 2.5.5.2).
type Client struct{ Addr, Prefix Addr6 }
