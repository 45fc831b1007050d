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

// Config is a checked configuration. It is never changed once it has been returned; a reload makes a new one. It may
// be shared by any number of goroutines.
type Config struct {
	Interfaces      Interfaces
	Pool6           []pool6.Prefix // at least one
	PrivateV4       PrivateV4
	Pool4           []pool4.Entry // may be empty: pool4 can be filled at run time
	Host            Host
	Sessions        Sessions
	AllowInboundTCP bool // an IPv4 host may open a TCP connection to a bound address
	Translation     Translation
	ICMP            ICMP
	Log             Log
	Socket          string // path of the control socket
	Group           string // group that may use it, if there is such a group
}

// Interfaces names the two sides and how frames are moved.
type Interfaces struct {
	V6, V4  Interface // may be one and the same
	Engine  Engine
	Workers int // 0: one a CPU
}

// Interface is one side.
type Interface struct {
	Name string
	MTU  int // 0: the MTU that the kernel reports
}

// Engine says how frames pass between the kernel and the gateway.
type Engine string

// The engines. EngineAuto takes the best that the kernel offers.
const (
	EngineAuto   Engine = "auto"
	EngineRing   Engine = "ring"
	EngineMmsg   Engine = "mmsg"
	EngineSimple Engine = "simple"
)

// PrivateV4 says whether a non-global IPv4 address may stand behind the Well-Known Prefix, which RFC 6052 section 3.1
// forbids.
type PrivateV4 string

// The choices. PrivateV4Auto drops, unless every address of pool4 is itself non-global: then the gateway evidently
// stands behind another NAT or in a laboratory.
const (
	PrivateV4Auto  PrivateV4 = "auto"
	PrivateV4Allow PrivateV4 = "allow"
	PrivateV4Drop  PrivateV4 = "drop"
)

// AnswerARP says whether nat64d answers ARP requests for pool4 addresses that no interface of the host owns.
type AnswerARP string

// The choices. AnswerARPAuto answers for addresses of the IPv4 interface's own subnets; others are routed here.
const (
	AnswerARPAuto AnswerARP = "auto"
	AnswerARPOn   AnswerARP = "on"
	AnswerARPOff  AnswerARP = "off"
)

// Host is how nat64d lives beside the host's own IP stack.
type Host struct {
	Guard        bool // keep the host from answering for pool4 and pool6
	ReservePorts bool // keep the host's programs from picking ports of pool4
	Force        bool // do so even when that leaves the host too few ports
	AnswerARP    AnswerARP
}

// Sessions bounds the state.
type Sessions struct {
	Max          int // sessions of all protocols together
	Timeouts     Timeouts
	PortHoldDown time.Duration // a released UDP or ICMP port is not used again for so long (RFC 6888 REQ-8)
}

// Timeouts are the lifetimes of RFC 6146 section 4.
type Timeouts struct {
	UDP            time.Duration
	ICMP           time.Duration
	TCPEstablished time.Duration
	TCPTransitory  time.Duration
	TCPSyn         time.Duration // of a stored SYN
	Fragment       time.Duration // until all fragments of a datagram must have arrived
}

// Translation is what RFC 7915 leaves to the operator.
type Translation struct {
	LowestIPv6MTU   int // largest IPv6 packet made of an IPv4 packet that may be fragmented; at least 1280
	ZeroUDPChecksum ZeroUDPChecksum
	CopyTOS         bool  // keep the traffic class or TOS octet
	TOS             uint8 // what to write when it is not kept
}

// ZeroUDPChecksum says what becomes of an IPv4 UDP packet without a checksum (RFC 7915 section 4.5).
type ZeroUDPChecksum string

// The choices.
const (
	ZeroUDPChecksumCompute ZeroUDPChecksum = "compute"
	ZeroUDPChecksumDrop    ZeroUDPChecksum = "drop"
)

// ICMP is about the errors that the gateway itself sends.
type ICMP struct {
	SourceV6 netip.Addr // zero: an address of the IPv6 interface
	SourceV4 netip.Addr // zero: an address of the IPv4 interface
	Rate     int        // errors a second to one destination (RFC 4443 section 2.4); 0: no limit
}

// Log is how the daemon logs.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto, text or json; auto is text on a terminal
}

// Overrides are what the command line says instead of the file. Empty fields say nothing; a list that is not empty
// replaces the file's.
type Overrides struct {
	V6, V4   string   // interface names
	Pool6    []string // prefixes
	Pool4    []string // addresses with ports: "10.0.2.15:7000-8000", or addresses alone
	Socket   string
	Engine   string
	LogLevel string
}
