package icmp_test

import (
	"testing"
	"time"

	"nat64d/icmp"
)

func TestLimiterLetsABurstAndThenTheRatePass(t *testing.T) {
	var l icmp.Limiter
	sent := 0
	for i := range 10_000 { // ten thousand packets in ten seconds
		if l.Allow(7, icmp.Rates{PerSource: 10}, time.Duration(i)*time.Millisecond) {
			sent++
		}
	}
	if sent < 100 || sent > icmp.Burst+10*10 {
		t.Errorf("%d errors were sent in ten seconds at ten a second", sent)
	}
	if !l.Allow(8, icmp.Rates{PerSource: 10}, 10*time.Second) {
		t.Error("another source has to wait")
	}
}

func BenchmarkAllow(b *testing.B) {
	var l icmp.Limiter
	i := uint32(0)
	for b.Loop() {
		l.Allow(i, icmp.Rates{PerSource: 10, Total: 50}, 0)
		i++
	}
}

func TestLimiterBoundsAllSourcesTogether(t *testing.T) {
	var l icmp.Limiter
	sent := 0
	for i := range uint32(1000) {
		if l.Allow(i, icmp.Rates{PerSource: 10, Total: 50}, 0) {
			sent++
		}
	}
	if sent != 50 {
		t.Errorf("%d errors were sent at once, want 50", sent)
	}
	if n := testing.AllocsPerRun(100, func() { l.Allow(1, icmp.Rates{PerSource: 10, Total: 50}, time.Hour) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
