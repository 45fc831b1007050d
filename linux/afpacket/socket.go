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

// bufferBytes is the size of the kernel's buffers: about 500 super-packets in each direction.
const bufferBytes = 32 << 20

// errGone means that the NIC of a socket was deleted.
var errGone = errors.New("the interface was deleted; the port must be opened again")

// socket is an AF_PACKET socket on one NIC.
type socket struct {
	fd   int
	lost packet.Drops // unusable packets, received or dropped by the kernel

	screen  *screen  // nil: the socket has a classic filter
	screens *Screens // where the screen comes from; nil: it belongs to the socket
	refused uint64   // by the screen; included in lost, unless it was for an earlier port

	sentry  *sentry // nil: the socket does not receive, or is in Go's network poller itself
	poll    [1]unix.PollFd
	timeout unix.Timespec
	name    unix.RawSockaddrLinklayer
}

// open creates the socket. It has no protocol until bind, so it receives nothing before its filter is set.
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

// The options for all engines.
var (
	// Offload metadata accompany each frame. Without them super-packets can neither be received usefully nor sent.
	vnetHeader = option{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1}
	// A packet socket also receives outgoing packets, in particular our own, which would cost two thirds of the
	// throughput.
	ignoreOutgoing = option{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1}
	receiveBuffer  = option{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes}
	sendBuffer     = option{"SO_SNDBUFFORCE", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferBytes}
)

// set sets options in the given order, which matters to the kernel.
func (s *socket) set(options ...option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(s.fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("%s: %w", o.label, err)
		}
	}
	return nil
}

// takeScreen takes a screen from those of the process, if it shares them.
func (s *socket) takeScreen(o Options) (err error) {
	from := o.Screens
	if s.screens = from; from == nil {
		from = new(Screens)
	}
	if s.screen, err = from.take(o.Family); err == nil {
		s.refused = s.screen.refused()
	}
	return err
}

// accept sets the filter of a family.
func (s *socket) accept(f packet.Family) error {
	if s.screen != nil {
		return s.attachScreen(s.screen)
	}
	program, err := filter(f)
	if err != nil {
		return err
	}
	return s.attach(program)
}

// bind binds the socket to a NIC. Protocol 0 receives nothing; ETH_P_ALL receives what the filter accepts. The
// EtherType of the family would not work: the kernel delivers to such sockets after nftables' ingress hook, where the
// guard drops the gateway's packets.
func (s *socket) bind(ifi *net.Interface, protocol uint16) error {
	err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: ifi.Index})
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return s.checkEthernet()
}

// receive makes the socket receive from a NIC. It sets the filter first, so that no packet arrives unfiltered. The
// filter of a group's socket rejects everything until the socket has joined the group; otherwise each packet would be
// received twice.
func (s *socket) receive(ifi *net.Interface, o Options) (err error) {
	if s.sentry, err = newSentry(s.fd); err != nil {
		return err
	}
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
	// By hash, which covers only the addresses for fragments, so that the fragments of a datagram stay together. The
	// kernel does not reassemble them: it would ignore the limits of package fragment.
	const mode = unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if err := s.set(option{"PACKET_FANOUT", unix.SOL_PACKET, unix.PACKET_FANOUT, int(o.Group) | mode<<16}); err != nil {
		return err
	}
	return s.accept(o.Family)
}

// checkEthernet returns an error for a NIC whose frames have no Ethernet header, such as a tun.
func (s *socket) checkEthernet() error {
	if errno := getsockname(s.fd, &s.name); errno != 0 {
		return fmt.Errorf("getsockname: %w", errno)
	}
	if s.name.Hatype != unix.ARPHRD_ETHER {
		return fmt.Errorf("link type %d: must be an Ethernet interface", s.name.Hatype)
	}
	return nil
}

// unbound reports whether the NIC has left this network namespace, for example because it was deleted. The socket
// will not receive packets again.
func (s *socket) unbound() bool {
	return getsockname(s.fd, &s.name) == 0 && s.name.Ifindex == -1
}

// wait implements receiver.
func (s *socket) wait(d time.Duration, quiet bool) (err error) {
	ready := false
	if !quiet || d <= spell {
		ready, err = s.ready(min(d, spell))
		d -= spell
	}
	if !ready && err == nil && d > 0 {
		if err = s.sentry.wait(d); err == nil {
			ready, err = s.ready(0)
		}
	}
	if ready && s.poll[0].Revents&unix.POLLERR != 0 {
		s.clearError()
	}
	return err
}

// spell is how long a wait bypasses the Go scheduler. Under load no wait is longer, which saves a third of the cost
// of a packet at 100,000 a second: the scheduler's monitor can sleep, which otherwise checks every 20 µs for threads
// blocked in system calls. Beyond twice that time the monitor would interrupt the wait. spell is much longer than the
// kernel's tick, because a timer that expires next must be programmed into the processor, which makes a virtual machine
// exit to its hypervisor each time (measured: 200 µs cost 700 ns per packet more).
const spell = 5 * time.Millisecond

// ready polls the socket for d, or until the scheduler interrupts it.
func (s *socket) ready(d time.Duration) (bool, error) {
	s.poll[0] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	s.timeout = unix.NsecToTimespec(int64(d))
	n, errno := ppoll(&s.poll[0], &s.timeout)
	if errno != 0 && errno != unix.EINTR {
		return false, errno
	}
	return n > 0, nil
}

// wake implements receiver.
func (s *socket) wake() { s.sentry.wake() }

// clearError clears the pending error of the socket, which would end every wait immediately. It is ENETDOWN, reported
// once when the link goes down, or the error of a packet that recvmmsg could not deliver.
func (s *socket) clearError() {
	e, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && e != 0 && unix.Errno(e) != unix.ENETDOWN {
		s.lost.Offload++
	}
}

// drops returns the number of packets lost so far. Reading the kernel's counter resets it.
func (s *socket) drops() packet.Drops {
	s.lost.Room += uint64(packetDrops(s.fd))
	if s.screen != nil {
		n := s.screen.refused()
		s.lost.Offload += n - s.refused
		s.refused = n
	}
	return s.lost
}

// base returns the socket, for code that knows only the engine around it.
func (s *socket) base() *socket { return s }

func (s *socket) close() error {
	err := unix.Close(s.fd)
	if s.sentry != nil {
		err = errors.Join(err, s.sentry.close())
	}
	switch {
	case s.screen == nil:
	case s.screens == nil:
		err = errors.Join(err, s.screen.close())
	default:
		s.screens.giveBack(s.screen)
	}
	return err
}

// networkOrder returns v in network byte order.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
