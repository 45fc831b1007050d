//go:build linux

package afpacket

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// sender is the sending half of a port: a separate socket, bound to the NIC with protocol 0, so that it never
// receives. The frames pass the NIC's queueing discipline: bypassing it gains at most 3 % and loses every
// super-packet on a NIC without segmentation offload.
type sender struct {
	socket
	step     int          // maximum number of messages per system call
	vectors  []unix.Iovec // of all messages: Head, Payload and More of each
	messages []message
	burst    *burst // nil if packets are not sent in bursts
	lacks    error  // the reason why bursts are not available although enabled
}

func newSender(ifi *net.Interface, o Options) (*sender, error) {
	s := &sender{step: batch, vectors: make([]unix.Iovec, max(3*batch, maxParts)), messages: make([]message, batch)}
	if o.Engine == Simple {
		s.step = 1
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	err := s.set(vnetHeader, sendBuffer)
	if err == nil {
		err = s.bind(ifi, 0)
	}
	if err != nil {
		_ = s.close() // the first error is the relevant one
		return nil, err
	}
	if o.Engine != Simple && !o.NoBursts {
		s.burst, s.lacks = newBurst(ifi)
	}
	return s, nil
}

// send sends the packets in order: sequences of suitable packets in bursts, others as messages.
func (s *sender) send(out []packet.Out) (refused int, err error) {
	for len(out) > 0 {
		first, n := s.nextBurst(out)
		r, err := s.sendMessages(out[:first])
		refused += r
		out = out[first:]
		if n > 0 && err == nil {
			r, err = s.sendBurst(out[:n])
			refused += r
			out = out[n:]
		}
		if err != nil {
			return refused + packets(out), err
		}
	}
	return refused, nil
}

// packets counts packets, including coalesced ones.
func packets(out []packet.Out) (n int) {
	for i := range out {
		n += 1 + len(out[i].More)
	}
	return n
}

// nextBurst returns the index in out and the length of the next burst, or length 0 if there is none.
func (s *sender) nextBurst(out []packet.Out) (first, n int) {
	if len(out) < burstLeast || s.burst == nil || !s.burst.here() {
		return len(out), 0
	}
	return s.burst.next(out)
}

// sendBurst sends a burst, and as messages the packets that the kernel has not processed. The program identifies the
// NIC by its index, which another NIC may have by now, so sendBurst checks the socket first.
func (s *sender) sendBurst(out []packet.Out) (refused int, err error) {
	if s.unbound() {
		return packets(out), errGone
	}
	done, refused := s.burst.send(out)
	r, err := s.sendMessages(out[done:])
	return refused + r, err
}

func (s *sender) sendMessages(out []packet.Out) (refused int, err error) {
	for len(out) > 0 {
		n := s.fill(out)
		r, err := s.flush(out[:n])
		refused += r
		if err != nil {
			return refused + packets(out[n:]), err
		}
		out = out[n:]
	}
	return refused, nil
}

// maxParts is the maximum number of memory regions of a message: Head, Payload and 64 of More, far below the kernel's
// limit (UIO_MAXIOV).
const maxParts = 2 + 64

// fill fills messages from the beginning of out and returns their number. The caller must not pass a packet with more
// than maxParts regions.
func (s *sender) fill(out []packet.Out) (n int) {
	used := 0
	for n < min(len(out), len(s.messages)) {
		o := &out[n]
		if used+2+len(o.More) > len(s.vectors) {
			break
		}
		encode(o.Head, &o.Offload, len(o.Head)-packet.VnetLen)
		first := used
		used = s.part(used, o.Head)
		used = s.part(used, o.Payload)
		for _, p := range o.More {
			used = s.part(used, p)
		}
		s.messages[n].hdr.Iov = &s.vectors[first]
		s.messages[n].hdr.SetIovlen(used - first)
		n++
	}
	return n
}

// part sets vector number i to p, unless p is empty, and returns the number of the next vector.
func (s *sender) part(i int, p []byte) int {
	if len(p) == 0 {
		return i
	}
	s.vectors[i].Base = &p[0]
	s.vectors[i].SetLen(len(p))
	return i + 1
}

// flush sends the filled messages. It skips a message that the kernel refuses (too long for the NIC, full queue,
// unacceptable metadata) and sends the rest.
func (s *sender) flush(out []packet.Out) (refused int, err error) {
	for i := 0; i < len(out); {
		sent, errno := sendmmsg(s.fd, s.messages[i:min(i+s.step, len(out))])
		i += sent
		switch errno {
		case 0, unix.EINTR:
		case unix.ENXIO, unix.ENODEV:
			return refused + packets(out[i:]), errGone
		case unix.EBADF, unix.ENOTSOCK:
			return refused + packets(out[i:]), errno
		case unix.ENETDOWN: // also applies to the remaining messages
			return refused + packets(out[i:]), nil
		default:
			refused += packets(out[i : i+1])
			i++
		}
	}
	return refused, nil
}

// close frees all resources.
func (s *sender) close() error {
	err := s.socket.close()
	if s.burst != nil {
		err = errors.Join(err, s.burst.close())
	}
	return err
}
