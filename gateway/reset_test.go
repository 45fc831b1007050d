package gateway

import (
	"encoding/binary"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// segmentOf returns a TCP segment of a client without a session, with sequence number 1000 and acknowledgment 5000.
func segmentOf(flags byte, payload int) []byte {
	b := client([6]byte{0, 1, 0, 7, 9, 64}, make([]byte, payload))
	b[7] = 64
	tcp := b[packet.IPv6Len:]
	tcp[12], tcp[13] = packet.TCPLen/4<<4, flags
	b = b[:packet.IPv6Len+packet.TCPLen+payload]
	binary.BigEndian.PutUint16(b[4:], uint16(packet.TCPLen+payload))
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	binary.BigEndian.PutUint32(tcp[8:], 5000)
	return b
}

// A segment without a session is answered as RFC 9293 section 3.10.7.1 says, but no reset is, and nothing unless configured.
func TestResetAnswersUnknownSegment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		on       bool
		flags    byte
		payload  int
		want     byte // flags; 0: no answer
		seq, ack uint32
	}{
		{"off", false, packet.FlagACK, 10, 0, 0, 0},
		{"ACK with data", true, packet.FlagACK, 10, packet.FlagRST, 5000, 0},
		{"FIN and ACK", true, packet.FlagFIN | packet.FlagACK, 0, packet.FlagRST, 5000, 0},
		{"FIN with data", true, packet.FlagFIN, 10, packet.FlagRST | packet.FlagACK, 0, 1011},
		{"PSH with data", true, packet.FlagPSH, 7, packet.FlagRST | packet.FlagACK, 0, 1007},
		{"RST", true, packet.FlagRST, 0, 0, 0, 0},
		{"RST and ACK", true, packet.FlagRST | packet.FlagACK, 0, 0, 0, 0},
	} {
		var sent []caught
		g := stillWith(t, func(o *Options) {
			o.Config.ResetUnknownTCP = c.on
			o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &sent}, nil }
		})
		in := segmentOf(c.flags, c.payload)
		g.workers[packet.V6].batch(frames([][]byte{in}))
		if c.want == 0 {
			if len(sent) != 0 {
				t.Errorf("%s: answered", c.name)
			}
			continue
		}
		if len(sent) != 1 || sent[0].side != packet.V6 || !sent[0].good || g.Counters.Event(metrics.Reset) != 1 {
			t.Errorf("%s: answers %+v", c.name, sent)
			continue
		}
		var v, from packet.View
		if v.Parse6(sent[0].ip) != drop.None || v.Headers6() != drop.None || from.Parse6(in) != drop.None || from.Headers6() != drop.None {
			t.Fatalf("%s: malformed: %x", c.name, sent[0].ip)
		}
		tcp := v.Transport()
		seq, ack := binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
		if tcp[13] != c.want || seq != c.seq || ack != c.ack {
			t.Errorf("%s: flags %x, seq %d, ack %d", c.name, tcp[13], seq, ack)
		}
		if *v.IP6().Src() != *from.IP6().Dst() || *v.IP6().Dst() != *from.IP6().Src() || v.SrcPort != from.DstPort || v.DstPort != from.SrcPort {
			t.Errorf("%s: the answer has other addresses: %x", c.name, sent[0].ip)
		}
	}
}

// Resets are limited, also without limits of ICMP errors.
func TestResetsAreLimited(t *testing.T) {
	t.Parallel()
	g := stillWith(t, func(o *Options) {
		o.Config.ResetUnknownTCP = true
		o.Clock = func() time.Duration { return time.Minute }
	})
	for range 2 * resetRates.PerDestination {
		g.workers[packet.V6].batch(frames([][]byte{segmentOf(packet.FlagACK, 0)}))
	}
	sent, limited := g.Counters.Event(metrics.Reset), g.Counters.Event(metrics.ResetLimited)
	if sent == 0 || sent > uint64(resetRates.PerDestination) || sent+limited != uint64(2*resetRates.PerDestination) {
		t.Errorf("%d resets sent, %d not", sent, limited)
	}
}
