//go:build linux

package afpacket_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
)

// patience bounds all waits for expected events.
const patience = 10 * time.Second

// engines are the engines other than Auto.
var engines = []afpacket.Engine{afpacket.Ring, afpacket.Mmsg, afpacket.Simple}

// end is one end of a wire: a NIC in a separate network namespace.
type end struct {
	ns    netns.NsHandle
	links *netlink.Handle
	name  string
	mac   net.HardwareAddr
}

// newWire connects two new network namespaces by a veth pair. The namespaces have no name, so the kernel removes them
// with their last descriptor, even if the test crashes.
func newWire(tb testing.TB) (left, right *end) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("network namespaces need root")
	}
	left, right = newEnd(tb, "left"), newEnd(tb, "right")
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: right.name, PeerNamespace: netlink.NsFd(right.ns)}
	veth.Name = left.name
	ok(tb, left.links.LinkAdd(veth))
	for _, e := range []*end{left, right} {
		ok(tb, e.links.LinkSetUp(e.link(tb)))
		e.mac = e.link(tb).Attrs().HardwareAddr
	}
	left.awaitUp(tb)
	right.awaitUp(tb)
	return left, right
}

func newEnd(tb testing.TB, name string) *end {
	tb.Helper()
	e := &end{name: name, ns: -1}
	ok(tb, onThread(func() (err error) {
		e.ns, err = netns.New()
		return err
	}))
	tb.Cleanup(func() { ok(tb, e.ns.Close()) })
	var err error
	e.links, err = netlink.NewHandleAt(e.ns)
	ok(tb, err)
	tb.Cleanup(e.links.Close)
	return e
}

// onThread runs f on a thread that is destroyed afterwards.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// in runs f in the end's namespace.
func (e *end) in(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(e.ns); err != nil {
			return err
		}
		return f()
	})
}

// enter moves the calling test or benchmark to the end's namespace, on a thread that is destroyed with it.
func (e *end) enter(tb testing.TB) {
	tb.Helper()
	runtime.LockOSThread()
	ok(tb, netns.Set(e.ns))
}

func (e *end) link(tb testing.TB) netlink.Link {
	tb.Helper()
	link, err := e.links.LinkByName(e.name)
	ok(tb, err)
	return link
}

// awaitUp waits until the link is up.
func (e *end) awaitUp(tb testing.TB) {
	tb.Helper()
	poll(tb, "link up", func() bool { return e.link(tb).Attrs().OperState == netlink.OperUp })
}

// open opens a port on the end's NIC.
func (e *end) open(tb testing.TB, o afpacket.Options) *afpacket.Port {
	tb.Helper()
	return e.openWith(tb, afpacket.Open, o)
}

func (e *end) openWith(tb testing.TB, open func(afpacket.Options) (*afpacket.Port, error), o afpacket.Options) *afpacket.Port {
	tb.Helper()
	o.Interface = e.name
	var p *afpacket.Port
	ok(tb, e.in(func() (err error) {
		p, err = open(o)
		return err
	}))
	tb.Cleanup(func() { ok(tb, p.Close()) })
	return p
}

// sockets counts the AF_PACKET sockets in the end's namespace.
func (e *end) sockets(tb testing.TB) int {
	tb.Helper()
	var table []byte
	ok(tb, e.in(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/packet")
		return err
	}))
	return bytes.Count(table, []byte("\n")) - 1 // the first line is a heading
}

// to returns an Ethernet frame from one end to the other with an IP packet whose headers are its first 40 bytes.
func (e *end) to(dst *end, etherType uint16, ip []byte, o packet.Offload) packet.Out {
	head := make([]byte, packet.Headroom, packet.Headroom+40)
	copy(head[packet.VnetLen:], dst.mac)
	copy(head[packet.VnetLen+6:], e.mac)
	binary.BigEndian.PutUint16(head[packet.Headroom-2:], etherType)
	n := min(len(ip), 40)
	return packet.Out{Head: append(head, ip[:n]...), Payload: ip[n:], Offload: o}
}

// small returns an IPv6 packet that contains a number and its length.
func small(number, payload int) []byte {
	b := make([]byte, 40+payload)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	b[6], b[7] = unix.IPPROTO_NONE, 64
	for i := range b[40:] {
		b[40+i] = byte(number + i)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(number))
	return b
}

// super returns a TCP super-packet over IPv6 with its offload metadata.
func super(number, payload int) ([]byte, packet.Offload) {
	b := append(small(number, 20), bytes.Repeat([]byte{byte(number)}, payload)...)
	binary.BigEndian.PutUint16(b[4:], uint16(20+payload))
	b[6] = unix.IPPROTO_TCP
	b[8], b[24], b[40+12], b[40+13] = 0x20, 0x20, 5<<4, 0x10 // unicast addresses; data offset, ACK
	return b, packet.Offload{
		Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 16,
		GSO: packet.GSOTCPv6, GSOSize: 1440, HdrLen: 60,
	}
}

// received is a copy of a frame.
type received struct {
	data    []byte
	offload packet.Offload
}

// collect receives n packets.
func collect(tb testing.TB, p *afpacket.Port, n int) []received {
	tb.Helper()
	var got []received
	fs := make([]packet.Frame, 64)
	for deadline := time.Now().Add(patience); len(got) < n; {
		m, err := p.Receive(fs, 100*time.Millisecond)
		ok(tb, err)
		for _, f := range fs[:m] {
			got = append(got, received{slices.Clone(f.Data), f.Offload})
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d packets came, want %d", len(got), n)
		}
	}
	return got
}

// expect checks that the next packets are exactly these.
func expect(tb testing.TB, p *afpacket.Port, want ...[]byte) {
	tb.Helper()
	got := collect(tb, p, len(want))
	if len(got) != len(want) {
		tb.Fatalf("%d packets came, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i].data, want[i]) {
			tb.Fatalf("packet %d:\n got %x\nwant %x", i, got[i].data, want[i])
		}
	}
}

// send sends packets and fails the test if the kernel refuses any.
func send(tb testing.TB, p *afpacket.Port, out ...packet.Out) {
	tb.Helper()
	refused, err := p.Send(out)
	ok(tb, err)
	if refused != 0 {
		tb.Fatalf("%d of %d packets refused", refused, len(out))
	}
}

// poll waits for a condition.
func poll(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("no %s within %v", what, patience)
		}
	}
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
