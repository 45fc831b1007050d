//go:build linux

package lab

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// cableFrame is larger than any frame of a TAP device with its virtio_net_hdr.
	cableFrame = 128 << 10
	// cableRound is the number of frames that a cable carries in one direction before the switch serves another one.
	cableRound = 64
)

// Cable carries frames between the TAP devices of two namespaces, as a hypervisor does between the virtio NICs of two
// guests: a Switch reads each frame from one device and writes it to the other one together with its virtio_net_hdr,
// so that offloads work from end to end. A frame that the receiver has no room for waits, and later ones wait in the
// queue of the sender's device, which drops those that exceed it.
type Cable struct {
	ways [2]way // from the hub to the end, and back
	// filter returns false for a frame that the cable must not carry.
	filter atomic.Pointer[func(fromHub bool, frame []byte) bool]
}

// way is one direction of a cable.
type way struct {
	from, to int // descriptors
	frame    []byte
	waiting  int    // length of the frame that waits in frame, or 0
	events   uint32 // that the switch waits for on from
}

// newCable returns a cable between two descriptors of TAP devices. The switch that carries its frames closes them.
func newCable(hub, end int) *Cable {
	c := new(Cable)
	for i, fds := range [2][2]int{{hub, end}, {end, hub}} {
		c.ways[i] = way{from: fds[0], to: fds[1], frame: make([]byte, cableFrame)}
	}
	return c
}

// SetFilter makes the cable call f with each frame, which includes its virtio_net_hdr, and carry the frame only if f
// returns true. fromHub reports the direction. f must not keep the frame; it runs on the thread of the switch. SetFilter
// may be called while the cable carries frames.
func (c *Cable) SetFilter(f func(fromHub bool, frame []byte) bool) { c.filter.Store(&f) }

// WriteHub makes a frame, which begins with its virtio_net_hdr, arrive at the hub's device. A frame that the device has
// no room for is lost. It may be called concurrently, but not after the cable was closed.
func (c *Cable) WriteHub(frame []byte) error {
	_, err := unix.Write(c.ways[0].from, frame)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// carry moves frames in one direction. It reports whether both devices exist.
func (c *Cable) carry(i int) bool {
	w := &c.ways[i]
	filter := c.filter.Load()
	for range cableRound {
		if w.waiting == 0 {
			n, err := unix.Read(w.from, w.frame)
			if err != nil {
				return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
			}
			if filter != nil && !(*filter)(i == 0, w.frame[:n]) {
				continue
			}
			w.waiting = n
		}
		_, err := unix.Write(w.to, w.frame[:w.waiting])
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		w.waiting = 0 // a device that is down has dropped it
		if errors.Is(err, unix.EBADFD) {
			return false
		}
	}
	return true
}

// events returns what the switch must wait for on the sender of a way: its frames, unless one is waiting already, and
// room for a frame that waits in the other direction.
func (c *Cable) events(i int) (events uint32) {
	if c.ways[i].waiting == 0 {
		events |= unix.EPOLLIN
	}
	if c.ways[1-i].waiting > 0 {
		events |= unix.EPOLLOUT
	}
	return events
}
