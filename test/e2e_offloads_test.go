package test

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/test/dissect"
)

// managed are the offloads of an interface that is set up for speed, as the status has them.
var managed = []string{"rx-gro", "rx-udp-gro-forwarding", "threaded"}

// startManaged runs nat64d where /sys shows the gateway's interfaces, as it does on a machine of its own.
func startManaged(t *testing.T, l *lab.Lab, offloads string) *daemon {
	t.Helper()
	ip, _ := tool(t, "ip")
	g := launchAs(t, l, ip, socketPath(t), "netns", "exec", l.Gateway.Name, binaries(t).nat64d,
		"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", sparePool, "--offloads", offloads)
	g.ready()
	return g
}

// expectOffloads is nil if the status of every interface, and the kernel, have these.
func (g *daemon) expectOffloads(want ...string) error {
	g.t.Helper()
	for _, i := range g.status().Interfaces {
		if !slices.Equal(i.Offloads, want) {
			return fmt.Errorf("the status of %s has %q, want %q", i.Name, i.Offloads, want)
		}
	}
	return kernelHas(g.t, g.lab, len(want) > 0)
}

// kernelHas is nil if the kernel says that receive offload is on, or off, at both interfaces of the gateway.
func kernelHas(t *testing.T, l *lab.Lab, on bool) error {
	t.Helper()
	path, _ := tool(t, "ethtool")
	for _, nic := range []string{l.NIC6, l.NIC4} {
		out, err := l.Gateway.Output(limit(t, 10*time.Second), path, "-k", nic)
		if err != nil {
			t.Fatalf("ethtool: %v: %s", err, out)
		}
		for _, feature := range []string{"generic-receive-offload", "rx-udp-gro-forwarding"} {
			if strings.Contains(out, feature+": on") != on {
				return fmt.Errorf("%s of %s is on: %v", feature, nic, !on)
			}
		}
	}
	return nil
}

// Offloads are managed while nat64d runs, also those of an interface that comes back, and put back by a stop or by the
// start after a kill.
func TestOffloadsAreManaged(t *testing.T) {
	l := network(t, lab.Options{})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	serveHTTP(t, l)
	g := startManaged(t, l, "manage")
	check(g.expectOffloads(managed...))
	if said := g.log.String(); !strings.Contains(said, "threaded of "+l.NIC6+" on") || strings.Contains(said, "level=WARN msg=\"offloads") {
		t.Errorf("it says\n%s", said)
	}
	checkPing(t, l)
	checkDownload(t, l, 64<<20)
	checkUpload(t, l, 64<<20)
	if err := l.Unplug4(); err != nil {
		t.Fatal(err)
	}
	if err := l.Plug4(); err != nil {
		t.Fatal(err)
	}
	eventually(t, recoverWithin, "the new interface is set up", func() error { return g.expectOffloads(managed...) })
	g.stop()
	check(kernelHas(t, l, false))

	for _, next := range []string{"manage", "leave"} {
		g = startManaged(t, l, "manage")
		g.signal(syscall.SIGKILL)
		g.wait()
		check(kernelHas(t, l, true))
		g = startManaged(t, l, next)
		if next == "manage" {
			check(g.expectOffloads(managed...))
		} else {
			check(g.expectOffloads())
		}
		g.stop()
		check(kernelHas(t, l, false))
	}
}

// A machine on which threads cannot be had is told why, and works.
func TestOffloadsThatAreRefused(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, sparePool, "--offloads", "manage") // /sys shows the interfaces of where the test runs
	if !strings.Contains(g.log.String(), "cannot turn threaded of "+l.NIC6+" on: /sys/class/net shows another network namespace") {
		t.Error("it does not say that there are no threads, and why")
	}
	checkPing(t, l)
	g.stop()
	if err := kernelHas(t, l, false); err != nil {
		t.Error(err)
	}
}

// inARow is how many datagrams are sent at once.
const inARow = 16

// Datagrams that receive offload has joined arrive as they were sent, also if each has to be cut in fragments.
func TestCoalescedDatagrams(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  lab.Options
		up   bool // from the client to the server
		size int
	}{
		{"up", lab.Options{}, true, 400},
		{"up, in fragments", lab.Options{MTU4: 1000}, true, 1200},
		{"down", lab.Options{}, false, 400},
		{"down, in fragments", lab.Options{}, false, 1400},
		{"down, in fragments of a small link", lab.Options{MTU6: 1280}, false, 1400},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := network(t, c.opt)
			g := startManaged(t, l, "manage")
			// The gateway's kernel takes super-packets apart, so that the server's wire shows what is in them.
			ethtool, _ := tool(t, "ethtool")
			if out, err := l.Gateway.Output(limit(t, 10*time.Second), ethtool, "-K", l.NIC4, "tx-udp-segmentation", "off"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			newBurst(t, l, c.up, c.size).untilJoined(t, l)
			g.stop()
		})
	}
}

// Packets that receive offload only strings together, each with its own memory and checksum, arrive as well.
func TestPacketsStrungTogether(t *testing.T) {
	for _, up := range []bool{true, false} {
		t.Run(fmt.Sprintf("up %v", up), func(t *testing.T) {
			l := network(t, lab.Options{NoOffload: true})
			serveHTTP(t, l)
			g := startManaged(t, l, "manage")
			ethtool, _ := tool(t, "ethtool")
			for _, nic := range []string{l.NIC6, l.NIC4} { // manage has switched it off
				if out, err := l.Gateway.Output(limit(t, 10*time.Second), ethtool, "-K", nic, "rx-gro-list", "on"); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			// The gateway's kernel takes super-packets apart, so that the server's wire shows what is in them.
			if out, err := l.Gateway.Output(limit(t, 10*time.Second), ethtool, "-K", l.NIC4, "tx-udp-segmentation", "off"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			newBurst(t, l, up, 400).untilJoined(t, l)
			if up {
				checkUpload(t, l, 16<<20)
			} else {
				checkDownload(t, l, 16<<20)
			}
			if n := g.dropped("offload"); n != 0 {
				t.Errorf("%d packets were dropped for their metadata", n)
			}
			g.stop()
		})
	}
}

// burst sends datagrams in a row from one socket to another.
type burst struct {
	up       bool
	from, to net.PacketConn
	peer     net.Addr // of from
	size     int
	sent     uint64
}

// newBurst opens both sockets and a session between them.
func newBurst(t *testing.T, l *lab.Lab, up bool, size int) *burst {
	t.Helper()
	client, server := listenUDP(t, l.Client, "["+lab.Client6+"]:9000"), listenUDP(t, l.Server, lab.Server4+":9")
	// Those of the server may be fragmented.
	raw, err := server.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	there := &net.UDPAddr{IP: net.ParseIP(lab.Server4As6), Port: 9}
	if _, err := client.WriteTo([]byte("open"), there); err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, mapped, err := server.ReadFrom(make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	if up {
		return &burst{up: true, from: client, to: server, peer: there, size: size}
	}
	return &burst{from: server, to: client, peer: mapped, size: size}
}

// untilJoined sends bursts until some of their datagrams have reached the gateway as one packet.
func (b *burst) untilJoined(t *testing.T, l *lab.Lab) {
	t.Helper()
	for end, joined := time.Now().Add(20*time.Second), false; !joined; {
		if time.Now().After(end) {
			t.Fatal("no datagrams were ever joined: this proves nothing")
		}
		joined = b.rounds(t, l, 10)
	}
}

// rounds sends n bursts and compares what arrives. It reports whether the gateway has seen joined datagrams.
func (b *burst) rounds(t *testing.T, l *lab.Lab, n int) bool {
	t.Helper()
	nic, etherType := l.NIC4, uint32(unix.ETH_P_IP)
	if b.up {
		nic, etherType = l.NIC6, unix.ETH_P_IPV6
	}
	arrived := sniff(t, l.Gateway, nic, unix.ETH_P_ALL, arriving(etherType))
	wire := sniff(t, l.Server, "eth0", unix.ETH_P_ALL, arriving(unix.ETH_P_IP))
	for range n {
		b.round(t)
	}
	if b.up {
		checkIdentifications(t, wire())
	}
	return slices.ContainsFunc(arrived(), func(p []byte) bool { return len(p) > 2*b.size })
}

// arriving lets packets of one family through that others have sent.
func arriving(etherType uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherType, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_HOST, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
}

// round sends one burst and waits for it.
func (b *burst) round(t *testing.T) {
	t.Helper()
	out := make([]ipv4.Message, inARow)
	missing := map[string]bool{}
	for i := range out {
		p := b.payload()
		out[i] = ipv4.Message{Buffers: [][]byte{p}, Addr: b.peer}
		missing[string(p)] = true
	}
	for rest := out; len(rest) > 0; {
		n, err := ipv4.NewPacketConn(b.from).WriteBatch(rest, 0)
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := b.to.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for in := make([]byte, 1<<16); len(missing) > 0; {
		n, _, err := b.to.ReadFrom(in)
		if err != nil {
			t.Fatalf("%d of %d datagrams are missing: %v", len(missing), inARow, err)
		}
		if !missing[string(in[:n])] {
			t.Fatalf("a datagram of %d bytes arrived that was not sent, or twice", n)
		}
		delete(missing, string(in[:n]))
	}
}

// payload returns what no other datagram has.
func (b *burst) payload() []byte {
	p := make([]byte, b.size)
	b.sent++
	for i := 0; i+8 <= len(p); i += 8 {
		binary.BigEndian.PutUint64(p[i:], b.sent*0x9e3779b97f4a7c15+uint64(i))
	}
	return p
}

// checkIdentifications expects that no two datagrams have the same one (RFC 6864 section 4.3).
func checkIdentifications(t *testing.T, packets [][]byte) {
	t.Helper()
	seen, n := map[uint16]bool{}, 0
	for _, p := range packets {
		d, _ := dissect.IP(p)
		if d == nil || d.IP4.Protocol != layers.IPProtocolUDP || d.IP4.FragOffset != 0 {
			continue // another protocol, or a fragment but the first
		}
		n++
		id := d.IP4.Id
		if id == 0 || seen[id] {
			t.Errorf("the Identification %d comes twice, or is none", id)
		}
		seen[id] = true
	}
	if n < inARow {
		t.Errorf("%d datagrams were seen on the wire, want %d or more", n, inARow)
	}
}
