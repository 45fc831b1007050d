package gateway

import (
	"time"

	"nat64d/packet"
)

// Port transfers batches of packets between a network interface and the gateway. It need not be safe for concurrent
// use. Implementations: the three engines of package afpacket, and the in-memory port of the tests.
type Port interface {
	// Receive waits for packets for at most wait and fills fs with available ones; n may be 0. The frames are valid
	// until the next Receive or Close. An error means that the port is unusable, for example because its NIC was
	// deleted.
	Receive(fs []packet.Frame, wait time.Duration) (n int, err error)
	// Wake makes a Receive that waits return early, or else the next one that waits for long. Any goroutine may call it, also
	// after Close.
	Wake()
	// Gather waits for more packets for d; it may return immediately.
	Gather(d time.Duration)
	// Send transmits the packets in their order and returns how many of them the kernel refused, each of More being one;
	// it sends the rest. An error means that the port is of no more use.
	Send(out []packet.Out) (refused int, err error)
	// Drops returns how many packets have arrived since the port was opened and were not delivered.
	Drops() packet.Drops
	// Close frees the port and the frames of its last Receive.
	Close() error
}
