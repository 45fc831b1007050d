package dns64

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// A flood of random names exceeds neither the size of the caches nor the number of places, and has no more queries to upstreams
// under way than the places allow, however upstreams react.
func TestFloodOfRandomNames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		answer func(dns.ResponseWriter, *dns.Msg) *dns.Msg
	}{
		{"quick", zone(t, a7)},
		{"silent", silentUpstream},
		{"silent about A", func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeA {
				return nil
			}
			time.Sleep(2 * headStart)
			m := new(dns.Msg).SetReply(q)
			m.Answer = records(t, q.Question[0].Name+" 60 AAAA 2001:db8:f::1")
			return m
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t, startFake(t, row.answer).udp)
			c.InFlight = 10
			f, server := serve(t, c)
			var most atomic.Int64
			var clients sync.WaitGroup
			for i := range 8 {
				clients.Go(func() {
					flood(t, server, i, func() { most.Store(max(most.Load(), int64(len(c.Upstreams.sockets.all)))) })
				})
			}
			clients.Wait()
			// A cancelled query releases its socket shortly after its place. Without a bound there were hundreds.
			if n, bound := most.Load(), int64(2*(2*c.InFlight+c.InFlight/2)); n > bound || f.places.taken() > c.InFlight {
				t.Errorf("%d questions were under way at once, want %d at most", n, bound)
			}
			if n := len(f.Cached()); n > 2*c.Cache.Size {
				t.Errorf("%d answers are remembered", n)
			}
		})
	}
}

// flood asks about new names and waits only briefly for answers.
func flood(t *testing.T, server string, client int, look func()) {
	c, err := net.Dial("udp", server)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	b := make([]byte, 4096)
	for i := range 250 {
		if _, err := c.Write(packed(t, fmt.Sprintf("%d-%d.random.example.", client, i), nil)); err != nil {
			t.Error(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(4 * headStart))
		_, _ = c.Read(b) // it may be another's answer, or none
		look()
	}
}

// Concurrent identical questions share one query. A query without waiters continues, or is cancelled if there are too many of
// them.
func TestFlights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		var begun, cancelled atomic.Int64
		ask := func(name string, patience, takes time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := fs.wait(ctx, flightKey{Question: Question{Name: name}}, 1, func(ctx context.Context) (*entry, error) {
				begun.Add(1)
				select {
				case <-time.After(takes):
				case <-ctx.Done():
					cancelled.Add(1)
				}
				return nil, ctx.Err()
			})
			return err
		}
		go func() { _ = ask("a", time.Minute, 10*time.Second) }()
		time.Sleep(time.Second)
		if err := ask("a", time.Minute, time.Hour); err != nil || begun.Load() != 1 {
			t.Errorf("%v: %d questions for one, want 1", err, begun.Load())
		}
		_ = ask("b", time.Second, 10*time.Second) // continues without a waiter
		_ = ask("c", time.Second, 10*time.Second)
		if synctest.Wait(); cancelled.Load() != 1 || fs.unheard != 1 {
			t.Errorf("%d were cancelled, %d continue, want one of each", cancelled.Load(), fs.unheard)
		}
		if err := ask("b", time.Minute, time.Hour); err != nil || begun.Load() != 3 || fs.unheard != 0 {
			t.Errorf("%v: %d queries, %d without waiters; want to join the one that continues", err, begun.Load(), fs.unheard)
		}
		_ = ask("d", time.Second, 2*time.Second)
		time.Sleep(2 * time.Second)
		if synctest.Wait(); len(fs.flying) != 0 || fs.unheard != 0 || cancelled.Load() != 1 {
			t.Errorf("%d are under way after all, %d unheard, %d cancelled", len(fs.flying), fs.unheard, cancelled.Load())
		}
	})
}
