package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nat64d/config"
)

// TestEveryKeyTakesItsOwnValue sets every key, under all of its names, to the value that Get returns: nothing changes.
func TestEveryKeyTakesItsOwnValue(t *testing.T) {
	t.Parallel()
	c := parse(t, `deny_v4: [10.0.0.0/8, 192.0.2.1]
allow_v6: [2001:db8::/32]
host: { answer_arp: yes }
sessions: { timeouts: { udp: 2h4m1s, icmp: 00:01:30 } }
icmp: { source_v6: "2001:DB8::0:1" }
translation: { tos: 46, tcp_mss_clamp: 1220, mtu_plateaus: [68, 1500] }
`)
	for _, k := range config.Keys() {
		if k.Help == "" {
			t.Errorf("%s has no help", k.Name)
		}
		for _, name := range append([]string{k.Name}, k.Jool...) {
			value, err := c.Get(name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			same, err := c.With(name, value)
			switch {
			case !k.Live && (err == nil || err.Error() != k.Name+" cannot change while nat64d runs; write it into the configuration file and restart nat64d"):
				t.Errorf("%s: error is %v", name, err)
			case k.Live && err != nil:
				t.Errorf("%s: its own value %q is refused: %v", name, value, err)
			case k.Live:
				if d := config.Diff(c, same); len(d) > 0 {
					t.Errorf("%s: its own value %q makes %v", name, value, d)
				}
				if d := cmp.Diff(c, same, compare); d != "" {
					t.Errorf("%s: its own value %q makes\n%s", name, value, d)
				}
			}
		}
	}
}

func TestValuesAreShownInOneNotation(t *testing.T) {
	t.Parallel()
	c := parse(t, `host: { answer_arp: yes }
deny_v4: [192.0.2.1]
sessions: { port_hold_down: 0s, timeouts: { udp: 120m, icmp: 00:01:30, tcp_established: 2h4m } }
allow_unsafe_timeouts: true
memory_limit: 2097152K
icmp: { source_v6: "2001:DB8::0:1" }
translation: { tcp_mss_clamp: no, mtu_plateaus: [68, 1500, 68] }
`)
	for name, want := range map[string]string{
		"host.answer_arp":                   "on",
		"deny_v4":                           "192.0.2.1/32",
		"allow_v6":                          "",
		"sessions.timeouts.udp":             "2h",
		"sessions.timeouts.icmp":            "1m30s",
		"sessions.timeouts.tcp_established": "2h4m",
		"sessions.port_hold_down":           "0s",
		"sessions.allow_unsafe_timeouts":    "true",
		"interfaces.workers":                "auto",
		"memory_limit":                      "2G",
		"icmp.source_v6":                    "2001:db8::1",
		"icmp.source_v4":                    "auto",
		"translation.tcp_mss_clamp":         "off",
		"translation.tos":                   "copy",
		"translation.mtu_plateaus":          "1500,68",
	} {
		if got, err := c.Get(name); got != want || err != nil {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
}

// TestJool sets keys in Jool's notation and reads them by both names.
func TestJool(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, value, jool, key, want string }{
		{"lowest-ipv6-mtu", "1400", "1400", "translation.lowest_ipv6_mtu", "1400"},
		{"logging-debug", "TRUE", "true", "logging.level", "debug"},
		{"zeroize-traffic-class", "1", "true", "translation.traffic_class", "0"},
		{"override-tos", "on", "true", "translation.tos", "0"},
		{"override-tos", "false", "false", "translation.tos", "copy"},
		{"tos", "46", "46", "translation.tos", "46"},
		{"mtu-plateaus", "68,1500,0", "1500,68", "translation.mtu_plateaus", "1500,68"},
		{"address-dependent-filtering", "TRUE", "true", "filtering.mode", "address_dependent"},
		{"drop-externally-initiated-tcp", "TRUE", "true", "filtering.allow_inbound_tcp", "false"},
		{"drop-icmpv6-info", "yes", "true", "filtering.icmpv6_info", "drop"},
		{"source-icmpv6-errors-better", "FALSE", "false", "icmp.error_source", "literal"},
		{"f-args", "11", "11", "sessions.port_hash_fields", "11"},
		{"handle-rst-during-fin-rcv", "FALSE", "false", "sessions.rst_during_fin", "false"},
		{"tcp-est-timeout", "2:04:00", "2:04:00", "sessions.timeouts.tcp_established", "2h4m"},
		{"tcp-trans-timeout", "10:00", "0:10:00", "sessions.timeouts.tcp_transitory", "10m"},
		{"udp-timeout", "300", "0:05:00", "sessions.timeouts.udp", "5m"},
		{"udp-timeout", "7m", "0:07:00", "sessions.timeouts.udp", "7m"},
		{"icmp-timeout", "90.25", "0:01:30.250", "sessions.timeouts.icmp", "1m30.25s"},
		{"logging-bib", "TRUE", "true", "nat_log.events", "bib"},
		{"logging-session", "TRUE", "true", "nat_log.events", "session"},
		{"maximum-simultaneous-opens", "10", "10", "sessions.max_stored_syns", "10"},
	}
	for _, tt := range tests {
		c, err := config.Default().With(tt.name, tt.value)
		if err != nil {
			t.Errorf("%s %s: %v", tt.name, tt.value, err)
			continue
		}
		if got, _ := c.Get(tt.name); got != tt.jool {
			t.Errorf("%s %s shows as %s, want %s", tt.name, tt.value, got, tt.jool)
		}
		if got, _ := c.Get(tt.key); got != tt.want {
			t.Errorf("%s %s makes %s %s, want %s", tt.name, tt.value, tt.key, got, tt.want)
		}
	}
}

// TestJoolBooleansOfOneKey sets pairs of booleans of Jool that map to one key of ours.
func TestJoolBooleansOfOneKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, value, jool, set, want string }{
		{"translation.tos", "46", "override-tos", "TRUE", "46"},
		{"translation.tos", "46", "override-tos", "FALSE", "copy"},
		{"translation.traffic_class", "8", "zeroize-traffic-class", "FALSE", "8"},
		{"logging.level", "error", "logging-debug", "FALSE", "error"},
		{"logging.level", "debug", "logging-debug", "FALSE", "info"},
		{"nat_log.events", "session", "logging-bib", "TRUE", "session"},
		{"nat_log.events", "session", "logging-session", "FALSE", "bib"},
		{"nat_log.events", "none", "logging-session", "FALSE", "none"},
	} {
		c, err := config.Default().With(tt.key, tt.value)
		if err == nil {
			c, err = c.With(tt.jool, tt.set)
		}
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		if got, _ := c.Get(tt.key); got != tt.want {
			t.Errorf("%s %s, then %s %s makes %s, want %s", tt.key, tt.value, tt.jool, tt.set, got, tt.want)
		}
	}
}

func TestWithRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, value, want string }{
		{"sessions.timeouts.udp", "1s", "sessions.timeouts.udp: is 1s, which is below the 2m0s that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions"},
		{"sessions.timeouts.udp", "300", `sessions.timeouts.udp: "300" has no unit; write 300s if seconds are meant`},
		{"udp-timeout", "119", "sessions.timeouts.udp: is 1m59s, which is below the 2m0s that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions"},
		{"udp-timeout", "1:60", `udp-timeout: "1:60" is not a duration; write it like 90s, 5m, 2h or 00:05:00`},
		{"tcp-est-timeout", "99999999:00:00", "sessions.timeouts.tcp_established: is 721h0m0s, but must be 0s to 720h0m0s"},
		{"logging-bib", "maybe", `logging-bib: "maybe" is neither true nor false`},
		{"bypass_v6", "2001:db8::/32", "bypass_v6[0]: 2001:db8::/32 is no part of a prefix of pool6, which has 64:ff9b::/96"},
		{"deny_v4", "10.0.0.0/8,0.0.0.0/0", "deny_v4[1]: 0.0.0.0/0 would deny everything; write what may be reached into allow_v4, or use nat64ctl pause"},
		{"mtu-plateaus", "1500,x", `mtu-plateaus: "x" is not a decimal number`},
		{"mtu-plateaus", "", "translation.mtu_plateaus: has no MTU; write one or more from 68 to 65535, or leave it out"},
		{"f-args", "16", "sessions.port_hash_fields: is 16, but must be 0 to 15"},
		{"pool4", "192.0.2.1", "pool4 is a list of rows; nat64ctl pool4 shows and changes it"},
		{"dns64.enabled", "true", "dns64.enabled cannot change while nat64d runs; write it into the configuration file and restart nat64d"},
		{"ra.pref64", "true", "ra.pref64 is not available in this version"},
		{"udp_timeout", "5m", `unknown key "udp_timeout"; did you mean udp-timeout?`},
		{"timeouts.udp", "5m", `unknown key "timeouts.udp"; nat64ctl config get lists them`},
		{"rate_totl", "5", `unknown key "rate_totl"; did you mean icmp.rate_total?`},
		{"ss-flush-asap", "TRUE", `unknown key "ss-flush-asap"; nat64ctl config get lists them`},
	}
	for _, tt := range tests {
		c, err := config.Default().With(tt.name, tt.value)
		if c != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s %s\ngot  %v\nwant %s", tt.name, tt.value, err, tt.want)
		}
	}
	if _, err := config.Default().Get("nope"); err == nil {
		t.Error("Get of an unknown key succeeds")
	}
}

// TestWithDoesNotChangeReceiver also covers lists, which copies could share.
func TestWithDoesNotChangeReceiver(t *testing.T) {
	t.Parallel()
	text := "pool4: [ { address: 192.0.2.1 } ]\ndeny_v4: [10.0.0.0/8]\nsessions: { max_per_client: 7 }\n"
	old, reference := parse(t, text), parse(t, text)
	next := old
	for _, kv := range [][2]string{{"deny_v4", "[192.168.0.0/16, 172.16.0.0/12]"}, {"sessions.new_per_second", "5"}, {"allow_v6", "2001:db8::/32"}, {"deny_v4", ""}} {
		var err error
		if next, err = next.With(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	next, err := next.WithPool6("2001:db8:64::/96")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(reference, old, compare) + cmp.Diff(config.Diff(reference, old), []config.Change(nil)); d != "" {
		t.Errorf("the old configuration has changed:\n%s", d)
	}
	want := []config.Change{
		{Name: "deny_v4", Old: "10.0.0.0/8", New: "", Live: true},
		{Name: "allow_v6", Old: "", New: "2001:db8::/32", Live: true},
		{Name: "sessions.new_per_second", Old: "0", New: "5", Live: true},
		{Name: "pool6", Old: "", New: "2001:db8:64::/96 private_v4 auto", Live: true},
	}
	if d := cmp.Diff(want, config.Diff(old, next)); d != "" {
		t.Error(d)
	}
	if len(next.Pool4) != 3 || next.Sessions.MaxPerClient != 7 {
		t.Errorf("the new configuration has lost something: %+v", next)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	old := parse(t, `pool4: [ { address: 192.0.2.1, ports: 7000-8000 }, { address: 192.0.2.2 } ]
bib: [ { proto: tcp, v6: "[2001:db8::5]:80", v4: "192.0.2.1:80" } ]
`)
	next := parse(t, `interfaces: { engine: ring }
pool4: [ { address: 192.0.2.2 }, { address: 192.0.2.3, ports: 7, protocols: [tcp, udp] } ]
bib: [ { proto: udp, v6: "[2001:db8::5]:80", v4: "192.0.2.2:80" } ]
`)
	want := []config.Change{
		{Name: "interfaces.engine", Old: "auto", New: "ring"},
		{Name: "pool4", Old: "192.0.2.1 7000-8000", New: "192.0.2.3 7 tcp+udp", Live: true},
		{Name: "bib", Old: "tcp 192.0.2.1 80 [2001:db8::5]:80", New: "udp 192.0.2.2 80 [2001:db8::5]:80", Live: true},
	}
	if d := cmp.Diff(want, config.Diff(old, next)); d != "" {
		t.Error(d)
	}
	if d := config.Diff(old, old); d != nil {
		t.Errorf("a configuration differs from itself: %v", d)
	}
}

func TestPool6Changes(t *testing.T) {
	t.Parallel()
	c, err := config.Default().WithPool6("2001:db8:64::/96")
	if err != nil || len(c.Pool6) != 2 || len(c.PrivateV4) != 2 {
		t.Fatalf("%v, %v", c, err)
	}
	if _, err := c.WithPool6("2001:db8:64::/96"); err == nil || err.Error() != "pool6[2].prefix: 2001:db8:64::/96 is there already; give each prefix once" {
		t.Error(err)
	}
	if _, err := c.WithoutPool6("2001:db8::/32"); err == nil || err.Error() != "2001:db8::/32 is not in pool6, which has 64:ff9b::/96 2001:db8:64::/96" {
		t.Error(err)
	}
	c, err = c.WithoutPool6("64:ff9b::/96")
	if err != nil || len(c.Pool6) != 1 || c.Pool6[0].String() != "2001:db8:64::/96" {
		t.Fatalf("%v, %v", c, err)
	}
	if _, err := c.WithoutPool6("2001:db8:64::/96"); err == nil || err.Error() != "2001:db8:64::/96 is the only prefix of pool6; add another one first, or stop translating with nat64ctl pause" {
		t.Error(err)
	}
	if _, err := c.WithoutPool6("::/96"); err == nil {
		t.Error("a prefix that cannot be one was removed")
	}
}

// FuzzWith checks that Get returns accepted values in a notation that With accepts with the same meaning.
func FuzzWith(f *testing.F) {
	f.Add("udp-timeout", "00:05:00.5")
	f.Add("translation.mtu_plateaus", "[68, 1500]")
	f.Add("allow_v6", "2001:db8::/32,2001:db8:f::1")
	f.Add("override-tos", "TRUE")
	f.Fuzz(func(t *testing.T, name, value string) {
		c, err := config.Default().With(name, value)
		var ps config.Problems
		if err != nil {
			if c != nil || errors.As(err, &ps) && (len(ps) == 0 || strings.Contains(ps[0].Key, "interfaces")) {
				t.Errorf("%s %q gave %v, %v", name, value, c, err)
			}
			return
		}
		shown, err := c.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Default().With(name, shown)
		if err != nil {
			t.Fatalf("%s %q shows as %q, which is refused: %v", name, value, shown, err)
		}
		for _, d := range config.Diff(c, again) {
			// Jool's notation has neither less than a millisecond nor what a boolean was made of.
			if !strings.Contains(name, "-") && name != "tos" {
				t.Errorf("%s %q shows as %q, which makes %v", name, value, shown, d)
			}
		}
	})
}
