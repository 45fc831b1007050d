package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	learnBuffer = 64 << 20
	learnFirst  = 5 * time.Second        // until the first flow arrives
	learnQuiet  = 400 * time.Millisecond // without another flow
)

// reflectOrder describes the flows to wait for and the packets to send back.
type reflectOrder struct {
	Interface string
	Address   netip.Addr // the local address of the flows
	Flows     int        // number of flows to wait for
	Rate      int        // of the packets sent back, 0: as many as possible
	Length    time.Duration
}

// reflect waits for the flows from one address to the sink's first port, and floods them in the other direction.
func reflect(o reflectOrder) (floodResult, error) {
	flows, back, err := learn(o)
	if err != nil {
		return floodResult{}, err
	}
	w, err := openSocketWire(o.Interface)
	if err != nil {
		return floodResult{}, err
	}
	defer w.Close()
	f := newFlooder(w, back, func(i int) ports { return flows[i] })
	for f.step() {
	}
	return f.floodResult, nil
}

// learn returns the ports of the flows, reversed, and the order for the way back.
func learn(o reflectOrder) (flows []ports, back floodOrder, err error) {
	fd, err := tap(o.Interface)
	if err != nil {
		return nil, back, err
	}
	defer unix.Close(fd)
	back = floodOrder{Interface: o.Interface, Source: o.Address, Rate: o.Rate, Length: o.Length}
	seen := make(map[ports]bool, o.Flows)
	wait := learnFirst
	for b := make([]byte, 1<<16); len(flows) < o.Flows; {
		if ready, err := readable(fd, wait); err != nil || !ready {
			break // use the flows received so far
		}
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil, back, os.NewSyscallError("recvfrom", err)
		}
		p, from, ok := arrived(b[:n], o.Address)
		if !ok || seen[p] {
			continue
		}
		seen[p], wait = true, learnQuiet
		flows = append(flows, ports{p.destination, p.source})
		back.Gateway, back.Destination = net.HardwareAddr(append([]byte(nil), b[6:12]...)), from
	}
	if len(flows) == 0 {
		return nil, back, errors.New("no flow has arrived")
	}
	back.Flows = len(flows)
	return flows, back, nil
}

// tap opens a packet socket that receives packets before the sink drops them.
func tap(name string) (int, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, learnBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: nic.Index}))
	if err != nil {
		_ = unix.Close(fd) // nothing was received
		return -1, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return fd, nil
}

func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// arrived returns the ports and the source of a UDP packet to the first port of the sink.
func arrived(b []byte, at netip.Addr) (p ports, from netip.Addr, ok bool) {
	header, kind, protocol, address := ip4Length, uint16(0x0800), 9, 12
	if at.Is6() {
		header, kind, protocol, address = ip6Length, 0x86dd, 6, 8
	}
	if len(b) < etherLength+header+udpLength || binary.BigEndian.Uint16(b[12:]) != kind {
		return p, from, false
	}
	ip, udp, size := b[etherLength:], b[etherLength+header:], at.BitLen()/8
	from, _ = netip.AddrFromSlice(ip[address : address+size])
	to, _ := netip.AddrFromSlice(ip[address+size : address+2*size])
	p = ports{binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])}
	return p, from, ip[protocol] == protocolUDP && to == at && p.destination == sinkPort
}

// readable waits until a descriptor is readable.
func readable(fd int, within time.Duration) (bool, error) {
	end := time.Now().Add(within)
	for {
		left := max(0, time.Until(end))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, os.NewSyscallError("poll", err)
		}
	}
}
