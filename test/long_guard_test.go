//go:build long

package test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/lab"
)

// TestLongChangesUnderLoad makes 500 changes and reloads during 100 busy connections, bulk TCP in each direction and
// a paced UDP flow. No connection is lost, and no datagram except those dropped by a full receive ring.
func TestLongChangesUnderLoad(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, guardedFile)
	serveEcho(t, l)
	before := counters(t, l.Gateway)
	b := makeBusy(t, l, 100)
	flood, err := l.Server.ServeFlood(lab.Server4 + ":9000")
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, d := range []lab.Direction{lab.Up, lab.Down} {
		running.Go(func() {
			if _, err := flood.Rate(ctx, l.Client, target+":9000", d, 1, 10*time.Minute); err != nil && ctx.Err() == nil {
				t.Errorf("bulk %c: %v", d, err)
			}
		})
	}
	sent, lost := pacedFlow(t, ctx, l, &running)
	began := time.Now()
	for i := range 500 {
		g.change(i)
	}
	t.Logf("500 changes in %v", time.Since(began))
	stop()
	running.Wait()
	b.end(t, l, before)
	if full := g.dropped("ring"); uint64(lost.Load()) > full {
		t.Errorf("%d of %d datagrams were lost, %d of them in a full ring", lost.Load(), sent.Load(), full)
	}
	t.Logf("%d datagrams, %d lost", sent.Load(), lost.Load())
	if n := g.repairs(); n != 0 {
		t.Errorf("%d repairs", n)
	}
}

// pacedFlow sends a datagram to the echo server every 2 ms until ctx is done, and counts those without a reply.
func pacedFlow(t *testing.T, ctx context.Context, l *lab.Lab, running *sync.WaitGroup) (sent, lost *atomic.Int64) {
	t.Helper()
	c, err := open(l, "udp", 0, service+5000)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	sent, lost = new(atomic.Int64), new(atomic.Int64)
	var back atomic.Int64
	running.Go(func() {
		for b := make([]byte, 64); ; back.Add(1) {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	})
	running.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if _, err := c.Write(make([]byte, 64)); err != nil {
				t.Error(err)
				break
			}
			sent.Add(1)
		}
		for end := time.Now().Add(2 * time.Second); back.Load() < sent.Load() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		lost.Store(sent.Load() - back.Load())
		_ = c.Close()
	})
	return sent, lost
}
