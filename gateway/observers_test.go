package gateway

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/session"
)

// traffic is a port that receives packets of 1,000 flows of one direction all the time.
type traffic struct {
	side   packet.Family
	random *rand.Rand
}

func (p *traffic) Receive(fs []packet.Frame, _ time.Duration) (int, error) {
	time.Sleep(time.Millisecond) // leaves time to the others
	n := min(len(fs), batch)
	for i := range n {
		flow := uint16(p.random.IntN(1000))
		if p.side == packet.V6 {
			fs[i] = packet.Frame{Data: udp6(1 + flow)}
			continue
		}
		b := make([]byte, packet.IPv4Len+packet.UDPLen)
		packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP}, len(b), &packet.Addr4{198, 51, 100, 20}, &packet.Addr4{192, 0, 2, 1})
		binary.BigEndian.PutUint16(b[packet.IPv4Len:], 53)
		binary.BigEndian.PutUint16(b[packet.IPv4Len+2:], 1024+flow)
		binary.BigEndian.PutUint16(b[packet.IPv4Len+4:], packet.UDPLen)
		fs[i] = packet.Frame{Data: b}
	}
	return n, nil
}

func (*traffic) Wake()                              {}
func (*traffic) Gather(time.Duration)               {}
func (*traffic) Send(out []packet.Out) (int, error) { return len(out), nil }
func (*traffic) Drops() packet.Drops                { return packet.Drops{} }
func (*traffic) Close() error                       { return nil }

// Everything that looks at flows and packets does so while workers carry them and sessions end. The race detector watches.
func TestObserversRunWhileWorkersForward(t *testing.T) {
	g := stillWith(t, func(o *Options) {
		o.Max = 1 << 12
		o.Open = func(s packet.Family, _ bool) (Port, error) {
			return &traffic{s, rand.New(rand.NewPCG(uint64(s), 1))}, nil
		}
	})
	g.Sessions.Observe(session.KindsOf(session.SessionMade), func([]session.Event, uint64) {}).Close() // makes the rings, which takes long
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var seen [6]atomic.Int64
	repeat := func(i int, f func() int) {
		all.Go(func() {
			for ctx.Err() == nil {
				seen[i].Add(int64(f()))
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	repeat(0, func() (n int) { // accounts, and top that comes and goes
		g.SetAccounting(true)
		g.Accounts(func(Account) { n++ })
		time.Sleep(5 * time.Millisecond)
		g.Accounts(func(Account) { n++ })
		g.SetAccounting(false)
		return n
	})
	repeat(1, func() int { // a capture and traces that come and go
		return readTap(ctx, t, g, TapOptions{Snap: 100}) + readTap(ctx, t, g, TapOptions{Filter: Filter{Drops: true}})
	})
	repeat(2, func() int { // session follow
		got := make(chan int, 1)
		o := g.Sessions.Observe(session.KindsOf(session.SessionMade, session.SessionEnded), func(batch []session.Event, _ uint64) {
			select {
			case got <- len(batch):
			default:
			}
		})
		defer o.Close()
		select {
		case n := <-got:
			return n
		case <-ctx.Done():
			return 0
		}
	})
	repeat(3, func() int { // listings
		sessions, bindings := make([]session.Session, 100), make([]bib.Binding, 100)
		n, _ := g.Sessions.List(0, sessions, g.Now())
		m, _ := g.Bindings.List(0, bindings)
		g.Sessions.Population(g.Now())
		return min(n, m)
	})
	repeat(4, func() int { // explain
		if x := g.Explain(packet.V6, udp6(1+uint16(rand.IntN(1000)))); x.Fate == Forwarded {
			return 1
		}
		return 0
	})
	repeat(5, func() int { // session remove
		return g.Sessions.PurgeSessions(g.Now(), func(s *session.Session) bool { return s.Client.Port%3 == 0 })
	})
	for least := time.Now().Add(200 * time.Millisecond); ctx.Err() == nil && (time.Now().Before(least) || unseen(&seen)); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	all.Wait()
	for i := range seen {
		if seen[i].Load() == 0 {
			t.Errorf("observer %d has seen nothing", i)
		}
	}
}

// unseen reports whether an observer has seen nothing yet.
func unseen(seen *[6]atomic.Int64) bool {
	for i := range seen {
		if seen[i].Load() == 0 {
			return true
		}
	}
	return false
}

// readTap reads a tap once.
func readTap(ctx context.Context, t *testing.T, g *Gateway, o TapOptions) int {
	tap, err := g.Tap(o)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer tap.Close()
	list, _, err := tap.Read(ctx)
	if err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	return len(list)
}
