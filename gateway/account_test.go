package gateway

import (
	"encoding/binary"
	"testing"
	"time"

	"nat64d/ops/metrics"
	"nat64d/packet"
)

// total adds up the accounts of all workers.
func total(g *Gateway) map[packet.Addr6]Account {
	all := map[packet.Addr6]Account{}
	g.Accounts(func(a Account) {
		sum := all[a.Client]
		for d := range sum.Packets {
			sum.Packets[d] += a.Packets[d]
			sum.Bytes[d] += a.Bytes[d]
		}
		all[a.Client] = sum
	})
	return all
}

// Accounts count packets and bytes of a client in both directions, only while accounting is on, and begin with zero.
func TestAccountsCountWhileOn(t *testing.T) {
	g := still(t)
	six, four := g.workers[packet.V6], g.workers[packet.V4]
	out := clients(batch)
	six.batch(out)
	in := frames(answers(t, g, batch))
	if len(total(g)) != 0 {
		t.Error("traffic is counted although accounting is off")
	}
	for range 2 {
		g.SetAccounting(true)
		g.SetAccounting(true) // keeps what is counted
		six.batch(out)
		four.batch(in)
		four.batch(in)
		all := total(g)
		a := all[*packet.IPv6(out[0].Data).Src()]
		if len(all) != 1 || a.Packets != [2]uint64{batch, 2 * batch} ||
			a.Bytes[metrics.From6To4] != uint64(batch*len(out[0].Data)) || a.Bytes[metrics.From4To6] != uint64(2*batch*len(in[0].Data)) {
			t.Errorf("%d clients, %+v", len(all), a)
		}
		g.SetAccounting(false)
	}
}

func TestAccountingDoesNotAllocate(t *testing.T) {
	g := still(t)
	g.SetAccounting(true)
	forwardingAllocatesNothing(t, g)
}

// With more clients than places, the ones that have been silent the longest are forgotten.
func TestAccountsAreBounded(t *testing.T) {
	t.Parallel()
	a := accounts{sets: make([][accountWays]account, accountSets)}
	client := func(n uint64) *packet.Addr6 {
		var c packet.Addr6
		binary.BigEndian.PutUint64(c[8:], n)
		return &c
	}
	const n = 4 * accountSets * accountWays
	for i := range uint64(n) {
		a.add(client(i), metrics.From6To4, 100, time.Duration(i)*time.Second)
		a.add(client(n), metrics.From4To6, 1, time.Duration(i)*time.Second) // is never silent
	}
	count, recent := 0, 0
	a.each(func(x Account) {
		count++
		id := binary.BigEndian.Uint64(x.Client[8:])
		if id == n && x.Packets[metrics.From4To6] != n {
			t.Errorf("of %d packets %d are counted", n, x.Packets[metrics.From4To6])
		}
		if id >= n/2 {
			recent++
		}
	})
	if count != accountSets*accountWays || recent < count*9/10 {
		t.Errorf("%d places, want %d; %d of recent clients", count, accountSets*accountWays, recent)
	}
}

// What accounting costs a packet: run with and without.
func BenchmarkAccounting(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(map[bool]string{false: "off", true: "on"}[on], func(b *testing.B) {
			g := still(b)
			g.SetAccounting(on)
			w, fs := g.workers[packet.V6], clients(batch)
			for b.Loop() {
				w.batch(fs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
		})
	}
}
