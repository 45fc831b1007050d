//go:build linux

package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nat64d/config"
	"nat64d/dns64"
	"nat64d/ops/control"
	"nat64d/pool6"
)

// conf parses a configuration of DNS64 on the loopback interface.
func conf(t *testing.T, text string) *config.Config {
	t.Helper()
	head := "interfaces: { v6: { name: eth0 }, v4: { name: eth1 } }\npool4: [ { address: 192.0.2.1, ports: 7000-8000 } ]\n"
	c, err := config.Parse("f", strings.NewReader(head+text), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func prefixes(t *testing.T, texts ...string) (ps []netip.Prefix) {
	t.Helper()
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// The hosts of a default route, in any notation, are not clients unless this is configured.
func TestClientsOfDefaultRoutes(t *testing.T) {
	t.Parallel()
	routed := prefixes(t, "::/1", "2000::/3", "2001:db8:1::/64", "8000::/1", "fe80::/64")
	for _, row := range []struct{ text, want string }{
		{"dns64: { enabled: true, upstreams: [192.0.2.53] }", "[2001:db8:1::/64 8000::/1 fe80::/64]"},
		{"dns64: { enabled: true, upstreams: [192.0.2.53], open: true }", "[::/1 2000::/3 2001:db8:1::/64 8000::/1 fe80::/64]"},
		{"dns64: { enabled: true, upstreams: [192.0.2.53], clients: ['2001:db8::/32'] }", "[2001:db8::/32]"},
		{"allow_v6: ['2001:db8:7::/48']\ndns64: { enabled: true, upstreams: [192.0.2.53] }", "[2001:db8:7::/48]"},
	} {
		b := basis{conf: conf(t, row.text), routed: routed}
		if got := fmt.Sprint(b.clients()); got != row.want {
			t.Errorf("%s: got %s, want %s", row.text, got, row.want)
		}
	}
}

// The Well-Known Prefix may represent a private address if all addresses of the pool are private, but not if the pool
// is not known.
func TestPrivateAddressesInPrefix(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		prefix string
		choice config.PrivateV4
		pool   []string
		want   bool
	}{
		{"64:ff9b::/96", config.PrivateV4Auto, []string{"10.0.2.15"}, true},
		{"64:ff9b::/96", config.PrivateV4Auto, []string{"10.0.2.15", "8.8.8.8"}, false},
		{"64:ff9b::/96", config.PrivateV4Auto, nil, false},
		{"64:ff9b::/96", config.PrivateV4Allow, nil, true},
		{"2001:db8:64::/96", config.PrivateV4Auto, nil, true},
		{"2001:db8:64::/96", config.PrivateV4Drop, []string{"10.0.2.15"}, false},
	} {
		var b basis
		for _, a := range row.pool {
			b.pool4 = append(b.pool4, netip.MustParseAddr(a))
		}
		prefix, err := pool6.ParsePrefix(row.prefix)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.private(prefix, row.choice); got != row.want {
			t.Errorf("%+v: got %v", row, got)
		}
	}
}

// A new route whose hosts are not answered is logged once.
func TestUnansweredDefaultRouteIsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := conf(t, "dns64: { enabled: true, upstreams: [192.0.2.53] }")
	c.DNS64.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	n, err := newDNS64Service(basis{conf: c, routed: prefixes(t, "2001:db8:1::/64")}, control.Version{}, slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for range 2 {
		n.follow(basis{conf: c, routed: prefixes(t, "2000::/3", "2001:db8:1::/64")})
	}
	if got := strings.Count(log.String(), "route=2000::/3"); got != 1 {
		t.Errorf("logged %d times, want once: %s", got, log.String())
	}
}

// An address in use does not prevent the start: it is logged and shown, and DNS64 answers there as soon as it is
// free.
func TestListenRetriesAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().(*net.TCPAddr).AddrPort()
	c := conf(t, "dns64: { enabled: true, upstreams: ['127.0.0.1:9'], clients: [192.0.2.0/24] }")
	c.DNS64.Listen = []netip.AddrPort{addr, netip.MustParseAddrPort("127.0.0.1:0")}
	var log syncBuffer
	n, err := newDNS64Service(basis{conf: c}, control.Version{}, slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err == nil || !strings.Contains(err.Error(), "address already in use: another resolver may use it; see dns64.listen") {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.run(ctx) }()
	st, err := n.DNS64()
	if err != nil || len(st.Listen) != 1 || len(st.Closed) != 1 || st.Closed[0].Address != addr {
		t.Errorf("got %+v, %v", st, err)
	}
	if ws := n.warnings(); len(ws) == 0 || !strings.Contains(ws[0], "DNS64 does not answer on "+addr.String()) {
		t.Errorf("got %q", ws)
	}
	taken.Close()
	deadline := time.Now().Add(3 * listenAgain)
	for open, _, _ := n.listening(); len(open) != 2; open, _, _ = n.listening() {
		if time.Now().After(deadline) {
			t.Fatal("the forwarder does not listen although the address is free")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for !strings.Contains(log.String(), "listen=["+addr.String()+"]") && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "retrying") != 1 || !strings.Contains(got, "listen=["+addr.String()+"]") {
		t.Errorf("got %s", got)
	}
}

// syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// An upstream on an interface that does not exist is refused, unless it is an interface of the gateway, or the
// upstream was configured before.
func TestUpstreamsBehindInterfaces(t *testing.T) {
	t.Parallel()
	const missing = `dns64.upstreams: [fe80::1%nat64-none]:53: interface "nat64-none" does not exist`
	for upstream, want := range map[string]string{
		"fe80::1%lo": "", "fe80::1%1": "", "fe80::1%eth1": "", "fe80::1%eth0": "", "192.0.2.53": "",
		"fe80::1%nat64-none": missing, "fe80::1%2147483647": "interface \"2147483647\" does not exist",
	} {
		c := conf(t, "dns64: { enabled: true, upstreams: ['"+upstream+"'] }")
		err := checkZones(nil, c)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", upstream, err, want)
		}
		if err := checkZones(c, c); err != nil {
			t.Errorf("%s, which is in use: %v", upstream, err)
		}
	}
}

// Queries continue while dns64.race changes; each upstream updates only its own counters (for -race).
func TestRaceChangeDuringQueries(t *testing.T) {
	t.Parallel()
	b := func(race bool) basis {
		c := conf(t, fmt.Sprintf("dns64: { enabled: true, upstreams: ['127.0.0.1:9', '127.0.0.1:19'], race: %v }", race))
		c.DNS64.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
		return basis{conf: c}
	}
	n, err := newDNS64Service(b(false), control.Version{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	var asking sync.WaitGroup
	defer asking.Wait()
	for i := range 4 {
		asking.Go(func() {
			for j := range 50 {
				_, _ = n.QueryDNS64(t.Context(), control.DNS64Query{Name: fmt.Sprintf("%d-%d.example.net", i, j), Type: "A"}) // no server answers
			}
		})
	}
	for i := range 50 {
		n.follow(b(i%2 == 0))
	}
}

func TestRecordType(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"AAAA": "AAAA", "TYPE65": "HTTPS", "TYPE65280": "TYPE65280", "TYPE28": "AAAA",
		"TYPE65536": `there is no type "TYPE65536" of records`, "TYPE": `there is no type "TYPE" of records`, "X": `there is no type "X" of records`,
		"AXFR": "AXFR asks for a whole zone, which clients are refused: none is here", "TYPE251": "TYPE251 asks for a whole zone, which clients are refused: none is here",
	} {
		kind, err := recordType(text)
		got := dns.Type(kind).String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// The lists of snippet servers in packages control and dns64 are equal.
func TestSnippetServers(t *testing.T) {
	t.Parallel()
	if !slices.Equal(control.SnippetServers, dns64.Servers()) {
		t.Errorf("nat64ctl knows %v, DNS64 knows %v", control.SnippetServers, dns64.Servers())
	}
}

func TestUpstreamCounters(t *testing.T) {
	t.Parallel()
	u := dns64.UpstreamState{
		Upstream: dns64.Upstream{Transport: dns64.TCP, Addr: netip.MustParseAddrPort("192.0.2.53:53")}, Asked: 9, Failed: 2, Elapsed: 3 * time.Second,
		Latency: []dns64.Latency{{Within: time.Millisecond, Count: 3}, {Count: 7}},
	}
	var got []string
	samples := upstreamSamples(u)
	for _, c := range countersOf(samples) {
		if c.Labels["upstream"] != "tcp://192.0.2.53:53" || c.Help == "" {
			t.Errorf("got %+v", c)
		}
		got = append(got, fmt.Sprintf("%s %s %d", strings.TrimPrefix(c.Name, "nat64_dns64_upstream_"), c.Labels["le"], c.Value))
	}
	want := []string{"queries_total  9", "failures_total  2", "up  0", "duration_seconds_bucket 0.001 3", "duration_seconds_bucket +Inf 7", "duration_seconds_count  7"}
	if sum := samples[3].Durations.Sum; sum != 3 {
		t.Errorf("the answers took %v seconds, want 3", sum)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Each key of the file changes only the corresponding part of the forwarder's configuration.
func TestForwarderConfiguration(t *testing.T) {
	t.Parallel()
	const file = "pool6: [ { prefix: 64:ff9b::/96 }, { prefix: 2001:db8:122:344::/64 } ]\ndns64: { enabled: true, %s }"
	config := func(more string) dns64.Config {
		if !strings.HasPrefix(more, "upstreams:") {
			more = "upstreams: [192.0.2.53], " + more
		}
		b := basis{conf: conf(t, fmt.Sprintf(file, more))}
		return b.config(nil)
	}
	udp := dns64.Upstream{Transport: dns64.UDP, Addr: netip.MustParseAddrPort("192.0.2.53:53")}
	tls := dns64.Upstream{Transport: dns64.TLS, Addr: netip.MustParseAddrPort("192.0.2.54:853"), Name: "dns.example"}
	for more, change := range map[string]func(*dns64.Config){
		"upstreams: [192.0.2.53, 'tls://192.0.2.54#dns.example']": func(c *dns64.Config) {
			c.Upstreams = dns64.NewUpstreams([]dns64.Upstream{udp, tls}, false, nil)
		},
		"race: true": func(c *dns64.Config) { c.Upstreams = dns64.NewUpstreams([]dns64.Upstream{udp}, true, nil) },
		"zones: [a.example=192.0.2.1, a.example=192.0.2.2]": func(c *dns64.Config) {
			z := dns64.Zone{Domain: "a.example."}
			for _, a := range []string{"192.0.2.1:53", "192.0.2.2:53"} {
				z.Upstreams = append(z.Upstreams, dns64.Upstream{Transport: dns64.UDP, Addr: netip.MustParseAddrPort(a)})
			}
			c.Upstreams = dns64.NewUpstreams([]dns64.Upstream{udp}, false, nil, z)
		},
		"clients: [192.0.2.0/24]":         func(c *dns64.Config) { c.Clients = prefixes(t, "192.0.2.0/24") },
		"prefix_policy: client_hash":      func(c *dns64.Config) { c.Policy.Choice = dns64.ClientHash },
		"prefix_policy: round_robin":      func(c *dns64.Config) { c.Policy.Choice = dns64.RoundRobin },
		"prefix_policy: random":           func(c *dns64.Config) { c.Policy.Choice = dns64.Random },
		"prefix_policy: all":              func(c *dns64.Config) { c.Policy.Choice = dns64.All },
		"exclude: ['2001:db8:f::/48']":    func(c *dns64.Config) { c.Policy.Exclude = prefixes(t, "2001:db8:f::/48") },
		"mapped: [198.51.100.0/24]":       func(c *dns64.Config) { c.Policy.Mapped = prefixes(t, "198.51.100.0/24") },
		"translate_all: [example.net]":    func(c *dns64.Config) { c.Policy.TranslateAll = []string{"example.net."} },
		"never_synthesize: [example.net]": func(c *dns64.Config) { c.Policy.Never = []string{"example.net."} },
		"a_records: empty":                func(c *dns64.Config) { c.Policy.EmptyA = true },
		"suffix: '::1234'":                func(c *dns64.Config) { c.Policy.Suffix = netip.MustParseAddr("::1234") },
		"on_aaaa_error: servfail":         func(c *dns64.Config) { c.Policy.ServfailOnError = true },
		"break_dnssec: true":              func(c *dns64.Config) { c.Policy.BreakDNSSEC = true },
		"upstreams_validate: true":        func(c *dns64.Config) { c.Policy.Validated = true },
		"recursive_only: true":            func(c *dns64.Config) { c.Policy.RecursiveOnly = true },
		"max_in_flight: 7":                func(c *dns64.Config) { c.InFlight = 7 },
		"udp_size: 4096":                  func(c *dns64.Config) { c.Size = 4096 },
		"rate_per_second: 9":              func(c *dns64.Config) { c.Rate = 9 },
		"cache: { size: 11 }":             func(c *dns64.Config) { c.Cache.Size = 11 },
		"cache: { min_ttl: 3s }":          func(c *dns64.Config) { c.Cache.MinTTL = 3 * time.Second },
		"cache: { max_ttl: 2h }":          func(c *dns64.Config) { c.Cache.MaxTTL = 2 * time.Hour },
		"cache: { max_negative_ttl: 1m }": func(c *dns64.Config) { c.Cache.MaxNegativeTTL = time.Minute },
		"cache: { prefetch: false }":      func(c *dns64.Config) { c.Cache.Prefetch = false },
		"cache: { serve_stale: true }":    func(c *dns64.Config) { c.Cache.ServeStale = true },
		"ranges: ['198.51.100.0/24=2001:db8:122:344::/64']": func(c *dns64.Config) {
			c.Policy.Ranges = []dns64.Range{{V4: netip.MustParsePrefix("198.51.100.0/24"), Prefix: 1}}
		},
	} {
		want := config("")
		change(&want)
		got := config(more)
		if g, w := describe(got), describe(want); g != w || g == describe(config("")) {
			t.Errorf("%s:\ngot  %s\nwant %s", more, g, w)
		}
	}
}

// describe formats a configuration, including how upstreams are queried.
func describe(c dns64.Config) string {
	var list []dns64.Upstream
	var zones []string
	for _, u := range c.Upstreams.State() {
		if zones = append(zones, u.Zones...); u.Zones[0] == "." {
			list = append(list, u.Upstream)
		}
	}
	race := c.Upstreams.Are(list, true)
	c.Upstreams = nil
	return fmt.Sprintf("%+v %v zones %v race %v", c, list, zones, race)
}

// Snippets for the node have the best address at which DNS64 answers it.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ listen, local, reach string }{
		{"['[::]:53']", "[::1]:53", "invalid AddrPort"},
		{"['0.0.0.0:5353']", "127.0.0.1:5353", "invalid AddrPort"},
		{"['[2001:db8::53]:53']", "[2001:db8::53]:53", "[2001:db8::53]:53"},
		{"['192.0.2.53:53', '[2001:db8::53]:53', '127.0.0.1:5353', '[::1]:53']", "[::1]:53", "192.0.2.53:53"},
	} {
		c := conf(t, "dns64: { enabled: true, upstreams: ['127.0.0.1:9'], listen: "+row.listen+" }")
		n := &dns64Service{basis: basis{conf: c}, f: new(dns64.Forwarder)}
		s := n.surroundingsLocked()
		if s.Local.String() != row.local || s.Reach.String() != row.reach || s.Wildcard != (row.listen == "['[::]:53']") {
			t.Errorf("%s: got %+v", row.listen, s)
		}
	}
}
