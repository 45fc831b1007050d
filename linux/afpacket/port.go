//go:build linux

package afpacket

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// Port receives from and sends to one NIC. Nothing is allocated for a packet. One goroutine at a time may call its methods.
//
// A NIC whose link goes down and up again needs no care: meanwhile nothing is received and Send refuses. When the NIC
// itself has vanished, its sockets are of no more use even if a NIC of that name returns, and both methods say so with
// an error: close the port and open another.
type Port struct {
	name     string
	engine   Engine
	busy     time.Duration // Options.BusyPoll
	fallback error
	bursts   bool
	noBursts error
	rx       receiver // nil in a sender
	tx       *sender
	closed   bool
}

// receiver is what the engines differ in.
type receiver interface {
	// take fills fs with packets that are there and does not wait. It gives the memory of those it filled in before
	// back to the kernel.
	take(fs []packet.Frame) (int, error)
	// wait returns when there may be something to take, or when d has passed.
	wait(d time.Duration) error
	// base returns the engine's socket.
	base() *socket
	// close frees everything.
	close() error
}

// Engine returns the engine in use; if the options said Auto, the one that was chosen. A sender has nothing to choose
// and returns what the options said.
func (p *Port) Engine() Engine { return p.engine }

// Fallback returns the reason why Auto did not choose Ring. It is nil if there is none.
func (p *Port) Fallback() error { return p.fallback }

// Bursts says whether the port was opened so that packets that leave together are handed to the kernel together.
func (p *Port) Bursts() bool { return p.bursts }

// NoBursts returns the reason why packets are sent one by one although the options allow bursts, which cost less. It is nil
// if there is none.
func (p *Port) NoBursts() error { return p.noBursts }

// Receive waits at most wait for packets and fills fs with those that are there, at most 64; n may be 0. The frames hold
// what follows the Ethernet header, and are valid until the next Receive or Close. An error means that the port must be
// opened anew.
//
// A goroutine that waits keeps its thread in the kernel: GOMAXPROCS must exceed the number of such goroutines.
func (p *Port) Receive(fs []packet.Frame, wait time.Duration) (n int, err error) {
	rx := p.rx
	switch {
	case p.closed:
		return 0, p.fail(net.ErrClosed)
	case rx == nil:
		return 0, fmt.Errorf("afpacket: %s: a sender does not receive; it takes Open, not OpenSender", p.name)
	}
	n, err = rx.take(fs)
	if n == 0 && err == nil && wait > 0 && p.busy > 0 {
		n, err = p.spin(rx, fs, min(wait, p.busy))
	}
	if n == 0 && err == nil && wait > 0 {
		if err = rx.wait(wait); err == nil {
			n, err = rx.take(fs)
		}
	}
	// The kernel need not report that a NIC vanishes, for instance when its link was down before. Asking is cheap, and
	// is done only when there is nothing else to do.
	if n == 0 && err == nil && rx.base().unbound() {
		err = errGone
	}
	return n, p.fail(err)
}

// spin looks for packets for d. Others that want the processor, the thread of the other direction among them, get it in
// between.
func (p *Port) spin(rx receiver, fs []packet.Frame, d time.Duration) (n int, err error) {
	for start := time.Now(); n == 0 && err == nil && time.Since(start) < d; {
		schedYield()
		n, err = rx.take(fs)
	}
	return n, err
}

// Gather sleeps for d, which is to be short, so that packets come together and are received in one batch. It does not
// tell the Go scheduler, and is as exact as the thread's timer slack (PR_SET_TIMERSLACK).
func (p *Port) Gather(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	nanosleep(&t)
}

// Send transmits the packets in their order and returns how many the kernel refused, those that were joined to another among
// them; the others go on. It writes the
// first packet.VnetLen bytes of each Head, and needs neither Head nor Payload once it has returned. It does not wait:
// what finds a full queue is refused. An error means that the port must be opened anew.
func (p *Port) Send(out []packet.Out) (refused int, err error) {
	if p.closed {
		return packets(out), p.fail(net.ErrClosed)
	}
	refused, err = p.tx.send(out)
	return refused, p.fail(err)
}

// Drops returns how many packets have been lost since the port was opened, by the reason.
func (p *Port) Drops() packet.Drops {
	if p.rx == nil {
		return packet.Drops{}
	}
	s := p.rx.base()
	if p.closed {
		return s.lost
	}
	return s.drops()
}

// Close frees the port and the frames of its last Receive.
func (p *Port) Close() error {
	if p.closed {
		return nil
	}
	p.Drops() // for the last time from the kernel
	p.closed = true
	err := p.tx.close()
	if p.rx != nil {
		err = errors.Join(err, p.rx.close())
	}
	return p.fail(err)
}

// fail says which port an error is about.
func (p *Port) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("afpacket: %s: %w", p.name, err)
}
