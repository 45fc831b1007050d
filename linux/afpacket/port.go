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

// Port receives packets from and sends them to one NIC. It does not allocate memory per packet. It is not safe for
// concurrent use.
//
// If the link of the NIC goes down and up again, the port continues to work: meanwhile it receives nothing, and Send
// refuses packets. If the NIC is deleted, the sockets become useless even if a NIC of that name is created again.
// Both methods then return an error: close the port and open another one.
type Port struct {
	name     string
	engine   Engine
	busy     time.Duration // Options.BusyPoll
	adaptive *busyPoller   // nil unless busy is AdaptivePoll
	fallback error
	bursts   bool
	noBursts error
	quiet    bool     // the last wait of Receive ended without packets
	rx       receiver // nil in a sender
	tx       *sender
	closed   bool
}

// receiver is the part of a port that depends on the engine.
type receiver interface {
	// take fills fs with available packets without waiting. It returns the memory of the previous call to the kernel.
	take(fs []packet.Frame) (int, error)
	// wait returns when there may be packets to take, after wake, or after d. It is quick if packets are likely to arrive soon,
	// and costs little if not: quiet.
	wait(d time.Duration, quiet bool) error
	// wake makes the wait under way, or else the next one, return before its time is over. Any goroutine may call it.
	wake()
	// base returns the engine's socket.
	base() *socket
	// close frees all resources.
	close() error
}

// Engine returns the engine in use. If the options specified Auto, it is the selected one. A sender returns the
// engine in its options.
func (p *Port) Engine() Engine { return p.engine }

// Fallback returns the reason why Auto did not select Ring, or nil.
func (p *Port) Fallback() error { return p.fallback }

// Bursts reports whether the port can pass several packets to the kernel at once.
func (p *Port) Bursts() bool { return p.bursts }

// NoBursts returns the reason why packets are sent one by one although the options allow bursts, or nil.
func (p *Port) NoBursts() error { return p.noBursts }

// Receive waits for packets for at most wait and fills fs with available packets, at most 64; n may be 0. The frames
// start after the Ethernet header and are valid until the next Receive or Close. An error means that the port must be
// closed and opened again.
//
// A waiting goroutine blocks its thread in the kernel while packets arrive: GOMAXPROCS must exceed the number of such
// goroutines. After some milliseconds without packets it waits in Go's network poller, until Wake, and does not busy-poll.
func (p *Port) Receive(fs []packet.Frame, wait time.Duration) (n int, err error) {
	rx := p.rx
	switch {
	case p.closed:
		return 0, p.fail(net.ErrClosed)
	case rx == nil:
		return 0, fmt.Errorf("afpacket: %s: a sender does not receive: use Open instead of OpenSender", p.name)
	}
	if n, err = rx.take(fs); n == 0 && err == nil && wait > 0 {
		n, err = p.await(rx, fs, wait)
	}
	if p.adaptive != nil {
		p.adaptive.received(n)
	}
	p.quiet = n == 0 && (p.quiet || wait > 0)
	// The kernel does not report the deletion of a NIC whose link was down before. Checking is cheap, and happens
	// only when there are no packets.
	if n == 0 && err == nil && rx.base().unbound() {
		err = errGone
	}
	return n, p.fail(err)
}

// Wake makes a Receive that waits return early, or else the next one that waits for more than some milliseconds. Any goroutine
// may call it; it has no effect on a closed port.
func (p *Port) Wake() {
	if p.rx != nil {
		p.rx.wake()
	}
}

// await polls, if the options say so, and then sleeps until there are packets to take.
func (p *Port) await(rx receiver, fs []packet.Frame, wait time.Duration) (n int, err error) {
	switch {
	case p.adaptive != nil:
		n, err = p.adaptive.poll(rx, fs, wait)
	case p.busy > 0 && !p.quiet:
		n, err = p.spin(rx, fs, min(wait, p.busy))
	}
	if n > 0 || err != nil {
		return n, err
	}
	if err = rx.wait(wait, p.quiet); err != nil {
		return 0, err
	}
	return rx.take(fs)
}

// spin polls for packets for d. It yields the processor to other threads, such as that of the other direction.
func (p *Port) spin(rx receiver, fs []packet.Frame, d time.Duration) (n int, err error) {
	for start := time.Now(); n == 0 && err == nil && time.Since(start) < d; {
		schedYield()
		n, err = rx.take(fs)
	}
	return n, err
}

// Gather sleeps for the short duration d, so that more packets arrive and are received in one batch. It bypasses the
// Go scheduler, and is as precise as the thread's timer slack (PR_SET_TIMERSLACK).
func (p *Port) Gather(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	nanosleep(&t)
}

// Send transmits the packets in order and returns how many the kernel refused, including packets coalesced into
// others. A refusal does not affect the others. Send writes the first packet.VnetLen bytes of each Head, and does not
// use Head and Payload after it returns. It does not wait: the kernel refuses a packet if the queue is full. An error
// means that the port must be closed and opened again.
func (p *Port) Send(out []packet.Out) (refused int, err error) {
	if p.closed {
		return packets(out), p.fail(net.ErrClosed)
	}
	refused, err = p.tx.send(out)
	return refused, p.fail(err)
}

// Drops returns how many packets have been lost since the port was opened, by reason.
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

// Close closes the port and frees the frames of its last Receive.
func (p *Port) Close() error {
	if p.closed {
		return nil
	}
	p.Drops() // a final read of the kernel's counter
	p.closed = true
	err := p.tx.close()
	if p.rx != nil {
		err = errors.Join(err, p.rx.close())
	}
	return p.fail(err)
}

// fail adds the port's name to an error.
func (p *Port) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("afpacket: %s: %w", p.name, err)
}
