//go:build linux

package afpacket_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
	"nat64d/test/dissect"
)

// TestKernelTCP receives a super-packet of a connection between two kernels and sends it on.
func TestKernelTCP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		family      packet.Family
		etherType   uint16
		gso         packet.GSO
		left, right string
		header      int
	}{
		{packet.V6, unix.ETH_P_IPV6, packet.GSOTCPv6, "2001:db8::1/64", "2001:db8::2/64", 40},
		{packet.V4, unix.ETH_P_IP, packet.GSOTCPv4, "192.0.2.1/24", "192.0.2.2/24", 20},
	} {
		t.Run(c.family.String(), func(t *testing.T) {
			eachEngine(t, func(t *testing.T, o afpacket.Options, left, right *end) {
				o.Family = c.family
				l, r := left.open(t, o), right.open(t, o)
				left.addAddress(t, c.left)
				right.addAddress(t, c.right)
				got := superPacket(t, r, func() { stream(t, left, right, c.right) })

				f := got.offload
				if f.Checksum != packet.ChecksumPartial || int(f.CsumStart) != c.header || f.CsumOffset != 16 {
					t.Errorf("checksum metadata %+v", f)
				}
				if f.GSO != c.gso || f.GSOSize < 1000 || int(f.HdrLen) < c.header+20 {
					t.Errorf("%d bytes, segmentation metadata %+v", len(got.data), f)
				}
				if _, err := dissect.IP(dissect.Finish(got.data, int(f.CsumStart), int(f.CsumOffset))); err != nil {
					t.Error(err)
				}
				send(t, r, right.to(left, c.etherType, got.data, f))
				back := superPacket(t, l, func() {})
				f.HdrLen, back.offload.HdrLen = 0, 0 // a hint that the kernel may change
				if !bytes.Equal(back.data, got.data) || back.offload != f {
					t.Errorf("sent %d bytes with %+v, received %d with %+v", len(got.data), f, len(back.data), back.offload)
				}
			})
		})
	}
}

// superPacket returns the first super-packet that arrives during or after run.
func superPacket(t *testing.T, p *afpacket.Port, run func()) received {
	t.Helper()
	run()
	for {
		for _, f := range collect(t, p, 1) {
			if f.offload.GSO != packet.GSONone {
				return f
			}
		}
	}
}

// stream sends a megabyte from one kernel to the other.
func stream(t *testing.T, from, to *end, address string) {
	t.Helper()
	ip, _, err := net.ParseCIDR(address)
	ok(t, err)
	var l net.Listener
	ok(t, to.in(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
		return err
	}))
	got := make(chan int64)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, c) // the byte count reveals missing data
		_ = c.Close()
		got <- n
	}()
	err = from.in(func() error {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		if _, err := c.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		_ = l.Close() // ends Accept
	}
	ok(t, err)
	if n := <-got; n != 1<<20 {
		t.Fatalf("%d bytes came over TCP, want %d", n, 1<<20)
	}
	ok(t, l.Close())
}

func (e *end) addAddress(t *testing.T, s string) {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	ok(t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	ok(t, e.links.AddrAdd(e.link(t), a))
}
