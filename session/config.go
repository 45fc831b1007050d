package session

import "time"

// Timeouts are the lifetimes of sessions (RFC 6146 section 4), counted from the last packet that restarts them.
type Timeouts struct {
	UDP            time.Duration // UDP_DEFAULT
	ICMP           time.Duration // ICMP_DEFAULT
	TCPEstablished time.Duration // TCP_EST
	TCPTransitory  time.Duration // TCP_TRANS
	TCPSyn         time.Duration // TCP_INCOMING_SYN, the lifetime of stored SYNs
}

// Config is what may change while packets flow. The zero value is strict: nothing from outside is let in or refreshes
// a session, no SYN is stored, no port held down.
type Config struct {
	Timeouts Timeouts

	AllowInboundTCP  bool // a V4 SYN opens a session (RFC 6146 section 3.5.2.2, state CLOSED); otherwise it vanishes
	AddressDependent bool // only IPv4 addresses that the client has spoken to may answer (RFC 4787 REQ-8)
	InboundRefresh   bool // UDP and ICMP packets from IPv4 prolong their session (RFC 4787 REQ-6, RFC 6146 section 5.3)
	RSTDuringFIN     bool // a RST after one FIN sets TCP_TRANS (RFC 7857 section 2.2), not TCP_EST (RFC 6146)

	MaxPerClient         int // sessions of a client; 0: no limit
	MaxBindingsPerClient int // dynamic bindings of a client; 0: no limit
	NewPerSecond         int // sessions that a client may open in a second, and at once; 0: no limit
	ClientPrefixLen      int // the bits of an IPv6 address that make a client; 0: 64

	MaxStoredSYNs          int           // V4 SYNs that wait for a simultaneous open; 0: none is stored
	MaxStoredSYNsPerSource int           // those of one IPv4 address; 0: no limit but MaxStoredSYNs
	PortHoldDown           time.Duration // for how long a released UDP port or Identifier is not used again; 0: not at all
	HashFields             uint8         // what the choice of a port depends on: pool4.Fields

	Log         func(Event) // told of bindings that begin and end; nil: nobody is
	LogSessions bool        // Log is told of sessions, too
}
