//go:build linux

package afpacket_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
)

const (
	short = 20 * time.Millisecond // long enough for Receive to wait in the network poller
	long  = 10 * patience         // a Receive that takes it has not been woken
)

// quiet makes a port expect no packets, so that it waits in the network poller from the start.
func quiet(tb testing.TB, p *afpacket.Port) {
	tb.Helper()
	if n, err := p.Receive(make([]packet.Frame, 8), short); n != 0 || err != nil {
		tb.Fatalf("Receive: %d, %v; want nothing", n, err)
	}
}

// awaitNothing checks that Receive returns no packets and no error long before its time is over.
func awaitNothing(tb testing.TB, p *afpacket.Port) {
	tb.Helper()
	start := time.Now()
	n, err := p.Receive(make([]packet.Frame, 8), long)
	if n != 0 || err != nil {
		tb.Fatalf("Receive: %d, %v; want nothing", n, err)
	}
	if d := time.Since(start); d > patience {
		tb.Fatalf("Receive returned after %v", d)
	}
}

// A packet ends a wait in the network poller, as often as one comes, and also if it has come before.
func TestPacketEndsLongWait(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		fs := make([]packet.Frame, 8)
		for i := range 4 {
			quiet(t, rx)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				time.Sleep(time.Duration(i) * short / 2) // before the wait, or during it
				_, _ = tx.Send([]packet.Out{left.to(right, unix.ETH_P_IPV6, small(i, 30), packet.Offload{})})
			}()
			start := time.Now()
			n, err := rx.Receive(fs, long)
			if d := time.Since(start); n != 1 || err != nil || d > patience {
				t.Fatalf("packet %d: Receive: %d, %v after %v", i, n, err, d)
			}
			<-sent
		}
	})
}

func TestWakeEndsReceive(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, _, right *end) {
		rx := right.open(t, o)
		for range 2 {
			rx.Wake() // before the wait
			awaitNothing(t, rx)
			time.AfterFunc(short, rx.Wake)
			awaitNothing(t, rx)
		}
		quiet(t, rx)
		ok(t, rx.Close())
		rx.Wake()
	})
}

// Wakes may come at any moment of a wait, and none is lost.
func TestWakeMeetsReceive(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, _, right *end) {
		rx := right.open(t, o)
		quiet(t, rx)
		wanted, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for range wanted {
				rx.Wake()
			}
		}()
		for range 500 {
			wanted <- struct{}{}
			awaitNothing(t, rx)
		}
		close(wanted)
		<-done
	})
}

// The link goes down, because the NIC is deleted, while the port waits in the network poller. The kernel does not report the
// deletion itself.
func TestDeletedNICEndsLongWait(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, _, right *end) {
		rx := right.open(t, o)
		quiet(t, rx)
		time.AfterFunc(short, func() { _ = right.links.LinkDel(right.link(t)) })
		fs, start := make([]packet.Frame, 8), time.Now()
		n, err := rx.Receive(fs, long)
		if d := time.Since(start); n != 0 || d > patience {
			t.Fatalf("Receive: %d packets after %v; want none", n, d)
		}
		poll(t, "error", func() bool {
			if err == nil {
				_, err = rx.Receive(fs, short)
			}
			return err != nil
		})
	})
}

func TestLongWaitDoesNotAllocate(t *testing.T) {
	_, right := newWire(t)
	for _, e := range []afpacket.Engine{afpacket.Ring, afpacket.Mmsg} {
		rx := right.open(t, afpacket.Options{Family: packet.V6, Engine: e})
		fs := make([]packet.Frame, 8)
		quiet(t, rx)
		if n := testing.AllocsPerRun(5, func() { _, _ = rx.Receive(fs, short) }); n != 0 {
			t.Errorf("%v: %v allocations for a long wait", e, n)
		}
	}
}
