package test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/test/dissect"
)

// farTarget is the host behind the server as the client sees it (RFC 6052 section 2.4).
const farTarget = "[64:ff9b::cb00:7102]"

// narrowing are the successive MTUs of a link beyond the gateway during one transfer.
var narrowing = []struct {
	name string
	mtus []int
}{
	{"1280", []int{1280}},
	{"1400", []int{1400}},
	{"1400 and then 1280", []int{1500, 1400, 1280}},
}

// A router beyond the gateway drops a packet that is too big during a transfer: its ICMPv6 error reaches the IPv4
// sender. The router is not a permitted client, but the far client, which the error is about, is.
func TestPathMTUBeyondIPv6Router(t *testing.T) {
	for _, c := range narrowing {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ends without offload %v", c.name, old), func(t *testing.T) {
				l := network(t, lab.Options{Far: true, NoOffload: old})
				g := startConfig(t, l, spareFile+"allow_v6: [ \"2001:db8:3::/64\" ]\n")
				client, server := dialTo(t, l.FarClient, target+":80", l.Server, lab.Server4+":80")
				told := counter(t, l.Server, "Icmp.InDestUnreachs")
				stream(t, server, client, l.SetFarMTU6, c.mtus)
				if told() == 0 {
					t.Error("the server never received a Fragmentation Needed")
				}
				g.stop()
			})
		}
	}
}

// A router beyond the gateway drops a packet that is too big during a transfer: its ICMP error reaches the IPv6
// sender. Clients may not send to the router, but the error is about the far server.
func TestPathMTUBeyondIPv4Router(t *testing.T) {
	for _, c := range narrowing {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ends without offload %v", c.name, old), func(t *testing.T) {
				l := network(t, lab.Options{Far: true, NoOffload: old})
				g := startConfig(t, l, spareFile+"deny_v4: [ 192.0.2.0/24 ]\n")
				client, server := dialTo(t, l.Client, farTarget+":80", l.FarServer, lab.FarServer4+":80")
				told := counter(t, l.Client, "Icmp6InPktTooBigs")
				stream(t, client, server, l.SetFarMTU4, c.mtus)
				if told() == 0 {
					t.Error("the client never received a Packet Too Big")
				}
				g.stop()
			})
		}
	}
}

// The MTU of an IPv4 path is below the IPv6 minimum: the client cannot send packets smaller than 1280 bytes, so the
// gateway fragments them (RFC 7915 section 5.1).
func TestIPv4PathBelowIPv6Minimum(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("ends without offload %v", old), func(t *testing.T) {
			l := network(t, lab.Options{Far: true, NoOffload: old})
			g := start(t, l, sparePool)
			echoUDP(listenUDP(t, l.FarServer, lab.FarServer4+":7"))
			if err := l.SetFarMTU4(1000); err != nil {
				t.Fatal(err)
			}
			client, server := dialTo(t, l.Client, farTarget+":80", l.FarServer, lab.FarServer4+":80")
			told := counter(t, l.Client, "Icmp6InPktTooBigs")
			stream(t, client, server, l.SetFarMTU4, []int{1000})
			stream(t, server, client, l.SetFarMTU4, []int{1000})
			if told() == 0 {
				t.Error("the client never received a Packet Too Big")
			}
			pieces := sniff(t, l.Server, "eth0", unix.ETH_P_IP, piecesOf(udp4))
			for _, size := range []int{1200, 1400, 8000} {
				if err := echoDatagram(t, l.Client, farTarget+":7", size); err != nil {
					t.Errorf("%d bytes over UDP: %v", size, err)
				}
			}
			sent := 0
			for _, p := range pieces() {
				if d, _ := dissect.IP(p); d != nil && len(p) <= 1000 && d.Src.Addr().String() == lab.Spare4 {
					sent++
				}
			}
			if sent == 0 {
				t.Error("the gateway knows the path MTU, but fragmented nothing")
			}
			g.stop()
		})
	}
}

// The gateway's own IPv4 link has an MTU below the IPv6 minimum.
func TestIPv4LinkBelowIPv6Minimum(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("ends without offload %v", old), func(t *testing.T) {
			l := network(t, lab.Options{MTU4: 1000, NoOffload: old})
			g := start(t, l, sparePool)
			serveHTTP(t, l)
			checkUpload(t, l, 8<<20)
			g.stop()
		})
	}
}

const udp4 = unix.IPPROTO_UDP

// piecesOf accepts IPv4 fragments of a protocol.
func piecesOf(proto uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: proto, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x3fff, SkipTrue: 1}, // more fragments, or an offset
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
}

// dialTo opens a TCP connection from a client to a new listener, and returns both ends.
func dialTo(t *testing.T, from *lab.Namespace, to string, at *lab.Namespace, address string) (client, server net.Conn) {
	t.Helper()
	l, err := at.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = from.Dial(limit(t, 5*time.Second), "tcp", to); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	defer context.AfterFunc(limit(t, 5*time.Second), func() { _ = l.Close() })()
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

// stream sends data over a connection and compares what arrives. It sets the first MTU before it begins and the
// others during the transfer, while the reader pauses and the sender waits for room in the buffers.
func stream(t *testing.T, from, to net.Conn, set func(mtu int) error, mtus []int) {
	t.Helper()
	const part = 8 << 20 // more than the buffers hold
	end := time.Now().Add(20 * time.Second)
	for _, c := range []net.Conn{from, to} {
		if err := c.SetDeadline(end); err != nil {
			t.Fatal(err)
		}
	}
	size := int64(part * len(mtus))
	var group errgroup.Group
	group.Go(func() error {
		_, err := io.Copy(from, struct{ io.Reader }{lab.Stream(size)})
		return err
	})
	sum := sha256.New()
	for i, mtu := range mtus {
		if err := set(mtu); err != nil {
			t.Fatal(err)
		}
		if n, err := io.CopyN(sum, to, part); err != nil {
			t.Fatalf("with an MTU of %d: after %d bytes: %v", mtu, int64(i*part)+n, err)
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if got, want := hex.EncodeToString(sum.Sum(nil)), lab.Sum(size); got != want {
		t.Errorf("SHA-256 of what arrived is %s, want %s", got, want)
	}
}

// counter returns a function that returns the increase of a kernel counter of a namespace.
func counter(t *testing.T, n *lab.Namespace, name string) func() uint64 {
	t.Helper()
	read := func() uint64 {
		t.Helper()
		all, err := n.Counters()
		if err != nil {
			t.Fatal(err)
		}
		v, ok := all[name]
		if !ok {
			t.Fatalf("the kernel has no counter %s", name)
		}
		return v
	}
	before := read()
	return func() uint64 { return read() - before }
}
