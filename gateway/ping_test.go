package gateway

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
)

var (
	pinged     = netip.AddrFrom4(testPeer)
	pingConfig = Config{LowestIPv6MTU: 1280, Session: session.Config{Timeouts: session.Timeouts{ICMP: time.Minute}}}
)

// pinging returns a gateway in memory, and the IPv4 packet of a ping that it has sent; results receives the result of Ping.
func pinging(t *testing.T, size int) (s *selfTest, request []byte, results chan Pong) {
	t.Helper()
	s, err := newSelfTest(&pingConfig, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.g.Pool4.Add([]pool4.Entry{{Addr: testPool, Proto: packet.ICMP, Lo: 0, Hi: 65535}}); err != nil {
		t.Fatal(err)
	}
	results = make(chan Pong, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		p, err := s.g.Ping(ctx, pinged, size)
		if err != nil {
			p.Dropped = drop.Count
		}
		results <- p
	}()
	for end := time.Now().Add(5 * time.Second); !s.g.workers[packet.V6].hasPings(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no ping is waiting")
		}
	}
	s.g.workers[packet.V6].batch(nil)
	sent := s.ports[packet.V4].sent
	if len(sent) != 1 {
		t.Fatalf("%d packets left", len(sent))
	}
	o := sent[0]
	return s, append(append([]byte(nil), o.Head[packet.Headroom:]...), o.Payload...), results
}

// echoReply returns the answer of the host.
func echoReply(request []byte) []byte {
	b := append([]byte(nil), request...)
	src, dst := *packet.IPv4(request).Dst(), *packet.IPv4(request).Src()
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumICMP}, len(b), &src, &dst)
	m := b[packet.IPv4Len:]
	m[0], m[2], m[3] = packet.EchoReply4, 0, 0
	binary.BigEndian.PutUint16(m[2:], packet.Sum(0).Bytes(m).Checksum())
	return b
}

func TestPingIsSentAndAnswered(t *testing.T) {
	t.Parallel()
	s, request, results := pinging(t, 1500)
	var v packet.View
	if v.Parse4(request) != drop.None || v.Transport4() != drop.None || len(request) != 1500 || !v.IP4().DF() || *v.IP4().Dst() != testPeer {
		t.Fatalf("the request is %x", request[:40])
	}
	s.g.workers[packet.V4].batch([]packet.Frame{{Data: echoReply(request)}})
	if p := <-results; p.Dropped != drop.None || p.Refused {
		t.Errorf("got %+v", p)
	}
	if n := len(s.ports[packet.V6].sent); n != 0 {
		t.Errorf("%d packets left to the IPv6 side", n)
	}
}

func TestPingReportsFragmentationNeeded(t *testing.T) {
	t.Parallel()
	s, request, results := pinging(t, 1500)
	const router = 28
	b := make([]byte, packet.IPv4Len+packet.ICMPLen+packet.IPv4Len+8)
	src, dst := packet.Addr4{203, 0, 113, 1}, *packet.IPv4(request).Src()
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumICMP}, len(b), &src, &dst)
	m := b[packet.IPv4Len:]
	m[0], m[1] = 3, 4
	binary.BigEndian.PutUint16(m[6:], 1400)
	copy(m[packet.ICMPLen:], request[:router])
	binary.BigEndian.PutUint16(m[2:], packet.Sum(0).Bytes(m).Checksum())
	s.g.workers[packet.V4].batch([]packet.Frame{{Data: b}})
	if p := <-results; !p.Refused || p.MTU != 1400 || p.From != netip.AddrFrom4(src) || p.Type != 3 || p.Code != 4 {
		t.Errorf("got %+v", p)
	}
}

// An answer with another random number, as an attacker would guess it, does not count.
func TestPingIgnoresForgedAnswer(t *testing.T) {
	t.Parallel()
	s, request, results := pinging(t, 84)
	forged := append([]byte(nil), request...)
	forged[packet.IPv4Len+packet.ICMPLen] ^= 1
	s.g.workers[packet.V4].batch([]packet.Frame{{Data: echoReply(forged)}})
	select {
	case p := <-results:
		t.Errorf("got %+v", p)
	default:
	}
	s.g.workers[packet.V4].batch([]packet.Frame{{Data: echoReply(request)}})
	if p := <-results; p.Dropped != drop.None {
		t.Errorf("got %+v", p)
	}
}

func TestPingRefusesWrongArguments(t *testing.T) {
	t.Parallel()
	s, err := newSelfTest(&pingConfig, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{MinPing - 1, MaxPing + 1} {
		if _, err := s.g.Ping(t.Context(), pinged, size); err == nil {
			t.Errorf("%d bytes are accepted", size)
		}
	}
	if _, err := s.g.Ping(t.Context(), netip.IPv6Loopback(), 84); err == nil {
		t.Error("an IPv6 address is accepted")
	}
}
