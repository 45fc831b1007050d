package gateway

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/table"
)

// catch is a port that records sent packets.
type catch struct {
	nowhere
	side packet.Family
	all  *[]caught
}

type caught struct {
	side packet.Family
	ip   []byte
	good bool // its transport checksum is, or will be, correct
}

func (c *catch) Send(out []packet.Out) (int, error) {
	for i := range out {
		ip := slices.Concat(out[i].Head[packet.Headroom:], out[i].Payload)
		*c.all = append(*c.all, caught{c.side, ip, out[i].Offload.Checksum == packet.ChecksumPartial || intact(ip)})
	}
	return 0, nil
}

// intact reports whether the transport checksum of a whole packet is right; fragments are taken to be.
func intact(ip []byte) bool {
	var v packet.View
	if ip[0]>>4 == 4 {
		if v.Parse4(ip) != drop.None || v.Transport4() != drop.None {
			return v.Fragmented
		}
		h := v.IP4()
		if v.Proto == packet.ICMP {
			return packet.Sum(0).Bytes(v.Transport()).Fold() == 0xffff
		}
		return binary.BigEndian.Uint16(v.Transport()[v.ChecksumAt():]) == 0 && v.Proto == packet.UDP ||
			packet.Sum(0).Addr4(h.Src()).Addr4(h.Dst()).Pseudo(len(v.Transport()), v.Number).Bytes(v.Transport()).Fold() == 0xffff
	}
	if v.Parse6(ip) != drop.None || v.Extensions6() != drop.None || v.Transport6() != drop.None {
		return v.Fragmented
	}
	h := v.IP6()
	return packet.Sum(0).Addr6(h.Src()).Addr6(h.Dst()).Pseudo(len(v.Transport()), v.Number).Bytes(v.Transport()).Fold() == 0xffff
}

// isError reports whether a packet is an ICMP error, whatever its checksum.
func isError(ip []byte) bool {
	var v packet.View
	if ip[0]>>4 == 4 {
		return v.Parse4(ip) == drop.None && v.Transport4() == drop.None && v.Error
	}
	return v.Parse6(ip) == drop.None && v.Extensions6() == drop.None && v.Transport6() == drop.None && v.Error
}

// rig is a gateway driven by a fuzzer, packet by packet.
type rig struct {
	t    *testing.T
	g    *Gateway
	now  time.Duration
	sent []caught
	last []byte // the last packet sent: used for replies and errors about it
}

// home is onLink with source addresses for errors.
type home struct{ onLink }

func (home) Source6(packet.Addr6) (packet.Addr6, bool) {
	return packet.Addr6{0x20, 1, 0xd, 0xb8, 15: 99}, true
}
func (home) Source4(packet.Addr4) (packet.Addr4, bool) { return packet.Addr4{192, 0, 2, 99}, true }

func newRig(t *testing.T) *rig {
	r := &rig{t: t}
	r.g = stillWith(t, func(o *Options) {
		o.Max, o.Routes = 1<<10, home{}
		o.Clock = func() time.Duration { return r.now }
		o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &r.sent}, nil }
	})
	return r
}

// feed delivers one packet and checks what the gateway sends.
func (r *rig) feed(s packet.Family, ip []byte) {
	r.sent = r.sent[:0]
	good, errorIn := len(ip) > 0 && intact(ip), len(ip) > 0 && isError(ip)
	r.g.workers[s].batch([]packet.Frame{{Data: ip}})
	for _, c := range r.sent {
		r.check(c, s, good, errorIn)
		r.last = c.ip
	}
	for _, d := range []metrics.Direction{metrics.From6To4, metrics.From4To6} {
		b := r.g.Counters.Balance(d)
		sum := b.Forwarded + b.Host
		for _, n := range slices.Concat(b.Dropped[:], b.Waiting[:]) {
			sum += n
		}
		if sum != b.Arrived {
			r.t.Fatalf("%v: of %d frames %d are accounted for: %+v", d, b.Arrived, sum, b)
		}
	}
}

func (r *rig) check(c caught, from packet.Family, good, errorIn bool) {
	if len(c.ip) > 1500 {
		r.t.Fatalf("a packet of %d bytes left", len(c.ip))
	}
	var v packet.View
	if c.side == packet.V4 && v.Parse4(c.ip) != drop.None || c.side == packet.V6 && v.Parse6(c.ip) != drop.None {
		r.t.Fatalf("what left on side %v is no packet: %x", c.side, c.ip)
	}
	if good && !c.good {
		r.t.Fatalf("a good packet became a bad one: %x", c.ip)
	}
	if errorIn && c.side == from && isError(c.ip) && !r.hairpinned(&v) {
		r.t.Fatalf("an error was answered: %x", c.ip)
	}
}

// hairpinned reports whether an IPv6 packet that left comes from behind a NAT64 prefix, so that it was not made here.
func (r *rig) hairpinned(v *packet.View) bool {
	return v.Data[0]>>4 == 6 && r.g.settings.conf.Load().prefixes[0].Contains(v.IP6().Src())
}

// mirror turns the last packet into its own reply.
func (r *rig) mirror() (packet.Family, []byte) {
	ip := slices.Clone(r.last)
	if len(ip) == 0 {
		return packet.V6, nil
	}
	at, side := packet.IPv6Len, packet.V6
	if ip[0]>>4 == 4 {
		h := packet.IPv4(ip)
		*h.Src(), *h.Dst() = *h.Dst(), *h.Src()
		at, side = packet.IPv4Len, packet.V4
	} else {
		h := packet.IPv6(ip)
		*h.Src(), *h.Dst() = *h.Dst(), *h.Src()
	}
	if len(ip) >= at+4 {
		p := ip[at:]
		p[0], p[1], p[2], p[3] = p[2], p[3], p[0], p[1]
	}
	return side, ip
}

// complain returns an ICMP error about the last packet, from its destination.
func (r *rig) complain(kind, code uint8, rest uint32) (packet.Family, []byte) {
	if len(r.last) == 0 {
		return packet.V6, nil
	}
	o := &packet.Out{Head: make([]byte, 0, 192)}
	e := icmp.Error{Answer: drop.Answer{Type: kind, Code: code}, Rest: rest, Quote: r.last}
	side := packet.V6
	if r.last[0]>>4 == 4 {
		h := packet.IPv4(r.last)
		side = packet.V4
		e.Put4(o, h.Dst(), h.Src())
	} else {
		h := packet.IPv6(r.last)
		e.Put6(o, h.Dst(), h.Src())
	}
	return side, slices.Concat(o.Head[packet.Headroom:], o.Payload)
}

// client returns a packet of a client: protocol, flags, port and destination from the fuzzer, otherwise valid.
func client(b [6]byte, payload []byte) []byte {
	number := []uint8{packet.NumTCP, packet.NumUDP, packet.NumICMPv6}[b[0]%3]
	src, dst := packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: b[1] % 4}, peerAddr
	if b[2]&1 == 1 { // to an address of pool4: a hairpin
		dst[12], dst[13], dst[14], dst[15] = 192, 0, 2, 1
	}
	h := make([]byte, map[uint8]int{packet.NumTCP: 20, packet.NumUDP: 8, packet.NumICMPv6: 8}[number])
	h[1], h[2], h[3] = b[3], b[2]>>1, b[4]
	at := map[uint8]int{packet.NumTCP: packet.TCPChecksum, packet.NumUDP: packet.UDPChecksum, packet.NumICMPv6: packet.ICMPChecksum}[number]
	switch number {
	case packet.NumTCP:
		h[12], h[13] = 0x50, b[5]
	case packet.NumUDP:
		binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	case packet.NumICMPv6:
		h[0], h[1], h[2], h[3], h[5] = packet.EchoRequest6, 0, 0, 0, b[3]
	}
	ip := make([]byte, packet.IPv6Len)
	packet.IPv6(ip).Put(0, len(h)+len(payload), number, b[5], &src, &dst)
	ip = append(append(ip, h...), payload...)
	c := packet.Sum(0).Addr6(&src).Addr6(&dst).Pseudo(len(h)+len(payload), number).Bytes(ip[packet.IPv6Len:]).Checksum()
	if c == 0 && number == packet.NumUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(ip[packet.IPv6Len+at:], c)
	return ip
}

// cut splits a packet without extension headers into two fragments at a multiple of 8.
func cut(ip []byte, at byte) (a, b []byte) {
	n := len(ip) - packet.IPv6Len
	if k := int(at) * 8; n <= 8 || k == 0 || k >= n {
		return ip, nil
	}
	k := int(at) * 8
	piece := func(from, to int, more byte) []byte {
		h := slices.Clone(ip[:packet.IPv6Len])
		binary.BigEndian.PutUint16(h[4:], uint16(to-from+8))
		next := h[6]
		h[6] = packet.NumFragment
		h = append(h, next, 0, byte(from>>8), byte(from)|more, 0, 0, 0, at)
		return append(h, ip[packet.IPv6Len+from:packet.IPv6Len+to]...)
	}
	return piece(0, k, 1), piece(k, n, 0)
}

// step executes one instruction of the fuzzer and returns the rest.
func (r *rig) step(in []byte) []byte {
	op, in := in[0], in[1:]
	take := func(n int) []byte {
		n = min(n, len(in))
		out := in[:n]
		in = in[n:]
		return out
	}
	switch op % 8 {
	case 0, 1: // arbitrary bytes
		n := take(1)
		if len(n) == 1 {
			r.feed(packet.Family(op%8), slices.Clone(take(int(n[0]))))
		}
	case 2: // a client
		var b [6]byte
		copy(b[:], take(6))
		r.feed(packet.V6, client(b, make([]byte, int(op)>>3*40)))
	case 3: // a client, fragmented and reordered
		var b [7]byte
		copy(b[:], take(7))
		first, second := cut(client([6]byte(b[:6]), make([]byte, int(op)>>3*60)), b[6])
		if second != nil {
			r.feed(packet.V6, second)
		}
		r.feed(packet.V6, first)
	case 4:
		r.feed(r.mirror())
	case 5:
		b := append(take(3), 0, 0, 0)
		r.feed(r.complain(b[0], b[1], uint32(b[2])<<3))
	case 6: // the last packet, corrupted
		b := append(take(2), 0, 0)
		s, ip := r.mirror()
		if len(ip) > int(b[0]) {
			ip[b[0]] ^= b[1]
			r.feed(s, ip)
		}
	case 7:
		r.now += time.Duration(op>>3) * 10 * time.Second
		r.sweep()
	}
	return in
}

func (r *rig) sweep() {
	for range 4 {
		for r.g.Sessions.Sweep(table.Time(r.now/table.Tick), sweepBudget, r.g.mail.probes.put) {
		}
		for r.g.sweepSYNs(r.now) {
		}
	}
}

// FuzzPipeline sends streams of packets in both directions through the gateway while time advances. Every sent packet
// must be valid, fit the link, be as intact as the received one and not be a response to an error. After all
// timeouts, the tables must be empty and all ports free.
func FuzzPipeline(f *testing.F) {
	f.Add([]byte{2, 0, 1, 0, 80, 0, 2, 4, 5, 3, 3, 0, 15})
	f.Add([]byte{2 | 8<<3, 1, 1, 0, 7, 9, 64, 4, 5, 1, 4, 0, 7 | 31<<3, 4})
	f.Add([]byte{3 | 20<<3, 1, 1, 0, 7, 9, 64, 60, 4, 6, 30, 1})
	f.Add([]byte{2, 1, 1, 1, 7, 9, 64, 2, 1, 2, 1, 8, 9, 64, 5, 1, 4, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig(t)
		for n := 0; len(in) > 0 && n < 200; n++ {
			in = r.step(in)
		}
		for range 8 { // an idle connection is probed, which adds four minutes
			r.now += 2 * time.Hour
			r.sweep()
		}
		for p := range packet.Protos {
			if b, s := r.g.Bindings.Len(p), r.g.Sessions.Len(p); b != 0 || s != 0 {
				t.Fatalf("%v: %d bindings and %d sessions are left", p, b, s)
			}
		}
		for _, u := range r.g.Pool4.Usage() {
			if u.Used != 0 {
				t.Fatalf("%v: %d ports are left in use", u.Entry, u.Used)
			}
		}
	})
}

// FuzzLong delivers alleged super-packets of more than 64 KiB: any headers before 70,000 bytes, any metadata.
func FuzzLong(f *testing.F) {
	six := append([]byte{0x60, 0, 0, 0, 0, 0, 0, 64, 0x20, 1, 0xd, 0xb8, 15: 0, 23: 1}, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 198, 51, 100, 20)
	f.Add(false, append(six, 6, 0, 0xc2, 4, 0, 1, 0x11, 0x90, 0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18), uint8(4), uint16(1440), uint16(48))
	f.Add(true, []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 20, 192, 0, 2, 1, 0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10}, uint8(1), uint16(1), uint16(20))
	f.Fuzz(func(t *testing.T, four bool, head []byte, kind uint8, size, start uint16) {
		r := newRig(t)
		data := append(slices.Clone(head), make([]byte, 70000)...)
		if len(head) >= packet.IPv4Len && head[0]>>4 == 4 {
			data[10], data[11] = 0, 0
			n := min(int(head[0]&15)*4, 60)
			binary.BigEndian.PutUint16(data[10:], packet.Sum(0).Bytes(data[:n]).Checksum())
		}
		side := packet.V6
		if four {
			side = packet.V4
		}
		f := packet.Frame{Data: data, Offload: packet.Offload{Checksum: packet.ChecksumPartial, GSO: packet.GSO(kind), GSOSize: size,
			CsumStart: start, CsumOffset: packet.TCPChecksum}}
		r.g.workers[side].batch([]packet.Frame{f})
		for _, c := range r.sent {
			if n := packetLen(c.ip); n != len(c.ip) || n > maxPacket+20 {
				t.Fatalf("a packet of %d bytes left whose header says %d", len(c.ip), n)
			}
		}
	})
}
