//go:build linux

package nexthop

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nat64d/drop"
)

// drawChange draws a change to one of a few prefixes, so that changes interact.
func drawChange(t *rapid.T) change {
	prefix := rapid.SampledFrom([]string{"0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/25", "::/0", "2001:db8::/32"}).Draw(t, "prefix")
	return change{
		table:  rapid.SampledFrom([]uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, 100}).Draw(t, "table"),
		prefix: netip.MustParsePrefix(prefix),
		route: route{
			kind:   rapid.SampledFrom([]uint8{unix.RTN_UNICAST, unix.RTN_BLACKHOLE}).Draw(t, "kind"),
			metric: rapid.Uint32Range(0, 2).Draw(t, "metric"),
			hops:   []hop{{index: rapid.IntRange(1, 2).Draw(t, "index")}},
		},
		del:     rapid.Bool().Draw(t, "del"),
		replace: rapid.Bool().Draw(t, "replace"),
	}
}

// contents returns a comparable form of a fib.
func contents(f fib) map[string]string {
	m := map[string]string{}
	for _, t := range f.tables {
		for p, rs := range t.routes.All() {
			m[fmt.Sprint(t.id, " ", p)] = describe(rs)
		}
	}
	return m
}

// describe returns a comparable form of routes; the order of a route's hops is not significant.
func describe(rs routes) string {
	s := ""
	for _, r := range rs {
		hops := slices.SortedFunc(slices.Values(r.hops), func(a, b hop) int {
			return cmp.Or(cmp.Compare(a.index, b.index), a.via.Compare(b.via))
		})
		s += fmt.Sprintf(" kind %d metric %d tos %d from %v %v", r.kind, r.metric, r.tos, r.src, hops)
	}
	return s
}

// TestFIBUpdates applies changes among routes with different metrics, and checks that earlier versions do not change.
func TestFIBUpdates(t *testing.T) {
	t.Parallel()
	type key struct {
		table  uint32
		prefix netip.Prefix
		metric uint32
	}
	rapid.Check(t, func(t *rapid.T) {
		f, model := newFIB(), map[key]route{}
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			c := drawChange(t)
			k := key{c.table, c.prefix, c.route.metric}
			there, exists := model[k]
			before, old := f, contents(f)
			_, known := f.update(c)
			if got := contents(before); !maps.Equal(got, old) {
				t.Fatalf("an older version changed from %v to %v", old, got)
			}
			switch {
			case c.table == 100:
			case exists && !there.equal(c.route) && (c.del || !c.replace):
				if known {
					t.Fatalf("%+v with %+v is treated as unambiguous", c, there)
				}
			case c.del:
				delete(model, k)
			default:
				model[k] = c.route
			}
			loaded := newFIB()
			for k, r := range model {
				loaded.load(change{table: k.table, prefix: k.prefix, route: r})
			}
			if got, want := contents(f), contents(loaded); !maps.Equal(got, want) {
				t.Fatalf("after %+v: %v, want %v", c, got, want)
			}
		}
	})
}

func TestUpdateIsAmbiguousForEqualMetrics(t *testing.T) {
	t.Parallel()
	f := newFIB()
	c := change{table: unix.RT_TABLE_MAIN, prefix: netip.MustParsePrefix("192.0.2.0/24"),
		route: route{kind: unix.RTN_UNICAST, hops: []hop{{index: 1}}}}
	f.load(c)
	c.route.hops = []hop{{index: 2}}
	f.load(c)
	for _, c.del = range []bool{false, true} {
		for _, c.replace = range []bool{false, true} {
			if changed, known := f.update(c); changed || known {
				t.Errorf("del %v, replace %v: changed %v, known %v", c.del, c.replace, changed, known)
			}
		}
	}
	if rs, _ := f.table(unix.RT_TABLE_MAIN).Lookup(netip.MustParseAddr("192.0.2.1")); len(rs) != 2 || rs[0].hops[0].index != 1 {
		t.Errorf("load does not keep the order: %+v", rs)
	}
}

// wayOf looks up an address by the default rules. Interface 7 is the gateway's.
func wayOf(f fib, dst netip.Addr) way {
	s := snapshot{fib: f}
	for d := range s.nics {
		s.nics[d].Index = 7
	}
	d := v6
	if dst.Is4() {
		d = v4
	}
	s.rules[d] = s.fib.compile(defaultRules(), &s.nics, d)
	return s.way(d, &flow{src: dst, dst: dst})
}

// TestWay looks up one address among routes to one prefix. Interface 7 is the gateway's.
func TestWay(t *testing.T) {
	t.Parallel()
	dst := netip.MustParseAddr("192.0.2.9")
	router := netip.MustParseAddr("198.51.100.1")
	ours, theirs := hop{index: 7, via: router}, hop{index: 8}
	for _, c := range []struct {
		name   string
		routes routes
		want   way
	}{
		{"no route", nil, way{reason: drop.NoRoute}},
		{"by a router", routes{{kind: unix.RTN_UNICAST, hops: []hop{ours}}}, way{hop: ours}},
		{"third interface", routes{{kind: unix.RTN_UNICAST, hops: []hop{theirs}}}, way{reason: drop.OtherInterface}},
		{"into a tunnel", routes{{kind: unix.RTN_UNICAST, hops: []hop{{index: encapsulated}}}}, way{reason: drop.OtherInterface}},
		{"multipath, one of them ours", routes{{kind: unix.RTN_UNICAST, hops: []hop{theirs, ours}}}, way{hop: ours}},
		{"lower metric first", routes{{kind: unix.RTN_UNICAST, hops: []hop{ours}}, {kind: unix.RTN_UNICAST, metric: 9, hops: []hop{theirs}}}, way{hop: ours}},
		{"one metric, two links", routes{{kind: unix.RTN_UNICAST, hops: []hop{theirs}}, {kind: unix.RTN_UNICAST, hops: []hop{ours}}}, way{reason: drop.OtherInterface}},
		{"dead hops do not count", routes{{kind: unix.RTN_UNICAST}, {kind: unix.RTN_UNICAST, metric: 9, hops: []hop{ours}}}, way{hop: ours}},
		{"own address", routes{{kind: unix.RTN_LOCAL}}, way{reason: drop.HostAddress}},
		{"broadcast", routes{{kind: unix.RTN_BROADCAST}}, way{reason: drop.NoRoute}},
		{"blackhole", routes{{kind: unix.RTN_BLACKHOLE}}, way{reason: drop.NoRoute}},
		{"unreachable", routes{{kind: unix.RTN_UNREACHABLE}}, way{reason: drop.NoRoute}},
		{"prohibit", routes{{kind: unix.RTN_PROHIBIT}}, way{reason: drop.NoRoute}},
		{"throw", routes{{kind: unix.RTN_THROW}}, way{reason: drop.NoRoute}},
	} {
		f := newFIB()
		f.table(unix.RT_TABLE_MAIN).Insert(netip.MustParsePrefix("192.0.2.0/24"), c.routes)
		if got := wayOf(f, dst); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	f := newFIB()
	f.table(unix.RT_TABLE_MAIN).Insert(netip.MustParsePrefix("fe80::/64"),
		routes{{kind: unix.RTN_UNICAST, hops: []hop{{index: 8}}}, {kind: unix.RTN_UNICAST, hops: []hop{{index: 7}}}})
	if got := wayOf(f, netip.MustParseAddr("fe80::1")); got != (way{hop: hop{index: 7}}) {
		t.Errorf("a link-local address is on the link: %v", got)
	}
	f = newFIB()
	f.table(unix.RT_TABLE_MAIN).Insert(netip.MustParsePrefix("192.0.2.0/24"), routes{{kind: unix.RTN_THROW}})
	f.table(unix.RT_TABLE_DEFAULT).Insert(netip.MustParsePrefix("0.0.0.0/0"), routes{{kind: unix.RTN_UNICAST, hops: []hop{ours}}})
	if got := wayOf(f, dst); got != (way{hop: ours}) {
		t.Errorf("a throw route does not lead to the next table: %v", got)
	}
}

func TestMultipathUsesAllHops(t *testing.T) {
	t.Parallel()
	r := route{kind: unix.RTN_UNICAST}
	for i := range 4 {
		r.hops = append(r.hops, hop{index: 7, via: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})})
	}
	count := map[hop]int{}
	for i := range 256 {
		dst := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		w := r.choose(dst, 7)
		if w != r.choose(dst, 7) {
			t.Fatalf("%v takes two different hops", dst)
		}
		count[w.hop]++
	}
	for h, n := range count {
		if n < 32 || n > 96 {
			t.Errorf("%d of 256 destinations go by %v", n, h.via)
		}
	}
	if len(count) != 4 {
		t.Errorf("%d of 4 hops are used", len(count))
	}
}

// message builds a struct rtmsg with attributes.
func message(family, bits, kind uint8, attrs ...[]byte) []byte {
	b := []byte{family, bits, 0, 0, unix.RT_TABLE_MAIN, 0, 0, kind, 0, 0, 0, 0}
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

// attribute builds a struct rtattr.
func attribute(kind uint16, v ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(v)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), v...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func TestParseRouteRefuses(t *testing.T) {
	t.Parallel()
	good := message(unix.AF_INET, 24, unix.RTN_UNICAST, attribute(unix.RTA_DST, 192, 0, 2, 0))
	if c, ok := parseRoute(good); !ok || c.prefix != netip.MustParsePrefix("192.0.2.0/24") {
		t.Fatalf("a good route is read as %v, %v", c, ok)
	}
	for name, b := range map[string][]byte{
		"truncated":             good[:11],
		"truncated attribute":   append(slices.Clone(good), 8, 0, 1, 0, 1),
		"attribute of length 3": append(slices.Clone(good), 3, 0, 1, 0),
		"other family":          message(unix.AF_MPLS, 20, unix.RTN_UNICAST),
		"prefix too long":       message(unix.AF_INET, 33, unix.RTN_UNICAST),
		"mixed families":        message(unix.AF_INET, 24, unix.RTN_UNICAST, attribute(unix.RTA_DST, make([]byte, 16)...)),
		"short address":         message(unix.AF_INET, 24, unix.RTN_UNICAST, attribute(unix.RTA_DST, 192, 0)),
		"short hop":             message(unix.AF_INET, 24, unix.RTN_UNICAST, attribute(unix.RTA_MULTIPATH, 4, 0, 0, 0, 0, 0, 0, 0)),
	} {
		if c, ok := parseRoute(b); ok {
			t.Errorf("%s is read as %v", name, c)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	f.Add(message(unix.AF_INET, 24, unix.RTN_UNICAST, attribute(unix.RTA_DST, 192, 0, 2, 0), attribute(unix.RTA_OIF, 7, 0, 0, 0),
		attribute(unix.RTA_METRICS, attribute(unix.RTAX_MTU, 0x78, 5, 0, 0)...)))
	f.Add(message(unix.AF_INET, 0, unix.RTN_UNICAST, attribute(unix.RTA_VIA, append([]byte{10, 0}, make([]byte, 16)...)...)))
	f.Add(message(unix.AF_INET6, 0, unix.RTN_UNICAST, attribute(unix.RTA_MULTIPATH,
		append([]byte{28, 0, 0, 0, 7, 0, 0, 0}, attribute(unix.RTA_GATEWAY, make([]byte, 16)...)...)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseRoute(b)
		if !ok {
			return
		}
		if !c.prefix.IsValid() || c.prefix != c.prefix.Masked() {
			t.Errorf("%x: prefix %v", b, c.prefix)
		}
		fib := newFIB()
		c.table = unix.RT_TABLE_MAIN
		fib.update(c)
		if w := wayOf(fib, c.prefix.Addr()); w.reason == drop.None && w.hop.index != 7 {
			t.Errorf("%x: %v leads to interface %d", b, c, w.hop.index)
		}
	})
}
