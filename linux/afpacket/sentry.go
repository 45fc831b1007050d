//go:build linux

package afpacket

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for a file in Go's network poller. wake may be called by any goroutine, wait by one at a time.
type poller struct {
	deadline func(time.Time) error // of the file
	raw      syscall.RawConn       // of the file
	woken    atomic.Bool
}

// wait returns when ready returns true, after wake, or after d. It calls ready first and after each event of the file.
func (p *poller) wait(d time.Duration, ready func(fd uintptr) bool) error {
	if err := p.deadline(time.Now().Add(d)); err != nil {
		return err
	}
	if p.woken.Swap(false) { // a later wake ends the wait by its deadline
		return nil
	}
	err := p.raw.Read(ready)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.woken.Store(false)
		return nil
	}
	return err
}

// wake makes the wait under way, or else the next one, return.
func (p *poller) wake() {
	p.woken.Store(true)
	_ = p.deadline(time.Unix(1, 0)) // fails if the file is closed: then there is no wait
}

// sentry waits for a packet socket in the network poller, where the goroutine occupies no processor of Go's scheduler. In a
// blocking system call it would occupy one for 10 ms, and the scheduler's monitor would wake up some 60 times to take it away.
//
// A socket that is itself in the poller wakes a thread for each packet. So the socket is in an epoll instance of its own, and that
// instance is in the poller. The socket is there only during a wait, so it costs nothing while packets arrive.
type sentry struct {
	poller
	file   *os.File // the epoll instance
	epoll  int      // its descriptor
	socket int
	armed  bool // the socket is in the epoll instance
	err    error
	ready  func(uintptr) bool // arm; a closure for each wait would be allocated
}

func newSentry(socket int) (s *sentry, err error) {
	s = &sentry{socket: socket}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	err = unix.SetNonblock(s.epoll, true) // os.NewFile adds only such files to the poller
	s.file = os.NewFile(uintptr(s.epoll), "epoll")
	s.deadline, s.ready = s.file.SetReadDeadline, s.arm
	if err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err != nil {
		_ = s.close() // the first error is the relevant one
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return s, nil
}

// arm adds the socket to the epoll instance before the wait. Afterwards it reports an event.
func (s *sentry) arm(uintptr) bool {
	if s.armed {
		return true
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN}
	s.err = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.socket, &event)
	s.armed = s.err == nil
	return !s.armed
}

// wait returns when the socket is readable or has an error, after wake, or after d.
func (s *sentry) wait(d time.Duration) error {
	err := s.poller.wait(d, s.ready)
	replacePoller()
	if s.armed {
		s.armed = false
		s.err = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, s.socket, nil)
	}
	return errors.Join(err, s.err)
}

// replacePoller makes the scheduler wake up a thread that continues to poll. The one that has polled until now has given its
// place to this goroutine, which is locked to a thread of its own and will bypass the scheduler: without another thread, the
// packet that answers this one would be noticed 5 to 10 ms late.
func replacePoller() { go func() {}() }

func (s *sentry) close() error { return s.file.Close() }
