package test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	link "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// sender returns a function that sends a packet from a host to an interface of the gateway.
func sender(t *testing.T, from, gateway *lab.Namespace, nic string, kind uint16) func(b []byte) {
	t.Helper()
	var local, remote *net.Interface
	var c *link.Conn
	err := gateway.Do(func() (err error) { remote, err = net.InterfaceByName(nic); return err })
	if err == nil {
		err = from.Do(func() (err error) {
			if local, err = net.InterfaceByName("eth0"); err == nil {
				c, err = link.Listen(local, link.Raw, 0, nil)
			}
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	head := binary.BigEndian.AppendUint16(append(append([]byte{}, remote.HardwareAddr...), local.HardwareAddr...), kind)
	to := &link.Addr{HardwareAddr: remote.HardwareAddr}
	return func(b []byte) { _, _ = c.WriteTo(append(head[:len(head):len(head)], b...), to) } // a full queue drops
}

func forgedSYN(from, to uint16) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[13], b[14] = 5<<4, 2, 0xff
	return b
}

func forgedUDP(from, to uint16) []byte {
	b := make([]byte, 24)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[5] = 24
	return b
}

func forgedEcho(kind byte, identifier uint16) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(kind)<<24), uint32(identifier)<<16|1)
}

// forgedIP returns a packet with its checksums. The payload of a fragment keeps a checksum of zero.
func forgedIP(from, to netip.Addr, proto byte, payload []byte) (b []byte) {
	at, known := map[byte]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6, unix.IPPROTO_ICMP: 2, unix.IPPROTO_ICMPV6: 2}[proto]
	if known {
		pseudo := binary.BigEndian.AppendUint32(append(from.AsSlice(), to.AsSlice()...), uint32(len(payload)))
		if pseudo = append(pseudo, 0, proto); proto == unix.IPPROTO_ICMP {
			pseudo = nil
		}
		payload = fill(payload, at, sum16(append(pseudo, payload...)))
	}
	if from.Is4() {
		b = []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0x40, 0, 64, proto, 0, 0}
		b = append(append(b, from.AsSlice()...), to.AsSlice()...)
		return append(fill(b, 10, sum16(b)), payload...)
	}
	b = append([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), proto, 64}, from.AsSlice()...)
	return append(append(b, to.AsSlice()...), payload...)
}

// fill puts a checksum at a place, whose old contents are part of sum if they are not zero.
func fill(b []byte, at int, sum uint16) []byte {
	binary.BigEndian.PutUint16(b[at:], sum)
	return b
}

func sum16(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
