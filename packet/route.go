package packet

// Selector6 holds the fields by which the kernel's routing rules and IPsec policies select IPv6 packets (the selectors of RFC
// 4301 section 4.4.1.1), as they stand in the packet that leaves. Packets here have no mark.
type Selector6 struct {
	Src, Dst         Addr6
	SrcPort, DstPort uint16 // of ICMPv6: type and code
	Proto            uint8  // the number in the IP header
	TOS              uint8  // the traffic class
	Origin           Origin
}

// Selector4 is Selector6 for IPv4.
type Selector4 struct {
	Src, Dst         Addr4
	SrcPort, DstPort uint16 // of ICMP: type and code
	Proto            uint8
	TOS              uint8
	Origin           Origin
}

// Origin is where a packet comes from. The kernel's routing rules can ask for the incoming interface.
type Origin uint8

// The origins.
const (
	FromV6   Origin = iota // it arrived on the v6 interface
	FromV4                 // it arrived on the v4 interface
	FromHost               // the gateway made it: an ICMP error, a probe
)

// Hop is the next hop towards a destination.
type Hop struct {
	Dst, Src [6]byte // link-layer addresses of the next hop and of the interface
	MTU      uint32  // bytes of the largest IP packet on this route
}

// Client names the host for which a next hop is resolved, so that each can be given its share: an IPv6 address and the prefix
// that counts as one client, or an IPv4 address, mapped (RFC 4291 section 2.5.5.2), as both.
type Client struct{ Addr, Prefix Addr6 }
