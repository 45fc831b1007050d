package metrics

import (
	"fmt"

	"nat64d/drop"
)

// ID identifies a counter of the catalogue. Those up to LimitReached are events, which workers count (Worker.Happened); the others
// are kept by the packages whose business they are.
type ID uint8

// Event is an ID of an event.
type Event = ID

// The counters.
const (
	ErrorSent6 ID = iota
	ErrorSent4
	ErrorLimited
	ErrorNoSource
	Parked
	Probe
	Reset
	ResetLimited
	Reopened
	Stalled
	LimitNear
	LimitReached

	ReceivedFrames
	ReceivedPackets
	MergedDatagrams
	AdjacentDatagrams
	TranslatedPackets
	TranslatedBytes
	Drops
	ArrivedFrames
	ForwardedFrames
	HostFrames
	DroppedFrames
	WaitingFrames
	Bindings
	Sessions
	Pool4Ports
	Pool4Used
	Pool4RestShortened
	SessionsReclaimed
	InboundSessions
	InboundEvicted
	NATEventsLost
	LogLinesLost
	Panics
	GuardRepairs
	ARPConflicts
	OffloadsSwitched
	DNS64Queries
	DNS64CacheHits
	DNS64CacheMisses
	DNS64Synthesized
	DNS64Prefetches
	DNS64Stale
	DNS64Truncated
	DNS64Denied
	DNS64RateLimited
	DNS64Busy
	DNS64Panics
	DNS64UpstreamQueries
	DNS64UpstreamFailures
	DNS64UpstreamBucket
	DNS64UpstreamSum
	DNS64UpstreamCount

	IDs    // how many there are
	events = LimitReached + 1
)

// Row is what the catalogue has of a counter.
type Row struct {
	Name   string   // in snake case, as nat64ctl stats shows it
	Kind   string   // packets, drop, error, table or dns64
	Gauge  bool     // the value goes down as well as up
	Unit   string   // the counted items, in the plural
	Labels []string // the names of its labels
	Help   string   // a phrase for the operator; that of Drops depends on the reason
}

var catalogue = [IDs]Row{
	ErrorSent6:   {"icmp_errors_sent_v6", "error", false, "packets", nil, "ICMPv6 errors that the gateway originated"},
	ErrorSent4:   {"icmp_errors_sent_v4", "error", false, "packets", nil, "ICMPv4 errors that the gateway originated"},
	ErrorLimited: {"icmp_errors_limited", "error", false, "packets", nil, "ICMP errors not sent because of a rate limit (icmp.rate_per_second, icmp.rate_too_big, icmp.rate_total)"},
	ErrorNoSource: {"icmp_errors_no_source", "error", false, "packets", nil,
		"ICMP errors not sent because the host has no address to send them from, or no route to their destination"},
	Parked:       {"neighbour_waits", "packets", false, "packets", nil, "packets that waited for a next hop's link address"},
	Probe:        {"tcp_probes", "packets", false, "packets", nil, "keep-alive probes sent for TCP connections that fell silent (RFC 6146 section 3.5.2.2)"},
	Reset:        {"tcp_resets_sent", "packets", false, "packets", nil, "resets sent to IPv6 clients whose TCP segment has no session (sessions.reset_unknown_tcp)"},
	ResetLimited: {"tcp_resets_limited", "packets", false, "packets", nil, "resets not sent because of their rate limit"},
	Reopened:     {"ports_reopened", "error", false, "times", nil, "times a NIC had vanished, or a port had stalled, and was opened again"},
	Stalled: {"ports_stalled", "error", false, "times", nil,
		"times a full port dropped packets but delivered none, and was closed and opened again"},
	LimitNear:    {"limits_near", "error", false, "warnings", nil, "warnings in the log that 80 % of a limit are in use"},
	LimitReached: {"limits_reached", "error", false, "warnings", nil, "warnings in the log that something is refused because a limit is reached"},

	ReceivedFrames:    {"received_frames", "packets", false, "frames", nil, "frames received for translation; packets that the kernel or the NIC has coalesced are one"},
	ReceivedPackets:   {"received_packets", "packets", false, "packets", nil, "packets on the wire in these frames"},
	MergedDatagrams:   {"merged_datagrams", "packets", false, "packets", nil, "UDP datagrams received that the kernel or the NIC had coalesced with the one before"},
	AdjacentDatagrams: {"adjacent_datagrams", "packets", false, "packets", nil, "UDP datagrams that the gateway coalesced with the one before"},
	TranslatedPackets: {"translated_packets", "packets", false, "packets", []string{"direction"}, "packets translated; a super-packet of the NIC counts once"},
	TranslatedBytes:   {"translated_bytes", "packets", false, "bytes", []string{"direction"}, "bytes of translated IP packets, as they left"},
	Drops:             {"drops", "drop", false, "packets", []string{"reason"}, "packets that were not forwarded, by reason"},
	ArrivedFrames: {"arrived_frames", "packets", false, "frames", []string{"direction"},
		"frames that arrived, lost ones included: the sum of forwarded_frames, host_frames, dropped_frames and waiting_frames"},
	ForwardedFrames: {"forwarded_frames", "packets", false, "frames", []string{"direction"},
		"frames that were translated and given to the NIC; every fragment of a datagram counts"},
	HostFrames:    {"host_frames", "packets", false, "frames", []string{"direction"}, "frames that are not for the gateway, and were left to the host"},
	DroppedFrames: {"dropped_frames", "packets", false, "frames", []string{"direction", "reason"}, "frames that were not forwarded, by the direction in which they arrived"},
	WaitingFrames: {"waiting_frames", "packets", true, "frames", []string{"direction", "for"}, "frames that wait in the gateway at present, for a link address or for fragments"},
	Bindings:      {"bindings", "table", true, "bindings", []string{"protocol"}, "bindings at present"},
	Sessions:      {"sessions", "table", true, "sessions", []string{"protocol"}, "sessions at present"},
	Pool4Ports:    {"pool4_ports", "table", true, "ports", []string{"protocol"}, "transport addresses in pool4"},
	Pool4Used:     {"pool4_used", "table", true, "ports", []string{"protocol"}, "transport addresses of pool4 that are bound"},
	Pool4RestShortened: {"pool4_rest_shortened", "table", false, "ports", nil,
		"ports that were used again before sessions.port_hold_down was over, because no other was free"},
	SessionsReclaimed: {"sessions_reclaimed", "table", false, "sessions", nil,
		"closed sessions that were ended early because no other port was free (sessions.reclaim)"},
	InboundSessions: {"inbound_sessions", "table", true, "sessions", nil, "sessions at present that IPv4 hosts have begun"},
	InboundEvicted: {"inbound_sessions_evicted", "table", false, "sessions", nil,
		"sessions begun by IPv4 hosts that newer ones have replaced (sessions.max_inbound)"},
	NATEventsLost: {"nat_events_lost", "error", false, "events", nil,
		"events of nat_log that were lost because more happened at once than the log could take"},
	LogLinesLost: {"log_lines_lost", "error", false, "lines", nil,
		"lines of the log, events of nat_log included, that were lost because the reader of standard error was too slow, or gone"},
	Panics:           {"panics", "error", false, "panics", nil, "panics that nat64d has survived (the log has their stacks); please report them"},
	GuardRepairs:     {"guard_repairs", "error", false, "times", nil, "times another program changed or deleted the guard's nftables table, and nat64d restored it"},
	ARPConflicts:     {"arp_conflicts", "error", false, "times", nil, "times another station was found to have an address of pool4 (RFC 5227)"},
	OffloadsSwitched: {"offloads_switched", "packets", false, "times", nil, "times a setting of the NICs has followed the load (interfaces.offloads: auto)"},

	DNS64Queries:          {"dns64_queries", "dns64", false, "queries", []string{"type", "result"}, "queries that were answered, by type and result"},
	DNS64CacheHits:        {"dns64_cache_hits", "dns64", false, "queries", nil, "queries that were answered from the cache"},
	DNS64CacheMisses:      {"dns64_cache_misses", "dns64", false, "queries", nil, "queries that were not in the cache"},
	DNS64Synthesized:      {"dns64_synthesized", "dns64", false, "answers", nil, "answers with synthesized addresses or names"},
	DNS64Prefetches:       {"dns64_prefetches", "dns64", false, "queries", nil, "names that were queried again before they expired"},
	DNS64Stale:            {"dns64_stale", "dns64", false, "answers", nil, "answers of upstreams that were used although they had expired"},
	DNS64Truncated:        {"dns64_truncated", "dns64", false, "answers", nil, "answers that did not fit UDP, so that the client asks over TCP"},
	DNS64Denied:           {"dns64_denied", "dns64", false, "queries", nil, "queries of clients that are not served"},
	DNS64RateLimited:      {"dns64_rate_limited", "dns64", false, "answers", nil, "answers over UDP that were truncated or not sent: too many to one network"},
	DNS64Busy:             {"dns64_busy", "dns64", false, "queries", nil, "queries that were answered SERVFAIL because too many were under way"},
	DNS64Panics:           {"dns64_panics", "dns64", false, "queries", nil, "queries that made nat64d panic; please report it"},
	DNS64UpstreamQueries:  {"dns64_upstream_queries", "dns64", false, "queries", []string{"upstream"}, "queries sent to an upstream"},
	DNS64UpstreamFailures: {"dns64_upstream_failures", "dns64", false, "queries", []string{"upstream"}, "queries that an upstream did not answer"},
	DNS64UpstreamBucket: {"dns64_upstream_microseconds_bucket", "dns64", false, "answers", []string{"upstream", "le"},
		"answers of an upstream that took no longer than so many microseconds"},
	DNS64UpstreamSum:   {"dns64_upstream_microseconds_sum", "dns64", false, "microseconds", []string{"upstream"}, "how long an upstream took for all its answers together"},
	DNS64UpstreamCount: {"dns64_upstream_microseconds_count", "dns64", false, "answers", []string{"upstream"}, "answers of an upstream"},
}

// Row returns the row of the catalogue.
func (id ID) Row() *Row { return &catalogue[id] }

// Counter is a value with what the catalogue has of it.
type Counter struct {
	Name   string
	Labels map[string]string // nil for a counter that stands alone
	Value  uint64
	Help   string
	Kind   string
}

// With returns the counter with a value, and with a value for each of its labels.
func (id ID) With(value uint64, labels ...string) Counter {
	row := id.Row()
	if len(labels) != len(row.Labels) {
		panic(fmt.Sprintf("metrics: %s has the labels %v, got the values %v", row.Name, row.Labels, labels))
	}
	c := Counter{Name: row.Name, Value: value, Help: row.Help, Kind: row.Kind}
	for i, name := range row.Labels {
		if c.Labels == nil {
			c.Labels = make(map[string]string, len(labels))
		}
		c.Labels[name] = labels[i]
	}
	return c
}

// dropped returns the counter of a reason, whose help text package drop has.
func dropped(r drop.Reason, n uint64) Counter {
	c := Drops.With(n, r.String())
	c.Help = r.Help()
	return c
}
