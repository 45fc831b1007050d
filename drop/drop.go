// Package drop lists the reasons for which nat64d does not forward a packet. One Reason serves as return value of the
// packet path, as counter index, as metric label and as help text. Its row also holds the ICMP error that nat64d
// sends to the sender (RFC 6146, RFC 7915, RFC 4443, RFC 1812).
package drop

// Reason is the reason why a packet was not forwarded. The zero value, None, means that the packet was forwarded.
// Reasons are small consecutive numbers, so that they can index arrays of counters.
type Reason uint8

// The reasons, in the order in which the packet path checks them.
const (
	None Reason = iota

	// Seen on the wire.
	Truncated
	Header6
	Header4
	HeaderChecksum4
	ExtensionHeaders
	RoutingHeader
	SourceRoute
	UnknownTransport
	TCPHeader
	UDPHeader
	UDPZeroChecksum
	ICMPHeader
	ICMPChecksum
	ICMPType
	Fragment
	FragmentLength
	FragmentSpan
	FragmentHeader
	FragmentTiny
	FragmentOverlap
	FragmentTwice
	FragmentSource
	FragmentMemory
	FragmentTimeout
	Offload
	Large

	// Not ours, or not allowed.
	NotPool6
	Bypassed
	NotPool4
	SourceInPool6
	Source6
	MappedSource
	OwnSource
	UnroutedSource
	Source4
	SourceInPool4
	LinkLocal4
	Destination4
	WellKnown
	Denied4
	Client6
	Informational
	Paused

	// State.
	Restoring
	NoBinding
	NoSession
	Filtered
	FilteredAddress
	StoredSYN
	StoredSYNLimit
	PoolEmpty
	PoolExhausted
	PoolResting
	BindingLimit
	SessionLimit
	MemoryLimit
	ClientBindings
	ClientShare
	ClientSessions
	ClientRate
	BindingSessions
	InboundLimit
	ICMPErrorUnbound
	ICMPErrorInner

	// On the way out.
	HopLimit
	TooBig
	NoRoute
	OtherInterface
	HostAddress
	IPsec
	Neighbour
	NeighbourQueue
	Transmit
	Ring
	Panic

	// Count is the number of reasons, None included.
	Count
)

// Answer is the type and code of an ICMP error. The zero value means that no error is sent: neither family has an
// error of type 0.
type Answer struct{ Type, Code uint8 }

// Choice identifies the setting that enables the ICMP error for a reason (RFC 7915 sections 4.4 and 5.4).
type Choice uint8

// The choices. Always has no setting: without these errors, path MTU discovery does not work.
const (
	Ordinary   Choice = iota // icmp errors are enabled at all
	Always                   // sent in any case
	IfDenied                 // errors to senders that an access list denies
	IfFiltered               // errors to IPv4 hosts that endpoint filtering rejects (RFC 6146 sections 3.5.1 and 3.5.3)
	IfUnbound                // errors to IPv4 hosts that send to a port without a binding (RFC 6146 sections 3.5.1 and 3.5.3)

	// Choices is the number of choices.
	Choices
)

type row struct {
	label    string
	help     string
	to6, to4 Answer
	choice   Choice
}

var rows = [Count]row{
	None:             {label: "none", help: "forwarded"},
	Truncated:        {label: "truncated", help: "the frame is shorter than the length in its IP header; usually the receive buffer is too small"},
	Header6:          {label: "header6", help: "the IPv6 header is malformed"},
	Header4:          {label: "header4", help: "the IPv4 header is malformed"},
	HeaderChecksum4:  {label: "header_checksum4", help: "the IPv4 header checksum is wrong (RFC 1812 section 5.2.2)"},
	ExtensionHeaders: {label: "extension_headers", help: "the chain of IPv6 extension headers is malformed or longer than 16 headers or 512 bytes"},
	RoutingHeader:    {label: "routing_header", help: "a Routing header with segments left cannot be translated (RFC 7915 section 5.1)", to6: Answer{4, 0}},
	SourceRoute:      {label: "source_route", help: "an unexpired IPv4 source route cannot be translated (RFC 7915 section 4.1)", to4: Answer{3, 5}},
	UnknownTransport: {label: "unknown_transport", help: "the transport protocol is not TCP, UDP or ICMP (RFC 6146 section 3.4)", to6: Answer{1, 4}, to4: Answer{3, 2}},
	TCPHeader:        {label: "tcp_header", help: "the TCP header is malformed or its flags make no sense"},
	UDPHeader:        {label: "udp_header", help: "the UDP length does not fit the packet"},
	UDPZeroChecksum:  {label: "udp_zero_checksum", help: "a UDP datagram without a checksum: invalid in IPv6 (RFC 8200 section 8.1), in IPv4 refused if translation.zero_udp_checksum is drop"},
	ICMPHeader:       {label: "icmp_header", help: "the ICMP message is too short"},
	ICMPChecksum:     {label: "icmp_checksum", help: "the ICMP checksum is wrong"},
	ICMPType:         {label: "icmp_type", help: "this ICMP type has no counterpart in the other family (RFC 7915 sections 4.2 and 5.2)"},
	Fragment:         {label: "fragment", help: "a fragment in a place where only a whole datagram can be translated"},
	FragmentLength:   {label: "fragment_length", help: "a fragment without data, or one other than the last whose length is not a multiple of 8 bytes (RFC 8200 section 4.5)", to6: Answer{4, 0}},
	FragmentSpan:     {label: "fragment_span", help: "a fragment that ends beyond the maximum packet length (RFC 8200 section 4.5)", to6: Answer{4, 0}},
	FragmentHeader:   {label: "fragment_header", help: "a first fragment without the whole transport header (RFC 7112, RFC 1858)", to6: Answer{4, 3}},
	FragmentTiny:     {label: "fragment_tiny", help: "a TCP fragment that begins inside the TCP header (RFC 1858, RFC 3128)"},
	FragmentOverlap:  {label: "fragment_overlap", help: "a fragment of a datagram whose fragments overlap or contradict each other: the whole datagram is refused (RFC 5722)"},
	FragmentTwice:    {label: "fragment_twice", help: "a fragment that is stored already"},
	FragmentSource:   {label: "fragment_source", help: "a fragment whose datagram was evicted for a newer one of the same source, which has reached its memory limit for fragments"},
	FragmentMemory:   {label: "fragment_memory", help: "a fragment whose datagram, the oldest, was evicted: the memory for fragments is full"},
	FragmentTimeout:  {label: "fragment_timeout", help: "a stored fragment whose datagram was not complete within the reassembly timeout"},
	Offload:          {label: "offload", help: "a super-packet of a kind that cannot be translated (UFO, SCTP, tunnels), or with metadata that contradict its headers"},
	Large:            {label: "large", help: "a packet of more than 64 KiB; only TCP super-packets (BIG TCP) of that size can be segmented"},
	NotPool6:         {label: "not_pool6", help: "an IPv6 packet whose destination is in no NAT64 prefix: left to the host"},
	Bypassed:         {label: "bypassed", help: "an IPv6 packet to a part of a NAT64 prefix that bypass_v6 or a more specific kernel route excludes: left to the host (RFC 7915 section 5.6)"},
	NotPool4:         {label: "not_pool4", help: "an IPv4 packet whose destination is neither in pool4 nor bound: left to the host"},
	SourceInPool6:    {label: "source_in_pool6", help: "the IPv6 source lies in a NAT64 prefix; translating it could loop (RFC 6146 section 5.4)"},
	Source6:          {label: "source6", help: "the IPv6 source is not a routable unicast address"},
	MappedSource:     {label: "mapped_source", help: "the IPv6 source is an IPv4-mapped address, which appears only in forged packets (RFC 4291 section 2.5.5.2)"},
	OwnSource:        {label: "own_source", help: "the source is an address of this machine, but the packet was received from the network: forged, or a loop"},
	UnroutedSource:   {label: "unrouted_source", help: "the kernel has no route to the IPv6 source or, with filtering.source_check strict, no route through the v6 interface (RFC 3704)"},
	Source4:          {label: "source4", help: "the IPv4 source is not a routable unicast address (RFC 7915 section 4.1)"},
	SourceInPool4:    {label: "source_in_pool4", help: "the IPv4 source is an address of pool4, but the packet was received from the network: forged, or a loop"},
	LinkLocal4:       {label: "link_local4", help: "a link-local IPv4 address, 169.254.0.0/16, which is never translated (RFC 3927 section 7)", to6: Answer{1, 1}, choice: IfDenied},
	Destination4:     {label: "destination4", help: "the IPv4 destination inside the IPv6 address is not a unicast address (RFC 1812 section 5.3.7)"},
	WellKnown:        {label: "well_known", help: "a non-global IPv4 address behind 64:ff9b::/96, which RFC 6052 section 3.1 forbids (private_v4)", to6: Answer{1, 1}, choice: IfDenied},
	Denied4:          {label: "denied4", help: "the IPv4 address, or its port, is on the deny list, or not on the allow list (deny_v4, allow_v4)", to6: Answer{1, 1}, to4: Answer{3, 13}, choice: IfDenied},
	Client6:          {label: "client6", help: "the IPv6 client, or the one that an ICMP error is about, is not on the allow list (allow_v6)", to6: Answer{1, 1}, choice: IfDenied},
	Informational:    {label: "informational", help: "ICMPv6 echo is disabled (filtering.icmpv6_info)"},
	Paused:           {label: "paused", help: "translation is paused (nat64ctl resume)"},
	Restoring:        {label: "restoring", help: "a packet without a session while the sessions of an earlier process are being restored, a moment after the start"},
	NoBinding:        {label: "no_binding", help: "an IPv4 packet to a pool4 port without a binding (RFC 6146 section 3.5)", to4: Answer{3, 3}, choice: IfUnbound},
	NoSession:        {label: "no_session", help: "a TCP segment without SYN from an IPv6 client that has no binding (RFC 6146 section 3.5.2.2)"},
	Filtered:         {label: "filtered", help: "connections from IPv4 hosts are not allowed (filtering.allow_inbound_tcp)"},
	FilteredAddress:  {label: "filtered_address", help: "address-dependent filtering: the client has not sent to this IPv4 host (filtering.mode)", to4: Answer{3, 13}, choice: IfFiltered},
	StoredSYN:        {label: "stored_syn", help: "a TCP SYN from IPv4, stored for sessions.timeouts.tcp_syn in case of a simultaneous open (RFC 6146 section 3.5.2.2)"},
	StoredSYNLimit:   {label: "stored_syn_limit", help: "a TCP SYN from IPv4 that is not stored: the limit in total, of its source or of its destination address is reached (sessions.max_stored_syns*)"},
	PoolEmpty:        {label: "pool_empty", help: "pool4 has no address for this protocol; add one with nat64ctl pool4 add", to6: Answer{1, 3}},
	PoolExhausted:    {label: "pool_exhausted", help: "no free port is left in pool4; add ports or addresses, or set sessions.reclaim to when_full", to6: Answer{1, 3}},
	PoolResting:      {label: "pool_resting", help: "UDP ports and ICMP Identifiers are held down for sessions.port_hold_down after the start (sessions.hold_after_start)", to6: Answer{1, 3}},
	BindingLimit:     {label: "binding_limit", help: "the table of bindings is full (sessions.max)", to6: Answer{1, 3}},
	SessionLimit:     {label: "session_limit", help: "the table of sessions is full (sessions.max)", to6: Answer{1, 3}},
	MemoryLimit:      {label: "memory_limit", help: "memory is scarce, and no other session has ended (memory_limit)", to6: Answer{1, 3}},
	ClientBindings:   {label: "client_bindings", help: "the client has reached its limit of bindings (sessions.max_bindings_per_client)", to6: Answer{1, 3}},
	ClientShare:      {label: "client_share", help: "pool4 is nearly full, and the client has more than its share (sessions.max_bindings_per_client: auto)", to6: Answer{1, 3}},
	ClientSessions:   {label: "client_sessions", help: "the client has reached its limit of sessions (sessions.max_per_client)", to6: Answer{1, 3}},
	ClientRate:       {label: "client_rate", help: "the client opens sessions faster than its limit (sessions.new_per_second)", to6: Answer{1, 3}},
	InboundLimit:     {label: "inbound_limit", help: "the limit of sessions opened by IPv4 hosts to the binding, its client or all clients is reached, and no unanswered one can be evicted (sessions.max_inbound*)"},
	BindingSessions:  {label: "binding_sessions", help: "the binding has reached its limit of sessions (sessions.max_per_binding)", to6: Answer{1, 3}},
	ICMPErrorUnbound: {label: "icmp_error_unbound", help: "an ICMP error whose quoted packet matches no binding (RFC 5508 section 4)"},
	ICMPErrorInner:   {label: "icmp_error_inner", help: "an ICMP error whose quoted packet cannot be read or translated (RFC 6146 section 3.4)"},
	HopLimit:         {label: "hop_limit", help: "hop limit or TTL exceeded; nat64d sent a Time Exceeded (traceroute relies on it)", to6: Answer{3, 0}, to4: Answer{11, 0}},
	TooBig:           {label: "too_big", help: "larger than the MTU of the outgoing link; nat64d sent the MTU to the sender", to6: Answer{2, 0}, to4: Answer{3, 4}, choice: Always},
	NoRoute:          {label: "no_route", help: "the kernel has no route to the destination", to6: Answer{1, 0}, to4: Answer{3, 0}},
	OtherInterface:   {label: "other_interface", help: "the kernel's route leads to an interface that nat64d does not serve", to6: Answer{1, 0}, to4: Answer{3, 0}},
	HostAddress:      {label: "host_address", help: "the destination is an address of this machine that is not in pool4", to6: Answer{1, 1}, to4: Answer{3, 13}},
	IPsec:            {label: "ipsec", help: "an IPsec policy of this machine covers the translated packet, which would leave unencrypted (ip xfrm policy)", to6: Answer{1, 1}, to4: Answer{3, 13}, choice: IfDenied},
	Neighbour:        {label: "neighbour", help: "the next hop does not answer ARP or neighbour discovery", to6: Answer{1, 3}, to4: Answer{3, 1}},
	NeighbourQueue:   {label: "neighbour_queue", help: "a packet that waited for the link address of its next hop was evicted for newer ones of its sender or to its destination"},
	Transmit:         {label: "transmit", help: "the kernel or the NIC's queue refused the packet"},
	Ring:             {label: "ring", help: "the receive ring was full: packets arrived faster than one worker processes them"},
	Panic:            {label: "panic", help: "a packet that made nat64d panic, or one that was lost with it (the log has the stack): please report it"},
}

// String returns the reason's label, a lower-case word for counters and metrics.
func (r Reason) String() string { return rows[r].label }

// Help returns a sentence for the operator.
func (r Reason) Help() string { return rows[r].help }

// Host reports whether the packet is not for the gateway and left to the host.
func (r Reason) Host() bool { return r == NotPool6 || r == Bypassed || r == NotPool4 }

// Answer6 returns the ICMPv6 error for an IPv6 sender, or the zero Answer.
func (r Reason) Answer6() Answer { return rows[r].to6 }

// Answer4 returns the ICMP error for an IPv4 sender, or the zero Answer.
func (r Reason) Answer4() Answer { return rows[r].to4 }

// Choice returns the setting that enables the answers to the reason.
func (r Reason) Choice() Choice { return rows[r].choice }
