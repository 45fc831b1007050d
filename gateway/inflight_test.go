package gateway

import (
	"bytes"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// A stored SYN contains the packet as its sender sent it: for a hairpinned one the IPv6 packet, without link padding.
func TestReceivedReturnsIPv6FormOfHairpin(t *testing.T) {
	t.Parallel()
	six, four := udp6(1), synTo4(packet.Addr4{198, 51, 100, 20}, packet.Addr4{192, 0, 2, 1})
	padded := append(bytes.Clone(six), 0, 0)
	for name, c := range map[string]struct {
		p    inflight
		want []byte
	}{
		"IPv4":                       {inflight{arrived: packet.Frame{Data: append(bytes.Clone(four), 0)}, view: packet.View{Data: four}}, four},
		"hairpin":                    {inflight{arrived: packet.Frame{Data: padded}, view: packet.View{Data: four}, hairpin: true}, six},
		"IPv6 that does not hairpin": {inflight{arrived: packet.Frame{Data: padded}, view: packet.View{Data: six}}, six},
	} {
		if got := c.p.received(); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
}

// owner is home that owns all IPv4 addresses.
type owner struct{ home }

func (owner) Local4(packet.Addr4) bool { return true }

// An unreadable ICMP error is counted correctly, whatever the previous error quoted.
func TestUnreadableErrorAfterOther(t *testing.T) {
	g := stillWith(t, func(o *Options) { o.Routes = owner{} })
	broken := icmpError4(packet.NumTCP)
	broken[packet.IPv4Len+2] ^= 1                          // its checksum
	for _, before := range [][]byte{nil, icmpError4(50)} { // of ESP, which only the host uses
		if before != nil {
			g.workers[packet.V4].batch(frames([][]byte{before}))
		}
		count := g.Counters.Drops(drop.ICMPChecksum)
		g.workers[packet.V4].batch(frames([][]byte{broken}))
		if n := g.Counters.Drops(drop.ICMPChecksum) - count; n != 1 {
			t.Errorf("behind %x: %d errors are counted as unreadable, want 1", before, n)
		}
	}
	if n := g.Counters.Drops(drop.NotPool4); n != 1 {
		t.Errorf("%d errors are the host's, want 1", n)
	}
}

// icmpError4 returns a Destination Unreachable to 192.0.2.1 about a packet of that protocol.
func icmpError4(number uint8) []byte {
	b := make([]byte, packet.IPv4Len+packet.ICMPLen+packet.IPv4Len+packet.UDPLen)
	router, pool, peer := packet.Addr4{198, 51, 100, 1}, packet.Addr4{192, 0, 2, 1}, packet.Addr4{198, 51, 100, 20}
	packet.IPv4(b).Put(packet.Fields4{TTL: 60, Proto: packet.NumICMP}, len(b), &router, &pool)
	icmp := b[packet.IPv4Len:]
	icmp[0], icmp[1] = 3, 1
	packet.IPv4(icmp[packet.ICMPLen:]).Put(packet.Fields4{TTL: 60, Proto: number}, packet.IPv4Len+packet.UDPLen, &pool, &peer)
	c := packet.Sum(0).Bytes(icmp).Checksum()
	icmp[2], icmp[3] = byte(c>>8), byte(c)
	return b
}
