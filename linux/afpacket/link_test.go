//go:build linux

package afpacket_test

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
)

// idle checks that Receive returns no packets and no error, and sleeps. One or two calls may return early, because
// the link went down or because of a signal.
func idle(t *testing.T, p *afpacket.Port) {
	t.Helper()
	const wait, times, early = 20 * time.Millisecond, 6, 3
	fs := make([]packet.Frame, 8)
	start := time.Now()
	for range times {
		if n, err := p.Receive(fs, wait); n != 0 || err != nil {
			t.Fatalf("Receive: %d, %v; want nothing", n, err)
		}
	}
	if d := time.Since(start); d < (times-early)*wait {
		t.Fatalf("%d idle waits of %v took only %v", times, wait, d)
	}
}

func TestLinkDownAndUp(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.open(t, o), right.open(t, o)
		out := left.to(right, unix.ETH_P_IPV6, small(1, 30), packet.Offload{})
		for range 2 {
			send(t, tx, out)
			expect(t, rx, small(1, 30))

			ok(t, right.links.LinkSetDown(right.link(t)))
			ok(t, left.links.LinkSetDown(left.link(t)))
			idle(t, rx)
			if refused, err := tx.Send([]packet.Out{out, out, out}); refused != 3 || err != nil {
				t.Fatalf("Send with the link down: %d, %v; want 3 refused", refused, err)
			}
			ok(t, right.links.LinkSetUp(right.link(t)))
			ok(t, left.links.LinkSetUp(left.link(t)))
			right.awaitUp(t)
			left.awaitUp(t)
		}
		send(t, tx, out)
		expect(t, rx, small(1, 30))
	})
}

// The notification that the link is down arrives while large frames wait in the queue.
func TestLinkDownAmongSuperPackets(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		witness := right.open(t, o) // receives the packets after rx, because the kernel serves packet sockets in reverse order of their creation
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		for i := range 4 {
			ip, offload := super(i, 30000+i)
			send(t, tx, left.to(right, unix.ETH_P_IPV6, ip, offload))
		}
		collect(t, witness, 4)
		ok(t, right.links.LinkSetDown(right.link(t)))
		for i, got := range collect(t, rx, 4) {
			if want, _ := super(i, 30000+i); !bytes.Equal(got.data, want) {
				t.Fatalf("packet %d has %d bytes, want %d", i, len(got.data), len(want))
			}
		}
	})
}

func TestOpenedWhileLinkDown(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		ok(t, right.links.LinkSetDown(right.link(t)))
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		idle(t, rx)
		ok(t, right.links.LinkSetUp(right.link(t)))
		right.awaitUp(t)
		left.awaitUp(t)
		send(t, tx, left.to(right, unix.ETH_P_IPV6, small(1, 30), packet.Offload{}))
		expect(t, rx, small(1, 30))
	})
}

// TestDeletion deletes a NIC whose link is up, and one whose link has been down for a while, which the kernel does
// not report to a socket.
func TestDeletion(t *testing.T) {
	for _, down := range []bool{false, true} {
		name := map[bool]string{false: "up", true: "down"}[down]
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
				p := left.open(t, o)
				if down {
					ok(t, left.links.LinkSetDown(left.link(t)))
					idle(t, p)
				}
				ok(t, left.links.LinkDel(left.link(t)))
				poll(t, "error of Receive", func() bool {
					n, err := p.Receive(make([]packet.Frame, 8), 10*time.Millisecond)
					return n == 0 && err != nil
				})
				out := left.to(right, unix.ETH_P_IPV6, small(1, 30), packet.Offload{})
				if refused, err := p.Send([]packet.Out{out, out}); refused != 2 || err == nil {
					t.Fatalf("Send: %d, %v; want 2 refused and an error", refused, err)
				}
			})
		})
	}
}
