package test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// The gateway translates traffic between TAP devices, which have NAPI, checksum and segmentation offload like the NICs
// of a virtual machine: frames with and without offload metadata, in both directions.
func TestTAPLinks(t *testing.T) {
	for _, c := range []struct {
		name     string
		opt      lab.Options
		offloads string
	}{
		{"super-packets, leave", lab.Options{TAP: true}, "leave"},
		{"super-packets, auto", lab.Options{TAP: true}, "auto"},
		{"frames, leave", lab.Options{TAP: true, NoOffload: true}, "leave"},
		{"frames, manage", lab.Options{TAP: true, NoOffload: true}, "manage"},
		{"one NIC", lab.Options{TAP: true, OneNIC: true}, "leave"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := network(t, c.opt)
			g := startManaged(t, l, c.offloads)
			serveHTTP(t, l)
			serveEcho(t, l)
			ends := []*lab.Namespace{l.Client, l.Server}
			before := []lab.Counters{counters(t, ends[0]), counters(t, ends[1])}
			var sent [2]offloaded
			if !c.opt.OneNIC {
				sent[0].watch(l.Cable(l.NIC6))
				sent[1].watch(l.Cable(l.NIC4))
			}
			checkPing(t, l)
			checkDownload(t, l, 8<<20)
			checkUpload(t, l, 8<<20)
			for _, size := range []int{4000, 60000} {
				if err := echoDatagram(t, l.Client, target+":7", size); err != nil {
					t.Errorf("a datagram of %d bytes: %v", size, err)
				}
			}
			checkPortUnreachable(t, l)
			for _, up := range []bool{true, false} {
				checkSegmentedDatagrams(t, l, up)
			}
			for i, end := range ends {
				if err := wrongChecksums(counters(t, end).Since(before[i])); err != nil {
					t.Errorf("%s: %v", end.Name, err)
				}
			}
			if !c.opt.OneNIC {
				for i, nic := range []string{l.NIC6, l.NIC4} {
					if err := sent[i].check(!c.opt.NoOffload); err != nil {
						t.Errorf("%s: %v", nic, err)
					}
				}
			}
			g.stop()
		})
	}
}

// Receive offload of TAP devices coalesces datagrams, which arrive unchanged.
func TestTAPCoalescedDatagrams(t *testing.T) {
	for _, up := range []bool{true, false} {
		t.Run(fmt.Sprintf("up %v", up), func(t *testing.T) {
			t.Parallel()
			l := network(t, lab.Options{TAP: true})
			g := startManaged(t, l, "manage")
			ethtool, _ := tool(t, "ethtool")
			// A capture on the server's link then shows the datagrams.
			if out, err := l.Gateway.Output(limit(t, 10*time.Second), ethtool, "-K", l.NIC4, "tx-udp-segmentation", "off"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			newBurst(t, l, up, 400).untilJoined(t, l)
			g.stop()
		})
	}
}

// A gateway whose own TAP link is the bottleneck sends the sender its MTU, on either side.
func TestTAPPathMTU(t *testing.T) {
	for _, c := range []struct {
		name  string
		opt   lab.Options
		check func(*testing.T, *lab.Lab, int64)
	}{
		{"upload", lab.Options{TAP: true, MTU4: 1300}, checkUpload},
		{"download, frames", lab.Options{TAP: true, MTU6: 1280, NoOffload: true}, checkDownload},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := network(t, c.opt)
			g := start(t, l, sparePool)
			serveHTTP(t, l)
			c.check(t, l, 4<<20)
			if g.dropped("too_big") == 0 {
				t.Error("no packet was counted as too big")
			}
			g.stop()
		})
	}
}

// checkPortUnreachable expects the ICMP error for a datagram to a port on which nothing listens.
func checkPortUnreachable(t *testing.T, l *lab.Lab) {
	t.Helper()
	c, err := l.Client.Dial(limit(t, 5*time.Second), "udp", target+":4")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := exchange(c, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a datagram to a closed port: got %v, want %v", err, syscall.ECONNREFUSED)
	}
}

// segments is the number of datagrams in a super-packet of checkSegmentedDatagrams.
const segments = 16

// checkSegmentedDatagrams sends one super-packet of datagrams, which the sender's NIC segments if it can.
func checkSegmentedDatagrams(t *testing.T, l *lab.Lab, up bool) {
	t.Helper()
	b := newBurst(t, l, up, 1200)
	defer b.from.Close()
	defer b.to.Close()
	raw, err := b.from.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, b.size) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	var all []byte
	for range segments {
		all = append(all, b.payload()...)
	}
	if _, err := b.from.WriteTo(all, b.peer); err != nil {
		t.Fatal(err)
	}
	if err := b.to.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 1<<16)
	for i := range segments {
		n, _, err := b.to.ReadFrom(in)
		if err != nil {
			t.Fatalf("datagram %d of %d, up %v: %v", i, segments, up, err)
		}
		if !slices.Equal(in[:n], all[i*b.size:][:b.size]) {
			t.Errorf("datagram %d, up %v: %d different bytes", i, up, n)
		}
	}
}

// offloaded counts the frames on a cable that require work by the receiver's NIC, by direction: from the end, and from
// the gateway.
type offloaded [2]struct{ checksum, tcp, udp atomic.Int64 }

// Values in the virtio_net_hdr.
const (
	needsChecksum = 1 // of flags
	gsoTCP4       = 1
	gsoTCP6       = 4
	gsoUDP        = 5
	gsoECN        = 0x80
)

// watch counts the frames of a cable.
func (o *offloaded) watch(c *lab.Cable) {
	c.SetFilter(func(fromHub bool, frame []byte) bool {
		w := &o[0]
		if fromHub {
			w = &o[1]
		}
		if frame[0]&needsChecksum != 0 {
			w.checksum.Add(1)
		}
		switch frame[1] &^ gsoECN {
		case gsoTCP4, gsoTCP6:
			w.tcp.Add(1)
		case gsoUDP:
			w.udp.Add(1)
		}
		return true
	})
}

// check returns an error unless ends with offload, and the gateway behind them, have sent every kind of frame. Ends
// without offload send complete frames only, and the gateway coalesces some of them.
func (o *offloaded) check(endOffloads bool) error {
	for i, from := range []string{"end", "gateway"} {
		checksum, tcp, udp := o[i].checksum.Load(), o[i].tcp.Load(), o[i].udp.Load()
		ok := checksum > 0 && tcp > 0 && udp > 0
		if !endOffloads {
			ok = (i == 1) == (checksum > 0 && tcp > 0)
		}
		if !ok {
			return fmt.Errorf("frames from the %s with partial checksum: %d, TCP super-packets: %d, UDP super-packets: %d", from, checksum, tcp, udp)
		}
	}
	return nil
}
