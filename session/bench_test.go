package session_test

import (
	"encoding/binary"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// server is to whom all flows of the benchmarks go.
var server = packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 443}

// flowOf returns the client of flow n: 64 ports of each address.
func flowOf(n uint32) (c packet.Endpoint6) {
	putFlow(&c, n)
	return c
}

func putFlow(c *packet.Endpoint6, n uint32) {
	binary.BigEndian.PutUint64(c.Addr[:], 0x20010db8<<32)
	binary.BigEndian.PutUint64(c.Addr[8:], uint64(n/64))
	c.Port = uint16(1024 + n%64)
}

// fill returns a gateway with n TCP connections, each through a binding of its own.
func fill(b testing.TB, n int) *gateway {
	g := large(b, n)
	for i := range n {
		g.establish(b, i)
	}
	return g
}

// scatter visits n flows in an order that no cache foresees.
func scatter(i, n int) int { return int(uint64(i) * 2654435761 % uint64(n)) }

// BenchmarkExistingFlowParallel lets all CPUs use different flows at once: nothing is shared but what is read.
func BenchmarkExistingFlowParallel(b *testing.B) {
	const n = 100_000
	g := fill(b, n)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			f := session.Flow{Proto: packet.TCP, Client: flowOf(uint32(scatter(i, n))), Remote: server}
			g.sessions.From6(&f, &session.Packet{Event: packet.Other, Now: 1})
		}
	})
}

// BenchmarkNewFlow makes sessions with bindings and ports: with no more than the default configuration asks for, with the
// limits of clients, and with address-dependent filtering. The sessions are ended, and swept away, in turns of 10,000; what
// that takes of each is a metric of its own.
func BenchmarkNewFlow(b *testing.B) {
	limits, filter := defaults, defaults
	limits.MaxPerClient, limits.MaxBindingsPerClient, limits.NewPerSecond = 1<<20, 1<<20, 1<<20
	filter.AddressDependent = true
	b.Run("plain", func(b *testing.B) { benchmarkNewFlow(b, defaults) })
	b.Run("limits", func(b *testing.B) { benchmarkNewFlow(b, limits) })
	b.Run("filter", func(b *testing.B) { benchmarkNewFlow(b, filter) })
}

func benchmarkNewFlow(b *testing.B, c session.Config) {
	g := newGateway(b, 1, 100_000, c, "192.0.2.0-192.0.2.31", "1024-65535")
	now := table.Time(0)
	b.ReportAllocs()
	i, ending := uint32(0), time.Duration(0)
	for b.Loop() {
		if _, r := g.from6(packet.UDP, flowOf(i), server, packet.Other, now); r != drop.None {
			b.Fatal(r)
		}
		if i++; i%10_000 == 0 {
			b.StopTimer()
			began := time.Now()
			now += seconds(301)
			g.sweep(now)
			ending += time.Since(began)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(ending.Nanoseconds())/float64(i), "ns/end")
}

// BenchmarkSweep has nothing to do; the time is that of one slot.
func BenchmarkSweep(b *testing.B) {
	const budget = 1000
	g := fill(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		g.sessions.Sweep(1, budget, func(session.Probe) {})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*budget), "ns/slot")
}
