//go:build linux

package afpacket

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	mdlayher "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// simple receives a packet with each system call and waits in Go's own network poller, so it keeps no thread. It is
// built on a mdlayher/packet connection, whose own ReadFrom knows neither offload metadata nor reuse of memory.
type simple struct {
	socket
	conn  *mdlayher.Conn
	raw   syscall.RawConn
	inbox inbox
	peek  func(fd uintptr) bool // made once, since a closure for each wait would be an allocation
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
		_ = s.close() // the first error is the one to tell
		return nil, err
	}
	return s, nil
}

// prepare sets up a connection that is bound already and refuses every packet until its filter is replaced.
func (s *simple) prepare(f Family) (err error) {
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return err
	}
	// The descriptor stays valid as long as conn, which only close closes.
	if err := s.raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
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

// wait implements receiver. An error of the socket ends the wait and is told by the next take.
func (s *simple) wait(d time.Duration) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	if err := s.raw.Read(s.peek); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

func (s *simple) close() error { return errors.Join(s.conn.Close(), s.inbox.close()) }
