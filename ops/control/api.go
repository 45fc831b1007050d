package control

import (
	"encoding/json"
	"math"
	"net/netip"
	"net/url"
	"time"
)

// Seconds is a duration that JSON represents as a number of seconds.
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

// Version identifies the build of a binary.
type Version struct {
	Version  string `json:"version"`            // release or pseudo-version
	Revision string `json:"revision,omitempty"` // commit, if known
	Go       string `json:"go"`                 // toolchain
}

// Status is the state of the daemon.
type Status struct {
	Version    Version     `json:"version"`
	PID        int         `json:"pid"`
	Uptime     Seconds     `json:"uptime_seconds"`
	Paused     bool        `json:"paused"`
	Ready      bool        `json:"ready"`               // packets of every protocol can be translated
	NotReady   []string    `json:"not_ready,omitempty"` // reasons, one sentence each
	Checks     []Check     `json:"checks,omitempty"`    // ready if all are OK
	Interfaces []Interface `json:"interfaces"`
	Offloads   Offloads    `json:"offloads,omitzero"`
	Kept       Kept        `json:"state,omitzero"`
	Sandbox    Sandbox     `json:"sandbox,omitzero"`
	Memory     Memory      `json:"memory,omitzero"`
	Goroutines int         `json:"goroutines"`
	Pool6      []string    `json:"pool6"` // prefixes
	Protocols  []Protocol  `json:"protocols"`
	Traffic    []Traffic   `json:"traffic"`
	Drops      uint64      `json:"drops"`              // packets that were not forwarded, for any reason
	Panics     uint64      `json:"panics,omitempty"`   // panics that nat64d has survived
	Warnings   []string    `json:"warnings,omitempty"` // conditions that need an operator's attention, one sentence each
}

// Check is a part of nat64d that is examined for its health.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // it is not
}

// Health is the result of a health check.
type Health struct {
	Ready   bool     `json:"ready"`
	Paused  bool     `json:"paused"`
	Reasons []string `json:"reasons,omitempty"` // reasons for not being ready
	Checks  []Check  `json:"checks,omitempty"`
}

// Health returns the health that the status describes.
func (s *Status) Health() Health {
	return Health{Ready: s.Ready && !s.Paused, Paused: s.Paused, Reasons: s.NotReady, Checks: s.Checks}
}

// Offloads is how the settings of the NICs are chosen.
type Offloads struct {
	Mode     string  `json:"mode"`                    // auto, manage or leave
	Switches uint64  `json:"switches,omitempty"`      // how often a setting has followed the load
	Reason   string  `json:"reason,omitempty"`        // of the last switch
	Since    Seconds `json:"since_seconds,omitempty"` // how long ago that was
}

// Sandbox is what nat64d may still do after its start.
type Sandbox struct {
	Capabilities []string `json:"capabilities"`
	NoNewPrivs   bool     `json:"no_new_privs"`
	Seccomp      bool     `json:"seccomp"`      // a filter of system calls
	Landlock     int      `json:"landlock_abi"` // version of Landlock that restricts the files; 0: none
}

// Memory is the memory that the daemon uses.
type Memory struct {
	Used        int64 `json:"used_bytes"`
	Limit       int64 `json:"limit_bytes"` // memory_limit, or what auto stands for
	Auto        bool  `json:"auto"`
	Scarce      bool  `json:"scarce"`   // new sessions are refused unless another has ended
	Sessions    int   `json:"sessions"` // about how many fit into the limit, at most MaxSessions
	MaxSessions int   `json:"max_sessions"`
}

// Kept is what outlives the process, and what the last start has restored.
type Kept struct {
	Dir       string         `json:"dir,omitempty"`    // the state directory; empty: nothing outlives the process
	Why       string         `json:"why,omitempty"`    // nothing does, or nothing was restored
	Unkept    int            `json:"unkept,omitempty"` // slots of the tables for which the directory had no room
	Restored  bool           `json:"restored"`         // the last start has restored the state of an earlier process
	Sessions  int            `json:"restored_sessions,omitempty"`
	HeldPorts int            `json:"restored_held_ports,omitempty"`
	Refused   map[string]int `json:"refused,omitempty"` // entries that were not restored, by reason
	From      string         `json:"from_version,omitempty"`
	Age       Seconds        `json:"age_seconds,omitempty"` // from the last sign of life of the earlier process to the start
	Took      Seconds        `json:"took_seconds,omitempty"`
}

// Interface is one of the two sides. A machine with one NIC reports it for both.
type Interface struct {
	Side   string `json:"side"` // v6 or v4
	Name   string `json:"name"`
	MTU    int    `json:"mtu"`
	Up     bool   `json:"up"`
	Engine string `json:"engine"` // the engine in use: ring, mmsg or simple
	Bursts bool   `json:"bursts"` // several packets are passed to the kernel in one system call
	// Offloads are the active ones of rx-lro, rx-gro, rx-udp-gro-forwarding and threaded (NAPI).
	Offloads []string `json:"offloads,omitempty"`
	Workers  []Worker `json:"workers"` // the threads that carry what arrives on this side
}

// Worker is a thread that carries packets.
type Worker struct {
	Processors string `json:"processors"` // that it may run on, such as "0-2,5"
	Why        string `json:"why"`        // the reason for this choice
	// Busy is the share of a processor that the thread has used lately, from 0 to 1.
	Busy float64 `json:"busy_ratio"`
}

// Protocol is the state of the tables and of pool4 for one protocol.
type Protocol struct {
	Protocol       string `json:"protocol"` // tcp, udp or icmp
	Bindings       int    `json:"bindings"`
	Sessions       int    `json:"sessions"`
	Pool4Ports     int    `json:"pool4_ports"`     // transport addresses in pool4
	Pool4Used      int    `json:"pool4_used"`      // transport addresses with a binding
	Pool4Addresses int    `json:"pool4_addresses"` // addresses in pool4
}

// Traffic counts the packets translated in one direction.
type Traffic struct {
	Direction string `json:"direction"` // 6to4, 4to6 or hairpin
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"` // of IP packets after translation
}

// Pool4Range is a range of transport addresses of one protocol.
type Pool4Range struct {
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"` // tcp, udp or icmp
	Ports    string     `json:"ports"`    // "7000-8000" or "7000"; Identifiers for icmp

	Interface string `json:"interface,omitempty"` // the range is in pool4 as the address of this interface
}

// Pool4Entry is a range of pool4 and how much of it is in use.
type Pool4Entry struct {
	Pool4Range
	Used int `json:"used"`
	Free int `json:"free"`
	// State is how IPv4 hosts reach the address: host, answered (nat64d answers ARP, after probing) or routed; or why
	// they do not: lost, probing or conflict. For a row of an interface: waiting, if the interface has no address; or ending,
	// for an earlier address, which new bindings do not get.
	State string `json:"state"`
	Pool4Rule
}

// Pool4Rule selects the clients that get an address, and how many of them. The zero value is for an address that all other clients get.
type Pool4Rule struct {
	Source6 []netip.Prefix `json:"source6,omitempty"` // prefixes of the clients
	Weight  int            `json:"weight,omitempty"`  // share of new clients; 0: 1
}

// Pool4Row is the use of all ports of an address of pool4 for one protocol.
type Pool4Row struct {
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"` // tcp, udp or icmp
	Size     int        `json:"size"`     // ports in pool4
	Used     int        `json:"used"`     // of them, those with a binding
	Held     int        `json:"held"`     // of them, those in hold-down
	Free     int        `json:"free"`     // the rest
	Peak     int        `json:"peak"`     // most ports with a binding at a time since the start
	Pool4Rule
}

// Pool4Usage is the use of pool4, and the clients that use most of it.
type Pool4Usage struct {
	Pool4   []Pool4Row  `json:"pool4"`
	Clients []ClientUse `json:"clients"`
}

// ClientUse is what one client uses. The traffic is that since the counting began, as the packets arrived; a super-packet counts
// once.
type ClientUse struct {
	Client   netip.Addr `json:"client"`
	Mapped   netip.Addr `json:"mapped,omitzero"` // its address of pool4, if it has a binding
	Ports    int        `json:"ports"`           // transport addresses of pool4, of all protocols
	Sessions int        `json:"sessions"`

	Packets6To4      uint64  `json:"packets_6to4"`
	Bytes6To4        uint64  `json:"bytes_6to4"`
	Packets4To6      uint64  `json:"packets_4to6"`
	Bytes4To6        uint64  `json:"bytes_4to6"`
	PacketsPerSecond float64 `json:"packets_per_second"` // in both directions
	BytesPerSecond   float64 `json:"bytes_per_second"`   // in both directions
}

// ClientQuery asks for the clients that use most of something.
type ClientQuery struct {
	By    string // one of ClientOrders; empty: ports
	Limit int    // 0: 20
}

// ClientOrders are the fields by which clients can be sorted, in descending order.
var ClientOrders = []string{"ports", "sessions", "packets", "bytes", "rate"}

// ClientList is the clients that use most of something.
type ClientList struct {
	Clients     []ClientUse `json:"clients"`
	Total       int         `json:"total"`             // clients with bindings
	Approximate bool        `json:"approximate"`       // too many clients to compare all of them: one may be missing that has few ports
	Accounted   Seconds     `json:"accounted_seconds"` // how long traffic has been counted
}

// Pool4Change is a request to add or remove transport addresses.
type Pool4Change struct {
	Addresses string   `json:"addresses"`           // "10.0.2.15", "10.0.2.0/28", "10.0.2.1-10.0.2.9" or "interface:eth1"
	Ports     string   `json:"ports,omitempty"`     // "7000-8000" or "7000"; empty: the daemon's default
	Protocols []string `json:"protocols,omitempty"` // of tcp, udp and icmp; empty: all three
	Force     bool     `json:"force,omitempty"`     // add even if the host uses some of the ports
}

// Pool4Result is the result of a change. A change is made completely or not at all.
type Pool4Result struct {
	Added    []Pool4Range `json:"added,omitempty"`
	Merged   []Pool4Range `json:"merged,omitempty"` // the ranges that result from merging added ranges with adjacent or overlapping ones
	Removed  []Pool4Range `json:"removed,omitempty"`
	Bindings int          `json:"bindings_ended"`
	Sessions int          `json:"sessions_ended"`
	Warnings []string     `json:"warnings,omitempty"`
}

// Pool6Entry is a NAT64 prefix.
type Pool6Entry struct {
	Prefix netip.Prefix `json:"prefix"`
}

// Pool6Change is a request to add or remove a NAT64 prefix.
type Pool6Change struct {
	Prefix string `json:"prefix"`
}

// Pool6Result is the result of a change.
type Pool6Result struct {
	Prefix   netip.Prefix `json:"prefix"`
	Sessions int          `json:"sessions_ended"`
	Warnings []string     `json:"warnings,omitempty"`
}

// AddressPair is an IPv4 address and the IPv6 address that represents it in a prefix (RFC 6052).
type AddressPair struct {
	Prefix netip.Prefix `json:"prefix"`
	V6     netip.Addr   `json:"v6"`
	V4     netip.Addr   `json:"v4"`
}

// Binding is a row of a BIB (RFC 6146 section 3.1). The port of an ICMP query is its Identifier. JSON represents
// addresses and ports as separate values: client, client_port, mapped, mapped_port.
type Binding struct {
	Protocol string
	Client   netip.AddrPort // (X',x)
	Mapped   netip.AddrPort // (T,t), from pool4
	Static   bool
	Sessions int
}

// Session is a row of a session table (RFC 6146 section 3.2). Its JSON has the fields of a Binding, and peer,
// peer_port, peer6 and peer6_port.
type Session struct {
	Protocol string
	Client   netip.AddrPort // (X',x); zero: a stored SYN from IPv4, whose client is not known
	Peer6    netip.AddrPort // (Y',y), the peer as the client sees it
	Mapped   netip.AddrPort // (T,t), the client as the peer sees it
	Peer     netip.AddrPort // (Z,z)
	State    string         // of a TCP session
	Expires  Seconds        // remaining lifetime
	Idle     Seconds        // since a packet has prolonged it
}

// SessionCount is the number of sessions that a Filter selects.
type SessionCount struct {
	Count     int            `json:"count"`
	Protocols map[string]int `json:"protocols"` // by protocol
	States    map[string]int `json:"states"`    // of TCP sessions, by state
}

// BindingCount is the number of bindings that a Filter selects.
type BindingCount struct {
	Count     int            `json:"count"`
	Protocols map[string]int `json:"protocols"` // by protocol
}

// SessionChange is a request to end sessions. Its fields are those of a Filter in text; at least one selects sessions, or All
// does.
type SessionChange struct {
	Protocols []string `json:"protocols,omitempty"` // of tcp, udp and icmp; empty: all three
	Client    string   `json:"client,omitempty"`    // an IPv6 address or prefix
	Peer      string   `json:"peer,omitempty"`      // an IPv4 address or prefix
	Mapped    string   `json:"mapped,omitempty"`    // an address or prefix of pool4, or an address with ports
	Port      string   `json:"port,omitempty"`      // a port or range of any side
	States    []string `json:"states,omitempty"`    // of TCP sessions
	Older     string   `json:"older,omitempty"`     // a duration: no packet has prolonged the session for so long
	All       bool     `json:"all,omitempty"`
}

// ChangeOf returns the request to end the sessions that a filter selects.
func ChangeOf(f *Filter, all bool) SessionChange {
	v := f.values()
	return SessionChange{
		Protocols: f.Protocols, Client: v.Get("client"), Peer: v.Get("peer"), Mapped: v.Get("mapped"), Port: v.Get("port"),
		States: f.States, Older: v.Get("older"), All: all,
	}
}

// Filter returns the filter of a request.
func (c *SessionChange) Filter() (f Filter, err error) {
	v := url.Values{}
	for name, texts := range map[string][]string{
		"protocol": c.Protocols, "state": c.States, "client": {c.Client}, "peer": {c.Peer}, "mapped": {c.Mapped}, "port": {c.Port}, "older": {c.Older},
	} {
		if len(texts) > 0 && texts[0] != "" {
			v[name] = texts
		}
	}
	return parseFilter(v, sessionFilters)
}

// SessionResult is the result of a SessionChange.
type SessionResult struct {
	Sessions int `json:"sessions_ended"`
}

// BindingChange is a request to add or remove bindings. Client and Mapped are an address with a port or a range of
// ports, such as "[2001:db8::5]:80" and "10.0.2.15:8000-8100"; "#" may separate the port. Both ranges must have the
// same length. In a removal, an address without a port selects all of its ports.
type BindingChange struct {
	Protocols []string `json:"protocols,omitempty"` // of tcp, udp and icmp; empty: all three
	Client    string   `json:"client,omitempty"`    // (X',x); may be empty in a removal with Mapped
	Mapped    string   `json:"mapped,omitempty"`    // (T,t); may be empty in a removal with Client
	Force     bool     `json:"force,omitempty"`     // add even if the host uses some of the ports
}

// BindingRange is Count bindings with consecutive ports on both sides. Its addresses are those of the first one.
type BindingRange struct {
	Protocol   string     `json:"protocol"` // tcp, udp or icmp
	Client     netip.Addr `json:"client"`
	ClientPort uint16     `json:"client_port"`
	Mapped     netip.Addr `json:"mapped"`
	MappedPort uint16     `json:"mapped_port"`
	Count      int        `json:"count"`
}

// BindingResult is the result of a change. A change is made completely or not at all.
type BindingResult struct {
	Added    []BindingRange `json:"added,omitempty"`
	Removed  []BindingRange `json:"removed,omitempty"`
	Bindings int            `json:"bindings_ended"`
	Sessions int            `json:"sessions_ended"`
	Warnings []string       `json:"warnings,omitempty"`
}

// ConfigKey is a value or list of the configuration.
type ConfigKey struct {
	Name    string    `json:"name"` // path in the configuration file, such as sessions.timeouts.udp
	Value   string    `json:"value"`
	Default string    `json:"default"`
	Origin  string    `json:"origin,omitempty"` // where the value comes from: the line of a file, a variable, a flag, nat64ctl or default
	Help    string    `json:"help"`             // a sentence for the operator
	Live    bool      `json:"live"`             // can be changed while nat64d runs
	Jool    []JoolKey `json:"jool,omitempty"`   // the keys of Jool that correspond to it or to a part of it
}

// JoolKey is a key of "jool global" and its equivalent value.
type JoolKey struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ConfigChange is a request to change one key.
type ConfigChange struct {
	Key     string `json:"key"` // its name, or its name in Jool
	Value   string `json:"value"`
	Persist bool   `json:"persist,omitempty"` // also save the value in the configuration file
}

// ConfigResult is the result of a change.
type ConfigResult struct {
	Name      string   `json:"name"`
	Old       string   `json:"old"`
	New       string   `json:"new"`
	Persisted string   `json:"persisted,omitempty"` // the file that the value was saved in
	Warnings  []string `json:"warnings,omitempty"`
}

// ReloadResult lists the changed keys and lists of the configuration.
type ReloadResult struct {
	Changes  []ConfigResult `json:"changes,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// Counter is a number and its meaning. Its name is that of the metric.
type Counter struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  uint64            `json:"value"`
	Help   string            `json:"help"`          // a sentence for the operator
	Kind   string            `json:"kind"`          // packets, drop, error, table, gateway or dns64
	Type   string            `json:"type"`          // counter, gauge or histogram
	Unit   string            `json:"unit"`          // the counted items
	Old    string            `json:"old,omitempty"` // name and labels before version 1, whose value was the sum of all counters that have it
}
