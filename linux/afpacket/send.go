//go:build linux

package afpacket

import (
	"errors"
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
	vectors  []unix.Iovec // of all messages: Head, Payload and More of each
	messages []message
	burst    *burst // nil if packets are not sent in bursts
	lacks    error  // why not, if they were to be
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
		_ = s.close() // the first error is the one to tell
		return nil, err
	}
	if o.Engine != Simple && !o.NoBursts {
		s.burst, s.lacks = newBurst(ifi)
	}
	return s, nil
}

// send sends the packets in their order: in bursts those of which enough follow each other, as messages the others.
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

// packets counts packets; each that was joined to another counts.
func packets(out []packet.Out) (n int) {
	for i := range out {
		n += 1 + len(out[i].More)
	}
	return n
}

// nextBurst returns where the next burst is among out, and how many packets it has: 0 if there is none.
func (s *sender) nextBurst(out []packet.Out) (first, n int) {
	if len(out) < burstLeast || s.burst == nil || !s.burst.here() {
		return len(out), 0
	}
	return s.burst.next(out)
}

// sendBurst sends a burst. What the kernel has not looked at leaves as messages. The program knows the NIC by its number, which
// may be another one's by now, so that the socket is asked first.
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

// maxParts is how many pieces of memory a message may consist of: Head, Payload and 64 of More, which the kernel's limit
// (UIO_MAXIOV) allows many times over.
const maxParts = 2 + 64

// fill makes the first of out messages, as many as there is room for, and returns their number. A message with more parts
// than maxParts is the caller's mistake.
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

// part makes p the vector number i, unless it is empty, and returns the next number.
func (s *sender) part(i int, p []byte) int {
	if len(p) == 0 {
		return i
	}
	s.vectors[i].Base = &p[0]
	s.vectors[i].SetLen(len(p))
	return i + 1
}

// flush sends the messages that have been made of out. One that is refused (too big for the NIC, no room in its queue, metadata
// that the kernel does not accept) is left out; the rest follow.
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
		case unix.ENETDOWN: // true of the rest as well
			return refused + packets(out[i:]), nil
		default:
			refused += packets(out[i : i+1])
			i++
		}
	}
	return refused, nil
}

// close frees everything.
func (s *sender) close() error {
	err := s.socket.close()
	if s.burst != nil {
		err = errors.Join(err, s.burst.close())
	}
	return err
}
