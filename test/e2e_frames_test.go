package test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/packet"
	"nat64d/test/dissect"
)

// Super-packets of more than 64 KiB ("BIG TCP") are translated in both directions; none is dropped because of its
// length.
func TestSuperPacketsBeyond64KiB(t *testing.T) {
	const size = 192 << 10
	for _, engine := range []string{"ring", "mmsg"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			l := network(t, lab.Options{})
			for _, n := range []*lab.Namespace{l.Client, l.Server} {
				if err := n.SetSuperPackets("eth0", size); err != nil {
					t.Fatal(err)
				}
			}
			g := start(t, l, sparePool, "--engine", engine)
			run(t, l.Server, "iperf3", "-s", "-B", lab.Server4)
			for nic, direction := range map[string]string{l.NIC6: "--format=m", l.NIC4: "--reverse"} {
				if mean := meanFrame(t, l, nic, "-c", lab.Server4As6, "-n", "192M", "-l", "1M", direction); mean <= 64<<10 {
					t.Errorf("frames received on %s have %d bytes on average, too few of more than 64 KiB", nic, mean)
				}
			}
			for _, reason := range []string{"large", "offload", "truncated", "header4", "header6"} {
				if n := g.dropped(reason); n != 0 {
					t.Errorf("%d packets dropped as %s", n, reason)
				}
			}
			g.stop()
		})
	}
}

// meanFrame runs iperf3 on the client and returns the average length of the frames received by one of the gateway's
// NICs.
func meanFrame(t *testing.T, l *lab.Lab, nic string, args ...string) (mean uint64) {
	t.Helper()
	path, env := tool(t, "iperf3")
	command := slices.Concat(env, []string{path}, args)
	// The server may not listen yet, or may still be serving the previous client.
	eventually(t, 20*time.Second, "iperf3 "+strings.Join(args, " "), func() error {
		before, err := l.Gateway.Statistics(nic)
		if err != nil {
			return err
		}
		if out, err := l.Client.Output(limit(t, 10*time.Second), "env", command...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		after, err := l.Gateway.Statistics(nic)
		mean = (after.RxBytes - before.RxBytes) / max(after.RxPackets-before.RxPackets, 1)
		return err
	})
	return mean
}

// The link-layer addresses of the gateway's TAP devices and of the stations at their other ends.
var (
	tapMAC = [2][6]byte{{2, 0, 0, 0, 1, 6}, {2, 0, 0, 0, 1, 4}}
	farMAC = [6]byte{2, 0, 0, 0, 0, 9}
)

// tapEnds are TAP devices in place of the gateway's NICs: a frame written with a virtio_net_hdr arrives as if from a
// guest.
type tapEnds struct {
	names [2]string // by side: of the NIC that the gateway serves
	files [2]*os.File
	seen  [2]chan []byte // frames that the gateway has sent, with the virtio_net_hdr
}

// newTAPs creates the devices. With bridge, the gateway serves a bridge that has the IPv6 device as port.
func newTAPs(t *testing.T, l *lab.Lab, bridge bool) *tapEnds {
	t.Helper()
	ends := &tapEnds{names: [2]string{"t6", "t4"}}
	script := "ip link del " + l.NIC6 + "; ip link del " + l.NIC4 + ";"
	for side := range ends.names {
		ends.open(t, l, side)
		m := tapMAC[side]
		script += fmt.Sprintf("ip link set %s address %x:%x:%x:%x:%x:%x up;", ends.names[side], m[0], m[1], m[2], m[3], m[4], m[5])
	}
	if bridge {
		m := tapMAC[0]
		script += fmt.Sprintf("ip link set t6 address 02:00:00:00:02:06; ip link add br6 type bridge; ip link set br6 address %x:%x:%x:%x:%x:%x; ip link set t6 master br6; ip link set br6 up;",
			m[0], m[1], m[2], m[3], m[4], m[5])
		ends.names[0] = "br6"
	}
	script += fmt.Sprintf("ip addr add %s/64 dev %s nodad; ip addr add %s/24 dev t4;", lab.Gateway6, ends.names[0], lab.Gateway4)
	script += fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:00:09 dev %s nud permanent; ip neigh replace %s lladdr 02:00:00:00:00:09 dev t4 nud permanent",
		lab.Client6, ends.names[0], lab.Server4)
	if out, err := l.Gateway.Output(limit(t, 10*time.Second), "sh", "-ec", script); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return ends
}

// open makes the TAP device of a side and reads from it until the test ends.
func (e *tapEnds) open(t *testing.T, l *lab.Lab, side int) {
	t.Helper()
	fd, err := l.Gateway.OpenTAP(e.names[side])
	if err != nil {
		t.Fatal(err)
	}
	e.files[side] = os.NewFile(uintptr(fd), "tap")
	t.Cleanup(func() { _ = e.files[side].Close() })
	seen := make(chan []byte, 1<<12)
	e.seen[side] = seen
	go func() {
		b := make([]byte, 1<<20)
		for {
			n, err := e.files[side].Read(b)
			if err != nil {
				close(seen)
				return
			}
			select {
			case seen <- bytes.Clone(b[:n]):
			default: // no reader waits for it
			}
		}
	}()
}

// vnet is a virtio_net_hdr in the order of its fields.
type vnet struct {
	flags, gso                      uint8
	hdrLen, size, csumStart, csumAt uint16
}

// write sends an IP packet to the gateway, after tags if there are any. It fails if the kernel rejects the
// virtio_net_hdr.
func (e *tapEnds) write(side int, v vnet, ip []byte, tags ...byte) error {
	b := []byte{v.flags, v.gso}
	for _, n := range []uint16{v.hdrLen, v.size, v.csumStart, v.csumAt} {
		b = binary.NativeEndian.AppendUint16(b, n)
	}
	b = append(append(append(b, tapMAC[side][:]...), farMAC[:]...), tags...)
	if len(ip) > 0 && ip[0]>>4 == 4 {
		b = append(b, 0x08, 0x00)
	} else {
		b = append(b, 0x86, 0xdd)
	}
	_, err := e.files[side].Write(append(b, ip...))
	return err
}

// tapFlow is a UDP flow through the gateway between the two ends: the client's packets leave at the IPv4 end from a
// port of pool4, to which the server's packets are sent.
type tapFlow struct {
	*tapEnds
	t      *testing.T
	mapped netip.AddrPort
	round  uint32
	tags   []byte // before the EtherType of written frames
}

const flowPort = 5555

// passes checks that a packet of the flow arrives in each direction. It repeats a packet that is lost because the
// ring was full.
func (f *tapFlow) passes(after string) {
	f.t.Helper()
	f.round++
	six := numbered6(lab.Client6, lab.Server4As6, flowPort, flowPort, f.round)
	got := f.exchange(0, 1, six, after)
	if got == nil {
		return
	}
	f.mapped = got.Src
	f.exchange(1, 0, numbered4(lab.Server4, f.mapped.Addr().String(), flowPort, f.mapped.Port(), f.round), after)
}

// exchange writes a packet on one side until its payload leaves on the other, and returns the translated IP packet.
func (f *tapFlow) exchange(from, to int, ip []byte, after string) *dissect.Packet {
	f.t.Helper()
	marker := ip[len(ip)-4:]
	deadline := time.After(3 * time.Second)
	for {
		if err := f.write(from, vnet{}, ip, f.tags...); err != nil && !errors.Is(err, unix.EIO) {
			f.t.Fatal(err)
		}
		again := time.After(50 * time.Millisecond)
		for waiting := true; waiting; {
			select {
			case b := <-f.seen[to]:
				if p, err := dissect.IP(b[packet.Headroom:]); err == nil && p.UDP != nil && bytes.Equal(p.Payload, marker) {
					return p
				}
			case <-again:
				waiting = false
			case <-deadline:
				f.t.Fatalf("after %s no packet passes from side %d to side %d", after, from, to)
				return nil
			}
		}
	}
}

func numbered6(src, dst string, sport, dport uint16, number uint32) []byte {
	a, b := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	ip := make([]byte, packet.IPv6Len, 64)
	packet.IPv6(ip).Put(0, packet.UDPLen+4, packet.NumUDP, 64, &a, &b)
	return append(ip, udpBytes(packet.Sum(0).Addr6(&a).Addr6(&b), sport, dport, number)...)
}

func numbered4(src, dst string, sport, dport uint16, number uint32) []byte {
	a, b := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	ip := make([]byte, packet.IPv4Len, 64)
	packet.IPv4(ip).Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP, DF: true}, packet.IPv4Len+packet.UDPLen+4, &a, &b)
	return append(ip, udpBytes(packet.Sum(0).Addr4(&a).Addr4(&b), sport, dport, number)...)
}

// udpBytes returns a datagram that carries a number.
func udpBytes(addresses packet.Sum, sport, dport uint16, number uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = append(b, 0, packet.UDPLen+4, 0, 0)
	b = binary.BigEndian.AppendUint32(b, number)
	binary.BigEndian.PutUint16(b[packet.UDPChecksum:], addresses.Pseudo(len(b), packet.NumUDP).Bytes(b).Checksum())
	return b
}

// oddFrame writes a frame with a random header, protocol and length, and returns a description of it.
func (f *tapFlow) oddFrame(r *rand.Rand) string {
	side := r.IntN(2)
	proto := []byte{packet.NumTCP, packet.NumUDP, packet.NumUDP, packet.NumICMPv6, 132, 47, byte(r.Uint32())}[r.IntN(7)]
	n := []int{r.IntN(100), r.IntN(3000), r.IntN(64000), 60000 + r.IntN(6000), r.IntN(200000)}[r.IntN(5)]
	l3 := packet.IPv6Len
	ip := make([]byte, packet.IPv6Len+n)
	if a, b := netip.MustParseAddr(lab.Client6).As16(), netip.MustParseAddr(lab.Server4As6).As16(); side == 0 {
		packet.IPv6(ip).Put(0, n, proto, 64, &a, &b)
	} else {
		a, b := netip.MustParseAddr(lab.Server4).As4(), f.mapped.Addr().As4()
		ip, l3 = ip[:packet.IPv4Len+n], packet.IPv4Len
		packet.IPv4(ip).Put(packet.Fields4{TTL: 64, Proto: proto, ID: uint16(r.Uint32())}, len(ip), &a, &b)
	}
	if l4 := ip[l3:]; len(l4) >= 20 {
		binary.BigEndian.PutUint16(l4, flowPort)
		binary.BigEndian.PutUint16(l4[2:], f.mapped.Port())
		binary.BigEndian.PutUint16(l4[4:], uint16(n))
		l4[12], l4[13] = 5<<4, byte(r.Uint32())
	}
	v := vnet{
		flags: uint8(r.IntN(8)), gso: []uint8{0, 1, 3, 4, 5, uint8(r.IntN(8)), uint8(r.Uint32())}[r.IntN(7)],
		hdrLen: uint16(14 + l3 + 8), size: uint16(1 + r.IntN(1500)), csumStart: uint16(14 + l3), csumAt: uint16([]int{6, 16, 2}[r.IntN(3)]),
	}
	if r.IntN(4) == 0 {
		v.gso |= 0x80 // ECN
	}
	for _, field := range []*uint16{&v.hdrLen, &v.size, &v.csumStart, &v.csumAt} {
		if r.IntN(8) == 0 {
			*field = uint16(r.Uint32())
		}
	}
	var tags []byte
	for range r.IntN(6) - 3 {
		tags = append(tags, [][]byte{{0x81, 0x00}, {0x88, 0xa8}}[r.IntN(2)]...)
		tags = append(tags, byte(r.IntN(8)<<5), byte(r.IntN(8)/6))
	}
	err := f.write(side, v, ip, tags...)
	return fmt.Sprintf("side %d, protocol %d, %d bytes, tags %x, %+v: %v", side, proto, len(ip), tags, v, err)
}

// Frames with any virtio_net_hdr that a guest can write, of any protocol and length, do not stop the translation of
// later packets, nor trigger the watchdog. They include UDP fragmentation offload, which the kernel cannot represent
// on a packet socket.
func TestArbitraryVnetHeaders(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for i, c := range []struct {
		engine string
		bridge bool
		length time.Duration
	}{{"ring", false, time.Second}, {"mmsg", false, time.Second}, {"simple", false, time.Second / 4}, {"ring", true, time.Second / 4}} {
		t.Run(fmt.Sprintf("%s, bridge %v", c.engine, c.bridge), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d, %d", seed, i)
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			l := network(t, lab.Options{})
			f := &tapFlow{tapEnds: newTAPs(t, l, c.bridge), t: t}
			g := launch(t, l, socketPath(t), "--v6", f.names[0], "--v4", f.names[1], "--pool6", lab.Prefix6, "--pool4", ownPool, "--engine", c.engine)
			g.ready()
			f.passes("the start")
			for _, f.tags = range [][]byte{{0x81, 0, 0xe0, 0}, {0x88, 0xa8, 0, 0}, {0x81, 0, 0, 0, 0x81, 0, 0x20, 0}, nil} {
				f.passes(fmt.Sprintf("tags %x of VLAN 0", f.tags))
			}
			ufo := vnet{flags: 1, gso: 3, hdrLen: 14 + 48, size: 1448, csumStart: 14 + 40, csumAt: 6}
			for side, ip := range [][]byte{numbered6(lab.Client6, lab.Server4As6, 1, 2, 3), numbered4(lab.Server4, lab.Gateway4, 1, f.mapped.Port(), 3)} {
				ufo.csumStart = uint16(14 + len(ip) - 12)
				ip = append(ip, make([]byte, 3000)...)
				if err := f.write(side, ufo, ip); err != nil {
					t.Fatal(err)
				}
				f.passes("a frame with UFO")
			}
			for start := time.Now(); time.Since(start) < c.length; {
				said := ""
				for range 16 {
					said += "\n" + f.oddFrame(r)
				}
				f.passes("these frames:" + said)
			}
			if n := g.dropped("offload"); n < 2 {
				t.Errorf("%d frames counted as offload, want both with UFO and more", n)
			}
			if s := g.must("stats", "--all", "-o", "csv", "--no-headers"); !strings.Contains(s, "ports_stalled,,0,") {
				t.Errorf("the watchdog has acted:\n%s", s)
			}
			g.stop()
		})
	}
}
