package afpacket

import (
	"net"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// sender is the sending half of a port: a socket of its own, bound to the NIC with protocol 0, so that it never
// receives. The frames pass the NIC's queueing discipline: bypassing it gains 3 % at most and loses every super-packet
// on a NIC without segmentation offload.
type sender struct {
	socket
	step     int          // most messages of one system call
	vectors  []unix.Iovec // two for each message: Head and Payload
	messages []message
}

func newSender(ifi *net.Interface, o Options) (*sender, error) {
	s := &sender{step: o.Batch, vectors: make([]unix.Iovec, 2*o.Batch), messages: make([]message, o.Batch)}
	if o.Engine == Simple {
		s.step = 1
	}
	for i := range s.messages {
		s.messages[i].hdr.Iov = &s.vectors[2*i]
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	err := s.set(vnetHeader, sendBuffer)
	if err == nil {
		err = s.bind(ifi, 0)
	}
	if err != nil {
		_ = s.close() // the first error is the one to tell
		return nil, err
	}
	return s, nil
}

func (s *sender) send(out []packet.Out) (refused int, err error) {
	for len(out) > 0 {
		n := min(len(out), len(s.messages))
		s.fill(out[:n])
		r, err := s.flush(n)
		refused += r
		if err != nil {
			return refused + len(out) - n, err
		}
		out = out[n:]
	}
	return refused, nil
}

// fill makes out the first messages.
func (s *sender) fill(out []packet.Out) {
	for i := range out {
		o := &out[i]
		encode(o.Head, &o.Offload, len(o.Head)-packet.VnetLen)
		s.vectors[2*i].Base = &o.Head[0]
		s.vectors[2*i].SetLen(len(o.Head))
		s.messages[i].hdr.SetIovlen(1)
		if len(o.Payload) > 0 {
			s.vectors[2*i+1].Base = &o.Payload[0]
			s.vectors[2*i+1].SetLen(len(o.Payload))
			s.messages[i].hdr.SetIovlen(2)
		}
	}
}

// flush sends the first n messages. One that is refused (too big for the NIC, no room in its queue, metadata that the
// kernel does not accept) is left out; the rest follow.
func (s *sender) flush(n int) (refused int, err error) {
	for i := 0; i < n; {
		sent, errno := sendmmsg(s.fd, s.messages[i:min(i+s.step, n)])
		i += sent
		switch errno {
		case 0, unix.EINTR:
		case unix.ENXIO, unix.ENODEV:
			return refused + n - i, errGone
		case unix.EBADF, unix.ENOTSOCK:
			return refused + n - i, errno
		case unix.ENETDOWN: // true of the rest as well
			return refused + n - i, nil
		default:
			refused++
			i++
		}
	}
	return refused, nil
}
