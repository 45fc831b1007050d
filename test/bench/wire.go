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

// wire sends frames on an interface, many with one system call.
type wire struct {
	nic  *net.Interface
	file *os.File
	conn *ipv4.PacketConn
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

func openWire(name string) (*wire, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	w := &wire{nic: nic, file: os.NewFile(uintptr(fd), name)}
	if err := w.prepare(fd); err != nil {
		_ = w.file.Close() // nothing was sent
		return nil, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return w, nil
}

func (w *wire) prepare(fd int) error {
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

// send sends the frames in order and returns how many were accepted; the next one was refused.
func (w *wire) send(frames []ipv4.Message) int {
	n, _ := w.conn.WriteBatch(frames, unix.MSG_DONTWAIT) // a refusal means that the gateway's queue is full, which the measurement counts
	return max(0, n)
}

func (w *wire) Close() error { return w.file.Close() }
