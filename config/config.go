// Package config reads the configuration of nat64d: a YAML file, the drop-ins beside it and the command line's
// overrides become one checked, immutable Config. It implements no RFC, but holds the lower bounds that RFC 6146
// section 4 and RFC 8200 section 5 set for lifetimes and MTUs.
//
// A file is refused whole: unknown keys, values of the wrong kind or out of bounds, and features that this version
// does not have are all reported at once, each with its line.
package config

import (
	"net/netip"
	"time"

	"nat64d/pool4"
	"nat64d/pool6"
)

// Config is a checked configuration. It is never changed once it has been returned; a reload, With and the others that
// change something make a new one. It may be shared by any number of goroutines.
type Config struct {
	Interfaces  Interfaces
	Pool6       []pool6.Prefix // at least one, none twice
	PrivateV4   []PrivateV4    // for each prefix of Pool6
	DenyV4      []Deny         // IPv4 destinations that are not translated to
	AllowV4     []netip.Prefix // IPv4 destinations that are translated to; empty: all but those of DenyV4
	BypassV6    []netip.Prefix // parts of Pool6 that are not translated but left to the host
	AllowV6     []netip.Prefix // clients that are translated for; empty: all
	Pool4       []pool4.Entry  // may be empty: pool4 can be filled at run time
	Bindings    []Binding      // static ones, on addresses of Pool4; no two share a port of either side
	Host        Host
	Sessions    Sessions
	Fragments   Fragments
	Filtering   Filtering
	Translation Translation
	ICMP        ICMP
	Log         Log
	NATEvents   NATEvents
	DNS64       DNS64
	Socket      string // path of the control socket
	Group       string // group that may use it, if there is such a group

	source *file             // what it was made of, for With; never changed either
	origin map[string]string // where keys were set, by key: a line of a file, a variable or a flag; without the defaults
}

// Interfaces names the two sides and how frames are moved.
type Interfaces struct {
	V6, V4     Interface     // may be one and the same
	Engine     string        // auto, ring, mmsg or simple: a word of package afpacket
	Workers    int           // threads that carry the packets of each side; 0: one for four processors
	Pin        []int         // the processors of the workers, in turn; empty: any
	Coalesce   bool          // consecutive packets of a flow leave as one super-packet
	Bursts     bool          // packets that leave together are handed to the kernel together, where it allows that
	Moderation time.Duration // how long the next packets may gather after some came together; 0: not at all
	BusyPoll   time.Duration // how long a worker looks for packets before it sleeps; 0: not at all
	Offloads   Offloads
}

// Interface is one side.
type Interface struct {
	Name string
	MTU  int // 0: the MTU that the kernel reports
}

// Offloads says who sets the offloads of the interfaces.
type Offloads string

// The choices. OffloadsManage has nat64d set them for speed while it runs.
const (
	OffloadsLeave  Offloads = "leave"
	OffloadsManage Offloads = "manage"
)

// Host is how nat64d lives beside the host's own IP stack.
type Host struct {
	Guard        bool   // keep the host from answering for pool4 and pool6
	ReservePorts bool   // keep the host's programs from picking ports of pool4
	Force        bool   // do so even when that leaves the host too few ports
	AnswerARP    string // auto, on or off: a word of package nexthop

	ShareInterfaces bool // start beside another nat64d on the same interfaces
}

// Sessions bounds the state and rules its life. A client is all addresses of one prefix of ClientPrefixLen.
type Sessions struct {
	Max                    int // sessions of all protocols together
	MaxPerClient           int // sessions of one client; 0: no limit
	MaxBindingsPerClient   int // bindings of one client; 0: no limit
	MaxPerBinding          int // sessions of one binding; 0: no limit
	MaxInbound             int // sessions that IPv4 hosts have begun; 0: a quarter of Max
	MaxInboundPerClient    int // those of one client; 0: half of MaxInbound
	MaxInboundPerBinding   int // those of one binding; 0: a quarter of MaxInbound
	NewPerSecond           int // sessions that one client may open a second; 0: no limit
	ClientPrefixLen        int // 32 to 128
	Timeouts               Timeouts
	PortHoldDown           time.Duration // a released UDP or ICMP port is not used again for so long (RFC 6888 REQ-8)
	MaxHeldPorts           int           // those that rest at most; the oldest are let go; 0: no limit
	HoldAfterStart         bool          // all of them rest so long after the start
	InboundRefresh         bool          // packets of the Internet side prolong a session (RFC 4787 REQ-6)
	InternetIsV6           bool          // the Internet is the IPv6 side (RFC 6146 section 5.3)
	RSTDuringFIN           bool          // an RST after one FIN has the session end soon (RFC 7857 section 2.2)
	CheckTCPSequence       bool          // an RST or FIN must lie in the window to have an effect
	MaxStoredSYNs          int           // SYNs from IPv4 that wait for the client's (RFC 6146 section 3.5.2); 0: none
	MaxStoredSYNsPerSource int           // of one IPv4 address
	MaxStoredSYNsPerPool4  int           // to one address of pool4; 0: no limit but MaxStoredSYNs
	PortHashFields         pool4.Fields
	PortBlockSize          int // consecutive ports that a client gets for itself at a time; 0: single ports
}

// Fragments bounds what waits for the rest of its datagram; for how long is among the Timeouts.
type Fragments struct {
	Memory          int // bytes in all
	MemoryPerSource int // bytes of one source
	PerSource       int // fragments of one source; 0: no limit but that of memory
}

// Filtering says what may come in through a binding (RFC 6146 section 3.5).
type Filtering struct {
	SourceCheck      SourceCheck // what the route to an IPv6 source has to be
	AddressDependent bool        // only from IPv4 addresses that the client has a session with
	AllowInboundTCP  bool        // an IPv4 host may open a TCP connection to a bound address
	DropICMPv6Info   bool        // pings of IPv6 clients are not translated
}

// Timeouts are the lifetimes of RFC 6146 section 4.
type Timeouts struct {
	UDP            time.Duration
	ICMP           time.Duration
	TCPEstablished time.Duration
	TCPOpening     time.Duration // until the other side has sent a SYN, too
	TCPTransitory  time.Duration // while closing
	TCPSyn         time.Duration // of a stored SYN
	Fragment       time.Duration // until all fragments of a datagram must have arrived
}

// Translation is what RFC 7915 leaves to the operator.
type Translation struct {
	LowestIPv6MTU    int   // largest IPv6 packet made of an IPv4 packet that may be fragmented; at least 1280
	ZeroUDPDrop      bool  // drop an IPv4 UDP packet without a checksum (RFC 7915 section 4.5) instead of computing one
	CopyTOS          bool  // from IPv6 to IPv4: the TOS octet is the traffic class
	TOS              uint8 // what to write when it is not
	CopyTrafficClass bool  // from IPv4 to IPv6: the traffic class is the TOS octet
	TrafficClass     uint8 // what to write when it is not
	TCPMSSClamp      int   // MSSOff, MSSAuto, or the most that a SYN may offer, as for IPv6
	MTUPlateaus      []int // for a Fragmentation Needed without MTU (RFC 1191 section 7); falling, at least one
}

// What TCPMSSClamp may be beside a number.
const (
	MSSOff  = 0
	MSSAuto = -1 // what fits the MTUs of both sides
)

// ICMP is about the errors that the gateway itself sends, and the source of those that it translates.
type ICMP struct {
	SourceV6 netip.Addr // zero: an address of the IPv6 interface
	SourceV4 netip.Addr // zero: an address of the IPv4 interface
	Errors   ICMPErrors
	// Of the errors that may be sent, those to whom deny_v4, allow_v6 or private_v4 refuse, to IPv4 hosts that
	// address-dependent filtering keeps out, and to IPv4 hosts that use a port of nobody's.
	AnswerDenied, AnswerFiltered, AnswerUnbound bool

	// Errors a second to one destination and to all of one family (RFC 4443 section 2.4(f)): for Time Exceeded, and again
	// for the others but Packet Too Big and Fragmentation Needed. 0: no limit.
	Rate, RateTotal int
	RateTooBig      int // Packet Too Big and Fragmentation Needed a second to one destination; 0: no limit
	// LiteralSource has translated ICMPv4 errors come from the destination of the packet they are about, as RFC 6146
	// section 3.6.2 says, instead of the router that reports it.
	LiteralSource bool
}

// ICMPErrors says which errors the gateway itself sends (RFC 7915 sections 4.4 and 5.4).
type ICMPErrors string

// The choices. Path MTU discovery depends on Packet Too Big and Fragmentation Needed, so they are sent in any case.
const (
	ICMPErrorsLimited ICMPErrors = "limited" // as many as the rates of ICMP let pass
	ICMPErrorsAll     ICMPErrors = "all"     // without limit
	ICMPErrorsOff     ICMPErrors = "off"     // none but those two, limited
)

// NATEvents says which events of the tables are logged.
type NATEvents string

// The choices.
const (
	NATEventsNone     NATEvents = "none"
	NATEventsBindings NATEvents = "bib"     // bindings that begin and end
	NATEventsSessions NATEvents = "session" // sessions, too
	NATEventsBlocks   NATEvents = "block"   // port blocks that clients get and lose, and nothing else
)

// Log is how the daemon logs.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto, text or json; auto is text on a terminal
}
