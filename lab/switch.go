//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Switch is a thread that carries the frames of cables. It sleeps while there are none. Its methods may be called
// concurrently.
type Switch struct {
	epoll int
	wake  int         // an eventfd
	calls chan func() // to call on the thread
	ended chan struct{}

	// The rest belongs to the thread.
	tid     int
	stopped bool
	cables  map[int]*Cable // by both descriptors
	drives  []func() bool
}

var errEnded = errors.New("the switch has ended")

func newSwitch() (*Switch, error) {
	s := &Switch{calls: make(chan func()), ended: make(chan struct{}), cables: make(map[int]*Cable)}
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = s.control(unix.EPOLL_CTL_ADD, s.wake, unix.EPOLLIN)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(s.epoll))
	}
	go s.run()
	return s, nil
}

// Pin restricts the thread to a processor.
func (s *Switch) Pin(cpu int) (err error) {
	var only unix.CPUSet
	only.Set(cpu)
	call := s.do(func() { err = unix.SchedSetaffinity(s.tid, &only) })
	if err = errors.Join(call, err); err != nil {
		return fmt.Errorf("switch: processor %d: %w", cpu, err)
	}
	return nil
}

// Drive calls f on the thread until it returns false, and waits for that. Between two calls the switch carries frames.
// It does not sleep meanwhile, so no sender needs to wake it up. Several functions may drive the switch.
func (s *Switch) Drive(f func() bool) error {
	done := make(chan struct{})
	err := s.do(func() {
		s.drives = append(s.drives, func() bool {
			more := f()
			if !more {
				close(done)
			}
			return more
		})
	})
	if err != nil {
		return err
	}
	return s.await(done)
}

// add makes the switch carry the frames of a cable.
func (s *Switch) add(c *Cable) (err error) {
	call := s.do(func() {
		for i := range c.ways {
			w := &c.ways[i]
			w.events = unix.EPOLLIN
			s.cables[w.from] = c
			err = errors.Join(err, s.control(unix.EPOLL_CTL_ADD, w.from, w.events))
		}
	})
	return errors.Join(call, err)
}

// remove closes a cable and thereby removes its devices.
func (s *Switch) remove(c *Cable) (err error) {
	call := s.do(func() {
		for i := range c.ways { // closing removes them from epoll
			delete(s.cables, c.ways[i].from)
			err = errors.Join(err, os.NewSyscallError("close", unix.Close(c.ways[i].from)))
		}
	})
	return errors.Join(call, err)
}

// Close closes all cables and ends the thread.
func (s *Switch) Close() error {
	var errs []error
	err := s.do(func() {
		s.stopped = true
		for fd := range s.cables {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
		clear(s.cables)
	})
	<-s.ended
	return errors.Join(append(errs, err, unix.Close(s.wake), unix.Close(s.epoll))...)
}

// await waits until done is closed. The thread may close it and end before the caller runs again.
func (s *Switch) await(done chan struct{}) error {
	select {
	case <-done:
	case <-s.ended:
		select {
		case <-done:
		default:
			return errEnded
		}
	}
	return nil
}

// do calls f on the thread.
func (s *Switch) do(f func()) error {
	select {
	case <-s.ended:
		return errEnded
	default:
	}
	done := make(chan struct{})
	go func() {
		select {
		case s.calls <- func() { f(); close(done) }:
		case <-s.ended:
		}
	}()
	if _, err := unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	return s.await(done)
}

func (s *Switch) control(operation, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

func (s *Switch) run() {
	runtime.LockOSThread() // never unlocked: the thread may have been pinned
	defer close(s.ended)
	s.tid = unix.Gettid()
	for events := make([]unix.EpollEvent, 16); !s.stopped; {
		timeout := -1
		if len(s.drives) > 0 {
			timeout = 0
		}
		n, err := unix.EpollWait(s.epoll, events, timeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // callers get errEnded
		}
		for _, e := range events[:max(0, n)] {
			if int(e.Fd) == s.wake {
				s.answer()
			} else if c := s.cables[int(e.Fd)]; c != nil {
				s.serve(c)
			}
		}
		s.drives = slices.DeleteFunc(s.drives, func(f func() bool) bool { return !f() })
	}
}

// answer makes the call for which the thread was woken up.
func (s *Switch) answer() {
	var count [8]byte
	if _, err := unix.Read(s.wake, count[:]); err != nil {
		return
	}
	for range count[0] {
		(<-s.calls)()
	}
}

// serve carries the frames of a cable, or forgets it after the kernel has deleted one of its devices.
func (s *Switch) serve(c *Cable) {
	for i := range c.ways {
		if !c.carry(i) {
			s.forget(c)
			return
		}
	}
	for i := range c.ways {
		w := &c.ways[i]
		if events := c.events(i); events != w.events {
			w.events = events
			if s.control(unix.EPOLL_CTL_MOD, w.from, events) != nil {
				s.forget(c)
				return
			}
		}
	}
}

// forget stops waiting for the frames of a cable; its devices exist until it is closed.
func (s *Switch) forget(c *Cable) {
	for i := range c.ways {
		_ = s.control(unix.EPOLL_CTL_DEL, c.ways[i].from, 0) // it may have been removed with its device
	}
}
