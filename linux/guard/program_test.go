//go:build linux

package guard

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
)

// frame4 returns an Ethernet frame with an IPv4 packet; id is a port or an Identifier.
func frame4(dst netip.Addr, proto uint8, icmpType byte, id uint16, options int, fragment uint16) []byte {
	b := make([]byte, 14+20+options+20)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	ip := b[14:]
	ip[0] = 0x45 + byte(options/4)
	binary.BigEndian.PutUint16(ip[6:], fragment)
	ip[9] = proto
	copy(ip[16:], dst.AsSlice())
	if h := ip[20+options:]; proto == unix.IPPROTO_ICMP {
		h[0] = icmpType
		binary.BigEndian.PutUint16(h[4:], id)
	} else {
		binary.BigEndian.PutUint16(h[2:], id)
	}
	return b
}

// frame6 returns an Ethernet frame with an IPv6 packet.
func frame6(dst netip.Addr) []byte {
	b := make([]byte, 14+40+8)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IPV6)
	b[14] = 0x60
	copy(b[14+24:], dst.AsSlice())
	return b
}

// Programs for random pools, executed by the kernel, agree with the configuration.
func TestProgramDropsCoveredPackets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: BPF programs")
	}
	address := func(n int) netip.Addr {
		return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)})
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "entries")
		var c Covered
		for range n {
			first, lo := rapid.IntRange(0, 600).Draw(t, "address"), rapid.Uint16Range(1, 40).Draw(t, "port")
			e := pool4.Entry{
				Addr: address(first), Proto: rapid.SampledFrom([]packet.Proto{packet.TCP, packet.UDP, packet.ICMP}).Draw(t, "protocol"),
				Lo: lo, Hi: lo + rapid.Uint16Range(0, 10).Draw(t, "more"),
			}
			for range rapid.IntRange(1, 3).Draw(t, "addresses") {
				c.Pool4 = append(c.Pool4, e)
				if rapid.Bool().Draw(t, "static") {
					c.Echo = append(c.Echo, e)
				}
				e.Addr = e.Addr.Next()
			}
		}
		normal := c.normal()
		p, err := newProgram(families{v4: true}, &normal)
		if err != nil {
			t.Fatalf("%d entries: %+v", n, err)
		}
		defer p.Close()
		for range 40 {
			at := rapid.IntRange(0, 602).Draw(t, "destination")
			proto := rapid.SampledFrom([]uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_SCTP}).Draw(t, "protocol")
			kind := rapid.SampledFrom([]byte{8, 8, 0, 3}).Draw(t, "type")
			port := rapid.Uint16Range(0, 52).Draw(t, "to")
			fragment := rapid.SampledFrom([]uint16{0, 0, 0x2000, 0x2001, 0x4000}).Draw(t, "fragment")
			want := c.has(address(at), proto, kind, port) && fragment != 0x2001
			f := frame4(address(at), proto, kind, port, rapid.SampledFrom([]int{0, 4, 40}).Draw(t, "options"), fragment)
			if got, _, err := p.Test(f); err != nil || (got == tcxDrop) != want {
				t.Fatalf("%v protocol %d type %d port %d fragment %#x: verdict %d, %v, must be dropped: %t", address(at), proto, kind, port, fragment, int32(got), err, want)
			}
		}
	})
}

// has reports whether a packet is covered. It is a direct implementation of the definition.
func (c *Covered) has(a netip.Addr, proto, icmpType uint8, port uint16) bool {
	among := c.Pool4
	if proto == unix.IPPROTO_ICMP {
		if icmpType != echoRequestType {
			return false
		}
		among = c.Echo
	}
	return slices.ContainsFunc(among, func(e pool4.Entry) bool {
		return e.Addr == a && e.Lo <= port && port <= e.Hi && (transport(e) == proto || transport(e) == 0 && proto == unix.IPPROTO_ICMP)
	})
}

func TestProgramDropsDestinations(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: BPF programs")
	}
	var c Covered
	for _, s := range []string{"64:ff9b::/96", "2001:db8::/32", "2001:db8:64::/96"} {
		p, err := pool6.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		c.Pool6 = append(c.Pool6, p)
	}
	c.Bypass = []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/64"), netip.MustParsePrefix("64:ff9b::c000:202/128")}
	normal := c.normal()
	p, err := newProgram(families{v6: true, v4: true}, &normal)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer p.Close()
	for a, want := range map[string]bool{
		"64:ff9b::": true, "64:ff9b::ffff:ffff": true, "64:ff9b::c000:201": true, "64:ff9b::c000:202": false, "64:ff9b::c000:203": true,
		"64:ff9b::1:0:0": false, "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff": false, "2001:db8::1": true, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": true,
		"2001:db9::": false, "2001:db7:ffff::": false, "2001:db8:64::c000:201": true, "2001:db8:64::1:0:0": false, "2001:db8:65::": true,
		"::": false, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": false,
	} {
		if got, _, err := p.Test(frame6(netip.MustParseAddr(a))); err != nil || (got == tcxDrop) != want {
			t.Errorf("%s: verdict %d, %v, must be dropped: %t", a, int32(got), err, want)
		}
	}
	if got, _, err := p.Test(frame4(netip.MustParseAddr("192.0.2.1"), unix.IPPROTO_TCP, 0, 80, 0, 0)); err != nil || got == tcxDrop {
		t.Errorf("IPv4 without pool4: verdict %d, %v", int32(got), err)
	}
}

// The program for a large pool passes the verifier.
func TestProgramForLargePools(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: BPF programs")
	}
	var c Covered
	for i := range 40000 { // every other address, each with different ports
		a := netip.AddrFrom4([4]byte{10, byte(i >> 15), byte(i >> 7), byte(i << 1)})
		c.Pool4 = append(c.Pool4, pool4.Entry{Addr: a, Proto: packet.TCP, Lo: 1024 + uint16(i), Hi: 65535})
	}
	normal := c.normal()
	p, err := newProgram(families{v4: true}, &normal)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer p.Close()
	for i := range 40000 {
		if i%997 != 0 {
			continue
		}
		e := c.Pool4[i]
		for port, want := range map[uint16]bool{e.Lo: true, e.Lo - 1: false, 65535: true} {
			if got, _, err := p.Test(frame4(e.Addr, unix.IPPROTO_TCP, 0, port, 0, 0)); err != nil || (got == tcxDrop) != want {
				t.Errorf("%v port %d: verdict %d, %v", e, port, int32(got), err)
			}
		}
		if got, _, err := p.Test(frame4(e.Addr.Next(), unix.IPPROTO_TCP, 0, 65535, 0, 0)); err != nil || got == tcxDrop {
			t.Errorf("the address after %v: verdict %d, %v", e, int32(got), err)
		}
	}
}

// BenchmarkProgram measures the cost of a packet for the host and of a dropped one.
func BenchmarkProgram(b *testing.B) {
	few := Covered{Pool4: []pool4.Entry{{Addr: netip.MustParseAddr("192.0.2.1"), Proto: packet.TCP, Lo: 7000, Hi: 8000}}}
	many := Covered{}
	for i := range 10000 {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 7), byte(i << 1)})
		many.Pool4 = append(many.Pool4, pool4.Entry{Addr: a, Proto: packet.TCP, Lo: 1024, Hi: 65535})
	}
	for _, c := range []struct {
		name string
		Covered
		dst  string
		port uint16
	}{
		{"few/host", few, "192.0.2.1", 22},
		{"few/dropped", few, "192.0.2.1", 7001},
		{"many/host", many, "198.18.0.2", 22},
		{"many/dropped", many, "198.18.0.2", 7001},
	} {
		b.Run(c.name, func(b *testing.B) {
			normal := c.normal()
			p, err := newProgram(families{v4: true}, &normal)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			_, d, err := p.Benchmark(frame4(netip.MustParseAddr(c.dst), unix.IPPROTO_TCP, 0, c.port, 0, 0), b.N, b.ResetTimer)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(d.Nanoseconds()), "ns/packet")
		})
	}
}
