package control

import (
	"encoding/json"
	"math"
	"net/netip"
	"time"
)

// Seconds is a duration that travels as a number of seconds.
type Seconds time.Duration

// MarshalJSON writes the duration in seconds, to the millisecond.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Millisecond).Seconds())
}

// UnmarshalJSON reads a number of seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var v float64
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*s = Seconds(math.Round(v*1e3)) * Seconds(time.Millisecond)
	return nil
}

// String formats the duration as time.Duration does.
func (s Seconds) String() string { return time.Duration(s).String() }

// Version says what a binary was built from.
type Version struct {
	Version  string `json:"version"`            // release or pseudo-version
	Revision string `json:"revision,omitempty"` // commit, when it is known
	Go       string `json:"go"`                 // toolchain
}

// Status is the state of the daemon at a glance.
type Status struct {
	Version    Version     `json:"version"`
	PID        int         `json:"pid"`
	Uptime     Seconds     `json:"uptime_seconds"`
	Paused     bool        `json:"paused"`
	Ready      bool        `json:"ready"`               // packets of every protocol can be translated
	NotReady   []string    `json:"not_ready,omitempty"` // why not, a sentence each
	Interfaces []Interface `json:"interfaces"`
	Pool6      []string    `json:"pool6"` // prefixes
	Protocols  []Protocol  `json:"protocols"`
	Traffic    []Traffic   `json:"traffic"`
	Drops      uint64      `json:"drops"`              // packets that were not forwarded, for any reason
	Warnings   []string    `json:"warnings,omitempty"` // what an operator should look at, a sentence each
}

// Interface is one of the two sides. A machine with one NIC shows it twice.
type Interface struct {
	Side   string `json:"side"` // v6 or v4
	Name   string `json:"name"`
	MTU    int    `json:"mtu"`
	Up     bool   `json:"up"`
	Engine string `json:"engine"` // ring, mmsg or simple: the one in use
	Bursts bool   `json:"bursts"` // packets that leave together are handed to the kernel together
	// Offloads are those that are on of rx-lro, rx-gro, rx-udp-gro-forwarding and threaded (NAPI).
	Offloads []string `json:"offloads,omitempty"`
}

// Protocol is the use of tables and pool4 by one protocol.
type Protocol struct {
	Protocol       string `json:"protocol"` // tcp, udp or icmp
	Bindings       int    `json:"bindings"`
	Sessions       int    `json:"sessions"`
	Pool4Ports     int    `json:"pool4_ports"`     // transport addresses in pool4
	Pool4Used      int    `json:"pool4_used"`      // those that are bound
	Pool4Addresses int    `json:"pool4_addresses"` // addresses in pool4
}

// Traffic counts what was translated in one direction.
type Traffic struct {
	Direction string `json:"direction"` // 6to4, 4to6 or hairpin
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"` // of IP packets as they left
}

// Pool4Range is a range of transport addresses of one protocol.
type Pool4Range struct {
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"` // tcp, udp or icmp
	Ports    string     `json:"ports"`    // "7000-8000" or "7000"; Identifiers for icmp
}

// Pool4Entry is a range of pool4 and its use.
type Pool4Entry struct {
	Pool4Range
	Used int `json:"used"`
	Free int `json:"free"`
	// State tells how IPv4 hosts reach the address: host, answered (ARP, after probing) or routed; or why they do not:
	// lost, probing or conflict.
	State string `json:"state"`
}

// Pool4Change asks to add or remove transport addresses.
type Pool4Change struct {
	Addresses string   `json:"addresses"`           // "10.0.2.15", "10.0.2.0/28" or "10.0.2.1-10.0.2.9"
	Ports     string   `json:"ports,omitempty"`     // "7000-8000" or "7000"; empty: what the daemon gives an address without ports
	Protocols []string `json:"protocols,omitempty"` // of tcp, udp and icmp; empty: all three
	Force     bool     `json:"force,omitempty"`     // add although it takes ports that the host needs
}

// Pool4Result says what a change did. The change was made whole or not at all.
type Pool4Result struct {
	Added    []Pool4Range `json:"added,omitempty"`
	Merged   []Pool4Range `json:"merged,omitempty"` // the ranges that now stand for added ones and those they touched
	Removed  []Pool4Range `json:"removed,omitempty"`
	Bindings int          `json:"bindings_ended"`
	Sessions int          `json:"sessions_ended"`
	Warnings []string     `json:"warnings,omitempty"`
}

// Pool6Entry is a NAT64 prefix.
type Pool6Entry struct {
	Prefix netip.Prefix `json:"prefix"`
}

// Pool6Change asks to add or remove a NAT64 prefix.
type Pool6Change struct {
	Prefix string `json:"prefix"`
}

// Pool6Result says what a change did.
type Pool6Result struct {
	Prefix   netip.Prefix `json:"prefix"`
	Sessions int          `json:"sessions_ended"`
	Warnings []string     `json:"warnings,omitempty"`
}

// AddressPair is an IPv4 address and the IPv6 address that stands for it behind a prefix (RFC 6052).
type AddressPair struct {
	Prefix netip.Prefix `json:"prefix"`
	V6     netip.Addr   `json:"v6"`
	V4     netip.Addr   `json:"v4"`
}

// Binding is a row of a BIB (RFC 6146 section 3.1). The port of an ICMP query is its Identifier. In JSON each address and
// each port is a value of its own: client, client_port, mapped, mapped_port.
type Binding struct {
	Protocol string
	Client   netip.AddrPort // (X',x)
	Mapped   netip.AddrPort // (T,t), from pool4
	Static   bool
	Sessions int
}

// Session is a row of a session table (RFC 6146 section 3.2). JSON has it as it has a Binding, with peer, peer_port,
// peer6 and peer6_port.
type Session struct {
	Protocol string
	Client   netip.AddrPort // (X',x); zero: a SYN from IPv4 that waits for its client
	Peer6    netip.AddrPort // (Y',y), the peer as the client sees it
	Mapped   netip.AddrPort // (T,t), the client as the peer sees it
	Peer     netip.AddrPort // (Z,z)
	State    string         // of a TCP session
	Expires  Seconds        // remaining lifetime
}

// BindingChange asks to add or remove bindings. Client and Mapped are an address with a port or a range of ports, such as
// "[2001:db8::5]:80" and "10.0.2.15:8000-8100"; "#" may stand before the port. Ranges must be equally long. In a removal
// an address alone stands for all of its ports.
type BindingChange struct {
	Protocols []string `json:"protocols,omitempty"` // of tcp, udp and icmp; empty: all three
	Client    string   `json:"client,omitempty"`    // (X',x); may be empty in a removal that has Mapped
	Mapped    string   `json:"mapped,omitempty"`    // (T,t); may be empty in a removal that has Client
	Force     bool     `json:"force,omitempty"`     // add although it takes ports that the host needs
}

// BindingRange is Count bindings of consecutive ports on both sides, named by the first.
type BindingRange struct {
	Protocol   string     `json:"protocol"` // tcp, udp or icmp
	Client     netip.Addr `json:"client"`
	ClientPort uint16     `json:"client_port"`
	Mapped     netip.Addr `json:"mapped"`
	MappedPort uint16     `json:"mapped_port"`
	Count      int        `json:"count"`
}

// BindingResult says what a change did. The change was made whole or not at all.
type BindingResult struct {
	Added    []BindingRange `json:"added,omitempty"`
	Removed  []BindingRange `json:"removed,omitempty"`
	Bindings int            `json:"bindings_ended"`
	Sessions int            `json:"sessions_ended"`
	Warnings []string       `json:"warnings,omitempty"`
}

// ConfigKey is a single value or list of the configuration.
type ConfigKey struct {
	Name    string    `json:"name"` // path in the configuration file, such as sessions.timeouts.udp
	Value   string    `json:"value"`
	Default string    `json:"default"`
	Origin  string    `json:"origin,omitempty"` // where the value comes from: the line of a file, a variable, a flag, nat64ctl or default
	Help    string    `json:"help"`             // a sentence for the operator
	Live    bool      `json:"live"`             // it may change while nat64d runs
	Jool    []JoolKey `json:"jool,omitempty"`   // the keys of Jool that mean the same, or a part of it
}

// JoolKey is a key of "jool global" and what it would be.
type JoolKey struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ConfigChange asks to change one key.
type ConfigChange struct {
	Key     string `json:"key"` // its name, or its name in Jool
	Value   string `json:"value"`
	Persist bool   `json:"persist,omitempty"` // keep the value for the next start, too
}

// ConfigResult says what a change did.
type ConfigResult struct {
	Name      string   `json:"name"`
	Old       string   `json:"old"`
	New       string   `json:"new"`
	Persisted string   `json:"persisted,omitempty"` // the file that has the new value
	Warnings  []string `json:"warnings,omitempty"`
}

// ReloadResult says which keys and lists of the configuration had changed.
type ReloadResult struct {
	Changes  []ConfigResult `json:"changes,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// Counter is one number with what it means.
type Counter struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  uint64            `json:"value"`
	Help   string            `json:"help"` // a sentence for the operator
	Kind   string            `json:"kind"` // packets, drop, error or table
}
