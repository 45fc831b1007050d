//go:build linux

package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// bufferBytes is the room for packets that wait in the kernel: some 500 super-packets each way.
const bufferBytes = 32 << 20

// errGone says that a socket has lost its NIC for good.
var errGone = errors.New("the interface is gone; the port must be opened anew")

// socket is an AF_PACKET socket on one NIC.
type socket struct {
	fd   int
	lost packet.Drops // packets that the kernel handed over, or would have, and that could not be used

	screen  *screen // nil: the socket has a classic filter
	refused uint64  // by the screen; counted in lost

	poll    [1]unix.PollFd
	timeout unix.Timespec
	name    unix.RawSockaddrLinklayer
}

// open makes the socket. It has no protocol until bind, so nothing can arrive that its filter has not seen.
func (s *socket) open() (err error) {
	if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("AF_PACKET socket: %w", err)
	}
	return nil
}

// option is an integer socket option.
type option struct {
	label       string
	level, name int
	value       int
}

// The options that every engine needs.
var (
	// Offload metadata travel with each frame. Without them a super-packet can neither be received in a useful form
	// nor be sent at all.
	vnetHeader = option{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1}
	// A tap also sees what leaves the NIC, our own packets first of all; that would cost two thirds of the throughput.
	ignoreOutgoing = option{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1}
	receiveBuffer  = option{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes}
	sendBuffer     = option{"SO_SNDBUFFORCE", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferBytes}
)

// set sets options in the order given, which the kernel is particular about.
func (s *socket) set(options ...option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(s.fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("%s: %w", o.label, err)
		}
	}
	return nil
}

// accept sets the filter of a family.
func (s *socket) accept(f Family) error {
	if s.screen != nil {
		return s.attachScreen(s.screen)
	}
	program, err := filter(f)
	if err != nil {
		return err
	}
	return s.attach(program)
}

// bind ties the socket to a NIC. Protocol 0 receives nothing; ETH_P_ALL receives what the filter lets through. A
// protocol's own number would not do, since the kernel serves such sockets after nftables' ingress hook, which is where
// packets that are ours are kept from the host.
func (s *socket) bind(ifi *net.Interface, protocol uint16) error {
	err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: ifi.Index})
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return s.checkEthernet()
}

// receive has the socket receive from a NIC. The filter comes first, so that nothing arrives that it has not seen; of a
// group's socket it lets nothing pass before the group shares the packets out, or each would be seen twice.
func (s *socket) receive(ifi *net.Interface, o Options) error {
	if o.Group == 0 {
		if err := s.accept(o.Family); err != nil {
			return err
		}
		return s.bind(ifi, unix.ETH_P_ALL)
	}
	if err := s.attach(refuseAll); err != nil {
		return err
	}
	if err := s.bind(ifi, unix.ETH_P_ALL); err != nil {
		return err
	}
	// By hash, which is of the addresses alone for fragments: those of a datagram stay together. They are not made whole
	// by the kernel, which would be without the bounds of package fragment.
	const mode = unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if err := s.set(option{"PACKET_FANOUT", unix.SOL_PACKET, unix.PACKET_FANOUT, int(o.Group) | mode<<16}); err != nil {
		return err
	}
	return s.accept(o.Family)
}

// checkEthernet refuses a NIC whose frames have no Ethernet header, for instance a tun.
func (s *socket) checkEthernet() error {
	if errno := getsockname(s.fd, &s.name); errno != 0 {
		return fmt.Errorf("getsockname: %w", errno)
	}
	if s.name.Hatype != unix.ARPHRD_ETHER {
		return fmt.Errorf("link type %d: must be an Ethernet interface", s.name.Hatype)
	}
	return nil
}

// unbound reports whether the NIC has left this network namespace, by deletion or otherwise. The socket will never
// see a packet again.
func (s *socket) unbound() bool {
	return getsockname(s.fd, &s.name) == 0 && s.name.Ifindex == -1
}

// wait returns when the socket has something to read or an error to tell, or when d has passed.
func (s *socket) wait(d time.Duration) error {
	ready, err := s.ready(d)
	if ready && s.poll[0].Revents&unix.POLLERR != 0 {
		s.clearError()
	}
	return err
}

// spell is how long a wait goes on without telling the Go scheduler. While packets keep coming, that is all the waiting
// there is, and saves a third of what a packet costs at 100,000 a second: the scheduler's monitor, which otherwise looks
// every 20 µs for threads that are stuck in system calls, can sleep. It is well above the kernel's tick, since a timer
// that would be the next to fire must be programmed into the processor, of which a virtual machine's hypervisor hears
// each time (measured: 200 µs cost 700 ns a packet more).
const spell = 5 * time.Millisecond

// ready polls the socket for at most d.
func (s *socket) ready(d time.Duration) (bool, error) {
	s.poll[0] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	s.timeout = unix.NsecToTimespec(int64(min(d, spell)))
	n, errno := ppoll(&s.poll[0], &s.timeout)
	switch {
	case errno != 0 && errno != unix.EINTR: // EINTR is the scheduler, which now learns of the rest of the wait
		return false, errno
	case n > 0 || d <= spell:
		return n > 0, nil
	}
	s.timeout = unix.NsecToTimespec(int64(d-spell) + unix.TimespecToNsec(s.timeout)) // the kernel has left what remains
	n, err := unix.Ppoll(s.poll[:], &s.timeout, nil)
	if err == unix.EINTR {
		return false, nil
	}
	return n > 0, err
}

// clearError takes the pending error off the socket, since it would end every wait at once. It is ENETDOWN, told once
// when the link goes down, which mends itself; or else the fate of a packet that recvmmsg could not hand over.
func (s *socket) clearError() {
	e, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && e != 0 && unix.Errno(e) != unix.ENETDOWN {
		s.lost.Offload++
	}
}

// drops returns what has been lost so far. The kernel's own number begins anew each time it is read.
func (s *socket) drops() packet.Drops {
	if stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		s.lost.Room += uint64(stats.Drops)
	}
	if s.screen != nil {
		n := s.screen.refused()
		s.lost.Offload += n - s.refused
		s.refused = n
	}
	return s.lost
}

// base returns the socket to those who know only the engine around it.
func (s *socket) base() *socket { return s }

func (s *socket) close() error {
	err := unix.Close(s.fd)
	if s.screen != nil {
		err = errors.Join(err, s.screen.close())
	}
	return err
}

// networkOrder returns v as a number whose bytes in memory are those of v in network order.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
