//go:build linux

package afpacket_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
	"nat64d/test/dissect"
)

// unfinished returns a UDP packet over IPv6 with a partial checksum. For number 0 the complete checksum is 0, which
// UDP transmits as 0xffff. Every other packet is long.
func unfinished(number int) (ip []byte, offload packet.Offload) {
	ip = append(small(number, packet.UDPLen), byte(number), 0, 0, 0)
	ip = append(ip, make([]byte, number%2*1200)...)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-packet.IPv6Len))
	ip[6] = packet.NumUDP
	udp := ip[packet.IPv6Len:]
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	udp[6], udp[7] = 0, 0
	h := packet.IPv6(ip)
	start := packet.Sum(0).Addr6(h.Src()).Addr6(h.Dst()).Pseudo(len(udp), packet.NumUDP)
	if number == 0 {
		binary.BigEndian.PutUint16(udp[10:], start.Bytes(udp).Checksum())
	}
	binary.BigEndian.PutUint16(udp[6:], start.Fold())
	return ip, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv6Len, CsumOffset: packet.UDPChecksum}
}

// A packet that is sent as a message arrives over a veth pair with a partial checksum, so this test also shows that
// bursts are used.
func TestBurstsCompleteChecksums(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		o      afpacket.Options
		inside bool // the sending thread is in the namespace of the NIC
		bursts bool
	}{
		{"by default", afpacket.Options{}, true, true},
		{"with recvmmsg", afpacket.Options{Engine: afpacket.Mmsg}, true, true},
		{"from another namespace", afpacket.Options{}, false, false},
		{"switched off", afpacket.Options{NoBursts: true}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			left, right := newWire(t)
			c.o.Family = packet.V6
			tx, rx := left.openWith(t, afpacket.OpenSender, c.o), right.open(t, c.o)
			ok(t, tx.NoBursts())
			if c.inside {
				left.enter(t)
			}
			var out []packet.Out
			var want []received
			for i := range 8 {
				ip, offload := unfinished(i)
				out = append(out, left.to(right, unix.ETH_P_IPV6, ip, offload))
				if c.bursts {
					ip, offload = dissect.Finish(ip, packet.IPv6Len, packet.UDPChecksum), packet.Offload{}
				}
				want = append(want, received{ip, offload})
			}
			send(t, tx, out...)
			for i, got := range collect(t, rx, len(want)) {
				if got.offload.Checksum = got.offload.Checksum &^ packet.ChecksumGood; got.offload != want[i].offload || !slices.Equal(got.data, want[i].data) {
					t.Errorf("packet %d: got %x, %+v; want %x, %+v", i, got.data, got.offload, want[i].data, want[i].offload)
				}
				if _, err := dissect.IP(got.data); c.bursts && err != nil {
					t.Errorf("packet %d: %v", i, err)
				}
			}
		})
	}
}

// A socket that receives a burst is charged for the length of each packet, although the first one is short.
func TestBurstsChargeReceiversForLongPackets(t *testing.T) {
	t.Parallel()
	left, right := newWire(t)
	left.enter(t)
	tx := left.openWith(t, afpacket.OpenSender, afpacket.Options{})
	socket := right.listen(t)
	var out []packet.Out
	bytes := 0
	for i := range 8 {
		ip := small(i, min(10+i*1400, 1400))
		out = append(out, left.to(right, unix.ETH_P_IPV6, ip, packet.Offload{}))
		bytes += len(ip)
	}
	send(t, tx, out...)
	poll(t, "charge for all packets", func() bool { return charged(t, socket) >= bytes })
}

// listen returns a packet socket that receives IPv6.
func (e *end) listen(t *testing.T) (fd int) {
	t.Helper()
	ok(t, e.in(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.ETH_P_IPV6<<8&0xff00|unix.ETH_P_IPV6>>8)
		return err
	}))
	t.Cleanup(func() { ok(t, unix.Close(fd)) })
	return fd
}

// charged returns the memory that the kernel charges to a socket for the packets in its receive queue.
func charged(t *testing.T, fd int) int {
	t.Helper()
	var info [9]uint32 // SK_MEMINFO_VARS; the first is SK_MEMINFO_RMEM_ALLOC
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(info[0])
}

// Packets that can and cannot be sent in bursts, in all combinations and random lengths, stay in order.
func TestBurstsKeepOrderAmongMessages(t *testing.T) {
	t.Parallel()
	left, right := newWire(t)
	left.enter(t)
	o := afpacket.Options{Family: packet.V6}
	tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
	for _, rhythm := range [][]int{{1, 1}, {3, 1}, {4, 1}, {5, 2}, {64, 1}, {65, 1}, {200, 0}, {0, 5}, {7, 1}} {
		var out []packet.Out
		var want [][]byte
		for i := range 200 {
			ip, offload := small(i, rand.IntN(1400)), packet.Offload{}
			if i%(rhythm[0]+rhythm[1]) >= rhythm[0] {
				ip, offload = super(i, 4000)
			}
			out = append(out, left.to(right, unix.ETH_P_IPV6, ip, offload))
			want = append(want, ip)
		}
		send(t, tx, out...)
		expect(t, rx, want...)
	}
}

// A burst on a link that is down, or on a deleted NIC, is refused like messages.
func TestBurstOnDownLink(t *testing.T) {
	t.Parallel()
	left, right := newWire(t)
	left.enter(t)
	o := afpacket.Options{Family: packet.V6}
	tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
	out := slices.Repeat([]packet.Out{left.to(right, unix.ETH_P_IPV6, small(1, 30), packet.Offload{})}, 8)
	send(t, tx, out...)
	collect(t, rx, len(out))

	ok(t, left.links.LinkSetDown(left.link(t)))
	if refused, err := tx.Send(out); refused != len(out) || err != nil {
		t.Errorf("Send with the link down: %d, %v; want %d refused", refused, err, len(out))
	}
	ok(t, left.links.LinkDel(left.link(t)))
	if refused, err := tx.Send(out); refused != len(out) || err == nil {
		t.Errorf("Send on a deleted NIC: %d, %v; want %d refused and an error", refused, err, len(out))
	}
}
