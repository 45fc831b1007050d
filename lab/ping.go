//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// echoHeader is the length of the header of an echo message in both families.
const echoHeader = 8

// echoMessages are the protocol and the message types of an echo exchange in one family.
type echoMessages struct {
	network, any   string
	request, reply byte
}

var (
	echo6 = echoMessages{"ip6:ipv6-icmp", "::", 128, 129} // RFC 4443 section 4
	echo4 = echoMessages{"ip4:icmp", "0.0.0.0", 8, 0}     // RFC 792
)

// Ping sends one echo request of size bytes of data to an address and returns the time until its reply.
func (n *Namespace) Ping(ctx context.Context, address string, sequence uint16, size int) (time.Duration, error) {
	return n.PingAs(ctx, address, uint16(os.Getpid()), sequence, size)
}

// PingAs is Ping with the given Identifier, which a NAT64 translates like a port.
func (n *Namespace) PingAs(ctx context.Context, address string, identifier, sequence uint16, size int) (time.Duration, error) {
	to, err := netip.ParseAddr(address)
	if err != nil {
		return 0, err
	}
	m := echo6
	if to.Is4() {
		m = echo4
	}
	conn, err := n.ListenPacket(m.network, m.any)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	out := make([]byte, echoHeader+size)
	out[0] = m.request
	binary.BigEndian.PutUint16(out[4:], identifier)
	binary.BigEndian.PutUint16(out[6:], sequence)
	if to.Is4() { // for ICMPv6, the kernel computes the checksum
		binary.BigEndian.PutUint16(out[2:], checksum(out))
	}
	start := time.Now()
	if _, err := conn.WriteTo(out, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, err
	}
	if err := m.await(conn, to, out); err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("no reply from %s: %w", address, context.Cause(ctx))
		}
		return 0, err
	}
	return time.Since(start), nil
}

// await reads until the reply to the request arrives from the address.
func (m *echoMessages) await(conn net.PacketConn, from netip.Addr, request []byte) error {
	for in := make([]byte, 1<<16); ; {
		n, by, err := conn.ReadFrom(in)
		if err != nil {
			return err
		}
		if n < echoHeader || in[0] != m.reply || string(in[4:8]) != string(request[4:8]) || by.String() != from.String() {
			continue
		}
		if string(in[echoHeader:n]) != string(request[echoHeader:]) {
			return errors.New("the data of the reply differs from the request")
		}
		return nil
	}
}

// checksum returns the Internet checksum (RFC 1071) of b, whose checksum field is zero.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
