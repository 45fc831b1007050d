//go:build linux

package afpacket_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
)

// eachEngine runs a test with each engine in parallel, on separate wires, and once more in the namespace of the left
// end, where packets from that end are sent in bursts.
func eachEngine(t *testing.T, f func(t *testing.T, o afpacket.Options, left, right *end)) {
	t.Parallel()
	for _, e := range engines {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			left, right := newWire(t)
			f(t, afpacket.Options{Family: packet.V6, Engine: e}, left, right)
		})
	}
	t.Run("bursts", func(t *testing.T) {
		t.Parallel()
		left, right := newWire(t)
		left.enter(t)
		f(t, afpacket.Options{Family: packet.V6}, left, right)
	})
}

func TestPacketsStayInOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		l, r := left.open(t, o), right.open(t, o)
		for _, way := range []struct {
			tx, rx   *afpacket.Port
			from, to *end
		}{{l, r, left, right}, {r, l, right, left}} {
			var out []packet.Out
			var want [][]byte
			for i := range 200 { // several batches, sizes from a bare header to the MTU
				ip := small(i, i*1460/199)
				want = append(want, ip)
				out = append(out, way.from.to(way.to, unix.ETH_P_IPV6, ip, packet.Offload{}))
			}
			send(t, way.tx, out...)
			expect(t, way.rx, want...)
		}
		if n := [2]packet.Drops{l.Drops(), r.Drops()}; n != [2]packet.Drops{} {
			t.Errorf("%+v drops, want none", n)
		}
	})
}

func TestSuperPacketsStayInOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		var out []packet.Out
		var want []received
		for i := range 48 {
			w := received{data: small(i, 100)}
			if i%3 != 0 {
				w.data, w.offload = super(i, 1440*2+i*1250) // up to the maximum
			}
			want = append(want, w)
			out = append(out, left.to(right, unix.ETH_P_IPV6, w.data, w.offload))
		}
		send(t, tx, out...)
		for i, got := range collect(t, rx, len(want)) {
			want[i].offload.HdrLen, got.offload.HdrLen = 0, 0 // a hint that the kernel may change
			if got.offload != want[i].offload || !bytes.Equal(got.data, want[i].data) {
				t.Fatalf("packet %d: got %d bytes, %+v; want %d bytes, %+v", i,
					len(got.data), got.offload, len(want[i].data), want[i].offload)
			}
		}
	})
}

func TestFamiliesOnOneNIC(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx6 := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		o.Family = packet.V4
		rx4 := right.open(t, o)
		six, four := small(6, 10), small(4, 10)
		send(t, tx,
			left.to(right, unix.ETH_P_ARP, small(1, 10), packet.Offload{}),
			left.to(right, unix.ETH_P_IPV6, six, packet.Offload{}),
			left.to(right, unix.ETH_P_IP, four, packet.Offload{}))
		expect(t, rx6, six)
		expect(t, rx4, four)
	})
}

// TestFilterRejectsOtherFrames sends packets that a port must not receive, and then one that it must.
func TestFilterRejectsOtherFrames(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		host := right.openWith(t, afpacket.OpenSender, o)
		last := small(3, 10)

		tagged := left.to(right, unix.ETH_P_8021Q, append([]byte{0, 7, 0x86, 0xdd}, small(0, 80)...), packet.Offload{})
		inner := left.to(right, unix.ETH_P_8021Q, append([]byte{0, 0, 0x81, 0, 0x20, 7, 0x86, 0xdd}, small(0, 80)...), packet.Offload{})
		four := left.to(right, unix.ETH_P_8021Q, append([]byte{0, 0, 0x08, 0}, small(0, 80)...), packet.Offload{})
		multicast := left.to(&end{mac: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}}, unix.ETH_P_IPV6, small(1, 10), packet.Offload{})
		other := left.to(left, unix.ETH_P_IPV6, small(2, 10), packet.Offload{})
		send(t, host, right.to(left, unix.ETH_P_IPV6, small(4, 10), packet.Offload{})) // outgoing
		send(t, tx, tagged, inner, four, multicast, other, left.to(right, unix.ETH_P_IPV6, last, packet.Offload{}))
		expect(t, rx, last)
	})
}

// Frames with VLAN ID 0, which have a priority but no VLAN, are received like untagged ones, with any number and kind
// of tags; the kernel removes only the first one.
func TestPriorityTags(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		q, ad := []byte{0x81, 0x00, 0xa0, 0x00}, []byte{0x88, 0xa8, 0xe0, 0x00}
		for i, tags := range [][]byte{q, ad, slices.Concat(q, q), slices.Concat(ad, q), slices.Concat(q, ad, q)} {
			ip, offload := super(i, 30)
			want := packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 16}
			offload.GSO, offload.CsumStart = packet.GSONone, uint16(40+len(tags))
			tagged := slices.Concat(tags[2:], []byte{0x86, 0xdd}, ip)
			send(t, tx, left.to(right, binary.BigEndian.Uint16(tags), tagged, offload))
			got := collect(t, rx, 1)[0]
			if got.offload.Checksum != packet.ChecksumPartial { // the kernel has completed it
				want = packet.Offload{Checksum: got.offload.Checksum}
				copy(ip[40+16:], got.data[40+16:][:2])
			}
			if got.offload != want || !bytes.Equal(got.data, ip) {
				t.Errorf("tags %x: got %+v, %x; want %+v, %x", tags, got.offload, got.data, want, ip)
			}
		}
	})
}

// TestSuperPacketsBeyond64KiB receives the longest super-packet of the kernel (GSO_MAX_SIZE).
func TestSuperPacketsBeyond64KiB(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		const most = 8 * 65535
		ok(t, left.links.LinkSetGSOMaxSize(left.link(t), most))
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		for i, n := range []int{65475, 65476, 100000, 300000, most - 100} {
			ip, offload := super(i, n)
			binary.BigEndian.PutUint16(ip[4:], 0)
			offload.GSOSize = 8948
			send(t, tx, left.to(right, unix.ETH_P_IPV6, ip, offload))
			if got := collect(t, rx, 1)[0]; !bytes.Equal(got.data, ip) || got.offload.GSO != packet.GSOTCPv6 {
				t.Errorf("got %d bytes, %+v; want %d bytes", len(got.data), got.offload, len(ip))
			}
		}
		if d := rx.Drops(); d != (packet.Drops{}) {
			t.Errorf("drops: %+v", d)
		}
	})
}

func TestSendRefusesOnlyInvalidPackets(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		var out []packet.Out
		var want [][]byte
		for i := range 10 {
			ip := small(i, 100)
			if i == 0 || i == 4 || i == 5 || i == 9 {
				ip = small(i, 1461) // one byte more than the MTU
			} else {
				want = append(want, ip)
			}
			out = append(out, left.to(right, unix.ETH_P_IPV6, ip, packet.Offload{}))
		}
		if refused, err := tx.Send(out); refused != 4 || err != nil {
			t.Fatalf("Send: %d, %v; want 4 refused", refused, err)
		}
		expect(t, rx, want...)
	})
}

func TestRingOverflowIsCounted(t *testing.T) {
	t.Parallel()
	left, right := newWire(t)
	const slots, more = 4096, 68
	o := afpacket.Options{Family: packet.V6, Engine: afpacket.Ring}
	tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
	var want [][]byte
	for i := range slots + more {
		want = append(want, small(i, 50))
		send(t, tx, left.to(right, unix.ETH_P_IPV6, want[i], packet.Offload{}))
	}
	poll(t, "count of drops", func() bool { return rx.Drops() == packet.Drops{Room: more} })
	expect(t, rx, want[:slots]...)
	ok(t, rx.Close())
	if n := rx.Drops(); n != (packet.Drops{Room: more}) {
		t.Errorf("%+v drops after Close, want %d", n, more)
	}
}

// TestRingAlignsIPHeader checks the purpose of PACKET_RESERVE.
func TestRingAlignsIPHeader(t *testing.T) {
	t.Parallel()
	left, right := newWire(t)
	o := afpacket.Options{Family: packet.V6, Engine: afpacket.Ring}
	tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
	send(t, tx, left.to(right, unix.ETH_P_IPV6, small(1, 30), packet.Offload{}))
	f := make([]packet.Frame, 1)
	if n, err := rx.Receive(f, patience); n != 1 || err != nil {
		t.Fatalf("Receive: %d, %v", n, err)
	}
	if at := uintptr(unsafe.Pointer(&f[0].Data[0])); at%16 != 0 {
		t.Errorf("the IP header is at %#x, want a multiple of 16", at)
	}
}

func TestReceiveWithFewFrames(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		if n, err := rx.Receive(nil, 0); n != 0 || err != nil {
			t.Fatalf("Receive into nothing: %d, %v", n, err)
		}
		for i := range 3 {
			send(t, tx, left.to(right, unix.ETH_P_IPV6, small(i, 30), packet.Offload{}))
		}
		f := make([]packet.Frame, 1)
		for i := range 3 {
			n, err := rx.Receive(f, patience)
			if n != 1 || err != nil || !bytes.Equal(f[0].Data, small(i, 30)) {
				t.Fatalf("packet %d: %d, %v, %x", i, n, err, f[0].Data)
			}
		}
	})
}

func TestClose(t *testing.T) {
	eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
		tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
		send(t, tx, left.to(right, unix.ETH_P_IPV6, small(1, 30), packet.Offload{}))
		fs := make([]packet.Frame, 4)
		if n, err := rx.Receive(fs, patience); n != 1 || err != nil {
			t.Fatalf("Receive: %d, %v", n, err)
		}
		ok(t, rx.Close())
		ok(t, rx.Close())
		if _, err := rx.Receive(fs, 0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive after Close: %v", err)
		}
		if refused, err := rx.Send(make([]packet.Out, 2)); refused != 2 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close: %d, %v", refused, err)
		}
		if n := right.sockets(t); n != 0 {
			t.Errorf("%d sockets left after Close", n)
		}
	})
}

func TestSenderDoesNotReceive(t *testing.T) {
	t.Parallel()
	left, _ := newWire(t)
	p := left.openWith(t, afpacket.OpenSender, afpacket.Options{})
	if _, err := p.Receive(make([]packet.Frame, 1), 0); err == nil || !strings.Contains(err.Error(), "sender") {
		t.Errorf("Receive: %v", err)
	}
}

func TestAutoSelectsRing(t *testing.T) {
	t.Parallel()
	left, _ := newWire(t)
	p := left.open(t, afpacket.Options{Family: packet.V4})
	if p.Engine() != afpacket.Ring || p.Fallback() != nil {
		t.Errorf("engine %v, fallback %v", p.Engine(), p.Fallback())
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    afpacket.Options
		want string
	}{
		{afpacket.Options{Interface: "lo", Family: packet.Families}, "family 2"},
		{afpacket.Options{Interface: "lo", Family: packet.V6, Engine: 9}, "engine 9"},
		{afpacket.Options{Interface: "none", Family: packet.V6}, "none: "},
	} {
		if _, err := afpacket.Open(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error about %q", c.o, err, c.want)
		}
	}
}

func TestLoopbackRefused(t *testing.T) {
	t.Parallel()
	left, _ := newWire(t)
	err := left.in(func() error {
		_, err := afpacket.Open(afpacket.Options{Interface: "lo", Family: packet.V6})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "Ethernet") {
		t.Errorf("lo: %v", err)
	}
}

func TestParseEngine(t *testing.T) {
	t.Parallel()
	for e := afpacket.Auto; e <= afpacket.Simple; e++ {
		if got, err := afpacket.ParseEngine(e.String()); got != e || err != nil {
			t.Errorf("%v: %v, %v", e, got, err)
		}
	}
	if _, err := afpacket.ParseEngine("dpdk"); err == nil {
		t.Error("ParseEngine accepts dpdk")
	}
}
