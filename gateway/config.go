package gateway

import (
	"net/netip"
	"time"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/egress"
	"nat64d/fragment"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/xlat"
)

// Config is the configuration that can be replaced at run time. The caller must not change it after passing it to the
// gateway.
type Config struct {
	Pool6           []pool6.Prefix     // at least one; sessions opened by IPv4 hosts use the first
	Private         []config.PrivateV4 // for each prefix of Pool6; missing ones are Auto
	Xlat            xlat.Config
	Bypass          []netip.Prefix     // parts of the prefixes that the host forwards, unless a prefix inside contains them
	Allow4          []netip.Prefix     // permitted IPv4 destinations; empty: all
	Deny4           []netip.Prefix     // denied IPv4 destinations, even if in Allow4
	DenyPorts       []PortRule         // denied ports of IPv4 destinations
	Broadcasts      []packet.Addr4     // of the IPv4 interface's own subnets, which are no valid sources (RFC 1812 section 5.3.7)
	Allow6          []netip.Prefix     // permitted clients; empty: all
	SourceCheck     config.SourceCheck // of packets from IPv6
	NoEcho          bool               // refuse ICMPv6 echo (RFC 6146 section 3.5.3)
	MTU6, MTU4      uint32             // of the two links, in bytes, if less than the kernel's; 0: the kernel's
	LowestIPv6MTU   int                // largest IPv6 packet made of an IPv4 packet that may be fragmented, in bytes
	ClampMSS        int                // upper bound of the TCP MSS option; 0: none, AutoMSS: by the MTUs of the links
	Plateaus        []uint16           // common MTUs, for routers that report none (RFC 1191 section 7)
	Fragments       fragment.Limits
	Coalesce        Coalescing         // which packets of a flow are coalesced to a super-packet
	Moderation      time.Duration      // how long to wait for more packets after several came together; 0: not at all
	Answers         [drop.Choices]bool // the optional ICMP errors that are sent
	ErrorsPerSecond int                // ICMP errors of each icmp.Kind except Size to one destination; 0: no limit
	ErrorsTotal     int                // ICMP errors of each icmp.Kind except Size, per family; 0: no limit
	TooBigPerSecond int                // ICMP errors of icmp.Size to one destination; 0: no limit
	Source6         packet.Addr6       // of the gateway's own errors; zero: chosen by Routes
	Source4         packet.Addr4       // of the gateway's own errors; zero: chosen by Routes
	FromHost4       bool               // IPv4 packets come from the host's own stack, and may have an address of the host
	// LiteralReporter makes the destination of the quoted packet the source of translated ICMPv4 errors, as RFC 6146
	// section 3.6.2 says, instead of the router that reports it.
	LiteralReporter bool
	ResetUnknownTCP bool           // answer TCP segments of IPv6 clients that have no session with a RST
	Session         session.Config // Configure sets StoreSYNs
	SYNs            synstore.Limits
}

// PortRule denies transport addresses of IPv4 hosts: ports Lo to Hi of a protocol. All of ICMP is Lo 0, Hi 65535.
type PortRule struct {
	Prefix netip.Prefix
	Proto  packet.Proto
	Lo, Hi uint16
}

// AutoMSS as Config.ClampMSS keeps TCP segments within the MTUs of both links.
const AutoMSS = egress.AutoMSS

// Coalescing selects the protocols whose packets leave as one super-packet when they are consecutive ones of a flow.
type Coalescing uint8

// The kinds of coalescing.
const (
	CoalesceNone Coalescing = iota
	CoalesceTCP             // for kernels that do not support other super-packets
	CoalesceAll
)
