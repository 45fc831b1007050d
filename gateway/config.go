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

// Config is what may be replaced while packets flow. It is immutable once given to the gateway.
type Config struct {
	Pool6           []pool6.Prefix     // at least one; the first is that of sessions which IPv4 hosts begin
	Private         []config.PrivateV4 // for each prefix of Pool6; those that are missing are Auto
	Xlat            xlat.Config
	Bypass          []netip.Prefix     // parts of the prefixes that are the host's to forward, unless a prefix inside has them
	Allow4          []netip.Prefix     // IPv4 destinations that may be reached; empty: all
	Deny4           []netip.Prefix     // IPv4 destinations that may not be reached, even if they are in Allow4
	DenyPorts       []PortRule         // some of whose ports may not be reached
	Broadcasts      []packet.Addr4     // of the IPv4 interface's own subnets: nothing comes from them (RFC 1812 section 5.3.7)
	Allow6          []netip.Prefix     // clients that may use the gateway; empty: all
	SourceCheck     config.SourceCheck // of packets from IPv6
	NoEcho          bool               // refuse ICMPv6 echo (RFC 6146 section 3.5.3)
	MTU6, MTU4      uint32             // of the two links, in bytes, where they are less than the kernel says; 0: as it says
	LowestIPv6MTU   int                // largest IPv6 packet made of an IPv4 packet that may be fragmented, in bytes
	ClampMSS        int                // upper bound of the TCP MSS option; 0: none, AutoMSS: what the links carry
	Plateaus        []uint16           // MTUs that a router which reports none may have meant (RFC 1191 section 7)
	Fragments       fragment.Limits
	Coalesce        Coalescing         // which packets of a flow leave as one super-packet
	Moderation      time.Duration      // how long the next packets may gather after some came together; 0: not at all
	Answers         [drop.Choices]bool // which of the choices are made, so that their errors are sent
	ErrorsPerSecond int                // ICMP errors of each icmp.Kind but Size to one destination; 0: no limit
	ErrorsTotal     int                // ICMP errors of each icmp.Kind but Size, and of one family; 0: no limit
	TooBigPerSecond int                // ICMP errors of icmp.Size to one destination; 0: no limit
	Source6         packet.Addr6       // of our own errors; zero: chosen by Routes
	Source4         packet.Addr4       // of our own errors; zero: chosen by Routes
	// LiteralReporter has translated ICMPv4 errors come from the destination of the packet they are about, as RFC 6146
	// section 3.6.2 says, instead of the router that reports it.
	LiteralReporter bool
	Session         session.Config // Configure sets StoreSYNs
	SYNs            synstore.Limits
}

// PortRule is about the transport addresses of IPv4 hosts: ports Lo to Hi of a protocol. All of ICMP is Lo 0, Hi 65535.
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
	CoalesceTCP             // for kernels that take no other super-packets
	CoalesceAll
)
