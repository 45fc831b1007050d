// Package config reads the configuration of nat64d from a YAML file, its drop-ins, environment variables and flags into one
// checked, immutable Config. It implements no RFC, but enforces the lower bounds that RFC 6146 section 4 and RFC 8200
// section 5 set for lifetimes and MTUs.
//
// A mistake refuses the whole configuration. Load reports all of them at once, each with its line: unknown keys, values of
// the wrong type or out of bounds, and features that this version does not have.
package config

import (
	"net/netip"
	"time"

	"nat64d/pool4"
	"nat64d/pool6"
)

// Config is a checked configuration. It is immutable: a reload, With, WithPool6 and WithoutPool6 return a new one. Any number
// of goroutines may share it.
type Config struct {
	Interfaces  Interfaces
	Pool6       []pool6.Prefix   // at least one, no duplicates
	PrivateV4   []PrivateV4      // for each prefix of Pool6
	DenyV4      []Deny           // IPv4 destinations that clients cannot reach
	AllowV4     []netip.Prefix   // IPv4 destinations that clients can reach, except those of DenyV4; empty: all
	BypassV6    []netip.Prefix   // parts of Pool6 that the host handles itself
	AllowV6     []netip.Prefix   // clients that are served; empty: all
	Pool4       []pool4.Entry    // may be empty: nat64ctl can fill pool4 at run time
	Followed    []pool4.Followed // rows of pool4 that stand for the address of an interface
	Pool4Rules  []pool4.Rule     // which clients get which addresses of Pool4 and Followed
	Bindings    []Binding        // static bindings on addresses of Pool4; no two share a port of either side
	Host        Host
	Sessions    Sessions
	Fragments   Fragments
	MemoryLimit int // in bytes; 0: that of the cgroup or the machine
	Filtering   Filtering
	Translation Translation
	ICMP        ICMP
	Log         Log
	State       State
	Probe       []netip.Addr // IPv4 hosts that are pinged; while none of them answers, the gateway is not ready
	NATEvents   NATEvents
	DNS64       DNS64
	Metrics     Listen   // of the metrics
	Web         Listen   // of the status page
	Socket      string   // path of the control socket
	Group       string   // its members may use the control socket, if the group exists
	ReadGroup   string   // its members may only read through the control socket; empty: no group
	Warnings    []string // mistakes that do not prevent a start: unknown environment variables

	source *file             // the settings behind the Config, for With; immutable as well
	origin map[string]string // the source of each key that is not at its default: a line of a file, a variable or a flag
}

// Interfaces names the two interfaces and configures how frames pass through them.
type Interfaces struct {
	V6, V4     Interface     // may be the same interface
	Masquerade bool          // the host gives packets from pool4 the address of the interface by which they leave; only with AttachHost
	Engine     string        // auto, ring, mmsg or simple: see afpacket.ParseEngine
	Workers    int           // threads per side; 0: one for four processors
	Pin        []int         // processors that the workers are bound to, in turn; empty: not bound
	Coalesce   bool          // consecutive packets of a flow leave as one super-packet
	Bursts     bool          // send packets in bursts with one system call, where the kernel allows it
	Moderation time.Duration // delay for gathering packets after several came together; 0: none
	BusyPoll   time.Duration // time that a worker polls for packets before it sleeps; 0: none; or BusyPollAuto
	Offloads   Offloads
}

// BusyPollAuto is the value of BusyPoll with which each worker adapts the time to its traffic.
const BusyPollAuto = -1

// Interface is one side.
type Interface struct {
	Name   string // of the NIC, or of the host's end of the pair
	Attach Attach

	// Default marks the v4 interface as that of the IPv4 default route. Name is the word default until WithUplink replaces it.
	Default bool

	Addr netip.Addr // of the host's end of the IPv6 pair, for DNS64; zero: none
	MTU  int        // 0: the MTU that the kernel reports
}

// Offloads selects whether nat64d changes the offload settings of the interfaces.
type Offloads string

// The choices. With OffloadsAuto the settings follow the load, with OffloadsManage they have fixed values for a high load.
// nat64d restores both when it stops.
const (
	OffloadsAuto   Offloads = "auto"
	OffloadsLeave  Offloads = "leave"
	OffloadsManage Offloads = "manage"
)

// Host configures how nat64d shares the machine with the host's own IP stack.
type Host struct {
	Guard        bool   // keep the host from answering for pool4 and pool6
	ReservePorts bool   // keep the kernel from assigning ports of pool4 to the host's programs
	Force        bool   // take ports of pool4 even if programs of the host use them or too few are left
	AnswerARP    string // auto, on or off: see nexthop.ParseAnswerARP

	ShareInterfaces bool // start even if another nat64d uses the same interfaces
	Sandbox         bool // give up capabilities and system calls that only the start needs

	// With AttachHost:
	Forwarding  Forwarding // whether the host is made to forward
	ServeUplink bool       // serve hosts that reach the machine by the interface of its IPv6 default route
	ServeOwn    bool       // clients reach IPv4 addresses of the machine itself
}

// Sessions configures limits and lifetimes of sessions and bindings. A client is all addresses of one prefix of
// ClientPrefixLen.
type Sessions struct {
	Max                    int  // sessions of all protocols together
	MaxPerClient           int  // sessions of one client; 0: no limit
	MaxBindingsPerClient   int  // bindings of one client; 0: no limit
	FairShare              bool // while less than a quarter of pool4 is free, no client gets more than its share
	MaxPerBinding          int  // sessions of one binding; 0: no limit
	MaxInbound             int  // sessions that IPv4 hosts opened; 0: a quarter of Max
	MaxInboundPerClient    int  // inbound sessions of one client; 0: half of MaxInbound
	MaxInboundPerBinding   int  // inbound sessions of one binding; 0: a quarter of MaxInbound
	NewPerSecond           int  // new sessions of one client per second; 0: no limit
	ClientPrefixLen        int  // 32 to 128
	Timeouts               Timeouts
	PortHoldDown           time.Duration // how long a released UDP port or ICMP Identifier is held (RFC 6888 REQ-8)
	MaxHeldPorts           int           // limit of held ports; the oldest are freed first; 0: no limit
	HoldAfterStart         bool          // hold all ports for PortHoldDown after the start
	Reclaim                bool          // new sessions take the ports of closed ones when no other is free
	InboundRefresh         bool          // packets from the Internet side refresh a session (RFC 4787 REQ-6)
	InternetIsV6           bool          // the Internet is the IPv6 side (RFC 6146 section 5.3)
	ResetUnknownTCP        bool          // a segment of an IPv6 client without a session is answered with a RST
	RSTDuringFIN           bool          // an RST after one FIN shortens the lifetime of the session (RFC 7857 section 2.2)
	CheckTCPSequence       bool          // ignore an RST or FIN outside of the TCP window
	Accounting             bool          // count the traffic of each client always
	MaxStoredSYNs          int           // SYNs from IPv4 that are stored (RFC 6146 section 3.5.2); 0: none
	MaxStoredSYNsPerSource int           // of one IPv4 address
	MaxStoredSYNsPerPool4  int           // to one address of pool4; 0: no limit but MaxStoredSYNs
	PortHashFields         pool4.Fields
	PortBlockSize          int // consecutive ports that a client is given at a time; 0: single ports
}

// Fragments bounds the fragments of incomplete datagrams. Timeouts has their lifetime.
type Fragments struct {
	Memory          int // bytes of all sources
	MemoryPerSource int // bytes of one source
	PerSource       int // fragments of one source; 0: limited by memory only
}

// Filtering selects the packets that a binding lets in (RFC 6146 section 3.5).
type Filtering struct {
	SourceCheck      SourceCheck // of packets from IPv6
	AddressDependent bool        // accept packets only from IPv4 addresses that the client has a session with
	AllowInboundTCP  bool        // an IPv4 host may open a TCP connection to a bound address
	DropICMPv6Info   bool        // refuse the pings of IPv6 clients
}

// Timeouts are the lifetimes of RFC 6146 section 4.
type Timeouts struct {
	UDP            time.Duration
	UDPDNS         time.Duration // of a UDP session to port 53 or 123 after the first answer; 0: as UDP
	ICMP           time.Duration
	TCPEstablished time.Duration
	TCPOpening     time.Duration // until both sides have sent a SYN
	TCPTransitory  time.Duration // while closing
	TCPSyn         time.Duration // of a stored SYN
	Fragment       time.Duration // until all fragments of a datagram must have arrived
}

// Translation holds the choices that RFC 7915 leaves to the operator.
type Translation struct {
	LowestIPv6MTU    int   // largest IPv6 packet made of an IPv4 packet that may be fragmented; at least 1280
	ZeroUDPDrop      bool  // drop an IPv4 UDP packet without a checksum (RFC 7915 section 4.5) instead of computing one
	CopyTOS          bool  // from IPv6 to IPv4: the TOS octet is the traffic class
	TOS              uint8 // written unless CopyTOS
	CopyTrafficClass bool  // from IPv4 to IPv6: the traffic class is the TOS octet
	TrafficClass     uint8 // written unless CopyTrafficClass
	TCPMSSClamp      int   // MSSOff, MSSAuto, or the largest MSS in a SYN, counted as for IPv6
	MTUPlateaus      []int // for a Fragmentation Needed without MTU (RFC 1191 section 7); descending, at least one
}

// Special values of TCPMSSClamp.
const (
	MSSOff  = 0
	MSSAuto = -1 // the largest MSS that fits the MTUs of both sides
)

// ICMP configures the errors that the gateway itself sends, and the source of errors that it translates.
type ICMP struct {
	SourceV6 netip.Addr // zero: an address of the IPv6 interface
	SourceV4 netip.Addr // zero: an address of the IPv4 interface
	Errors   ICMPErrors
	// AnswerDenied enables errors to senders that deny_v4, allow_v6 or private_v4 refuses, AnswerFiltered those to IPv4 hosts
	// that address-dependent filtering refuses, and AnswerUnbound those to IPv4 hosts that send to a port without a binding.
	AnswerDenied, AnswerFiltered, AnswerUnbound bool

	// Rate limits the errors per second to one destination, and RateTotal those to one family (RFC 4443 section 2.4(f)).
	// Both apply to Time Exceeded and, counted separately, to all other errors except Packet Too Big and Fragmentation
	// Needed. 0: no limit.
	Rate, RateTotal int
	RateTooBig      int // Packet Too Big and Fragmentation Needed per second to one destination; 0: no limit
	// LiteralSource gives a translated ICMPv4 error the destination of the quoted packet as its source, as RFC 6146
	// section 3.6.2 requires, instead of the address of the router that sent it.
	LiteralSource bool
}

// ICMPErrors selects the errors that the gateway itself sends (RFC 7915 sections 4.4 and 5.4).
type ICMPErrors string

// The choices. Path MTU discovery depends on Packet Too Big and Fragmentation Needed, so all choices send them.
const (
	ICMPErrorsLimited ICMPErrors = "limited" // within the rates of ICMP
	ICMPErrorsAll     ICMPErrors = "all"     // without limit
	ICMPErrorsOff     ICMPErrors = "off"     // only those two, within RateTooBig
)

// State configures what outlives the process.
type State struct {
	Save          bool // sessions, bindings, ports in hold-down, and changes that were not persisted
	Dir           string
	RestoreMaxAge time.Duration // older state is discarded
	Handover      time.Duration // how long the guard stays after the end, for the next process; 0: not at all
}

// DefaultStateDir is the default of State.Dir. Another directory must be usable; this one need not be.
const DefaultStateDir = "/run/nat64d/state"

// NATEvents selects the events that are logged.
type NATEvents string

// The choices.
const (
	NATEventsNone     NATEvents = "none"
	NATEventsBindings NATEvents = "bib"     // creation and end of bindings
	NATEventsSessions NATEvents = "session" // bindings and sessions
	NATEventsBlocks   NATEvents = "block"   // port blocks only
)

// Log configures the daemon's log.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto, text or json; auto is text on a terminal
}
