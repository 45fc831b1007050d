package gateway

import (
	"encoding/binary"
	"testing"

	"nat64d/ops/metrics"
	"nat64d/packet"
)

// Translating a Fragmentation Needed does not allocate, including the look-up of the path MTU.
func TestTranslatingErrorsDoesNotAllocate(t *testing.T) {
	g := still(t)
	g.workers[packet.V6].batch(clients(1))
	answer := packet.IPv4(answers(t, g, 1)[0])
	b := make([]byte, packet.IPv4Len+packet.ICMPLen+packet.IPv4Len+packet.UDPLen)
	router := packet.Addr4{198, 51, 100, 1}
	packet.IPv4(b).Put(packet.Fields4{TTL: 60, Proto: packet.NumICMP}, len(b), &router, answer.Dst())
	icmp := b[packet.IPv4Len:]
	icmp[0], icmp[1] = 3, 4
	binary.BigEndian.PutUint16(icmp[6:], 1300)
	quote := icmp[packet.ICMPLen:]
	packet.IPv4(quote).Put(packet.Fields4{TTL: 60, Proto: packet.NumUDP}, 1400, answer.Dst(), answer.Src())
	copy(quote[packet.IPv4Len:], answer[packet.IPv4Len+2:packet.IPv4Len+4])
	copy(quote[packet.IPv4Len+2:], answer[packet.IPv4Len:packet.IPv4Len+2])
	binary.BigEndian.PutUint16(icmp[2:], packet.Sum(0).Bytes(icmp).Checksum())
	fs := frames([][]byte{b})
	if n := testing.AllocsPerRun(100, func() { g.workers[packet.V4].batch(fs) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if p, _ := g.Counters.Traffic(metrics.From4To6); p < 100 {
		t.Errorf("%d errors were translated", p)
	}
}
