package test

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/gateway"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
)

func TestLimits(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"LIM-02": limitsAreLogged,
		"LIM-01": sessionsPerBinding, // and C68-05
	})
}

func sessionsPerBinding(t *testing.T) {
	s := newSetting(t, with(func(c *session.Config) { c.MaxPerBinding = 5 }))
	server := func(host byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, host}) }
	port := uint16(0)
	for host := range byte(8) {
		got := s.send(packet.V6, ip6(clientAddr, behind64(server(host)), packet.NumUDP, udp(40000, 53, 4)))
		if host < 5 {
			port = sport(t, got)
		} else {
			icmp6(t, got, 1, 3)
		}
	}
	nothing(t, s.send(packet.V4, ip4(server(6), poolAddr, packet.NumUDP, udp(53, port, 4))))
	if n := s.Counters.Drops(drop.BindingSessions); n != 4 {
		t.Errorf("%d refusals were counted, want 4", n)
	}
	only(t, s.send(packet.V4, ip4(server(1), poolAddr, packet.NumUDP, udp(53, port, 4))), packet.V6) // existing flows continue
	if n := newFlows(t, s, clientAddr, 2000, 5); n != 5 {
		t.Errorf("%d flows through other bindings of the client passed, want 5", n)
	}
}

// limitsAreLogged uses all ports of pool4 and most of the memory for fragments.
func limitsAreLogged(t *testing.T) {
	log := new(lines)
	o := ordinary()
	o.log, o.ports = slog.New(slog.NewTextHandler(log, nil)), "7000-7009"
	o.conf = func(c *gateway.Config) {
		c.Fragments = fragment.Limits{Time: 2 * time.Second, Bytes: 128 << 10, PerSourceBytes: 128 << 10, PerSource: 100}
	}
	s := newSetting(t, o)
	s.advance(time.Second)
	tell := func(e metrics.Event, n uint64, text string) {
		t.Helper()
		s.advance(time.Second)
		s.eventually(t, func() bool { return s.Counters.Event(e) == n })
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log lacks %q:\n%s", text, log)
		}
	}
	newFlows(t, s, clientAddr, 2000, 8)
	tell(metrics.LimitNear, 1, `limit="udp ports of pool4" used=8 of=10`)
	newFlows(t, s, clientAddr, 3000, 4)
	tell(metrics.LimitReached, 1, "no free port is left in pool4: new flows are refused; add ports or addresses, or set sessions.reclaim to when_full\" count=2")
	alone := datagram6(secondClient)
	for id := range uint32(60) {
		nothing(t, s.send(packet.V6, fragment6(alone, id, 0, 512)))
	}
	tell(metrics.LimitNear, 2, `limit="fragment memory"`)
}

// lines is a log that can be read concurrently with writes.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what has been written.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
