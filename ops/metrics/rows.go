package metrics

// The kinds of rows.
const (
	packets = "packets"
	dropped = "drop"
	failure = "error"
	table   = "table"
	running = "gateway"
	dns     = "dns64"
)

// Labels that several rows have.
var (
	byDirection   = []string{"direction"}
	byProtocol    = []string{"protocol"}
	byPool        = []string{"pool", "protocol"}
	byInterface   = []string{"interface"}
	byWorker      = []string{"worker"}
	byUpstream    = []string{"upstream"}
	byDirProtocol = []string{"direction", "protocol"}
	byDirReason   = []string{"direction", "reason"}
)

// catalogue is the one list of metrics: Prometheus, nat64ctl stats and docs/metrics.md are made of it.
var catalogue = [IDs]Row{
	Packets: {"nat64_packets_total", Counter, packets, "packets", byDirProtocol,
		"packets translated; a super-packet of the NIC counts once", `translated_packets{direction="$direction"}`},
	Bytes: {"nat64_bytes_total", Counter, packets, "bytes", byDirProtocol,
		"bytes of translated IP packets, as they left", `translated_bytes{direction="$direction"}`},
	Dropped: {"nat64_dropped_packets_total", Counter, dropped, "packets", byDirReason,
		"packets that were not forwarded, by the direction in which they arrived and the reason", `drops{reason="$reason"}`},
	Host: {"nat64_host_packets_total", Counter, packets, "packets", byDirReason,
		"packets that are not for the gateway, and were left to the host", `drops{reason="$reason"}`},
	ArrivedFrames: {"nat64_arrived_frames_total", Counter, packets, "frames", byDirection,
		"frames that arrived, lost ones included", `arrived_frames{direction="$direction"}`},
	ForwardedFrames: {"nat64_forwarded_frames_total", Counter, packets, "frames", byDirection,
		"frames that were translated and given to the NIC; every fragment of a datagram counts", `forwarded_frames{direction="$direction"}`},
	WaitingFrames: {"nat64_waiting_frames", Gauge, packets, "frames", []string{"direction", "for"},
		"frames that wait in the gateway, for a link address or for fragments", `waiting_frames{direction="$direction",for="$for"}`},
	ReceivedFrames: {"nat64_received_frames_total", Counter, packets, "frames", nil,
		"frames received for translation; packets that the kernel or the NIC has coalesced are one", "received_frames"},
	ReceivedPackets: {"nat64_received_packets_total", Counter, packets, "packets", nil, "packets on the wire in these frames", "received_packets"},
	MergedDatagrams: {"nat64_merged_datagrams_total", Counter, packets, "packets", nil,
		"UDP datagrams received that the kernel or the NIC had coalesced with the one before", "merged_datagrams"},
	AdjacentDatagrams: {"nat64_adjacent_datagrams_total", Counter, packets, "packets", nil,
		"UDP datagrams that the gateway coalesced with the one before", "adjacent_datagrams"},
	RingDrops: {"nat64_rx_ring_drops_total", Counter, packets, "packets", byInterface,
		"packets that the kernel dropped because the receive ring was full; they are also dropped packets with the reason ring", ""},
	TransmitErrors: {"nat64_tx_errors_total", Counter, packets, "packets", byInterface,
		"packets that the kernel or the queue of the NIC refused; they are also dropped packets with the reason transmit", ""},
	Unresolved: {"nat64_neighbor_unresolved_total", Counter, packets, "packets", nil,
		"packets that waited for the link address of their next hop", "neighbour_waits"},
	Fragments: {"nat64_fragments_total", Counter, packets, "packets", []string{"result"},
		"fragments that were reassembled, evicted, too late, or refused", ""},
	ChecksumErrors: {"nat64_checksum_errors_total", Counter, packets, "packets", []string{"header"},
		"packets with a wrong checksum in the IPv4 or ICMP header; those of TCP and UDP are updated, not verified", ""},

	ErrorsSent: {"nat64_icmp_errors_sent_total", Counter, failure, "packets", []string{"family", "type"},
		"ICMP errors that the gateway originated", "icmp_errors_sent_$family"},
	ErrorsLimited: {"nat64_icmp_errors_limited_total", Counter, failure, "packets", nil,
		"ICMP errors not sent because of a rate limit (icmp.rate_per_second, icmp.rate_too_big, icmp.rate_total)", "icmp_errors_limited"},
	ErrorsNoSource: {"nat64_icmp_errors_no_source_total", Counter, failure, "packets", nil,
		"ICMP errors not sent because the host has no address to send them from, or no route to their destination", "icmp_errors_no_source"},
	Probes: {"nat64_tcp_probes_total", Counter, packets, "packets", nil,
		"keep-alive probes sent for TCP connections that fell silent (RFC 6146 section 3.5.2.2)", "tcp_probes"},
	Resets: {"nat64_tcp_resets_sent_total", Counter, packets, "packets", nil,
		"resets sent to IPv6 clients whose TCP segment has no session (sessions.reset_unknown_tcp)", "tcp_resets_sent"},
	ResetsLimited: {"nat64_tcp_resets_limited_total", Counter, packets, "packets", nil, "resets not sent because of their rate limit", "tcp_resets_limited"},

	Sessions: {"nat64_sessions", Gauge, table, "sessions", []string{"protocol", "state"},
		"sessions, by the TCP state of RFC 6146; those of UDP and ICMP are active", `sessions{protocol="$protocol"}`},
	SessionsLimit:   {"nat64_sessions_limit", Gauge, table, "sessions", nil, "sessions that the table can hold (sessions.max)", ""},
	SessionsCreated: {"nat64_sessions_created_total", Counter, table, "sessions", byProtocol, "sessions that have begun, restored ones included", ""},
	SessionsClosed:  {"nat64_sessions_closed_total", Counter, table, "sessions", []string{"reason"}, "sessions that have ended, by the reason", ""},
	SessionsReclaimed: {"nat64_sessions_reclaimed_total", Counter, table, "sessions", nil,
		"closed sessions that were ended early because no other port was free (sessions.reclaim)", "sessions_reclaimed"},
	InboundSessions: {"nat64_inbound_sessions", Gauge, table, "sessions", nil, "sessions that IPv4 hosts have begun", "inbound_sessions"},
	InboundLimit:    {"nat64_inbound_sessions_limit", Gauge, table, "sessions", nil, "sessions that IPv4 hosts can begin (sessions.max_inbound)", ""},
	InboundEvicted: {"nat64_inbound_sessions_evicted_total", Counter, table, "sessions", nil,
		"sessions begun by IPv4 hosts that newer ones have replaced (sessions.max_inbound)", "inbound_sessions_evicted"},
	StoredSYNs:      {"nat64_stored_syns", Gauge, table, "packets", nil, "SYNs from IPv4 that wait for the client's (RFC 6146 section 3.5.2.2)", ""},
	StoredSYNsLimit: {"nat64_stored_syns_limit", Gauge, table, "packets", nil, "SYNs that can wait (sessions.max_stored_syns)", ""},
	Bindings: {"nat64_bib_entries", Gauge, table, "bindings", []string{"protocol", "origin"},
		"bindings, dynamic and static", `bindings{protocol="$protocol"}`},
	Clients: {"nat64_clients", Gauge, table, "addresses", nil, "IPv6 addresses that have a binding", ""},
	ClientLimitHits: {"nat64_client_limit_hits_total", Counter, table, "packets", []string{"limit"},
		"packets that were dropped because their client had reached one of its limits", ""},

	Pool4Ports: {"nat64_pool4_ports", Gauge, table, "ports", byPool, "transport addresses in pool4", `pool4_ports{protocol="$protocol"}`},
	Pool4Used:  {"nat64_pool4_ports_used", Gauge, table, "ports", byPool, "transport addresses of pool4 that are bound", `pool4_used{protocol="$protocol"}`},
	Pool4Held: {"nat64_pool4_ports_held", Gauge, table, "ports", byPool,
		"transport addresses of pool4 that rest before their next binding (sessions.port_hold_down)", ""},
	Pool4Free: {"nat64_pool4_ports_free", Gauge, table, "ports", byPool, "transport addresses of pool4 that a new binding can get", ""},
	Pool4Failures: {"nat64_pool4_allocation_failures_total", Counter, table, "packets", byProtocol,
		"packets of new flows that were dropped because pool4 had no port for them", ""},
	Pool4RestShortened: {"nat64_pool4_rest_shortened_total", Counter, table, "ports", nil,
		"ports that were used again before sessions.port_hold_down was over, because no other was free", "pool4_rest_shortened"},
	ARPConflicts: {"nat64_arp_conflicts_total", Counter, failure, "times", nil,
		"times another station was found to have an address of pool4 (RFC 5227)", "arp_conflicts"},

	WorkerBusy: {"nat64_worker_busy_ratio", Gauge, running, "ratio", byWorker,
		"share of a processor that a worker has used since the reading before, polling included", ""},
	WorkerBusySeconds: {"nat64_worker_busy_seconds_total", Counter, running, "seconds", byWorker,
		"processor time of a worker, in user space and in the kernel, polling included", ""},
	TranslateDuration: {"nat64_translate_duration_seconds", Histogram, running, "seconds", byDirection,
		"time from taking a batch of packets out of the socket until all of them are with the kernel again, of one batch in 64", ""},
	InterfaceUp:  {"nat64_interface_up", Gauge, running, "interfaces", []string{"interface", "side"}, "1 if the interface exists, is up and has a carrier", ""},
	InterfaceMTU: {"nat64_interface_mtu_bytes", Gauge, running, "bytes", []string{"interface", "side"}, "MTU of the interface", ""},
	OffloadEnabled: {"nat64_offload_enabled", Gauge, running, "features", []string{"interface", "feature"},
		"1 if the interface has the feature on (interfaces.offloads)", ""},
	OffloadsSwitched: {"nat64_offload_switches_total", Counter, running, "times", nil,
		"times a setting of the NICs has followed the load (interfaces.offloads: auto)", "offloads_switched"},

	Ready:       {"nat64_ready", Gauge, running, "gateways", nil, "1 if packets of every protocol can be translated, as /readyz reports", ""},
	CheckOK:     {"nat64_check_ok", Gauge, running, "checks", []string{"check"}, "1 if the check of nat64ctl health succeeds", ""},
	PausedState: {"nat64_paused", Gauge, running, "gateways", nil, "1 if translation is paused (nat64ctl pause)", ""},
	Warnings:    {"nat64_warnings", Gauge, running, "warnings", nil, "warnings that nat64ctl status shows", ""},
	LimitsNear:  {"nat64_limits_near_total", Counter, failure, "warnings", nil, "warnings in the log that 80 % of a limit are in use", "limits_near"},
	LimitsReached: {"nat64_limits_reached_total", Counter, failure, "warnings", nil,
		"warnings in the log that something is refused because a limit is reached", "limits_reached"},
	PortsReopened: {"nat64_ports_reopened_total", Counter, failure, "times", nil,
		"times a NIC had vanished, or a port had stalled, and was opened again", "ports_reopened"},
	PortsStalled: {"nat64_ports_stalled_total", Counter, failure, "times", nil,
		"times a full port dropped packets but delivered none, and was closed and opened again", "ports_stalled"},
	PanicsSurvived: {"nat64_panics_total", Counter, failure, "panics", nil,
		"panics that nat64d has survived (the log has their stacks); please report them", "panics"},
	GuardRepairs: {"nat64_guard_repairs_total", Counter, failure, "times", nil,
		"times another program changed or deleted the guard's nftables table, and nat64d restored it", "guard_repairs"},
	LogEventsDropped: {"nat64_log_events_dropped_total", Counter, failure, "events", []string{"sink"},
		"events of nat_log that came too fast (nat_log), and lines of the log that its reader did not take (log)", ""},
	MemoryUsed:    {"nat64_memory_used_bytes", Gauge, running, "bytes", nil, "resident memory, tables and packet rings included", ""},
	MemoryLimit:   {"nat64_memory_limit_bytes", Gauge, running, "bytes", nil, "memory near which new sessions are refused (memory_limit)", ""},
	StateKept:     {"nat64_state_kept", Gauge, running, "gateways", nil, "1 if sessions and changes survive a restart (state.save)", ""},
	StateRestored: {"nat64_state_restored_sessions", Gauge, running, "sessions", nil, "sessions that the start has restored from an earlier process", ""},
	StateRefused: {"nat64_state_refused_entries", Gauge, running, "entries", nil,
		"entries of an earlier process that the start could not restore", ""},
	StateUnkept: {"nat64_state_unkept_entries", Gauge, running, "entries", nil,
		"places in the tables for which the state directory had no room", ""},
	ReloadOK:   {"nat64_config_last_reload_successful", Gauge, running, "reloads", nil, "1 if the last reading of the configuration was accepted", ""},
	ReloadTime: {"nat64_config_last_reload_timestamp_seconds", Gauge, running, "seconds", nil, "when the configuration in use was read", ""},
	BuildInfo:  {"nat64_build_info", Gauge, running, "builds", []string{"version", "revision", "goversion"}, "1, with the build of this nat64d", ""},

	DNS64Queries: {"nat64_dns64_queries_total", Counter, dns, "queries", []string{"type", "result"},
		"queries that were answered, by type and result", `dns64_queries{result="$result",type="$type"}`},
	DNS64CacheHits:   {"nat64_dns64_cache_hits_total", Counter, dns, "queries", nil, "queries that were answered from the cache", "dns64_cache_hits"},
	DNS64CacheMisses: {"nat64_dns64_cache_misses_total", Counter, dns, "queries", nil, "queries that were not in the cache", "dns64_cache_misses"},
	DNS64Synthesized: {"nat64_dns64_synthesized_total", Counter, dns, "answers", nil, "answers with synthesized addresses or names", "dns64_synthesized"},
	DNS64Prefetches:  {"nat64_dns64_prefetches_total", Counter, dns, "queries", nil, "names that were queried again before they expired", "dns64_prefetches"},
	DNS64Stale:       {"nat64_dns64_stale_total", Counter, dns, "answers", nil, "answers of upstreams that were used although they had expired", "dns64_stale"},
	DNS64Truncated: {"nat64_dns64_truncated_total", Counter, dns, "answers", nil,
		"answers that did not fit UDP, so that the client asks over TCP", "dns64_truncated"},
	DNS64Denied: {"nat64_dns64_denied_total", Counter, dns, "queries", nil, "queries of clients that are not served", "dns64_denied"},
	DNS64RateLimited: {"nat64_dns64_rate_limited_total", Counter, dns, "answers", nil,
		"answers over UDP that were truncated or not sent: too many to one network", "dns64_rate_limited"},
	DNS64Busy: {"nat64_dns64_busy_total", Counter, dns, "queries", nil,
		"queries that were answered SERVFAIL because too many were under way", "dns64_busy"},
	DNS64Panics:           {"nat64_dns64_panics_total", Counter, dns, "queries", nil, "queries that made nat64d panic; please report it", "dns64_panics"},
	DNS64UpstreamQueries:  {"nat64_dns64_upstream_queries_total", Counter, dns, "queries", byUpstream, "queries sent to an upstream", `dns64_upstream_queries{upstream="$upstream"}`},
	DNS64UpstreamFailures: {"nat64_dns64_upstream_failures_total", Counter, dns, "queries", byUpstream, "queries that an upstream did not answer", `dns64_upstream_failures{upstream="$upstream"}`},
	DNS64UpstreamUp:       {"nat64_dns64_upstream_up", Gauge, dns, "upstreams", byUpstream, "1 if the upstream answers", ""},
	DNS64UpstreamDuration: {"nat64_dns64_upstream_duration_seconds", Histogram, dns, "seconds", byUpstream, "how long an upstream took for an answer", ""},
}
