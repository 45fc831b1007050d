//go:build long

package test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// attackRate is the number of packets a second that a flood offers: a machine with two processors, on which the senders
// and the hosts run as well, can still serve others.
const attackRate = 20000

// flood is packets from the client's side, from the server's side, or from both.
type flood struct {
	name         string
	from6, from4 func(*forger) []byte
}

// floods are those of the table in docs/reliability.md.
func floods() []flood {
	return []flood{
		{"SYNs from random addresses of one /64", syns(oneLink), nil},
		{"SYNs from random /64s", syns(anyLink), nil},
		{"SYNs from random IPv4 addresses", nil, (*forger).syn4},
		{"UDP port scan from IPv6", (*forger).udp6, nil},
		{"UDP port scan from IPv4", nil, (*forger).udp4},
		{"pings from both sides", (*forger).ping6, (*forger).ping4},
		{"fragments from both sides", (*forger).fragment6, (*forger).fragment4},
		{"neighbour scan of a /64 on the clients' link", syns(scannedLink), nil},
		{"neighbour scan of an IPv4 /16", (*forger).scan16, nil},
		{"one client that opens all it can", (*forger).openAll, nil},
		{"all at once", (*forger).any6, (*forger).any4},
	}
}

// TestLongAttacks compares each flood with a quiet run of the same gateway, and fails if one ends an established session.
// It prints the table of docs/reliability.md. NAT64D_ATTACK is the duration of a flood.
func TestLongAttacks(t *testing.T) {
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv("NAT64D_ATTACK"), "3s"))
	if err != nil {
		t.Fatal(err)
	}
	l := network(t, lab.Options{Clients: 2})
	ips(t, l.Gateway, "address add 198.18.0.1/16 dev "+l.NIC4, "address add 2001:db8:1:1::1/64 nodad dev "+l.NIC6, "-6 route add 2001:db8:8000::/33 via "+lab.Client6+" dev "+l.NIC6)
	serveEcho(t, l)
	sink, err := l.Server.ServeFlood(":9000")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	table := []string{"| flood | offered, packets/s | TCP kept | through the kernel | UDP kept | second client | memory |", "|---|---|---|---|---|---|---|"}
	for _, a := range floods() {
		t.Run(a.name, func(t *testing.T) {
			control := kernelUnder(t, l, sink, &a, lasts)
			u := gatewayUnder(t, l, sink, &a, lasts)
			row := fmt.Sprintf("| %s | %.0f | %.0f %% | %.0f %% | %.1f %% | %.0f %% | %d MiB |",
				a.name, u.offered, 100*u.tcp, 100*control, 100*u.udp, 100*u.second, u.memory>>20)
			t.Log(row)
			table = append(table, row)
		})
	}
	t.Logf("\n%s", strings.Join(table, "\n"))
}

// under is what others keep during a flood, as shares.
type under struct {
	offered          float64 // packets a second
	tcp, udp, second float64 // throughput, replies, and connections of a second client
	memory           int     // the largest resident size, in bytes
}

// gatewayUnder floods a gateway with the default configuration.
func gatewayUnder(t *testing.T, l *lab.Lab, sink *lab.Flood, a *flood, lasts time.Duration) (u under) {
	t.Helper()
	g := startConfig(t, l, "pool6: [ { prefix: \""+lab.Prefix6+"\" } ]\npool4: [ { address: "+lab.Spare4+", ports: 1024-65535 } ]\nstate: { save: false }\n")
	defer g.stop()
	var idle []net.Conn
	defer func() { closeAll(idle) }()
	for range 50 {
		c, err := open(l, "tcp", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	quiet := rate(t, l, sink, target, lasts)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	to6, to4 := netip.MustParseAddr(lab.Server4As6), netip.MustParseAddr(lab.Spare4)
	packets := a.run(t, ctx, l, &running, to6, to4)
	sent, lost := pacedFlow(t, ctx, l, &running)
	tried, opened := openMany(ctx, l, &running)
	began := time.Now()
	u.tcp = rate(t, l, sink, target, lasts)
	u.offered = float64(packets.Load()) / time.Since(began).Seconds()
	stop()
	running.Wait()
	u.udp = 1 - float64(lost.Load())/float64(max(1, sent.Load()))
	u.second = float64(opened.Load()) / float64(max(1, tried.Load()))
	u.memory = peak(t, g.cmd.Process.Pid)
	after, err := sink.Rate(limit(t, lasts+30*time.Second), l.Client, target+":9000", lab.Down, 1, lasts)
	if err != nil { // the flood has used up pool4
		t.Logf("a new connection after the flood: %v", err)
		after = quiet
	}
	u.tcp /= (quiet + after) / 2 // the speed of a machine varies
	for i, c := range idle {
		if err := exchange(c, uint64(i)); err != nil {
			t.Errorf("established connection %d is lost: %v", i, err)
		}
	}
	return u
}

// kernelUnder returns the share of its throughput that a TCP connection keeps through plain IPv6 forwarding of the kernel
// under the same flood: what the flood takes from this machine, senders included.
func kernelUnder(t *testing.T, l *lab.Lab, sink *lab.Flood, a *flood, lasts time.Duration) float64 {
	t.Helper()
	if err := l.Forward(true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Forward(false); err != nil {
			t.Error(err)
		}
	}()
	ips(t, l.Server, "-6 route add 2001:db8:8000::/33 via 2001:db8:2::1 dev eth0")
	quiet := rate(t, l, sink, "["+lab.Server6+"]", lasts)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	a.run(t, ctx, l, &running, netip.MustParseAddr(lab.Server6), netip.MustParseAddr(lab.Gateway4))
	kept := rate(t, l, sink, "["+lab.Server6+"]", lasts)
	stop()
	running.Wait()
	return kept / ((quiet + rate(t, l, sink, "["+lab.Server6+"]", lasts)) / 2)
}

// rate returns the throughput of a TCP connection from the client to an address of the server.
func rate(t *testing.T, l *lab.Lab, sink *lab.Flood, address string, lasts time.Duration) float64 {
	t.Helper()
	r, err := sink.Rate(limit(t, lasts+30*time.Second), l.Client, address+":9000", lab.Down, 1, lasts)
	if err != nil {
		t.Error(err)
	}
	return max(r, 1)
}

// openMany opens connections of a second client to the echo server, one after the other, until ctx is done.
func openMany(ctx context.Context, l *lab.Lab, running *sync.WaitGroup) (tried, opened *atomic.Int64) {
	tried, opened = new(atomic.Int64), new(atomic.Int64)
	running.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			tried.Add(1)
			if c, err := open(l, "tcp", 1, 0); err == nil {
				opened.Add(1)
				_ = c.Close()
			} else if ctx.Err() != nil {
				tried.Add(-1) // the flood ended before the answer
			}
		}
	})
	return tried, opened
}

// peak returns the largest resident size of a process so far, in bytes.
func peak(t *testing.T, pid int) (bytes int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	if _, err := fmt.Sscanf(rest, "%d kB", &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}

// run sends the flood until ctx is done, and counts its packets.
func (a *flood) run(t *testing.T, ctx context.Context, l *lab.Lab, running *sync.WaitGroup, to6, to4 netip.Addr) *atomic.Int64 {
	t.Helper()
	packets := new(atomic.Int64)
	share := attackRate
	if a.from6 != nil && a.from4 != nil {
		share /= 2
	}
	for i, side := range []struct {
		from *lab.Namespace
		nic  string
		kind uint16
		make func(*forger) []byte
	}{{l.Client, l.NIC6, unix.ETH_P_IPV6, a.from6}, {l.Server, l.NIC4, unix.ETH_P_IP, a.from4}} {
		if side.make == nil {
			continue
		}
		send := sender(t, side.from, l.Gateway, side.nic, side.kind)
		f := &forger{Rand: rand.New(rand.NewPCG(1, uint64(i))), to6: to6, to4: to4}
		running.Go(func() {
			for began := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
				for f.n < int(time.Since(began).Seconds()*float64(share)) {
					send(side.make(f))
					f.n++
					packets.Add(1)
				}
			}
		})
	}
	return packets
}

// forger makes the packets of a flood. One goroutine uses it.
type forger struct {
	*rand.Rand
	to6, to4 netip.Addr // where they go: through the gateway under test, or through the kernel's forwarding
	n        int        // packets made
}

func (f *forger) port() uint16 { return uint16(1024 + f.IntN(64512)) }

// address6 returns a random address of a prefix.
func (f *forger) address6(p netip.Prefix) netip.Addr {
	a := p.Addr().As16()
	for i := p.Bits() / 8; i < 16; i++ {
		a[i] = byte(f.IntN(256))
	}
	return netip.AddrFrom16(a)
}

// internet4 returns an address of a network that does not exist (RFC 2544).
func (f *forger) internet4() netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(18 + f.IntN(2)), byte(f.IntN(256)), byte(f.IntN(256))})
}

// The places of the senders of a flood from IPv6. The gateway routes all but the last one to the client; that one is on its link.
var (
	oneLink = netip.MustParsePrefix("2001:db8:8000:1::/64")
	anyLink = netip.MustParsePrefix("2001:db8:8000::/40")
	oneHost = netip.MustParsePrefix("2001:db8:8000:1::5/128")

	// On the clients' link, like the /64 of the clients, but another client to the limits.
	scannedLink = netip.MustParsePrefix("2001:db8:1:1::/64")
)

// closedPort is a port at which the server answers a SYN with a RST.
const closedPort = 9999

func syns(from netip.Prefix) func(*forger) []byte {
	return func(f *forger) []byte {
		return forgedIP(f.address6(from), f.to6, unix.IPPROTO_TCP, forgedSYN(f.port(), closedPort))
	}
}

func (f *forger) syn4() []byte {
	return forgedIP(f.internet4(), f.to4, unix.IPPROTO_TCP, forgedSYN(f.port(), f.port()))
}

func (f *forger) udp6() []byte {
	return forgedIP(f.address6(oneHost), f.to6, unix.IPPROTO_UDP, forgedUDP(5000, f.port()))
}

func (f *forger) udp4() []byte {
	return forgedIP(f.internet4(), f.to4, unix.IPPROTO_UDP, forgedUDP(f.port(), f.port()))
}

func (f *forger) ping6() []byte {
	return forgedIP(f.address6(oneLink), f.to6, unix.IPPROTO_ICMPV6, forgedEcho(128, f.port()))
}

func (f *forger) ping4() []byte {
	return forgedIP(f.internet4(), f.to4, unix.IPPROTO_ICMP, forgedEcho(8, f.port()))
}

// fragment6 returns the first fragment of a datagram that never becomes whole.
func (f *forger) fragment6() []byte {
	b := append([]byte{unix.IPPROTO_UDP, 0, 0, 1}, binary.BigEndian.AppendUint32(nil, f.Uint32())...)
	return forgedIP(f.address6(oneLink), f.to6, unix.IPPROTO_FRAGMENT, append(b, forgedUDP(f.port(), 9)...))
}

func (f *forger) fragment4() []byte {
	b := forgedIP(f.internet4(), f.to4, unix.IPPROTO_UDP, forgedUDP(f.port(), f.port()))
	binary.BigEndian.PutUint16(b[4:], uint16(f.Uint32()))
	b[6] = 0x20 // more fragments
	return fill(b, 10, sum16(b[:20]))
}

// scan16 goes to all addresses of a network on the server's link.
func (f *forger) scan16() []byte {
	to := f.to6.As16()
	if netip.MustParsePrefix(lab.Prefix6).Contains(f.to6) {
		copy(to[12:], []byte{198, 18, byte(f.IntN(256)), byte(f.IntN(256))})
	} else {
		binary.BigEndian.PutUint16(to[14:], uint16(f.Uint32()))
	}
	return forgedIP(f.address6(oneHost), netip.AddrFrom16(to), unix.IPPROTO_UDP, forgedUDP(5000, 9))
}

// openAll opens TCP connections, UDP flows and pings from all ports of one address.
func (f *forger) openAll() []byte {
	port := uint16(f.n / 3)
	switch from := f.address6(oneHost); f.n % 3 {
	case 0:
		return forgedIP(from, f.to6, unix.IPPROTO_TCP, forgedSYN(port, closedPort))
	case 1:
		return forgedIP(from, f.to6, unix.IPPROTO_UDP, forgedUDP(port, 9))
	default:
		return forgedIP(from, f.to6, unix.IPPROTO_ICMPV6, forgedEcho(128, port))
	}
}

func (f *forger) any6() []byte { return f.any(func(a *flood) func(*forger) []byte { return a.from6 }) }
func (f *forger) any4() []byte { return f.any(func(a *flood) func(*forger) []byte { return a.from4 }) }

// any makes a packet of one of the other floods from a side.
func (f *forger) any(side func(*flood) func(*forger) []byte) []byte {
	all := floods()
	for {
		if made := side(&all[f.IntN(len(all)-1)]); made != nil {
			return made(f)
		}
	}
}
