package icmp_test

import (
	"testing"
	"time"

	"nat64d/icmp"
)

var rates = icmp.Rates{PerDestination: 10, Total: 50, SizePerDestination: 5000}

func TestLimiterAllowsBurstThenRate(t *testing.T) {
	for k, burst := range map[icmp.Kind]int{icmp.Other: icmp.Burst, icmp.Hops: icmp.Burst} {
		var l icmp.Limiter
		sent := 0
		for i := range 10_000 { // equal packets, one per millisecond
			if l.Allow(k, 7, 1, rates, time.Duration(i)*time.Millisecond) {
				sent++
			}
		}
		if sent < 100 || sent > burst+10*10 {
			t.Errorf("kind %d: allowed %d errors in 10 s at 10 per second", k, sent)
		}
		if !l.Allow(k, 8, 1, rates, 10*time.Second) {
			t.Errorf("kind %d: another destination is limited too", k)
		}
	}
}

func TestLimiterAllowsTracerouteBurst(t *testing.T) {
	var l icmp.Limiter
	sent := 0
	for i := range uint32(1000) {
		if l.Allow(icmp.Hops, 7, i, icmp.Rates{PerDestination: 10, Total: 1000}, 0) {
			sent++
		}
	}
	if sent != icmp.ProbesBurst {
		t.Errorf("allowed %d of 1000 different probes at once, want %d", sent, icmp.ProbesBurst)
	}
}

func TestLimiterKindsAreIndependent(t *testing.T) {
	var l icmp.Limiter
	for i := range uint32(10_000) { // a sender with many addresses uses up the total
		l.Allow(icmp.Other, i, i, rates, 0)
		l.Allow(icmp.Hops, i, i, rates, 0)
	}
	for i := range uint32(5000) {
		if !l.Allow(icmp.Size, 7, i, rates, 0) {
			t.Fatalf("Size error %d was not allowed", i)
		}
	}
	if l.Allow(icmp.Size, 7, 0, rates, 0) {
		t.Error("Size errors have no limit")
	}
	if !l.Allow(icmp.Size, 8, 0, rates, 0) {
		t.Error("one destination uses up the tokens of another")
	}
}

func BenchmarkAllow(b *testing.B) {
	var l icmp.Limiter
	i := uint32(0)
	for b.Loop() {
		l.Allow(icmp.Hops, i, i, rates, 0)
		i++
	}
}

func TestLimiterLimitsTotal(t *testing.T) {
	for _, k := range []icmp.Kind{icmp.Other, icmp.Hops} {
		var l icmp.Limiter
		sent := 0
		for i := range uint32(1000) {
			if l.Allow(k, i, 0, rates, 0) {
				sent++
			}
		}
		if sent != 50 {
			t.Errorf("kind %d: allowed %d errors at once, want 50", k, sent)
		}
		if n := testing.AllocsPerRun(100, func() { l.Allow(k, 1, 1, rates, time.Hour) }); n != 0 {
			t.Errorf("kind %d: %v allocations", k, n)
		}
	}
}
