package gateway

import (
	"time"

	"nat64d/packet"
)

// Port moves batches of packets between one network interface and the gateway. One goroutine at a time may call its
// methods. Implementations: the three engines of package afpacket, and the in-memory port of the tests.
type Port interface {
	// Receive waits at most wait for packets and fills fs with those that are there; n may be 0. The frames are
	// valid until the next Receive or Close. An error means that the port is of no more use, for instance because its NIC
	// has vanished.
	Receive(fs []packet.Frame, wait time.Duration) (n int, err error)
	// Gather lets packets come together for d; it may return at once.
	Gather(d time.Duration)
	// Send transmits the packets in their order and returns how many of them the kernel refused, each of More being one;
	// it sends the rest. An error means that the port is of no more use.
	Send(out []packet.Out) (refused int, err error)
	// Drops returns how many packets have arrived since the port was opened and were not handed over.
	Drops() packet.Drops
	// Close frees the port and the frames of its last Receive.
	Close() error
}
