package session_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// prefixOf and numberOf give prefixes to numbers; after a restart these are others.
func prefixOf(n uint8) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 4: n}), 96)
}

func numberOf(p netip.Prefix) (uint8, bool) { return p.Addr().As16()[4] ^ 0x80, p.Bits() == 96 }

func prefixAfter(n uint8) netip.Prefix { return prefixOf(n ^ 0x80) }

// records returns all records of a gateway, encoded and decoded.
func (g *gateway) records(t rapid.TB, now table.Time, prefix func(uint8) netip.Prefix) (all []session.Record) {
	t.Helper()
	buf := make([]session.Record, 3)
	for cursor := uint64(0); ; {
		var n int
		n, cursor = g.sessions.Records(cursor, buf, now, prefix)
		for _, r := range buf[:n] {
			b := r.AppendBinary(nil)
			d, size, err := session.DecodeRecord(b)
			if err != nil || size != len(b) || d != r {
				t.Fatalf("%+v is decoded as %+v, %v", r, d, err)
			}
			all = append(all, d)
		}
		if cursor == 0 {
			return all
		}
	}
}

// restored returns a gateway like g, just started, with what g has.
func (g *gateway) restored(t *testing.T, rt rapid.TB, c session.Config, limit int, now, later table.Time, ranges ...string) *gateway {
	copied := newGateway(t, 1, limit, c, ranges...)
	for _, r := range g.records(rt, now, prefixOf) {
		if err := copied.sessions.Restore(&r, later, numberOf); err != nil {
			rt.Fatalf("%+v is refused: %v", r, err)
		}
	}
	return copied
}

// compareRecords compares two gateways by their records and by the use of pool4.
func compareRecords(t rapid.TB, a, b *gateway, nowA, nowB table.Time) {
	t.Helper()
	texts := func(all []session.Record) (lines []string) {
		for _, r := range all {
			lines = append(lines, fmt.Sprintf("%+v", r))
		}
		slices.Sort(lines)
		return lines
	}
	want, got := texts(a.records(t, nowA, prefixOf)), texts(b.records(t, nowB, prefixAfter))
	if !slices.Equal(got, want) {
		t.Fatalf("restored is\n%s\nof\n%s", got, want)
	}
	if got, want := fmt.Sprint(b.pool.Entries()), fmt.Sprint(a.pool.Entries()); got != want {
		t.Fatalf("the restored pool4 is %s, want %s", got, want)
	}
	if a.sessions.InboundLen() != b.sessions.InboundLen() {
		t.Fatalf("%d sessions are begun from IPv4, want %d", b.sessions.InboundLen(), a.sessions.InboundLen())
	}
}

// TestModelOfRecords saves a random table, restores it into a gateway that has just started and compares everything:
// bindings, sessions, their states and remaining lifetimes, ports in use and held down, the counts of filters and limits.
func TestModelOfRecords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t)
		rt.Repeat(map[string]func(*rapid.T){
			"from 6": m.from6, "from 6 again": m.from6, "from 4": m.from4, "from 4 again": m.from4,
			"time": m.wait, "purge": m.purge, "configure": m.configure, "add static": m.addStatic, "sweep": m.sweepAll,
		})
		m.sweepAll(rt)
		const later = table.Time(5)
		roomy := m.conf // the limits may have become lower since
		roomy.MaxPerClient, roomy.MaxBindingsPerClient, roomy.MaxPerBinding = 100, 100, 0
		roomy.MaxInbound, roomy.MaxInboundPerClient, roomy.MaxInboundPerBinding = 100, 100, 100
		m.conf.NewPerSecond = 0 // its buckets are not saved
		m.gateway.sessions.Configure(m.conf)
		other := m.gateway.restored(t, rt, roomy, maxSessions, m.now, later, "192.0.2.1", "1020-1023")
		other.sessions.Configure(m.conf)
		compareRecords(rt, m.gateway, other, m.now, later)
		for _, b := range m.gateway.listBindings() {
			for _, host := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"} {
				remote := endpoint4(host, 999)
				_, want := m.gateway.from4(packet.TCP, remote, b.Mapped, packet.Other, m.now)
				if _, got := other.from4(packet.TCP, remote, b.Mapped, packet.Other, later); got != want {
					rt.Fatalf("a segment from %v to %v: %v, want %v", remote, b, got, want)
				}
			}
		}
		if m.gateway.sessions.InboundLen() > 0 {
			return // sessions from IPv4 are evicted in order of arrival, which is not saved
		}
		for _, host := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:1::1"} {
			want, got := m.gateway.room(host, m.now), other.room(host, later)
			if got != want {
				rt.Fatalf("%s may open %d more sessions, want %d", host, got, want)
			}
		}
	})
}

// room returns how many sessions a client can open.
func (g *gateway) room(host string, now table.Time) (n int) {
	for port := uint16(5000); port < 5020; port++ {
		if _, r := g.from6(packet.UDP, endpoint6(host, port), endpoint4("198.51.100.9", 9), packet.Other, now); r == drop.None {
			n++
		}
	}
	return n
}

// TestRecordsOfBlocks restores port blocks with all that keeps them: bindings and ports in hold-down.
func TestRecordsOfBlocks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := defaults
		c.PortBlockSize, c.PortHoldDown, c.Timeouts.UDP = 16, 120*time.Second, 30*time.Second
		ranges := []string{"192.0.2.1", "2000-2063"}
		g := newGateway(t, 1, 100, c, ranges...)
		now := table.Time(0)
		for range rapid.IntRange(1, 40).Draw(rt, "flows") {
			client := endpoint6(fmt.Sprintf("2001:db8:%d::1", rapid.IntRange(1, 3).Draw(rt, "client")), rapid.Uint16Range(2000, 2030).Draw(rt, "port"))
			g.from6(packet.Proto(rapid.IntRange(0, 2).Draw(rt, "proto")), client, endpoint4("198.51.100.1", 53), packet.SYN, now)
			now += table.Time(rapid.IntRange(0, 200).Draw(rt, "ticks"))
			if rapid.Bool().Draw(rt, "sweep") {
				g.sweep(now)
			}
		}
		g.sweep(now)
		later := table.Time(1)
		other := g.restored(t, rt, c, 100, now, later, ranges...)
		compareRecords(rt, g, other, now, later)
		for range 3 { // and both forget the same things at the same times
			now, later = now+seconds(50), later+seconds(50)
			g.sweep(now)
			other.sweep(later)
			compareRecords(rt, g, other, now, later)
		}
	})
}

// The windows of a connection come back with it, so that a forged RST still has no effect.
func TestRecordsOfWindows(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.open(1000, 2000, 3)
	other := l.gateway.restored(t, t, l.conf, 100, l.now, 7, "192.0.2.1", "")
	compareRecords(t, l.gateway, other, l.now, 7)
	copied := *l
	copied.gateway, copied.now = other, 7
	if got := copied.from4(session.Segment{Event: packet.RST, Seq: 1 << 30}); got != session.Established {
		t.Errorf("state %v after a RST outside of the window", got)
	}
	if got := copied.from4(session.Segment{Event: packet.RST, Seq: 2001}); got != session.Trans {
		t.Errorf("state %v after a RST in the window", got)
	}
}

func TestRefusalsOfRestore(t *testing.T) {
	t.Parallel()
	c := defaults
	c.MaxPerClient, c.MaxBindingsPerClient, c.PortHoldDown = 2, 2, 120*time.Second
	client, server, at := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 53), endpoint4("192.0.2.1", 7000)
	good := session.Record{
		Kind: session.SessionRecord, Proto: packet.UDP, Client: client, Mapped: at, Remote: server,
		Prefix: prefixOf(0), State: session.Active, Remaining: time.Minute,
	}
	for name, x := range map[string]struct {
		change func(g *gateway, r *session.Record)
		want   error
	}{
		"as it is":       {func(*gateway, *session.Record) {}, nil},
		"wrong state":    {func(_ *gateway, r *session.Record) { r.State = session.V4Init }, session.RefusedInvalid},
		"expired":        {func(_ *gateway, r *session.Record) { r.Remaining = -1 }, session.RefusedExpired},
		"unknown prefix": {func(_ *gateway, r *session.Record) { r.Prefix = netip.MustParsePrefix("64:ff9b::/64") }, session.RefusedPrefix},
		"not in pool4":   {func(_ *gateway, r *session.Record) { r.Mapped.Port = 6999 }, session.RefusedPool4},
		"no static":      {func(_ *gateway, r *session.Record) { r.Static = true }, session.RefusedBinding},
		"another's": {func(g *gateway, r *session.Record) {
			_ = g.sessions.AddStatic(packet.UDP, endpoint6("2001:db8::2", 1), at)
		}, session.RefusedTaken},
		"rebound": {func(g *gateway, r *session.Record) {
			_ = g.sessions.AddStatic(packet.UDP, client, endpoint4("192.0.2.1", 7001))
		}, session.RefusedBinding},
		"twice": {func(g *gateway, r *session.Record) {
			_ = g.sessions.Restore(r, 0, numberOf)
		}, session.RefusedExists},
		"over the limits": {func(g *gateway, r *session.Record) {
			for port := range uint16(2) {
				g.from6(packet.TCP, endpoint6("2001:db8::3", port), server, packet.SYN, 0)
			}
		}, nil},
		"binding without session": {func(_ *gateway, r *session.Record) {
			*r = session.Record{Kind: session.BindingRecord, Proto: packet.UDP, Client: client, Mapped: at}
		}, session.RefusedUnneeded},
		"block without port": {func(_ *gateway, r *session.Record) {
			*r = session.Record{Kind: session.BlockRecord, Proto: packet.UDP, Client: client, Mapped: at, LastPort: 7015}
		}, session.RefusedUnneeded},
		"held port in use": {func(g *gateway, r *session.Record) {
			_ = g.sessions.Restore(r, 0, numberOf)
			*r = session.Record{Kind: session.HeldRecord, Proto: packet.UDP, Mapped: at, Remaining: time.Second}
		}, session.RefusedTaken},
	} {
		g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
		r := good
		x.change(g, &r)
		sessions, bindings := g.sizes()
		if err := g.sessions.Restore(&r, 0, numberOf); err != x.want {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
		if s, b := g.sizes(); x.want != nil && (s != sessions || b != bindings) {
			t.Errorf("%s: %d sessions and %d bindings, before %d and %d", name, s, b, sessions, bindings)
		}
	}
}

// FuzzDecodeRecord: whatever is decoded has just one encoding, and Restore survives it.
func FuzzDecodeRecord(f *testing.F) {
	for kind := session.BindingRecord; kind <= session.BlockRecord; kind++ {
		r := session.Record{Kind: kind, Proto: packet.UDP, Client: endpoint6("2001:db8::1", 5000), Mapped: endpoint4("192.0.2.1", 7000), Remaining: time.Minute}
		if kind == session.SessionRecord {
			r.State, r.Prefix, r.Remote = session.Active, prefixOf(1), endpoint4("198.51.100.1", 53)
		}
		f.Add(r.AppendBinary(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := session.DecodeRecord(b)
		if err != nil {
			return
		}
		if again := r.AppendBinary(nil); !bytes.Equal(again, b[:n]) {
			t.Fatalf("%x is encoded as %x", b[:n], again)
		}
		c := defaults
		c.PortHoldDown = time.Minute
		g := newGateway(t, 1, 10, c, "192.0.2.1", "7000-7009")
		_ = g.sessions.Restore(&r, 0, numberOf)
		g.sweep(seconds(1e6))
	})
}

// TestPacketsWhileRestoring lets packets flow while the sessions of an earlier process are being restored.
func TestPacketsWhileRestoring(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000-7001")
	server := endpoint4("198.51.100.1", 443)
	known, missing := endpoint6("2001:db8::1", 5000), endpoint6("2001:db8::2", 5000)
	restore := func(client packet.Endpoint6, port uint16) {
		t.Helper()
		r := session.Record{
			Kind: session.SessionRecord, Proto: packet.TCP, Client: client, Mapped: endpoint4("192.0.2.1", port), Remote: server,
			Prefix: prefixOf(0x80), State: session.Established, Lifetime: 2, Remaining: time.Hour,
		}
		if err := g.sessions.Restore(&r, 0, numberOf); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, got, want drop.Reason) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	g.sessions.SetRestoring(true)
	restore(known, 7000)
	for _, ev := range []packet.TCPEvent{packet.SYN, packet.Other} {
		_, r := g.from6(packet.TCP, missing, server, ev, 1)
		check("a segment of a session that is not restored yet", r, drop.Restoring)
		_, r = g.from4(packet.TCP, server, endpoint4("192.0.2.1", 7001), ev, 1)
		check("its answer", r, drop.Restoring)
	}
	_, r := g.from6(packet.TCP, known, server, packet.Other, 1)
	check("a segment of a restored session", r, drop.None)
	_, r = g.from6(packet.TCP, known, endpoint4("198.51.100.2", 443), packet.SYN, 1)
	check("a new session of its binding", r, drop.Restoring)
	_, r = g.from4(packet.UDP, server, endpoint4("192.0.2.9", 7000), 0, 1)
	check("a packet for the host", r, drop.NotPool4)
	restore(missing, 7001)
	g.sessions.SetRestoring(false)
	at, r := g.from6(packet.TCP, missing, server, packet.Other, 1)
	check("a segment of the session that is restored now", r, drop.None)
	if at != endpoint4("192.0.2.1", 7001) {
		t.Errorf("it has %v", at)
	}
}
