//go:build linux

package afpacket

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// mmsg receives a batch with each system call. It is used where a ring is not available.
type mmsg struct {
	socket
	inbox inbox
}

func newMmsg(ifi *net.Interface, o Options) (receiver, error) {
	m := &mmsg{}
	if err := m.open(); err != nil {
		return nil, err
	}
	err := m.set(vnetHeader, ignoreOutgoing)
	if err == nil {
		err = m.set(receiveBuffer)
	}
	if err == nil {
		err = m.receive(ifi, o)
	}
	if err == nil {
		m.inbox, err = newInbox(batch)
	}
	if err != nil {
		_ = m.close() // the first error is the relevant one
		return nil, err
	}
	return m, nil
}

// take implements receiver.
func (m *mmsg) take(fs []packet.Frame) (n int, err error) {
	received, errno := recvmmsg(m.fd, m.inbox.messages[:min(len(fs), len(m.inbox.messages))])
	for i := range received {
		if m.inbox.frame(i, &fs[n], &m.lost) {
			n++
		}
	}
	return n, m.verdict(errno)
}

// verdict returns nil for an error of recvmmsg that does not affect the socket, otherwise the error.
func (s *socket) verdict(errno unix.Errno) error {
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR:
		return nil
	case unix.ENETDOWN: // reported once, when the link goes down
		return nil
	case unix.EINVAL: // one packet is lost: a virtio_net_hdr cannot represent its metadata
		s.lost.Offload++
		return nil
	case unix.ENOBUFS, unix.ENOMEM:
		s.lost.Room++
		return nil
	}
	return errno
}

// close implements receiver.
func (m *mmsg) close() error { return errors.Join(m.socket.close(), m.inbox.close()) }
