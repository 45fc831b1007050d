//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

const (
	sinkPort  = 10000 // the server's first port; nftables drops what the ends receive from it or for it
	sinkPorts = 1000
	firstPort = 2048 // the client's first port
	dataSize  = 64   // of each datagram
	macLength = 14   // the length of an Ethernet header
)

// flow is a pair of transport addresses, in the direction of its packets.
type flow struct{ from, to netip.AddrPort }

// frame returns a datagram of the flow.
func (f flow) frame(from, to net.HardwareAddr) ([]byte, error) {
	ethernet := &layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: layers.EthernetTypeIPv6}
	udp := &layers.UDP{SrcPort: layers.UDPPort(f.from.Port()), DstPort: layers.UDPPort(f.to.Port())}
	src, dst := net.IP(f.from.Addr().AsSlice()), net.IP(f.to.Addr().AsSlice())
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
	if f.to.Addr().Is4() {
		ethernet.EthernetType = layers.EthernetTypeIPv4
		ip = &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ethernet, ip, udp, gopacket.Payload(make([]byte, dataSize)))
	return b.Bytes(), err
}

// order is a load: frames in a loop, each run times in a row.
type order struct {
	frames [][]byte
	run    int
}

// at returns the n-th frame.
func (o order) at(n int) []byte { return o.frames[n/max(1, o.run)%len(o.frames)] }

// received describes a frame of the load that has arrived.
type received struct {
	from    netip.AddrPort
	packets int // more than one if the frame is a super-packet
}

// parseFrame returns what a frame contains; ok is false if the frame is not of the load.
func parseFrame(frame []byte) (r received, ok bool) {
	if len(frame) < macLength+20 {
		return r, false
	}
	ip := frame[macLength:]
	var protocol byte
	var source netip.Addr
	switch binary.BigEndian.Uint16(frame[macLength-2:]) {
	case unix.ETH_P_IPV6:
		if len(ip) < 48 {
			return r, false
		}
		protocol, source, ip = ip[6], netip.AddrFrom16([16]byte(ip[8:])), ip[40:]
	case unix.ETH_P_IP:
		protocol, source, ip = ip[9], netip.AddrFrom4([4]byte(ip[12:])), ip[20:]
	default:
		return r, false
	}
	if protocol != unix.IPPROTO_UDP || len(ip) < 8+dataSize {
		return r, false
	}
	from, to := binary.BigEndian.Uint16(ip), binary.BigEndian.Uint16(ip[2:])
	if !sink(from) && !sink(to) {
		return r, false
	}
	return received{netip.AddrPortFrom(source, from), (len(ip) - 8) / dataSize}, true
}

// sink reports whether a port is one of the server's.
func sink(port uint16) bool { return port >= sinkPort && port < sinkPort+sinkPorts }

// port is a packet socket on the interface of an end.
type port struct {
	fd     int
	buffer []byte
}

// openPort opens a packet socket, which receives if protocol is not zero.
func openPort(end *lab.Namespace, protocol uint16) (p *port, err error) {
	p = &port{buffer: make([]byte, 1<<17)}
	err = end.Do(func() error {
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(network)); err != nil {
			return os.NewSyscallError("packet socket", err)
		}
		for _, o := range []struct{ level, name, value int }{
			{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
			{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64 << 20},
			{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64 << 20},
		} {
			if err := unix.SetsockoptInt(p.fd, o.level, o.name, o.value); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
		return os.NewSyscallError("bind", unix.Bind(p.fd, &unix.SockaddrLinklayer{Ifindex: nic.Index, Protocol: network}))
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// next returns the next frame of the load; ok is false if none is there.
func (p *port) next() (r received, ok bool, err error) {
	for {
		n, err := unix.Read(p.fd, p.buffer)
		switch {
		case err == unix.EAGAIN:
			return r, false, nil
		case err == unix.EINTR:
			continue
		case err != nil:
			return r, false, os.NewSyscallError("read", err)
		}
		if r, ok := parseFrame(p.buffer[:n]); ok {
			return r, true, nil
		}
	}
}

// wait waits until a frame can be received, at most for the given time.
func (p *port) wait(most time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, int(most.Milliseconds())); err != nil && err != unix.EINTR {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

// lane is a direction through the guest.
type lane struct{ in, out *port }

// lostAfter is how long nothing arrives until the packets in flight count as lost.
const lostAfter = 3 * time.Second

// send sends n packets and keeps window of them in flight: a packet follows when another one has arrived. It calls seen for each
// frame that arrives, if seen is not nil.
func (l lane) send(o order, n, window int, seen func(received)) error {
	if err := l.drain(); err != nil {
		return err
	}
	sent, got, last := 0, 0, time.Now()
	for got < n {
		for ; sent < n && sent-got < window; sent++ {
			if _, err := unix.Write(l.in.fd, o.at(sent)); err != nil {
				return os.NewSyscallError("write", err)
			}
		}
		if err := l.out.wait(50 * time.Millisecond); err != nil {
			return err
		}
		for {
			r, ok, err := l.out.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			got, last = got+r.packets, time.Now()
			if seen != nil {
				seen(r)
			}
		}
		if time.Since(last) > lostAfter {
			return fmt.Errorf("%d of %d packets did not arrive", sent-got, n)
		}
	}
	return nil
}

// drain discards what has arrived before.
func (l lane) drain() error {
	for {
		if _, ok, err := l.out.next(); !ok {
			return err
		}
	}
}
