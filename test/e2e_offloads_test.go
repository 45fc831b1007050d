package test

import (
	"encoding/binary"
	"errors"
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

// managed are the offloads of a managed interface, as in the status.
var managed = []string{"rx-gro", "rx-udp-gro-forwarding", "threaded"}

// startManaged runs nat64d with a /sys that shows the gateway's interfaces, as on a real machine.
func startManaged(t *testing.T, l *lab.Lab, offloads string, flags ...string) *daemon {
	t.Helper()
	ip, _ := tool(t, "ip")
	args := []string{"netns", "exec", l.Gateway.Name, binaries(t).nat64d,
		"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", sparePool, "--offloads", offloads}
	g := launchAs(t, l, ip, socketPath(t), append(args, flags...)...)
	g.ready()
	return g
}

// expectOffloads returns nil if the status of every interface and the kernel have these offloads.
func (g *daemon) expectOffloads(want ...string) error {
	g.t.Helper()
	return errors.Join(g.statusHas(want...), kernelHas(g.t, g.lab, len(want) > 0))
}

// statusHas returns nil if the status of every interface has these offloads.
func (g *daemon) statusHas(want ...string) error {
	for _, i := range g.status().Interfaces {
		if !slices.Equal(i.Offloads, want) {
			return fmt.Errorf("the status of %s has %q, want %q", i.Name, i.Offloads, want)
		}
	}
	return nil
}

// kernelHas returns nil if ethtool reports receive offload as on, or off, for both interfaces of the gateway.
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

// nat64d manages offloads while it runs, also of an interface that is re-created. A stop, or the start after a kill,
// restores them.
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
		t.Errorf("the log is\n%s", said)
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

// With auto, a bulk transfer turns threads on, and a stop or the start after a kill restores the settings.
func TestOffloadsFollowLoad(t *testing.T) {
	l := network(t, lab.Options{})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	serveHTTP(t, l)
	for _, kill := range []bool{false, true} {
		g := startManaged(t, l, "auto", "--log-level", "debug")
		check(g.statusHas("rx-gro"))
		if o := g.status().Offloads; o.Mode != "auto" || o.Switches != 0 || o.Reason != "" {
			t.Errorf("the status has %+v", o)
		}
		eventually(t, 20*time.Second, "a bulk transfer turns threads on", func() error {
			checkDownload(t, l, 256<<20)
			return g.statusHas("rx-gro", "threaded")
		})
		if o := g.status().Offloads; o.Switches == 0 || !strings.HasPrefix(o.Reason, "threads on: ") {
			t.Errorf("the status has %+v", o)
		}
		if !strings.Contains(g.log.String(), "settings of interfaces follow the load") {
			t.Errorf("the log is\n%s", g.log.String())
		}
		if kill {
			g.signal(syscall.SIGKILL)
			g.wait()
			g = startManaged(t, l, "leave")
			check(g.statusHas())
		}
		g.stop()
		check(kernelHas(t, l, false))
	}
}

// If threaded NAPI is not available, the log gives the reason, and nat64d works. A veth that is down has no NAPI.
func TestUnavailableOffloadIsLogged(t *testing.T) {
	l := network(t, lab.Options{})
	if err := l.Gateway.SetUp(l.NIC4, false); err != nil {
		t.Fatal(err)
	}
	g := launch(t, l, socketPath(t), "--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", sparePool, "--offloads", "manage")
	eventually(t, recoverWithin, "the log explains it", func() error {
		if !strings.Contains(g.log.String(), "cannot turn threaded of "+l.NIC4+" on: ") {
			return errors.New(g.log.String())
		}
		return nil
	})
	if err := l.Gateway.SetUp(l.NIC4, true); err != nil {
		t.Fatal(err)
	}
	g.ready()
	eventually(t, recoverWithin, "threads receive from the interface", func() error { return g.statusHas(managed...) })
	checkPing(t, l)
	g.stop()
	if err := kernelHas(t, l, false); err != nil {
		t.Error(err)
	}
}

// inARow is the number of datagrams in a burst.
const inARow = 16

// Datagrams coalesced by receive offload arrive unchanged, also if each must be fragmented.
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
			// The gateway's kernel segments super-packets, so that a capture on the server's link shows the
			// datagrams.
			ethtool, _ := tool(t, "ethtool")
			if out, err := l.Gateway.Output(limit(t, 10*time.Second), ethtool, "-K", l.NIC4, "tx-udp-segmentation", "off"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			newBurst(t, l, c.up, c.size).untilJoined(t, l)
			g.stop()
		})
	}
}

// Packets that receive offload only chains (rx-gro-list), each with its own memory and checksum, arrive as well.
func TestChainedDatagrams(t *testing.T) {
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
			// The gateway's kernel segments super-packets, so that a capture on the server's link shows the
			// datagrams.
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
				t.Errorf("%d packets were dropped because of their offload metadata", n)
			}
			g.stop()
		})
	}
}

// burst sends bursts of datagrams from one socket to another.
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
	// The server's datagrams may be fragmented.
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

// untilJoined sends bursts until the gateway has received several datagrams coalesced to one packet.
func (b *burst) untilJoined(t *testing.T, l *lab.Lab) {
	t.Helper()
	for end, joined := time.Now().Add(20*time.Second), false; !joined; {
		if time.Now().After(end) {
			t.Fatal("no datagrams were coalesced, so the test is void")
		}
		joined = b.rounds(t, l, 10)
	}
}

// rounds sends n bursts and compares what arrives. It reports whether the gateway has received coalesced datagrams.
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

// arriving accepts packets of one family sent by other hosts.
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

// round sends one burst and waits until it has arrived.
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

// payload returns a unique payload.
func (b *burst) payload() []byte {
	p := make([]byte, b.size)
	b.sent++
	for i := 0; i+8 <= len(p); i += 8 {
		binary.BigEndian.PutUint64(p[i:], b.sent*0x9e3779b97f4a7c15+uint64(i))
	}
	return p
}

// checkIdentifications expects that all datagrams have different Identifications (RFC 6864 section 4.3).
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
			t.Errorf("the Identification %d is zero or repeated", id)
		}
		seen[id] = true
	}
	if n < inARow {
		t.Errorf("%d datagrams were seen on the wire, want %d or more", n, inARow)
	}
}
