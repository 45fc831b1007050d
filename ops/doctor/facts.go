// Package doctor examines a gateway and the machine around it, and finds the mistakes that keep packets from being translated or
// answered. Read collects the facts of the machine once, the daemon adds those that only it knows, and each check is a row of a
// table: a function from the facts to findings, with the reason in one sentence and the command that mends it. No check reads or
// changes anything itself.
package doctor

import (
	"net"
	"net/netip"
	"time"

	"nat64d/ops/control"
	"nat64d/pool4"
)

// Facts are what the checks judge. They do not change after they have been collected.
type Facts struct {
	V6, V4 Side
	Pool   Pool
	Host   Host

	Unready  []string // reasons of the daemon that no other check explains
	Warnings []string // of the daemon, that no other check explains
	Paused   bool
	DNS      DNS
	Echo     *Echo // through the translator; nil: no host was named
}

// Side is one of the two interfaces and its network.
type Side struct {
	Name      string
	Family    string // -6 or -4, as ip(8) has it
	Pair      bool   // it is nat64d's end of a pair whose other end belongs to the host (attach: host)
	Exists    bool
	Up        bool
	Lacks     []string // reasons why the gateway cannot use it, one sentence each
	MTU       int
	Subnets   []netip.Prefix // of its addresses, which keep their host bits
	Duplicate []netip.Addr   // its addresses that another station has (RFC 4862)
	Default   bool           // a default route of the family leaves through it
	Elsewhere string         // the interface of a default route of the family that leaves through another one
	Routers   []Router
	Offloads  map[string]bool // active features; nil: unknown
	Sysctl    Sysctl
}

// Router is a next hop of routes.
type Router struct {
	Addr    netip.Addr
	Answers bool
	Default bool
}

// Sysctl are settings of an interface. An unknown one is -1.
type Sysctl struct {
	Forwarding6, AcceptRA, Disable6, ReversePath int
}

// Pool is pool4, pool6, and the settings that belong to them.
type Pool struct {
	Usage     []Usage
	Entries   []pool4.Entry // with static bindings
	Prefixes  []netip.Prefix
	Addresses []Address
	LowestMTU int  // translation.lowest_ipv6_mtu
	Clamps    bool // translation.tcp_mss_clamp is on
}

// Usage is how many ports of a protocol pool4 has, and how many are in use.
type Usage struct {
	Protocol    string
	Ports, Used int
	Waiting     []string // reasons for which rows that are the address of an interface have none
}

// Address is an address of pool4.
type Address struct {
	Addr    netip.Addr
	Owned   bool             // an interface of the machine has it
	Lost    bool             // the machine had it
	Station net.HardwareAddr // the other station that answers for it
}

// Host is the use that the machine itself makes of ports and packets.
type Host struct {
	Forwards   [2]bool  // the kernel forwards IPv6, IPv4
	Guard      []string // why the guard does not cover pool4 and pool6; empty: it does
	GuardOff   bool     // host.guard is false
	Unreserved string   // ports of pool4 that the kernel may give to programs, in its notation
	Reserve    string   // what ip_local_reserved_ports must be to prevent that
	Scarce     string   // why the machine has too few ports of its own; empty: it has enough
	Sockets    []Socket
	NAT        []Rule
	Policies   []Rule // of IPsec
}

// Socket is a socket of the machine on a port of pool4.
type Socket struct {
	Text      string // describes it
	Connected bool
	Local     netip.AddrPort
	Entry     pool4.Entry
}

// Rule is a rule of the machine that affects translated packets, and the command that deletes it.
type Rule struct{ Text, Delete string }

// DNS is what a DNS64 answers to the question for ipv4only.arpa (RFC 7050).
type DNS struct {
	Server   string // where it was asked; empty: not at all
	Prefixes []netip.Prefix
	Trouble  string // why there is no answer
}

// Echo is the result of pings through the translator.
type Echo struct {
	To      netip.Addr
	Took    time.Duration
	Trouble string // why there is no answer; empty: there is one
	Command string // mends it, if the reason is known
	Sent    int    // length of the largest IPv4 packet that was sent
	Passed  int    // length of the largest one that was answered
	Learned bool   // a router has answered a larger one with its MTU
}

// finding is a Finding that does not know its check yet.
type finding = control.Finding
