//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// cableFrame is larger than any frame of a TAP device with its virtio_net_hdr.
	cableFrame = 128 << 10
	// cableRound is the number of frames that a cable carries in one direction before it looks after the other one.
	cableRound = 64
)

// Cable carries frames between the TAP devices of two namespaces, as a hypervisor does between the virtio NICs of two
// guests: it reads each frame from one device and writes it to the other one together with its virtio_net_hdr, so
// that offloads work from end to end. A frame that the receiver has no room for waits, and later ones wait in the
// queue of the sender's device, which drops those that exceed it. A cable is a thread that sleeps while there are no
// frames. Its methods may be called concurrently.
type Cable struct {
	ways  [2]way // from the hub to the end, and back
	epoll int
	stop  int        // an eventfd
	tid   int        // of the thread
	done  chan error // receives the result of the thread
	close func() error
	// filter returns false for a frame that the cable must not carry.
	filter atomic.Pointer[func(fromHub bool, frame []byte) bool]
}

// way is one direction of a cable.
type way struct {
	from, to int // descriptors
	frame    []byte
	waiting  int    // length of the frame that waits in frame, or 0
	events   uint32 // that epoll watches for on from
}

// newCable starts a cable between two descriptors of TAP devices and becomes their owner.
func newCable(hub, end int) (c *Cable, err error) {
	c = &Cable{epoll: -1, stop: -1, done: make(chan error, 1)}
	for i, fds := range [2][2]int{{hub, end}, {end, hub}} {
		c.ways[i] = way{from: fds[0], to: fds[1], frame: make([]byte, cableFrame), events: unix.EPOLLIN}
	}
	c.close = sync.OnceValue(c.end)
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		c.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	for _, fd := range []int{hub, end, c.stop} {
		if err == nil {
			err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cable: %w", err), c.closeAll())
	}
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread may have been pinned
		c.tid = unix.Gettid()
		close(started)
		c.done <- c.run()
	}()
	<-started
	return c, nil
}

// Pin restricts the cable to a processor.
func (c *Cable) Pin(cpu int) error {
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(c.tid, &only); err != nil {
		return fmt.Errorf("cable: processor %d: %w", cpu, err)
	}
	return nil
}

// SetFilter makes the cable call f with each frame, which includes its virtio_net_hdr, and carry the frame only if f
// returns true. fromHub reports the direction. f must not keep the frame; it runs on the thread of the cable.
func (c *Cable) SetFilter(f func(fromHub bool, frame []byte) bool) { c.filter.Store(&f) }

// HubFile returns another descriptor of the hub's device, for a program that writes frames to it. The device exists
// until this descriptor is closed as well.
func (c *Cable) HubFile() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(c.ways[0].from), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), tunDevice), nil
}

// Close stops the cable and removes both devices. It may be called more than once.
func (c *Cable) Close() error { return c.close() }

func (c *Cable) end() error {
	_, err := unix.Write(c.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	if err != nil {
		return fmt.Errorf("cable: %w", err) // closing the descriptors of a running thread would be unsafe
	}
	return errors.Join(<-c.done, c.closeAll())
}

func (c *Cable) closeAll() error {
	var errs []error
	for _, fd := range []int{c.ways[0].from, c.ways[1].from, c.stop, c.epoll} {
		if fd >= 0 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
	}
	return errors.Join(errs...)
}

// run carries frames until the cable is stopped or one of the devices has been deleted.
func (c *Cable) run() error {
	for events := make([]unix.EpollEvent, 3); ; {
		n, err := unix.EpollWait(c.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range events[:max(0, n)] {
			if int(e.Fd) == c.stop {
				return nil
			}
		}
		for i := range c.ways {
			if !c.carry(i) {
				return nil
			}
		}
		if err := c.watch(); err != nil {
			return err
		}
	}
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

// watch makes epoll wait for room at the receiver of a frame that waits, instead of for further frames of its sender.
func (c *Cable) watch() error {
	for i := range c.ways {
		w, back := &c.ways[i], &c.ways[1-i]
		events := uint32(0)
		if w.waiting == 0 {
			events |= unix.EPOLLIN
		}
		if back.waiting > 0 {
			events |= unix.EPOLLOUT
		}
		if events == w.events {
			continue
		}
		w.events = events
		if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, w.from, &unix.EpollEvent{Events: events, Fd: int32(w.from)}); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}
