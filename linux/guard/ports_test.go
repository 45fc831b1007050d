//go:build linux

package guard

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nat64d/packet"
	"nat64d/pool4"
)

// drawPorts draws a set as ranges.
func drawPorts(t *rapid.T) (p ports) {
	for range rapid.IntRange(0, 8).Draw(t, "ranges") {
		a, b := rapid.Uint16().Draw(t, "a"), rapid.Uint16().Draw(t, "b")
		p.add(min(a, b), max(a, b))
	}
	return p
}

func TestPortsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPorts(t)
		q, err := parsePorts(p.String() + "\n")
		if err != nil || p != q {
			t.Fatalf("%v is read as %v, %v", p, q, err)
		}
	})
}

func TestPortsAlgebra(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, q := drawPorts(t), drawPorts(t)
		plus, minus := p.plus(q), p.minus(q)
		n := rapid.Uint16().Draw(t, "n")
		if plus.has(n) != (p.has(n) || q.has(n)) || minus.has(n) != (p.has(n) && !q.has(n)) {
			t.Fatalf("port %d: %v, %v", n, p, q)
		}
		if got, want := minus.within(0, 65535), p.within(0, 65535)+q.within(0, 65535)-plus.within(0, 65535); want != p.within(0, 65535)-got {
			t.Fatalf("%d ports in both, want %d", want, p.within(0, 65535)-got)
		}
	})
}

func TestParsePortsRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{",", "a", "1-", "-1", "5-3", "65536", "1,,2", "1-2-3"} {
		if p, err := parsePorts(s); err == nil {
			t.Errorf("%q is read as %v", s, p)
		}
	}
}

func TestIntervalsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPorts(t)
		list := reservedElements(p)
		slices.Reverse(list) // the kernel lists them in another order
		if got := intervals(list); got != p {
			t.Fatalf("%v comes back as %v", p, got)
		}
	})
}

// The boxes cover exactly the entries, and do not overlap.
func TestBoxesCoverEntries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParseAddr("192.0.2.0").As4()
		address := func(n byte) netip.Addr { a := base; a[3] = n; return netip.AddrFrom4(a) }
		var entries []pool4.Entry
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			a, b := rapid.Uint16Range(65500, 65535).Draw(t, "a"), rapid.Uint16Range(65500, 65535).Draw(t, "b")
			entries = append(entries, pool4.Entry{
				Addr:  address(rapid.ByteRange(0, 5).Draw(t, "address")),
				Proto: rapid.SampledFrom([]packet.Proto{packet.TCP, packet.UDP, packet.ICMP}).Draw(t, "proto"),
				Lo:    min(a, b), Hi: max(a, b),
			})
		}
		list := boxes(entries)
		for n := range byte(6) {
			for port := uint16(65499); port != 0; port++ {
				for _, proto := range []packet.Proto{packet.TCP, packet.UDP} {
					at := pool4.Entry{Addr: address(n), Proto: proto, Lo: port, Hi: port}
					want := slices.ContainsFunc(entries, func(e pool4.Entry) bool {
						return e.Addr == at.Addr && e.Proto == proto && e.Lo <= port && port <= e.Hi
					})
					count := 0
					for _, b := range list {
						if b.proto == transport(at) && b.lo <= port && port <= b.hi &&
							b.first.Compare(at.Addr) <= 0 && at.Addr.Compare(b.last) <= 0 {
							count++
						}
					}
					if want != (count == 1) || count > 1 {
						t.Fatalf("%v is in %d boxes, guarded: %v", at, count, want)
					}
				}
			}
		}
	})
}

func TestParseSocket(t *testing.T) {
	t.Parallel()
	const (
		tcp  = "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
		tcp6 = "   1: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4712 1"
		busy = "   2: 010200C0:1B58 020200C0:0035 07 00000000:00000000 00:00000000 00000000     0        0 4713 2 0 0"
	)
	for _, c := range []struct {
		line string
		want socket
	}{
		{tcp, socket{local: netip.MustParseAddrPort("127.0.0.1:22"), inode: 4711}},
		{tcp6, socket{local: netip.MustParseAddrPort("[2001:db8::1]:443"), inode: 4712}},
		{busy, socket{local: netip.MustParseAddrPort("192.0.2.1:7000"), remote: netip.MustParseAddrPort("192.0.2.2:53"), inode: 4713}},
	} {
		if got, _, ok := parseSocket(c.line); !ok || got != c.want {
			t.Errorf("%q is read as %v, %v, want %v", c.line, got, ok, c.want)
		}
	}
	if _, _, ok := parseSocket("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"); ok {
		t.Error("the head of the list is read as a socket")
	}
}

func FuzzParsePorts(f *testing.F) {
	f.Add("22,7000-8000\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePorts(s)
		if err != nil {
			return
		}
		if q, err := parsePorts(p.String()); err != nil || p != q {
			t.Errorf("%q: %v is read back as %v, %v", s, p, q, err)
		}
	})
}

func FuzzParseSocket(f *testing.F) {
	f.Add("   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0")
	f.Fuzz(func(t *testing.T, s string) {
		if k, _, ok := parseSocket(s); ok && !k.local.Addr().IsValid() {
			t.Errorf("%q: socket without an address", s)
		}
	})
}
