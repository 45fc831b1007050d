//go:build linux

package afpacket

import (
	"errors"
	"net"
	"time"

	mdlayher "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// simple receives one packet per system call and waits in Go's network poller, so it does not block a thread. It uses
// a mdlayher/packet connection, whose ReadFrom supports neither offload metadata nor reuse of memory.
type simple struct {
	socket
	conn   *mdlayher.Conn
	poller poller
	inbox  inbox
	peek   func(fd uintptr) bool // created once, because a closure for each wait would be allocated
}

func newSimple(ifi *net.Interface, o Options) (receiver, error) {
	conn, err := mdlayher.Listen(ifi, mdlayher.Raw, unix.ETH_P_ALL, &mdlayher.Config{Filter: refuseAll})
	if err != nil {
		return nil, err
	}
	s := &simple{conn: conn}
	if s.inbox, err = newInbox(batch); err == nil {
		err = s.prepare(o.Family)
	}
	if err != nil {
		_ = s.close() // the first error is the relevant one
		return nil, err
	}
	return s, nil
}

// prepare sets up a bound connection. It rejects all packets until its filter is replaced.
func (s *simple) prepare(f packet.Family) (err error) {
	s.poller.deadline = s.conn.SetReadDeadline
	if s.poller.raw, err = s.conn.SyscallConn(); err != nil {
		return err
	}
	// The descriptor is valid as long as conn, which only close closes.
	if err := s.poller.raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return err
	}
	s.peek = func(uintptr) bool {
		ready, err := s.ready(0)
		return ready || err != nil
	}
	if err := s.checkEthernet(); err != nil {
		return err
	}
	if err := s.set(vnetHeader, ignoreOutgoing, receiveBuffer); err != nil {
		return err
	}
	return s.accept(f)
}

// take implements receiver.
func (s *simple) take(fs []packet.Frame) (n int, err error) {
	for i := range min(len(fs), len(s.inbox.messages)) {
		received, errno := recvmmsg(s.fd, s.inbox.messages[i:i+1])
		if received == 0 {
			return n, s.verdict(errno)
		}
		if s.inbox.frame(i, &fs[n], &s.lost) {
			n++
		}
	}
	return n, nil
}

// wait implements receiver. An error of the socket ends the wait, and the next take returns it.
func (s *simple) wait(d time.Duration, _ bool) error {
	return s.poller.wait(d, s.peek)
}

// wake implements receiver.
func (s *simple) wake() { s.poller.wake() }

func (s *simple) close() error { return errors.Join(s.conn.Close(), s.inbox.close()) }
