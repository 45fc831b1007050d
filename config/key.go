package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Key describes a single value or a list of values in the configuration.
type Key struct {
	Name string   // its path in the file, such as sessions.timeouts.udp
	Live bool     // With can change it; other keys need a restart
	Help string   // meaning and permitted values, for the operator
	Jool []string // the keys of Jool's "global" mode with the same meaning or a part of it
}

// Keys returns every key in the order of the file, without the lists of rows: pool6, pool4 and bib have their own commands.
func Keys() []Key {
	ks := slices.Clone(keys)
	for i := range ks {
		for _, a := range aliases {
			if a.key == ks[i].Name {
				ks[i].Jool = append(ks[i].Jool, a.name)
			}
		}
	}
	return ks
}

// keys lists the keys in the order of the layout. The daemon uses a key that is not live only when it starts.
var keys = []Key{
	{Name: "interfaces.v6.name", Help: "interface of the IPv6 side; host: a pair called nat64 with attach: host"},
	{Name: "interfaces.v6.attach", Help: "nic: carry the packets of an Ethernet interface; host: carry what this machine routes to pool6, from itself, containers, tunnels or any network"},
	{Name: "interfaces.v6.address", Help: "with attach: host, an IPv6 address for the host's end of the pair, on which DNS64 can listen; empty: none"},
	{Name: "interfaces.v6.mtu", Help: "its MTU; auto: that of the kernel"},
	{Name: "interfaces.v4.name", Help: "interface of the IPv4 side; default: that of the IPv4 default route; host: a pair called nat64-v4 with attach: host"},
	{Name: "interfaces.v4.attach", Help: "nic: send by an Ethernet interface; host: this machine forwards translated packets by any of its uplinks"},
	{Name: "interfaces.v4.masquerade", Live: true, Help: "with attach: host, give packets from pool4 the address of the uplink; false: pool4 is routed to this machine"},
	{Name: "interfaces.v4.mtu", Help: "its MTU; auto: that of the kernel"},
	{Name: "interfaces.engine", Help: "how frames pass between kernel and nat64d: auto, ring, mmsg or simple"},
	{Name: "interfaces.workers", Help: "threads that carry the packets of each side, by flow; auto: one for four processors"},
	{Name: "interfaces.pin", Help: "processors that the workers are bound to, in turn: IPv6 side first; empty: any"},
	{Name: "interfaces.bursts", Help: "send packets in bursts through a BPF program, where the kernel allows it"},
	{Name: "interfaces.coalesce", Live: true, Help: "send consecutive packets of a flow as one super-packet, which the kernel or the NIC segments"},
	{Name: "interfaces.moderation", Live: true, Help: "delay for gathering more packets after two or more arrived together; 0s: none"},
	{Name: "interfaces.busy_poll", Help: "time that a worker polls for packets before it sleeps; auto: up to 200us while that shortens round trips; 0s: none"},
	{Name: "interfaces.offloads", Help: "auto: receive offload, threaded NAPI and segmentation follow the load while nat64d runs; manage: receive offload and threaded NAPI are on; leave: nothing is changed"},
	{Name: "deny_v4", Live: true, Help: "IPv4 prefixes that clients may not reach; with :tcp, :udp or :icmp that protocol only, with :tcp:25 that port only"},
	{Name: "allow_v4", Live: true, Help: "IPv4 prefixes that clients may reach, except those of deny_v4; empty: all"},
	{Name: "bypass_v6", Live: true, Help: "parts of the prefixes of pool6 that this machine forwards without translation"},
	{Name: "allow_v6", Live: true, Help: "prefixes of the clients that are served; empty: all"},
	{Name: "host.guard", Help: "keep the kernel from answering for pool4 and pool6"},
	{Name: "host.reserve_ports", Help: "keep the kernel from assigning ports of pool4 to programs"},
	{Name: "host.force", Help: "take ports of pool4 even if the host needs them"},
	{Name: "host.answer_arp", Help: "answer ARP for addresses of pool4 that no interface has: auto, on or off"},
	{Name: "host.share_interfaces", Help: "start even if another nat64d carries packets on the same interfaces"},
	{Name: "host.sandbox", Help: "after the start, give up the capabilities, files and system calls that translation does not need"},
	{Name: "host.forwarding", Help: "with attach: host, manage: make the kernel forward while nat64d runs; leave: the administrator does"},
	{Name: "host.serve_uplink", Live: true, Help: "with attach: host, serve also hosts that come by the interface of the IPv6 default route"},
	{Name: "host.serve_own_addresses", Help: "with attach: host, clients reach IPv4 addresses of this machine itself"},
	{Name: "sessions.max", Help: "sessions of all protocols together"},
	{Name: "sessions.max_per_client", Live: true, Help: "sessions of one client; 0: no limit"},
	{Name: "sessions.max_bindings_per_client", Live: true, Help: "bindings of one client; auto: a share of pool4 while less than a quarter is free; 0: no limit"},
	{Name: "sessions.max_per_binding", Live: true, Help: "sessions of one binding, static ones included; 0: no limit"},
	{Name: "sessions.max_inbound", Live: true, Help: "sessions that IPv4 hosts opened; auto: a quarter of sessions.max"},
	{Name: "sessions.max_inbound_per_client", Live: true, Help: "inbound sessions of one client; auto: half of max_inbound"},
	{Name: "sessions.max_inbound_per_binding", Live: true, Help: "inbound sessions of one binding; auto: a quarter of max_inbound"},
	{Name: "sessions.new_per_second", Live: true, Help: "new sessions of one client per second; 0: no limit"},
	{Name: "sessions.client_prefix_len", Live: true, Help: "a client is all addresses of one prefix of this length, 32 to 128"},
	{Name: "sessions.timeouts.udp", Live: true, Help: "lifetime of a UDP session, at least 2m"},
	{Name: "sessions.timeouts.udp_dns", Live: true, Help: "lifetime of a UDP session to port 53 or 123 after the first answer; 0s: as udp"},
	{Name: "sessions.timeouts.icmp", Live: true, Help: "lifetime of an ICMP query, at least 60s"},
	{Name: "sessions.timeouts.tcp_established", Live: true, Help: "lifetime of an established TCP session that is idle, at least 2h"},
	{Name: "sessions.timeouts.tcp_opening", Live: true, Help: "lifetime of a TCP session until both sides have sent a SYN, at least 4m"},
	{Name: "sessions.timeouts.tcp_transitory", Live: true, Help: "lifetime of a TCP session that is closing, at least 4m"},
	{Name: "sessions.timeouts.tcp_syn", Live: true, Help: "lifetime of a stored SYN from IPv4, at least 6s"},
	{Name: "sessions.timeouts.fragment", Live: true, Help: "lifetime of an incomplete datagram, at least 2s"},
	{Name: "sessions.port_hold_down", Live: true, Help: "how long a released UDP port or ICMP Identifier is not used again"},
	{Name: "sessions.max_held_ports", Live: true, Help: "limit of ports that are held down; the oldest are freed first; 0: no limit"},
	{Name: "sessions.hold_after_start", Help: "hold all UDP ports and Identifiers after a start: until then no new UDP flow and no ping"},
	{Name: "sessions.reclaim", Live: true, Help: "give ports of closed connections to new ones when no other is free: never or when_full"},
	{Name: "sessions.inbound_refresh", Live: true, Help: "packets from the Internet side refresh a session"},
	{Name: "sessions.internet_side", Live: true, Help: "which side the Internet is: v4 or v6"},
	{Name: "sessions.reset_unknown_tcp", Live: true, Help: "TCP segments of IPv6 clients that have no session are answered with a RST"},
	{Name: "sessions.rst_during_fin", Live: true, Help: "an RST after one FIN shortens the lifetime of the session to tcp_transitory"},
	{Name: "sessions.check_tcp_sequence", Live: true, Help: "an RST or FIN outside of the TCP window does not close the session"},
	{Name: "sessions.accounting", Live: true, Help: "count packets and bytes of each client always, not only while nat64ctl top runs"},
	{Name: "sessions.max_stored_syns", Live: true, Help: "stored SYNs from IPv4; 0: none"},
	{Name: "sessions.max_stored_syns_per_source", Live: true, Help: "stored SYNs from one IPv4 address"},
	{Name: "sessions.max_stored_syns_per_pool4_address", Live: true, Help: "stored SYNs to one address of pool4; 0: limited by max_stored_syns only"},
	{Name: "sessions.port_hash_fields", Live: true, Help: "fields that the choice of a port depends on: 8 client address + 4 client port + 2 peer address + 1 peer port"},
	{Name: "sessions.port_block_size", Help: "consecutive ports that a client is given at a time: a power of two, 16 to 4096; 0: single ports"},
	{Name: "sessions.allow_unsafe_timeouts", Live: true, Help: "lifetimes may be below the minimum of the RFCs"},
	{Name: "fragments.memory", Live: true, Help: "memory for the fragments of incomplete datagrams, in bytes"},
	{Name: "fragments.memory_per_source", Live: true, Help: "memory for the fragments of one source, in bytes"},
	{Name: "fragments.per_source", Live: true, Help: "fragments of one source; 0: limited by memory only"},
	{Name: "memory_limit", Live: true, Help: "the memory that nat64d may use, near which it refuses new flows: auto (that of the cgroup or the machine), or bytes: 512M, 2G"},
	{Name: "filtering.mode", Live: true, Help: "IPv4 hosts that may send to a bound port: all (endpoint_independent), or those that the client has a session with (address_dependent)"},
	{Name: "filtering.allow_inbound_tcp", Live: true, Help: "IPv4 hosts may open connections to bound ports"},
	{Name: "filtering.icmpv6_info", Live: true, Help: "pings of IPv6 clients: pass or drop"},
	{Name: "filtering.source_check", Live: true, Help: "packets from IPv6 need a route to their source: off, loose (any) or strict (out of the v6 interface)"},
	{Name: "translation.lowest_ipv6_mtu", Live: true, Help: "largest IPv6 packet made of an IPv4 packet that may be fragmented"},
	{Name: "translation.tcp_mss_clamp", Live: true, Help: "largest MSS in a SYN: off, auto (what fits the MTUs) or a number from 536"},
	{Name: "translation.zero_udp_checksum", Live: true, Help: "IPv4 UDP without a checksum: compute or drop"},
	{Name: "translation.tos", Live: true, Help: "TOS towards IPv4: copy, or 0 to 255"},
	{Name: "translation.traffic_class", Live: true, Help: "traffic class towards IPv6: copy, or 0 to 255"},
	{Name: "translation.mtu_plateaus", Live: true, Help: "MTUs to try after a Fragmentation Needed without MTU"},
	{Name: "icmp.source_v6", Live: true, Help: "source of our ICMPv6 errors; auto: an address of the v6 interface"},
	{Name: "icmp.source_v4", Live: true, Help: "source of our ICMPv4 errors; auto: an address of the v4 interface"},
	{Name: "icmp.errors", Live: true, Help: "ICMP errors that nat64d itself sends: limited (to the rates below), all, or off (none but Packet Too Big and Fragmentation Needed)"},
	{Name: "icmp.answer_denied", Live: true, Help: "send ICMP errors to senders that deny_v4, allow_v6 or private_v4 refuses"},
	{Name: "icmp.answer_filtered", Live: true, Help: "send ICMP errors to IPv4 hosts that address-dependent filtering refuses"},
	{Name: "icmp.answer_unbound", Live: true, Help: "send ICMP errors to IPv4 hosts for UDP ports and Identifiers of pool4 without a binding"},
	{Name: "icmp.rate_per_second", Live: true, Help: "our ICMP errors to one destination per second, of each kind except those of rate_too_big; 0: no limit"},
	{Name: "icmp.rate_total", Live: true, Help: "our ICMP errors of one family per second, of each kind except those of rate_too_big; 0: no limit"},
	{Name: "icmp.rate_too_big", Live: true, Help: "our Packet Too Big and Fragmentation Needed to one destination per second; 0: no limit"},
	{Name: "icmp.error_source", Live: true, Help: "source of translated ICMPv4 errors: router (the router that sent the error), or literal (the destination of the packet)"},
	{Name: "logging.level", Live: true, Help: "debug, info, warn or error"},
	{Name: "logging.format", Help: "auto, text or json"},
	{Name: "nat_log.events", Live: true, Help: "events to log: none, bib (bindings), session (bindings and sessions) or block (port blocks only)"},
	{Name: "api.socket", Help: "path of the control socket"},
	{Name: "api.group", Help: "group whose members may use the control socket"},
	{Name: "api.read_group", Help: "group whose members may read through the control socket, but change nothing; empty: none"},
	{Name: "metrics.listen", Live: true, Help: "where Prometheus reads the metrics: :9464 (both loopback addresses), 192.0.2.1:9464, [2001:db8::1]:9464 or unix:/path; empty: nowhere"},
	{Name: "web.listen", Live: true, Help: "where the status page is served: :9465 (both loopback addresses), 192.0.2.1:9465, [2001:db8::1]:9465 or unix:/path; empty: nowhere"},
	{Name: "dns64.enabled", Help: "run the DNS64 forwarder"},
	{Name: "dns64.listen", Help: "addresses and ports to listen on, over UDP and TCP; [::] is both families"},
	{Name: "dns64.listen_tls", Help: "addresses and ports to listen on for DNS over TLS: [::]:853; empty: none"},
	{Name: "dns64.tls_certificate", Help: "file with the certificate for DNS over TLS and its chain, in PEM; it is read again when it changes"},
	{Name: "dns64.tls_key", Help: "file with the private key of that certificate"},
	{Name: "dns64.upstreams", Live: true, Help: "resolvers that queries are forwarded to: 192.0.2.53, tcp://192.0.2.53 or tls://192.0.2.53#dns.example"},
	{Name: "dns64.zones", Live: true, Help: "domains with resolvers of their own, as in upstreams: cluster.local=10.96.0.10; several: several times"},
	{Name: "dns64.race", Live: true, Help: "true: send each query to all upstreams at once and take the first answer; false: try them in order"},
	{Name: "dns64.clients", Live: true, Help: "prefixes of the clients that are served; empty: allow_v6, or else the prefixes routed out of the v6 interface"},
	{Name: "dns64.open", Live: true, Help: "allow clients to be the whole Internet on a public address"},
	{Name: "dns64.prefix_policy", Live: true, Help: "choice among several prefixes: first, all, round_robin, random or client_hash"},
	{Name: "dns64.ranges", Live: true, Help: "IPv4 prefixes with a separate IPv6 prefix: 198.51.100.0/24=2001:db8:65::/96"},
	{Name: "dns64.exclude", Live: true, Help: "IPv6 addresses that are ignored in answers; any: all of them"},
	{Name: "dns64.mapped", Live: true, Help: "IPv4 addresses that may be embedded in IPv6 addresses; empty: all"},
	{Name: "dns64.translate_all", Live: true, Help: "domains for which synthesized IPv6 addresses replace the real ones; true: all"},
	{Name: "dns64.never_synthesize", Live: true, Help: "domains that are answered as the upstreams answer, also within translate_all; true: all"},
	{Name: "dns64.a_records", Live: true, Help: "A records and IPv4 hints in answers: pass, or empty for clients without IPv4"},
	{Name: "dns64.suffix", Live: true, Help: "bits after the IPv4 address in prefixes shorter than /96"},
	{Name: "dns64.on_aaaa_error", Live: true, Help: "answer when the query for AAAA fails: synthesize or servfail"},
	{Name: "dns64.break_dnssec", Live: true, Help: "synthesize addresses for validating clients, too"},
	{Name: "dns64.upstreams_validate", Live: true, Help: "the upstreams validate DNSSEC, and the path to them is trusted"},
	{Name: "dns64.recursive_only", Live: true, Help: "do not synthesize for queries without RD"},
	{Name: "dns64.max_in_flight", Live: true, Help: "queries that may wait for upstreams at once"},
	{Name: "dns64.udp_size", Live: true, Help: "longest answer over UDP"},
	{Name: "dns64.rate_per_second", Live: true, Help: "answers over UDP to one network, /24 or /56; 0: no limit"},
	{Name: "dns64.cache.size", Live: true, Help: "cached answers of upstreams, and as many synthesized ones; 0: none"},
	{Name: "dns64.cache.min_ttl", Live: true, Help: "shortest time for which an answer is cached"},
	{Name: "dns64.cache.max_ttl", Live: true, Help: "longest time for which an answer is cached"},
	{Name: "dns64.cache.max_negative_ttl", Live: true, Help: "longest time for which a negative answer is cached"},
	{Name: "dns64.cache.prefetch", Live: true, Help: "refresh popular names before they expire"},
	{Name: "dns64.cache.serve_stale", Live: true, Help: "serve expired answers for up to a day while no upstream answers"},
	{Name: "state.save", Help: "sessions, bindings and unsaved changes of pool4, pool6 and bib survive a restart, an upgrade and a crash"},
	{Name: "state.dir", Help: "directory for them, on a tmpfs"},
	{Name: "state.restore_max_age", Help: "longest time for which nat64d may have been dead; then it starts empty"},
	{Name: "state.handover", Live: true, Help: "how long the guard stays after a stop, for the next start to take over; 0s: not at all"},
	{Name: "health.probe", Live: true, Help: "IPv4 hosts that nat64d pings from pool4; while none of them answers, it is not ready; empty: none"},
}

// find returns the key with the name, which may be one of Jool's.
func find(name string) (Key, alias, error) {
	a := alias{}
	if i := slices.IndexFunc(aliases, func(a alias) bool { return a.name == name }); i >= 0 {
		a = aliases[i]
		name = a.key
	}
	if i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name }); i >= 0 {
		return keys[i], a, nil
	}
	return Key{}, a, unknownKey(name)
}

// unknownKey returns the error for a name that is no key, with the most similar name.
func unknownKey(name string) error {
	switch name {
	case "pool6", "pool4", "bib":
		return fmt.Errorf("%s is a list of rows; nat64ctl %s shows and changes it", name, name)
	}
	if slices.ContainsFunc(features, func(f feature) bool { return f.key == name }) {
		return fmt.Errorf("%s is not available in this version", name)
	}
	var names []string
	whole := map[string]string{} // the key of each name
	for _, k := range Keys() {
		last := k.Name[strings.LastIndexByte(k.Name, '.')+1:] // a common mistake: the section is missing
		for _, n := range []string{last, k.Name} {
			if _, ok := whole[n]; !ok {
				names, whole[n] = append(names, n), k.Name
			}
		}
		names = append(names, k.Jool...)
	}
	if best := nearest(name, names, 0); best != "" {
		return fmt.Errorf("unknown key %q; did you mean %s?", name, cmp.Or(whole[best], best))
	}
	return fmt.Errorf("unknown key %q; nat64ctl config get lists them", name)
}

// at returns the field for a key.
func (f *file) at(key string) reflect.Value {
	v := reflect.ValueOf(f).Elem()
	for name := range strings.SplitSeq(key, ".") {
		field, _ := fieldOf(v.Type(), name)
		v = v.FieldByIndex(field.Index)
	}
	return v
}

// text returns a value in the canonical notation, which is valid in a file.
func text(v reflect.Value) string {
	if v.Kind() != reflect.Slice {
		return fmt.Sprint(v.Interface())
	}
	l := make([]string, v.Len())
	for i := range l {
		l[i] = text(v.Index(i))
	}
	return strings.Join(l, ",")
}

// set parses a value into a field. It allocates a new list, because other configurations share the old one.
func set(v reflect.Value, text string) error {
	if v.Kind() != reflect.Slice {
		parsed, err := decodeText(reflect.TypeFor[string](), v.Type(), text)
		if err == nil {
			v.Set(reflect.ValueOf(parsed))
		}
		return err
	}
	words := splitList(text)
	l := reflect.MakeSlice(v.Type(), len(words), len(words))
	for i, w := range words {
		if err := set(l.Index(i), w); err != nil {
			return err
		}
	}
	v.Set(l)
	return nil
}
