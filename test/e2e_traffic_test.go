package test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"nat64d/lab"
)

// target is the IPv6 address of the server for the client.
const target = "[" + lab.Server4As6 + "]"

// One gateway translates all kinds of traffic between an IPv6-only and an IPv4-only host.
func TestGatewayCarriesTraffic(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, sparePool)
	serveHTTP(t, l)
	serveEcho(t, l)
	t.Run("ping", func(t *testing.T) { checkPing(t, l) })
	t.Run("download 1 GiB", func(t *testing.T) { checkDownload(t, l, 1<<30) })
	t.Run("upload 1 GiB", func(t *testing.T) { checkUpload(t, l, 1<<30) })
	t.Run("dig", func(t *testing.T) { checkDNS(t, l) })
	t.Run("traceroute", func(t *testing.T) { checkTraceroute(t, l) })
	t.Run("2000 connections", func(t *testing.T) { checkConnections(t, g, 2000) })
	g.stop()
}

// Packets pass with every engine, kind of pool and number of NICs.
func TestGatewayVariants(t *testing.T) {
	for _, c := range []struct {
		name  string
		opt   lab.Options
		pool4 string
		flags []string
		conf  string // contents of a configuration file
	}{
		{"engine ring", lab.Options{}, sparePool, []string{"--engine", "ring"}, ""},
		{"engine mmsg", lab.Options{}, sparePool, []string{"--engine", "mmsg"}, ""},
		{"engine simple", lab.Options{}, sparePool, []string{"--engine", "simple"}, ""},
		{"no bursts", lab.Options{}, sparePool, nil, "interfaces: { bursts: false }"},
		{"no bursts, ends without offload", lab.Options{NoOffload: true}, sparePool, nil, "interfaces: { bursts: false }"},
		{"one NIC for both families", lab.Options{OneNIC: true}, sparePool, nil, ""},
		{"one NIC, its own address", lab.Options{OneNIC: true}, ownPool, nil, ""},
		{"own address", lab.Options{}, ownPool, nil, ""},
		{"routed address", lab.Options{}, "198.51.100.7:1024-65535", nil, ""},
		{"ends without offload", lab.Options{NoOffload: true}, sparePool, nil, ""},
		{"simple engine, ends without offload", lab.Options{NoOffload: true}, sparePool, []string{"--engine", "simple"}, ""},
		{"two workers a side", lab.Options{}, sparePool, nil, "interfaces: { workers: 2 }"},
		{"two workers a side, mmsg", lab.Options{NoOffload: true}, ownPool, nil, "interfaces: { workers: 2, engine: mmsg }"},
		{"coalescing", lab.Options{NoOffload: true}, sparePool, nil, "interfaces: { coalesce: true }"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := network(t, c.opt)
			flags := c.flags
			if c.conf != "" {
				file := filepath.Join(t.TempDir(), "nat64d.yaml")
				if err := os.WriteFile(file, []byte(c.conf), 0o600); err != nil {
					t.Fatal(err)
				}
				flags = []string{"-c", file}
			}
			g := start(t, l, c.pool4, flags...)
			serveHTTP(t, l)
			checkPing(t, l)
			checkDownload(t, l, 32<<20)
			checkUpload(t, l, 32<<20)
			g.stop()
		})
	}
}

// Without the capability for BPF programs, packets leave one by one, which the log reports, and all of them arrive.
func TestWithoutBPF(t *testing.T) {
	l := network(t, lab.Options{NoOffload: true})
	g := launchAs(t, l, "setpriv", socketPath(t), "--bounding-set=-bpf,-sys_admin", binaries(t).nat64d,
		"--v6", l.NIC6, "--v4", l.NIC4, "--pool4", sparePool)
	g.ready()
	for _, side := range []string{"v6", "v4"} {
		if !regexp.MustCompile(`level=WARN msg="packets leave one by one.* side=` + side).MatchString(g.log.String()) {
			t.Errorf("the log does not say that packets leave one by one on the side %s:\n%s", side, g.log.String())
		}
	}
	for _, i := range g.status().Interfaces {
		if i.Bursts {
			t.Errorf("the status reports bursts: %+v", i)
		}
	}
	serveHTTP(t, l)
	checkPing(t, l)
	checkDownload(t, l, 32<<20)
	checkUpload(t, l, 32<<20)
	g.stop()
}

// In addition to what packet sockets need, bursts only need CAP_BPF: without CAP_PERFMON the verifier is stricter.
// The filter of the ring needs CAP_PERFMON, so mmsg replaces it.
func TestBurstsWithCAPBPFAlone(t *testing.T) {
	l := network(t, lab.Options{})
	g := launchAs(t, l, "setpriv", socketPath(t), "--bounding-set=-perfmon,-sys_admin", binaries(t).nat64d,
		"--v6", l.NIC6, "--v4", l.NIC4, "--pool4", sparePool)
	g.ready()
	for _, i := range g.status().Interfaces {
		if !i.Bursts {
			t.Errorf("the status reports no bursts: %+v", i)
		}
		if i.Engine != "mmsg" {
			t.Errorf("the engine is %s, want mmsg: %+v", i.Engine, i)
		}
	}
	g.stop()
}

// A gateway whose own link is the bottleneck sends the sender its MTU, on either side.
func TestPathMTU(t *testing.T) {
	for _, c := range []struct {
		name  string
		opt   lab.Options
		check func(*testing.T, *lab.Lab, int64)
	}{
		{"upload, super-packets", lab.Options{MTU4: 1300}, checkUpload},
		{"upload, packets", lab.Options{MTU4: 1300, NoOffload: true}, checkUpload},
		{"download, super-packets", lab.Options{MTU6: 1280}, checkDownload},
		{"download, packets", lab.Options{MTU6: 1280, NoOffload: true}, checkDownload},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := network(t, c.opt)
			g := start(t, l, sparePool)
			serveHTTP(t, l)
			c.check(t, l, 8<<20)
			if g.dropped("too_big") == 0 {
				t.Error("no packet was counted as too big")
			}
			g.stop()
		})
	}
}

// checkPing uses echo requests of several sizes.
func checkPing(t *testing.T, l *lab.Lab) {
	t.Helper()
	for i, size := range []int{0, 56, 1400, 3000} {
		if _, err := l.Client.Ping(limit(t, 5*time.Second), lab.Server4As6, uint16(i), size); err != nil {
			t.Errorf("ping with %d bytes: %v", size, err)
		}
	}
}

func checkDownload(t *testing.T, l *lab.Lab, size int64) {
	t.Helper()
	got, err := l.Client.Download(limit(t, time.Minute), target+":80", size)
	if err != nil {
		t.Error(err)
	} else if want := lab.Sum(size); got.Sum != want {
		t.Errorf("SHA-256 of what arrived is %s, want %s", got.Sum, want)
	}
}

func checkUpload(t *testing.T, l *lab.Lab, size int64) {
	t.Helper()
	got, err := l.Client.Upload(limit(t, time.Minute), target+":80", size)
	if err != nil {
		t.Error(err)
	} else if want := lab.Sum(size); got.Sum != want {
		t.Errorf("SHA-256 of what arrived is %s, want %s", got.Sum, want)
	}
}

// checkTraceroute expects the gateway's IPv6 address as the first hop and the server as the second.
func checkTraceroute(t *testing.T, l *lab.Lab) {
	args := []string{"traceroute", "-6", "-I", "-n", "-q", "1", "-w", "2", "-m", "4", lab.Server4As6}
	checkHops(t, l.Client, args, []string{lab.Gateway6, lab.Server4As6})
}

// checkConnections keeps n connections open and exchanges data over each one.
func checkConnections(t *testing.T, g *daemon, n int) {
	ctx := limit(t, time.Minute)
	conns := make([]net.Conn, n)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close() // the test is over
			}
		}
	})
	var dialing errgroup.Group
	dialing.SetLimit(100)
	for i := range conns {
		dialing.Go(func() (err error) {
			conns[i], err = g.lab.Client.Dial(ctx, "tcp", target+":7")
			return err
		})
	}
	if err := dialing.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, c := range conns {
		if err := exchange(c, uint64(i)); err != nil {
			t.Fatalf("connection %d of %d: %v", i, n, err)
		}
	}
	if got := g.sessions(); got < n {
		t.Errorf("%d sessions, want at least %d", got, n)
	}
}

// exchange sends a number to an echo server and expects it back.
func exchange(c net.Conn, number uint64) error {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	var out, in [8]byte
	binary.BigEndian.PutUint64(out[:], number)
	if _, err := c.Write(out[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, in[:]); err != nil {
		return err
	}
	if in != out {
		return fmt.Errorf("sent %x, got %x", out, in)
	}
	return nil
}

// serveHTTP runs the lab's web server on the IPv4-only host.
func serveHTTP(t *testing.T, l *lab.Lab) {
	t.Helper()
	stop, err := l.Server.ServeHTTP(lab.Server4 + ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// serveEcho runs a TCP and a UDP echo server (RFC 862) on the IPv4-only host.
func serveEcho(t *testing.T, l *lab.Lab) {
	t.Helper()
	echoTCP(t, l.Server, lab.Server4+":7")
	echoUDP(listenUDP(t, l.Server, lab.Server4+":7"))
}

// listenUDP opens a datagram socket that is closed with the test.
func listenUDP(t *testing.T, n *lab.Namespace, address string) net.PacketConn {
	t.Helper()
	p, err := n.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// echoUDP echoes datagrams until the socket is closed.
func echoUDP(p net.PacketConn) {
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return // closed
			}
			_, _ = p.WriteTo(b[:n], from) // the client repeats its request
		}
	}()
}

// echoTCP runs a TCP echo server in a namespace.
func echoTCP(t *testing.T, n *lab.Namespace, address string) {
	t.Helper()
	tcp, err := n.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	serveTCP(t, tcp)
}

// serveTCP echoes data on the connections of a listener until the test ends.
func serveTCP(t *testing.T, tcp net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return // closed
			}
			context.AfterFunc(ctx, func() { _ = c.Close() })
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until the client closes it
			}()
		}
	}()
}

// run starts a server in a namespace and kills it after the test.
func run(t *testing.T, n *lab.Namespace, name string, args ...string) {
	t.Helper()
	path, env := tool(t, name)
	cmd := exec.Command(path, args...)
	var out journal
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // returns an error because of the kill
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.String())
		}
	})
}

// client returns a dialer for a connection from a port of the i-th client.
func client(network string, i, port int) net.Dialer {
	at := netip.AddrPortFrom(lab.ClientAddress(i), uint16(port))
	if network == "udp" {
		return net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(at)}
	}
	return net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(at), Timeout: 5 * time.Second}
}
