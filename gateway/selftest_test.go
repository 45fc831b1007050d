package gateway

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"nat64d/pool6"
	"nat64d/session"
	"nat64d/xlat"
)

// The self-test passes with every length of prefix, whatever the configuration limits and denies.
func TestSelfTestPasses(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"64:ff9b::/96", "2001:db8:64::/32", "2001:db8:100::/40", "2001:db8:122::/48", "2001:db8:122:300::/56", "2001:db8:122:344::/64"} {
		prefix, err := pool6.ParsePrefix(p)
		if err != nil {
			t.Log(err)
			continue
		}
		c := Config{
			Pool6: []pool6.Prefix{prefix}, Xlat: xlat.Config{TOS: 5, TrafficClass: 7}, LowestIPv6MTU: 1280,
			Session: session.Config{MaxPerClient: 1, CheckSequence: true, AddressDependent: true, Timeouts: session.Timeouts{
				UDP: time.Minute, ICMP: time.Minute, TCPEstablished: time.Hour, TCPOpening: time.Minute, TCPTransitory: time.Minute,
			}},
		}
		if err := SelfTest(c, Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// A gateway that translates nothing fails the self-test: here it is paused.
func TestSelfTestReportsFailure(t *testing.T) {
	t.Parallel()
	o := Options{Log: slog.New(slog.DiscardHandler)}
	test, err := newSelfTest(&Config{LowestIPv6MTU: 1280}, o)
	if err != nil {
		t.Fatal(err)
	}
	test.g.Pause()
	if err := test.datagram(); err == nil || !strings.Contains(err.Error(), "0 packets left") {
		t.Errorf("a paused gateway passes: %v", err)
	}
}

// A worker that does not go round, and only that one, counts as stuck.
func TestStuckWorkerIsNamed(t *testing.T) {
	t.Parallel()
	now := time.Second
	g := stillWith(t, func(o *Options) { o.Clock = func() time.Duration { return now } })
	m := maintenance{Gateway: g}
	for range 3 {
		now += idleWait
		g.workers[0].batch(nil)
		m.run(t.Context(), now)
	}
	if got := g.Stuck(2 * idleWait); len(got) != 1 || got[0] != g.workers[1].name() {
		t.Errorf("stuck: %q, want only the worker of side %v", got, g.workers[1].side)
	}
}
