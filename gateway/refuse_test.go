package gateway

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/packet"
	"nat64d/synstore"
)

// flapping routes know the neighbours in every other answer.
type flapping struct {
	home
	known *bool
}

func (f flapping) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	*f.known = !*f.known
	return packet.Hop{MTU: 1500}, *f.known, drop.None
}

func (f flapping) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	*f.known = !*f.known
	return packet.Hop{MTU: 1500}, *f.known, drop.None
}

// A stored SYN is answered once and nothing else is parked for it, when its sender's link address is lost and found
// between any two look-ups.
func TestStoredSYNWithFlappingNeighbour(t *testing.T) {
	for _, turned := range []bool{false, true} {
		for _, known := range []bool{false, true} {
			var sent []caught
			now := time.Duration(0)
			g := stillWith(t, func(o *Options) {
				f := flapping{known: &known}
				o.Routes, o.Hops = f, func() Hops { return f }
				o.Config.SYNs = synstore.Limits{Total: 8, Lifetime: time.Second}
				o.Clock = func() time.Duration { return now }
				o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &sent}, nil }
			})
			side, syn := packet.V4, synTo4(packet.Addr4{198, 51, 100, 20}, packet.Addr4{192, 0, 2, 1})
			if turned {
				side, syn = packet.V6, client([6]byte{0, 1, 1, 7, 9, packet.FlagSYN}, nil)
				syn[packet.IPv6Len+2] = 20 // to port 5120 and more, of pool4
			}
			g.workers[side].batch(frames([][]byte{syn}))
			if n := g.Counters.Drops(drop.StoredSYN); n != 1 {
				t.Fatalf("%d SYNs were stored", n)
			}
			w := g.workers[packet.V4]
			sent, now = nil, time.Minute
			for g.sweepSYNs(now) {
			}
			for range 4 {
				w.batch(nil)
			}
			if w.parked.len() != 0 {
				t.Errorf("%d frames are parked", w.parked.len())
			}
			if len(sent) != 1 || sent[0].side != side || !isError(sent[0].ip) || !bytes.HasSuffix(sent[0].ip, syn) {
				t.Errorf("turned %v, first known %v: %+v was sent, want one error that quotes the SYN", turned, known, sent)
			}
		}
	}
}

// synTo4 returns a TCP SYN in IPv4 to port 5000.
func synTo4(src, dst packet.Addr4) []byte {
	b := make([]byte, packet.IPv4Len+packet.TCPLen)
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumTCP}, len(b), &src, &dst)
	h := b[packet.IPv4Len:]
	h[1], h[2], h[3], h[12], h[13] = 80, 5000>>8, 5000&0xff, packet.TCPLen/4<<4, packet.FlagSYN
	return b
}

// FuzzAnswerable searches for ICMP errors, after any headers, that would be answered.
func FuzzAnswerable(f *testing.F) {
	f.Add(client([6]byte{2, 1, 0, 7, 9, 64}, nil))
	f.Add(synTo4(packet.Addr4{198, 51, 100, 20}, packet.Addr4{192, 0, 2, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v packet.View
		if v.Parse6(b) == drop.None {
			bad := v.Headers6()
			if icmp.Answerable6(&v) && (v.Error || bad == drop.Fragment && v.Number == packet.NumICMPv6 && v.Later()) {
				t.Errorf("%x may be answered", b)
			}
		}
		if v.Parse4(b) == drop.None {
			v.Transport4()
			if icmp.Answerable4(&v) && v.Error {
				t.Errorf("%x may be answered", b)
			}
		}
	})
}

// The answer to an unsolicited packet depends on the protocol; other refusals have the answer of the table.
func TestAnswerToUnboundDependsOnProtocol(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    packet.Proto
		r    drop.Reason
		want drop.Answer
	}{
		{packet.TCP, drop.NoBinding, drop.Answer{}},
		{packet.UDP, drop.NoBinding, drop.NoBinding.Answer4()},
		{packet.ICMP, drop.NoBinding, hostUnreachable},
		{packet.TCP, drop.FilteredAddress, drop.Answer{}},
		{packet.UDP, drop.FilteredAddress, drop.FilteredAddress.Answer4()},
		{packet.ICMP, drop.FilteredAddress, drop.FilteredAddress.Answer4()},
		{packet.TCP, drop.HopLimit, drop.HopLimit.Answer4()},
		{packet.ICMP, drop.HopLimit, drop.HopLimit.Answer4()},
	} {
		if got := answerTo4(c.p, c.r); got != c.want {
			t.Errorf("%v refused for %v: %+v, want %+v", c.p, c.r, got, c.want)
		}
	}
}

// errorsOf returns the packets that a gateway sends for a packet with an exceeded hop limit, on either side.
func errorsOf(t *testing.T, change func(*Options)) (sent []caught) {
	t.Helper()
	g := stillWith(t, func(o *Options) {
		o.Routes = home{}
		o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &sent}, nil }
		change(o)
	})
	six := udp6(1)
	g.workers[packet.V6].batch(frames([][]byte{six}))
	four := answers(t, g, 1)
	sent, six[7] = nil, 1
	packet.IPv4(four[0]).PutTTL(1)
	g.workers[packet.V6].batch(frames([][]byte{six}))
	g.workers[packet.V4].batch(frames(four))
	return sent
}

// ICMP errors come from the configured address, or else from the one that the host's routes choose, and without one there is
// none.
func TestErrorSourceAddress(t *testing.T) {
	own6, own4 := packet.Addr6{0x20, 1, 0xd, 0xb8, 15: 77}, packet.Addr4{192, 0, 2, 77}
	home6, _ := home{}.Source6(packet.Addr6{})
	home4, _ := home{}.Source4(packet.Addr4{})
	for name, c := range map[string]struct {
		change func(*Options)
		six    packet.Addr6
		four   packet.Addr4
	}{
		"configured":                {func(o *Options) { o.Config.Source6, o.Config.Source4 = own6, own4 }, own6, own4},
		"configured, none by route": {func(o *Options) { o.Routes, o.Config.Source6, o.Config.Source4 = onLink{}, own6, own4 }, own6, own4},
		"by route":                  {func(*Options) {}, home6, home4},
	} {
		sent := errorsOf(t, c.change)
		if len(sent) != 2 || !isError(sent[0].ip) || !isError(sent[1].ip) {
			t.Fatalf("%s: %d packets were sent, want two errors", name, len(sent))
		}
		if src := *packet.IPv6(sent[0].ip).Src(); src != c.six {
			t.Errorf("%s: the ICMPv6 error comes from %v", name, src)
		}
		if src := *packet.IPv4(sent[1].ip).Src(); src != c.four {
			t.Errorf("%s: the ICMP error comes from %v", name, src)
		}
	}
	if sent := errorsOf(t, func(o *Options) { o.Routes = onLink{} }); len(sent) != 0 {
		t.Errorf("%d errors were sent without an address to come from", len(sent))
	}
}

// A refusal waits for the link address of the packet's sender, and is counted without an error after too long a wait.
func TestRefusalWaitsForLinkAddress(t *testing.T) {
	var sent []caught
	now, woken := time.Duration(1), new(atomic.Bool)
	g := stillWith(t, func(o *Options) {
		a := asleep{woken: woken}
		o.Routes, o.Hops = a, func() Hops { return a }
		o.Clock = func() time.Duration { return now }
		o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &sent}, nil }
	})
	spent := udp6(1)
	spent[7] = 1
	w := g.workers[packet.V6]
	w.batch(frames([][]byte{spent}))
	if n := g.Counters.Drops(drop.HopLimit); n != 0 || w.parked.len() != 1 || len(sent) != 0 {
		t.Fatalf("%d packets are refused, %d wait, %d errors were sent", n, w.parked.len(), len(sent))
	}
	now += parkTime
	w.batch(nil)
	if n := g.Counters.Drops(drop.HopLimit); n != 1 || w.parked.len() != 0 || len(sent) != 0 {
		t.Errorf("too late %d packets are refused, %d wait, %d errors were sent", n, w.parked.len(), len(sent))
	}
	w.batch(frames([][]byte{spent}))
	woken.Store(true)
	w.batch(nil)
	if n := g.Counters.Drops(drop.HopLimit); n != 2 || len(sent) != 1 {
		t.Errorf("with the link address known %d packets are refused, %d errors were sent", n, len(sent))
	}
}

// narrow routes have a smaller MTU in IPv6 than a client sends.
type narrow struct{ home }

func (narrow) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1300}, false, drop.None
}

// A Packet Too Big about a packet that hairpins has the MTU of the link to the other client: what the sender's IPv6 packet may
// measure, not what its IPv4 form may.
func TestPacketTooBigForHairpinReportsIPv6MTU(t *testing.T) {
	var sent []caught
	g := stillWith(t, func(o *Options) {
		o.Routes, o.Hops = home{}, func() Hops { return narrow{} }
		o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &sent}, nil }
	})
	g.workers[packet.V6].batch(clients(1))
	mapped, _ := g.Bindings.Lookup6(packet.UDP, packet.Endpoint6{Addr: *packet.IPv6(udp6(1)).Src(), Port: 1})
	b := append(udp6(2), make([]byte, 1340)...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
	copy(packet.IPv6(b).Dst()[12:], mapped.Addr[:])
	u := b[packet.IPv6Len:]
	binary.BigEndian.PutUint16(u[2:], mapped.Port)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	sent = nil
	g.workers[packet.V6].batch(frames([][]byte{b}))
	if len(sent) != 1 || sent[0].ip[packet.IPv6Len] != 2 {
		t.Fatalf("%+v was sent, want a Packet Too Big", sent)
	}
	if mtu := binary.BigEndian.Uint32(sent[0].ip[packet.IPv6Len+4:]); mtu != 1300 {
		t.Errorf("the Packet Too Big has the MTU %d, want 1300", mtu)
	}
}
