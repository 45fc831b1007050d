package main

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// sendBuffer never fills: a frame counts as unsent until the gateway's IP input has processed it, so a smaller buffer
// would slow down the load for a slow gateway.
const sendBuffer = 256 << 20

// wire sends frames to the gateway.
type wire interface {
	// address is that of the end's interface.
	address() net.HardwareAddr
	// send sends frames in order and returns how many were accepted; the next one was refused.
	send([]frame) int
}

// socketWire sends frames on the end's interface, many with one system call.
type socketWire struct {
	nic      *net.Interface
	file     *os.File
	conn     *ipv4.PacketConn
	messages []ipv4.Message
}

// packetSocket adapts a packet socket to package ipv4 for its WriteBatch, which uses sendmmsg(2). Beyond the method
// set of a net.UDPConn it only needs SyscallConn.
type packetSocket struct {
	*net.UDPConn // nil
	raw          syscall.RawConn
}

func (s packetSocket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// LocalAddr is used in errors.
func (s packetSocket) LocalAddr() net.Addr { return &net.UDPAddr{} }

// openSocketWire opens the interface of an end.
func openSocketWire(name string) (*socketWire, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	w := &socketWire{nic: nic, file: os.NewFile(uintptr(fd), nic.Name)}
	if err := w.prepare(fd); err != nil {
		_ = w.file.Close() // nothing was sent
		return nil, fmt.Errorf("packet socket on %s: %w", nic.Name, err)
	}
	return w, nil
}

func (w *socketWire) prepare(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: w.nic.Index}); err != nil {
		return err
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	w.conn = ipv4.NewPacketConn(packetSocket{raw: raw})
	return nil
}

func (w *socketWire) address() net.HardwareAddr { return w.nic.HardwareAddr }

func (w *socketWire) send(frames []frame) int {
	if w.messages == nil { // a flood uses the same frames each time
		w.messages = make([]ipv4.Message, len(frames))
		for i := range frames {
			w.messages[i].Buffers = [][]byte{frames[i].bytes}
		}
	}
	n, _ := w.conn.WriteBatch(w.messages, unix.MSG_DONTWAIT) // a refusal means that the gateway's queue is full, which the measurement counts
	return max(0, n)
}

func (w *socketWire) Close() error { return w.file.Close() }
