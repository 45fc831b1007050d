package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nat64d/config"
	"nat64d/pool4"
	"nat64d/pool6"
)

// named gives a configuration the names of interfaces, which have no default, without adding a line.
var named = config.Given("--v6=eth0", "--v4=eth1")

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b pool6.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.IgnoreUnexported(config.Config{}),
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("f", strings.NewReader(text), named)
	if err != nil {
		t.Fatalf("%s\nrefused: %v", text, err)
	}
	return c
}

func TestReferenceIsDefault(t *testing.T) {
	t.Parallel()
	got, err := config.Load("nat64d.yaml", config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Interfaces.V6.Name, want.Interfaces.V4.Name = "eth0", "eth1"
	if d := cmp.Diff(want, got, compare); d != "" {
		t.Errorf("reference file differs from the defaults (-default +file):\n%s", d)
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	t.Parallel()
	want := config.Default()
	want.Interfaces.V6.Name, want.Interfaces.V4.Name = "eth0", "eth1"
	for _, text := range []string{"", "# nothing\n", "---\n", "sessions:\nlogging:\npool4:\n", "sessions: { timeouts: }\n", "{}"} {
		if d := cmp.Diff(want, parse(t, text), compare); d != "" {
			t.Errorf("%q differs from the defaults:\n%s", text, d)
		}
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		is         func(*config.Config) bool
	}{
		{"booleans of YAML 1.1", "host: { guard: no, reserve_ports: off }", func(c *config.Config) bool { return !c.Host.Guard && !c.Host.ReservePorts }},
		{"quoted boolean", `filtering: { allow_inbound_tcp: "no" }`, func(c *config.Config) bool { return !c.Filtering.AllowInboundTCP }},
		{"clock duration", "sessions: { timeouts: { udp: 00:10:00 } }", func(c *config.Config) bool { return c.Sessions.Timeouts.UDP == 10*time.Minute }},
		{"hours on the clock", "sessions: { timeouts: { tcp_established: 124:00:01 } }", func(c *config.Config) bool { return c.Sessions.Timeouts.TCPEstablished == 124*time.Hour+time.Second }},
		{"compound duration", "sessions: { timeouts: { tcp_established: 2h4m } }", func(c *config.Config) bool { return c.Sessions.Timeouts.TCPEstablished == 124*time.Minute }},
		{"no hold-down", "sessions: { port_hold_down: 0s }", func(c *config.Config) bool { return c.Sessions.PortHoldDown == 0 }},
		{"unsafe in its section", "sessions: { allow_unsafe_timeouts: true, timeouts: { udp: 1s } }", func(c *config.Config) bool { return c.Sessions.Timeouts.UDP == time.Second }},
		{"unsafe at the top", "allow_unsafe_timeouts: yes\nsessions: { timeouts: { udp: 1s } }", func(c *config.Config) bool { return c.Sessions.Timeouts.UDP == time.Second }},
		{"ports", "pool4: [ { address: 10.0.2.15, ports: 7000-8000 } ]", func(c *config.Config) bool {
			return len(c.Pool4) == 3 && c.Pool4[0].Lo == 7000 && c.Pool4[2].Hi == 8000
		}},
		{"one port", "pool4: [ { address: 10.0.2.15, ports: 7000, protocols: [udp] } ]", func(c *config.Config) bool {
			return len(c.Pool4) == 1 && c.Pool4[0].String() == "udp 10.0.2.15 7000"
		}},
		{"identifiers from 0", `pool4: [ { address: 10.0.2.15, ports: "0-99", protocols: [icmp] } ]`, func(c *config.Config) bool {
			return len(c.Pool4) == 1 && c.Pool4[0].String() == "icmp 10.0.2.15 0-99"
		}},
		{"interface", "pool4: [ { interface: eth1 } ]", func(c *config.Config) bool {
			return len(c.Pool4) == 0 && len(c.Followed) == 3 && c.Followed[1].String() == "udp interface:eth1"
		}},
		{"match and weight", "pool4: [ { address: 10.0.2.0/30, match: { source6: [2001:db8:7::/48, 2001:db8:8::1] }, weight: 3 }, { address: 10.0.2.9 } ]", func(c *config.Config) bool {
			r := c.Pool4Rules
			return len(r) == 3 && r[2].First.String() == "10.0.2.0" && r[2].Last.String() == "10.0.2.3" && r[2].Weight == 3 && r[2].Sources[1].Bits() == 128
		}},
		{"match of an interface", "pool4: [ { interface: eth1, protocols: [tcp], match: { source6: [2001:db8:7::/48] } } ]", func(c *config.Config) bool {
			return len(c.Pool4Rules) == 1 && c.Pool4Rules[0].Interface == "eth1" && !c.Pool4Rules[0].First.IsValid()
		}},
		{"rules of protocols", "pool4: [ { address: 10.0.2.9, protocols: [tcp], weight: 2 }, { address: 10.0.2.9, protocols: [udp] } ]", func(c *config.Config) bool {
			return len(c.Pool4Rules) == 1 && len(c.Pool4) == 2
		}},
		{"interface as an address", "pool4: [ { address: \"interface:eth1:61000-61999\", protocols: [udp] } ]", func(c *config.Config) bool {
			return len(c.Followed) == 1 && c.Followed[0].String() == "udp interface:eth1 61000-61999"
		}},
		{"interface with ports", "pool4: [ { interface: eth1, ports: 7000-8000, protocols: [tcp, udp] }, { address: 10.0.2.15 } ]", func(c *config.Config) bool {
			return len(c.Pool4) == 3 && len(c.Followed) == 2 && c.Followed[0].String() == "tcp interface:eth1 7000-8000"
		}},
		{"subnet", "pool4: [ { address: 10.0.2.0/30, protocols: [tcp] } ]", func(c *config.Config) bool { return len(c.Pool4) == 4 }},
		{"prefix", "pool6: [ { prefix: 2001:db8:64::/48, private_v4: allow } ]", func(c *config.Config) bool {
			return c.Pool6[0].String() == "2001:db8:64::/48" && c.PrivateV4[0] == config.PrivateV4Allow
		}},
		{"MTU", "interfaces: { v6: { mtu: 9000 } }", func(c *config.Config) bool { return c.Interfaces.V6.MTU == 9000 }},
		{"workers", "interfaces: { workers: 3, engine: mmsg }", func(c *config.Config) bool {
			return c.Interfaces.Workers == 3 && c.Interfaces.Engine == "mmsg"
		}},
		{"TOS", "translation: { tos: 46 }", func(c *config.Config) bool { return !c.Translation.CopyTOS && c.Translation.TOS == 46 }},
		{"ARP as a word", "host: { answer_arp: off }", func(c *config.Config) bool { return c.Host.AnswerARP == "off" }},
		{"ARP as a boolean", "host: { answer_arp: true }", func(c *config.Config) bool { return c.Host.AnswerARP == "on" }},
		{"ICMP", "icmp: { source_v6: 2001:db8::1, source_v4: 192.0.2.1, rate_per_second: 0, rate_total: 7, rate_too_big: 9, error_source: literal, errors: no, answer_denied: no, answer_unbound: yes }", func(c *config.Config) bool {
			return c.ICMP == config.ICMP{
				SourceV6: netip.MustParseAddr("2001:db8::1"), SourceV4: netip.MustParseAddr("192.0.2.1"), RateTotal: 7, RateTooBig: 9, LiteralSource: true,
				Errors: config.ICMPErrorsOff, AnswerUnbound: true,
			}
		}},
		{"several prefixes", "pool6: [ { prefix: 64:ff9b::/96, private_v4: drop }, { prefix: 2001:db8::/32 }, { prefix: 2001:db8:64::/96, private_v4: allow } ]", func(c *config.Config) bool {
			return len(c.Pool6) == 3 && slices.Equal(c.PrivateV4, []config.PrivateV4{config.PrivateV4Drop, config.PrivateV4Auto, config.PrivateV4Allow})
		}},
		{"denied ports and bypass", "deny_v4: [0.0.0.0/0:tcp:25, 198.51.100.7:udp, 203.0.113.0/24:tcp:6660-6669]\nbypass_v6: [64:ff9b::203.0.113.128/121]", func(c *config.Config) bool {
			return slices.Equal(c.DenyV4, []config.Deny{
				{netip.MustParsePrefix("0.0.0.0/0"), "tcp", 25, 25},
				{netip.MustParsePrefix("198.51.100.7/32"), "udp", 0, 65535},
				{netip.MustParsePrefix("203.0.113.0/24"), "tcp", 6660, 6669},
			}) && slices.Equal(c.BypassV6, []netip.Prefix{netip.MustParsePrefix("64:ff9b::cb00:7180/121")})
		}},
		{"allowed destinations and source check", "allow_v4: [203.0.113.0/24, 192.0.2.1]\ndeny_v4: [128.0.0.0/1, 0.0.0.0/2]\nfiltering: { source_check: off }", func(c *config.Config) bool {
			return slices.Equal(c.AllowV4, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("192.0.2.1/32")}) && c.Filtering.SourceCheck == config.SourceCheckOff
		}},
		{"clients and destinations", "deny_v4: [10.0.0.0/8, 192.0.2.1]\nallow_v6: [2001:db8::/32, 2001:db8:f::1]", func(c *config.Config) bool {
			return slices.Equal(c.DenyV4, []config.Deny{
				{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Hi: 65535}, {Prefix: netip.MustParsePrefix("192.0.2.1/32"), Hi: 65535},
			}) &&
				slices.Equal(c.AllowV6, []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8:f::1/128")})
		}},
		{"filtering", "filtering: { mode: address_dependent, allow_inbound_tcp: FALSE, icmpv6_info: drop, source_check: strict }", func(c *config.Config) bool {
			return c.Filtering == config.Filtering{SourceCheck: config.SourceCheckStrict, AddressDependent: true, DropICMPv6Info: true}
		}},
		{"limits", "sessions: { max_per_client: 1, max_bindings_per_client: 2, max_per_binding: 7, max_inbound: 8, max_inbound_per_client: 9, max_inbound_per_binding: auto, new_per_second: 3, client_prefix_len: 56, max_stored_syns: 0, max_stored_syns_per_source: 5, max_stored_syns_per_pool4_address: 6, port_hash_fields: 11 }", func(c *config.Config) bool {
			s := c.Sessions
			return s.MaxPerClient == 1 && s.MaxBindingsPerClient == 2 && s.MaxPerBinding == 7 && s.MaxInbound == 8 && s.MaxInboundPerClient == 9 && s.MaxInboundPerBinding == 0 && s.NewPerSecond == 3 && s.ClientPrefixLen == 56 && s.MaxStoredSYNs == 0 &&
				s.MaxStoredSYNsPerSource == 5 && s.MaxStoredSYNsPerPool4 == 6 && s.PortHashFields == pool4.ClientAddress|pool4.PeerAddress|pool4.PeerPort
		}},
		{"held ports", "sessions: { max_held_ports: 8, hold_after_start: yes }", func(c *config.Config) bool {
			return c.Sessions.MaxHeldPorts == 8 && c.Sessions.HoldAfterStart
		}},
		{"small pools", "sessions: { reclaim: when_full, timeouts: { udp_dns: 0s } }", func(c *config.Config) bool {
			return c.Sessions.Reclaim && c.Sessions.Timeouts.UDPDNS == 0
		}},
		{"life of a session", "sessions: { inbound_refresh: no, internet_side: v6, rst_during_fin: no, check_tcp_sequence: yes, reset_unknown_tcp: yes }", func(c *config.Config) bool {
			return !c.Sessions.InboundRefresh && c.Sessions.ResetUnknownTCP && c.Sessions.InternetIsV6 && !c.Sessions.RSTDuringFIN && c.Sessions.CheckTCPSequence
		}},
		{"little memory for fragments", "fragments: { memory: 131072 }", func(c *config.Config) bool {
			return c.Fragments == config.Fragments{Memory: 131072, MemoryPerSource: 131072}
		}},
		{"fragments", "fragments: { memory: 131072, memory_per_source: 65536, per_source: 2 }", func(c *config.Config) bool {
			return c.Fragments == config.Fragments{Memory: 131072, MemoryPerSource: 65536, PerSource: 2}
		}},
		{"traffic class", "translation: { traffic_class: 0 }", func(c *config.Config) bool {
			return !c.Translation.CopyTrafficClass && c.Translation.TrafficClass == 0 && c.Translation.CopyTOS
		}},
		{"MSS by the MTUs", "translation: { tcp_mss_clamp: auto }", func(c *config.Config) bool { return c.Translation.TCPMSSClamp == config.MSSAuto }},
		{"no MSS clamp", "translation: { tcp_mss_clamp: no }", func(c *config.Config) bool { return c.Translation.TCPMSSClamp == config.MSSOff }},
		{"MSS", "translation: { tcp_mss_clamp: 1220 }", func(c *config.Config) bool { return c.Translation.TCPMSSClamp == 1220 }},
		{"plateaus", "translation: { mtu_plateaus: [68, 0, 1500, 68, 9000] }", func(c *config.Config) bool { return slices.Equal(c.Translation.MTUPlateaus, []int{9000, 1500, 68}) }},
		{"port blocks", "sessions: { port_block_size: 256 }\nnat_log: { events: block }", func(c *config.Config) bool {
			return c.Sessions.PortBlockSize == 256 && c.NATEvents == config.NATEventsBlocks
		}},
		{"log of bindings", "nat_log: { events: bib, sinks: [ { type: journal } ] }", func(c *config.Config) bool { return c.NATEvents == config.NATEventsBindings }},
		{"no group", `api: { group: "", socket: /tmp/s }`, func(c *config.Config) bool { return c.Group == "" && c.Socket == "/tmp/s" }},
		{"JSON", `{"logging": {"level": "debug", "format": "json"}}`, func(c *config.Config) bool { return c.Log == config.Log{Level: "debug", Format: "json"} }},
	}
	for _, tt := range tests {
		if c := parse(t, tt.text); !tt.is(c) {
			t.Errorf("%s: %s gave %+v", tt.name, tt.text, *c)
		}
	}
}

// Each text is refused with exactly these problems.
func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"a: [", "f:1: not YAML: did not find expected node content"},
		{"x: 1\n- y", "f:2: not YAML: did not find expected key"},
		{"hello", `f:1: is the single value "hello", but must be sections such as interfaces: and pool4:`},
		{"version: 1\n---\nversion: 1\n", "f:2: a second document begins; one file is one document, and conf.d takes more files"},
		{"- 1", "f:1: is a list, but must be sections such as interfaces: and pool4:"},
		{"version: 2", "f:1: version: is 2, but must be 1"},
		{"# c\nsessions:\n  maxx: 3", "f:3: sessions.maxx: unknown key; did you mean max?"},
		{"timeouts: {}", "f:1: timeouts: unknown key; did you mean sessions.timeouts?"},
		{"answer_arp: auto", "f:1: answer_arp: unknown key; did you mean pool4[].answer_arp?"},
		{"API: {}", "f:1: API: unknown key; known here: version, interfaces, pool6, deny_v4, allow_v4, bypass_v6, allow_v6, pool4, host, bib, sessions, fragments, memory_limit, filtering, translation, icmp, logging, nat_log, api, metrics, web, dns64, ra, ha, state, health, allow_unsafe_timeouts"},
		{"api: { 10.0.2.15: x }", "f:1: api.10.0.2.15: unknown key; known here: socket, group, read_group"},
		{"version: 1\nversion: 1", "f:2: version: given twice, first in line 1"},
		{"version: &v 1", "f:1: version: anchors and aliases are not supported; write the value out"},
		{"version: [1]", "f:1: version: is a list, but must be a single value"},
		{"pool4: 10.0.2.15", `f:1: pool4: is the single value "10.0.2.15", but must be a list`},
		{"pool4:\n  -\n", "f:2: pool4[0]: is empty"},
		{"sessions: { max: 07000 }", `f:1: sessions.max: "07000" has a leading zero; write it without`},
		{"sessions: { max: 0x10 }", `f:1: sessions.max: "0x10" is not a decimal number`},
		{"sessions: { max: -1 }", `f:1: sessions.max: "-1" is not a decimal number`},
		{"sessions: { max: 0 }", "f:1: sessions.max: is 0, but must be 1 to 100000000"},
		{"memory_limit: 0", `f:1: memory_limit: is "0", but must be auto or a number of bytes above 0, such as 536870912, 512M or 2G`},
		{"memory_limit: 512MB", `f:1: memory_limit: is "512MB", but must be auto or a number of bytes above 0, such as 536870912, 512M or 2G`},
		{"memory_limit: 9999999999G", `f:1: memory_limit: is "9999999999G", but must be auto or a number of bytes above 0, such as 536870912, 512M or 2G`},
		{"memory_limit: 63M", "f:1: memory_limit: is 63M, but must be auto or at least 64M: nat64d needs that much without a session"},
		{"interfaces: { workers: 0 }", "f:1: interfaces.workers: must be auto or a number above 0"},
		{"interfaces: { v6: { mtu: 1279 } }", "f:1: interfaces.v6.mtu: is 1279, but must be 1280 to 65535"},
		{"interfaces: { engine: dpdk }", `f:1: interfaces.engine: is "dpdk", but must be one of auto, ring, mmsg, simple`},
		{"host: { guard: maybe }", `f:1: host.guard: "maybe" is neither true nor false`},
		{"pool6: [ { private_v4: drop } ]", "f:1: pool6[0].prefix: missing; write a prefix such as 64:ff9b::/96"},
		{"pool6: [ { prefix: 64:ff9b::/96 }, { prefix: 64:ff9b::/96 } ]", "f:1: pool6[1].prefix: 64:ff9b::/96 is there already; give each prefix once"},
		{"pool6: [ { prefix: 64:ff9b::/96, private_v4: no } ]", `f:1: pool6[0].private_v4: is "no", but must be one of auto, allow, drop`},
		{"deny_v4: [10.0.0.0/8, 0.0.0.0/0]", "f:1: deny_v4[1]: 0.0.0.0/0 would deny everything; write what may be reached into allow_v4, or use nat64ctl pause"},
		{"deny_v4: [128.0.0.0/1, 10.0.0.0/8, 64.0.0.0/2, 10.1.0.0/16, 0.0.0.0/2]", "f:1: deny_v4: these rows together deny every IPv4 address; write those that may be reached into allow_v4, or use nat64ctl pause"},
		{"allow_v4: [2001:db8::/32]", `f:1: allow_v4[0]: is "2001:db8::/32", but must be an IPv4 prefix or address`},
		{"filtering: { source_check: maybe }", `f:1: filtering.source_check: is "maybe", but must be one of off, loose, strict`},
		{"deny_v4: [10.0.0.1/8]", "f:1: deny_v4[0]: 10.0.0.1/8 has bits set behind its length; did you mean 10.0.0.0/8?"},
		{"deny_v4: [2001:db8::/32]", `f:1: deny_v4[0]: is "2001:db8::/32", but must be an IPv4 prefix or address`},
		{"deny_v4: [0.0.0.0/0:sctp]", `f:1: deny_v4[0]: names the protocol "sctp", but it must be tcp, udp or icmp, as in 0.0.0.0/0:tcp:25`},
		{"deny_v4: [0.0.0.0/0:tcp:30-25]", `f:1: deny_v4[0]: has the ports "30-25", but must have a port or a range such as 6660-6669, of tcp or udp`},
		{"deny_v4: [0.0.0.0/0:icmp:8]", `f:1: deny_v4[0]: has the ports "8", but must have a port or a range such as 6660-6669, of tcp or udp`},
		{"bypass_v6: [\"64:ff9b::/96\"]", "f:1: bypass_v6[0]: 64:ff9b::/96 is no part of a prefix of pool6, which has 64:ff9b::/96"},
		{"bypass_v6: [\"2001:db8::/121\"]", "f:1: bypass_v6[0]: 2001:db8::/121 is no part of a prefix of pool6, which has 64:ff9b::/96"},
		{"deny_v4: 10.0.0.0/8", `f:1: deny_v4: is the single value "10.0.0.0/8", but must be a list`},
		{"allow_v6:\n- 2001:db8::/32\n- \n- [x]", "f:3: allow_v6[1]: is empty\nf:4: allow_v6[2]: is a list, but must be a single value"},
		{"allow_v6: [ '::ffff:192.0.2.0/120' ]", `f:1: allow_v6[0]: is "::ffff:192.0.2.0/120", but must be an IPv6 prefix or address`},
		{"sessions: { client_prefix_len: 31 }", "f:1: sessions.client_prefix_len: is 31, but must be 32 to 128"},
		{"sessions: { port_hash_fields: 16 }", "f:1: sessions.port_hash_fields: is 16, but must be 0 to 15"},
		{"sessions: { max_stored_syns_per_source: 0 }", "f:1: sessions.max_stored_syns_per_source: is 0, but must be 1 to 1000000"},
		{"fragments: { per_source: 1 }", "f:1: fragments.per_source: is 1, but must be 0 (no limit) or 2 to 65536: no datagram has a single fragment"},
		{"fragments: { memory: 131072, memory_per_source: 131073 }", "f:1: fragments.memory_per_source: is 131073, but must be 65536 to 131072"},
		{"filtering: { mode: full_cone }", `f:1: filtering.mode: is "full_cone", but must be one of endpoint_independent, address_dependent`},
		{"translation: { tcp_mss_clamp: 535 }", `f:1: translation.tcp_mss_clamp: is "535", but must be off, auto or 536 to 65495`},
		{"translation: { traffic_class: zero }", `f:1: translation.traffic_class: is "zero", but must be copy or 0 to 255`},
		{"translation: { mtu_plateaus: [0, 0] }", "f:1: translation.mtu_plateaus: has no MTU; write one or more from 68 to 65535, or leave it out"},
		{"translation: { mtu_plateaus: [1500, 65536] }", "f:1: translation.mtu_plateaus[1]: is 65536, but must be 68 to 65535"},
		{"translation: { mtu_plateaus: [67] }", "f:1: translation.mtu_plateaus[0]: is 67, but must be 68 to 65535"},
		{"state: { dir: var/lib }", `f:1: state.dir: is "var/lib", but must be an absolute path of at most 4095 bytes`},
		{"state: { dir: '' }", `f:1: state.dir: is "", but must be an absolute path of at most 4095 bytes`},
		{"state: { restore_max_age: 721h }", "f:1: state.restore_max_age: is 721h0m0s, but must be 0s to 720h0m0s"},
		{"translation: { mtu_plateaus: [1500, x] }", `f:1: translation.mtu_plateaus[1]: "x" is not a decimal number`},
		{"translation: { mtu_plateaus: [" + strings.Repeat("68, ", 65) + "] }", "f:1: translation.mtu_plateaus: has 65 values, but must have at most 64"},
		{"icmp: { errors: some }", `f:1: icmp.errors: is "some", but must be one of limited, all, off`},
		{"icmp: { error_source: better }", `f:1: icmp.error_source: is "better", but must be one of router, literal`},
		{"nat_log: { events: all }", `f:1: nat_log.events: is "all", but must be one of none, bib, session, block`},
		{"nat_log: { events: block }", "f:1: nat_log.events: is block, but there are no port blocks; set sessions.port_block_size, or write bib"},
		{"sessions: { port_block_size: 100 }", "f:1: sessions.port_block_size: is 100, but must be 0 or a power of two from 16 to 4096"},
		{"sessions: { port_block_size: 8192 }", "f:1: sessions.port_block_size: is 8192, but must be 0 or a power of two from 16 to 4096"},
		{"nat_log: { sinks: [ { type: ipfix } ] }", "f:1: nat_log.sinks[0].type: ipfix is not available in this version; leave it out or write journal"},
		{"pool4:\n  - ports: 1-2\n", "f:2: pool4[0].address: missing; write an address such as 10.0.2.15, or interface: eth1 for the address of that interface"},
		{"pool4:\n  - { address: 10.0.2.15, interface: ens5 }\n", "f:2: pool4[0].interface: ens5 and the address 10.0.2.15 exclude each other; write one of both"},
		{"pool4:\n  - { address: 10.0.2.15, match: { source6: [10.0.0.0/8] } }\n", `f:2: pool4[0].match.source6[0]: is "10.0.0.0/8", but must be an IPv6 prefix or address`},
		{"pool4:\n  - { address: 10.0.2.15, weight: 1001 }\n", "f:2: pool4[0].weight: is 1001, but must be auto or 1 to 1000"},
		{"pool4:\n  - { address: 10.0.2.0/28, ports: 2000-2999 }\n  - { address: 10.0.2.1, ports: 3000-3999, weight: 2 }\n", "f:3: pool4[1]: 10.0.2.1 is in pool4[0] with another match or weight; all rows of an address have the same"},
		{"pool4:\n  - interface: a:b\n", `f:2: pool4[0]: "a:b" is not the name of an interface: it has at most 15 bytes, without blanks, colons and slashes`},
		{"pool4:\n  - { interface: ens5, ports: 9-8 }\n", "f:2: pool4[0]: ports 9-8: the range is reversed: write 8-9"},
		{"pool4: [ { address: 10.0.2.15, ports: 8000-7000 } ]", "f:1: pool4[0]: ports 8000-7000: the range is reversed: write 7000-8000"},
		{"pool4: [ { address: 10.0.2.15, ports: 0-7 } ]", "f:1: pool4[0]: ports 0-7: tcp has no port 0: the lowest is 1 (only ICMP Identifiers begin at 0)"},
		{"pool4: [ { address: 10.0.2.15, protocols: [tcp, sctp] } ]", `f:1: pool4[0].protocols[1]: is "sctp", but must be tcp, udp or icmp, each once`},
		{"pool4: [ { address: 10.0.2.15, protocols: [tcp, tcp] } ]", `f:1: pool4[0].protocols[1]: is "tcp", but must be tcp, udp or icmp, each once`},
		{"pool4: [ { address: 10.0.2.15, protocols: [] } ]", "f:1: pool4[0].protocols: is empty; leave it out for tcp, udp and icmp"},
		{"sessions: { timeouts: { tcp_opening: 239s } }", "f:1: sessions.timeouts.tcp_opening: is 3m59s, which is below the 4m0s that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions"},
		{"sessions: { timeouts: { udp: 119s } }", "f:1: sessions.timeouts.udp: is 1m59s, which is below the 2m0s that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions"},
		{"sessions: { timeouts: { icmp: 60 } }", `f:1: sessions.timeouts.icmp: "60" has no unit; write 60s if seconds are meant`},
		{"sessions: { timeouts: { icmp: 1:99:00 } }", `f:1: sessions.timeouts.icmp: "1:99:00" is not a duration; write it like 90s, 5m, 2h or 00:05:00`},
		{"sessions: { timeouts: { icmp: 721h } }", "f:1: sessions.timeouts.icmp: is 721h0m0s, but must be 0s to 720h0m0s"},
		{"sessions: { allow_unsafe_timeouts: true, timeouts: { udp: 0s } }", "f:1: sessions.timeouts.udp: is 0s, but must be more than 0"},
		{"translation: { lowest_ipv6_mtu: 1279 }", "f:1: translation.lowest_ipv6_mtu: is 1279, but must be 1280 to 65535"},
		{"translation: { tos: 256 }", `f:1: translation.tos: is "256", but must be copy or 0 to 255`},
		{"icmp: { source_v4: 2001:db8::1 }", `f:1: icmp.source_v4: is "2001:db8::1", but must be auto or a unicast IPv4 address`},
		{"icmp: { source_v6: ff02::1 }", `f:1: icmp.source_v6: is "ff02::1", but must be auto or a unicast IPv6 address`},
		{"api: { socket: run/s }", `f:1: api.socket: is "run/s", but must be an absolute path of at most 107 bytes`},
		{"ra: { pref64: true }", "f:1: ra.pref64: true is not available in this version; leave it out or write false"},
		{"web: { listen: \"80\" }", `f:1: web.listen: is "80", but must be :9464 (both loopback addresses), an address and a port such as 192.0.2.1:9464 or [2001:db8::1]:9464, unix:/run/nat64d/metrics.sock, or "" (off); did you mean :80?`},
	}
	for _, tt := range tests {
		_, err := config.Parse("f", strings.NewReader(tt.text), named)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// A syntax error is reported with its line and without missing keys, which may follow the error.
func TestSyntaxErrorsHaveTheirLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		line int
	}{
		{"pool4: [", 1},
		{"a: b: c\n", 1},
		{"}\n", 1},
		{"version: 1\n}\n", 2},
		{"interfaces: [\n\n\n", 1},
		{"\tversion: 1\n", 1},
		{"interfaces:\n\tv6: x\n", 2},
		{"interfaces:\n  v6: { name: a }\n v4: { name: b }\n", 3},
		{"interfaces:\n  v6: { name: a }\n  v4: { name: b\npool4:\n  - address: 192.0.2.1\n", 3},
		{"version: 1\npool6: [1, 2\npool4: []\n", 2},
		{"- a\nb: 1\n", 2},
		{"version: 1\nversion\npool4: []\n", 2},
		{"version: 1\npool4: @x\n", 2},
		{"version: 1\npool4: *x\n", 2},
		{"version: 1\n\npool4: \x01\n", 3},
		{"version: 1\n# \xff\n", 2},
		{"version: 1\nlogging: { level: \"\\q\" }\n", 2},
		{"version: 1\n---\npool4: [\n", 3},
		{"version: 1\n---\n", 2},
		{"just text\n", 1},
	} {
		_, err := config.Parse("f", strings.NewReader(tt.text), config.Overrides{})
		var ps config.Problems
		if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Line != tt.line {
			t.Errorf("%q\ngot %v\nwant one problem in line %d", tt.text, err, tt.line)
		}
	}
}

// Missing keys are reported after other mistakes, which may be the cause.
func TestMissingNamesAreReportedLast(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("f", strings.NewReader("interface: {}\nhost: { guard: maybe }\n"), config.Given("--engine=warp"))
	var ps config.Problems
	if !errors.As(err, &ps) || len(ps) != 5 || ps[0].Line != 1 || ps[1].Line != 2 || ps[2].Place != "--engine" || ps[4].Place != "" {
		t.Errorf("got %v", err)
	}
}

// A group that a file names must exist, and state.dir must not be a file.
func TestLoadChecksGroupAndFolder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"api: { group: root }", ""},
		{"api: { group: '' }", ""},
		{"api: {}", ""},
		{"version: 1\napi: { group: no-such-group }", `:2: api.group: there is no group "no-such-group"; make it with groupadd, or leave the key out`},
		{"state: { dir: /nonexistent }", ""},
		{"state: { dir: /etc/passwd }", ":1: state.dir: /etc/passwd is not a folder"},
	} {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(path, named)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != path+tt.want) {
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestEveryProblemIsReportedInTheOrderOfLines(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("f", strings.NewReader(`interfaces:
  v6: { mtu: 1 }
  engin: auto
sessions:
  timeouts: { udp: 7200, icmp: 1s }
  max: 0
pool4:
  - address: 10.0.2.300
`), config.Given("--v6=eth0"))
	var ps config.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("error is %T", err)
	}
	var got []string
	for _, p := range ps {
		got = append(got, p.Key)
	}
	want := []string{"interfaces.v4.name", "interfaces.v6.mtu", "interfaces.engin", "sessions.timeouts.udp", "sessions.timeouts.icmp", "sessions.max", "pool4[0]"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDropIns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("main.yaml", "interfaces: { v6: { name: a }, v4: { name: b } }\npool4: [ { address: 192.0.2.1, ports: 1, protocols: [tcp] } ]\nlogging: { level: warn, format: json }\n")
	write("conf.d/20.yaml", "pool4: [ { address: 192.0.2.3, ports: 3, protocols: [tcp] } ]\nlogging: { level: debug }\n")
	write("conf.d/10.yaml", "pool4: [ { address: 192.0.2.2, ports: 2, protocols: [tcp] } ]\n")
	write("conf.d/.30.yaml", "bad: 1\n")
	write("conf.d/README", "not read\n")
	main := filepath.Join(dir, "main.yaml")
	c, err := config.Load(main, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Pool4) != 3 || c.Pool4[1].Lo != 2 || c.Pool4[2].Lo != 3 {
		t.Errorf("pool4 is %v", c.Pool4)
	}
	if c.Log != (config.Log{Level: "debug", Format: "json"}) {
		t.Errorf("logging is %v", c.Log)
	}

	write("conf.d/15.yaml", "\npool4: [ { address: 192.0.2.9, ports: x } ]\n")
	_, err = config.Load(main, config.Overrides{})
	if want := filepath.Join(dir, "conf.d/15.yaml") + ":2: pool4[2]: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %v, want %s…", err, want)
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := config.Load(path, named)
	if want := path + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", strings.NewReader("pool4: [ { address: 192.0.2.1 } ]\ninterfaces: { engine: ring }"), config.Given("--v6=ens4", "--v4=ens5", "--pool6=2001:db8::/32", "--pool4=10.0.2.15:7000-8000", "--pool4=10.0.2.16",
		"--socket=/tmp/s", "--engine=simple", "--log-level=debug", "--offloads="))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case c.Interfaces.V6.Name != "ens4" || c.Interfaces.V4.Name != "ens5" || c.Interfaces.Engine != "simple":
		t.Errorf("interfaces are %v", c.Interfaces)
	case len(c.Pool4) != 6 || c.Pool4[0].Hi != 8000 || c.Pool4[3].Lo != 1024:
		t.Errorf("pool4 is %v", c.Pool4)
	case c.Pool6[0].String() != "2001:db8::/32" || c.Socket != "/tmp/s" || c.Log.Level != "debug":
		t.Errorf("configuration is %+v", *c)
	}
}

func TestOverridesRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--v4=b"}, "interfaces.v6.name: missing; name the NIC of the IPv6 side here or with --v6"},
		{[]string{"--v6=a/b", "--v4=b"}, `--v6: interfaces.v6.name: "a/b" cannot be the name of an interface; the kernel takes up to 15 bytes without blanks, / or :`},
		{[]string{"--v6=a", "--v4=b", "--pool6=64:ff9b::/95"}, "--pool6: pool6[0].prefix: 64:ff9b::/95: the length must be 32, 40, 48, 56, 64 or 96 (RFC 6052)"},
		{[]string{"--v6=a", "--v4=b", "--pool4=interface:c:9-8"}, "--pool4: pool4[0]: ports 9-8: the range is reversed: write 8-9"},
		{[]string{"--v6=a", "--v4=b", "--pool4=interface:c:"}, `--pool4: pool4[0]: "c:" is not the name of an interface: it has at most 15 bytes, without blanks, colons and slashes`},
		{[]string{"--v6=a", "--v4=b", "--pool4=10.0.2.15:9-8"}, "--pool4: pool4[0]: ports 9-8: the range is reversed: write 8-9"},
		{[]string{"--v6=a", "--v4=b", "--pool4=10.0.2.15:"}, `--pool4: pool4[0]: "10.0.2.15:" has no ports behind the address; write 10.0.2.15:7000-8000, or 10.0.2.15 for all ports from 1024`},
		{[]string{"--v6=a", "--v4=b", "--pool4=2001:db8::1"}, "--pool4: pool4[0]: 2001:db8::1 is an IPv6 address: pool4 holds IPv4 addresses such as 192.0.2.1 (NAT64 prefixes belong to pool6)"},
		{[]string{"--v6=a", "--v4=b", "--pool4=10.0.2.15 9-8"}, "--pool4: pool4[0]: ports 9-8: the range is reversed: write 8-9"},
		{[]string{"--v6=a", "--v4=b", "--log-level=loud"}, `--log-level: logging.level: is "loud", but must be one of debug, info, warn, error`},
	}
	for _, tt := range tests {
		_, err := config.Load("", config.Given(tt.args...))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%+v\ngot  %v\nwant %s", tt.args, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	reference, err := os.ReadFile("nat64d.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(reference))
	f.Add("pool4: [ { address: 10.0.2.0/28, ports: 7000-8000, protocols: [tcp, udp] } ]\n---\n")
	f.Add("? [a, b]\n: *x\n<<: { sessions: &y { max: !!int 3 } }\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse("f", strings.NewReader(text), named)
		var ps config.Problems
		switch {
		case err != nil && (c != nil || !errors.As(err, &ps) || len(ps) == 0):
			t.Errorf("configuration %v with error %v", c, err)
		case err == nil && (len(c.Pool6) < 1 || len(c.Pool6) != len(c.PrivateV4) || len(c.Translation.MTUPlateaus) < 1 || c.Sessions.Max < 1 || c.Sessions.Timeouts.UDP <= 0 || c.Translation.LowestIPv6MTU < 1280):
			t.Errorf("accepted: %+v", *c)
		}
	})
}
