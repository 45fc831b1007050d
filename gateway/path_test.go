package gateway

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/xlat"
)

// nowhere is a port that discards and counts packets.
type nowhere struct{ sent int }

func (*nowhere) Receive([]packet.Frame, time.Duration) (int, error) { return 0, nil }
func (*nowhere) Wake()                                              {}
func (*nowhere) Gather(time.Duration)                               {}
func (n *nowhere) Send(out []packet.Out) (int, error)               { n.sent += len(out); return 0, nil }
func (*nowhere) Drops() packet.Drops                                { return packet.Drops{} }
func (*nowhere) Close() error                                       { return nil }

// onLink routes have every destination one hop away.
type onLink struct{}

func (onLink) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, false, drop.None
}
func (onLink) ByDestination() bool { return true }

func (onLink) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, false, drop.None
}
func (onLink) Generation() uint64                        { return 0 }
func (onLink) Resolve6(packet.Selector6, packet.Client)  {}
func (onLink) Resolve4(packet.Selector4, packet.Client)  {}
func (onLink) Local4(packet.Addr4) bool                  { return false }
func (onLink) Source6(packet.Addr6) (packet.Addr6, bool) { return packet.Addr6{}, false }
func (onLink) Source4(packet.Addr4) (packet.Addr4, bool) { return packet.Addr4{}, false }

// still returns a gateway that is not running; the test drives its workers.
func still(t testing.TB) *Gateway { return stillWith(t, func(*Options) {}) }

// stillWith is still with modified options.
func stillWith(t testing.TB, change func(*Options)) *Gateway {
	prefix, _ := pool6.ParsePrefix("64:ff9b::/96")
	pool := pool4.New([16]byte{})
	entries, err := pool4.ParseRange("192.0.2.1", "1024-65535")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Config: Config{
			Pool6: []pool6.Prefix{prefix}, Xlat: xlat.Config{TOS: xlat.CopyTOS, TrafficClass: xlat.CopyTOS}, LowestIPv6MTU: 1280,
			Answers: [drop.Choices]bool{drop.Ordinary: true, drop.IfDenied: true, drop.IfFiltered: true, drop.IfUnbound: true},
			Session: session.Config{AllowInboundTCP: true, Timeouts: session.Timeouts{
				UDP: time.Minute, ICMP: time.Minute, TCPEstablished: time.Hour, TCPOpening: time.Minute, TCPTransitory: time.Minute,
			}},
		},
		Routes: onLink{}, Hops: func() Hops { return onLink{} }, Pool4: pool, Max: 1 << 17, Log: slog.New(slog.DiscardHandler),
		Open: func(packet.Family, bool) (Port, error) { return &nowhere{}, nil },
	}
	change(&o)
	g := New(o)
	if err := g.Open(); err != nil {
		t.Fatal(err)
	}
	return g
}

var peerAddr = netip.MustParseAddr("64:ff9b::c633:6414").As16()

// udp6 returns a UDP packet of an IPv6 client's port.
func udp6(port uint16) []byte {
	b := make([]byte, packet.IPv6Len+packet.UDPLen+18)
	src := netip.MustParseAddr("2001:db8::8").As16()
	packet.IPv6(b).Put(0, len(b)-packet.IPv6Len, packet.NumUDP, 64, &src, &peerAddr)
	u := b[packet.IPv6Len:]
	binary.BigEndian.PutUint16(u, port)
	binary.BigEndian.PutUint16(u[2:], 53)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	u[6] = 1 // any checksum: it is updated, not verified
	return b
}

// answers returns IPv4 replies to packets of clients with the ports 1 to n, after the gateway has translated those.
func answers(t testing.TB, g *Gateway, n int) [][]byte {
	var out [][]byte
	for i := range n {
		src := packet.Endpoint6{Addr: netip.MustParseAddr("2001:db8::8").As16(), Port: uint16(i + 1)}
		mapped, ok := g.Bindings.Lookup6(packet.UDP, src)
		if !ok {
			t.Fatalf("port %d has no binding", i+1)
		}
		b := make([]byte, packet.IPv4Len+packet.UDPLen+18)
		peer := packet.Addr4{198, 51, 100, 20}
		packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP}, len(b), &peer, &mapped.Addr)
		u := b[packet.IPv4Len:]
		binary.BigEndian.PutUint16(u, 53)
		binary.BigEndian.PutUint16(u[2:], mapped.Port)
		binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
		u[6] = 1
		out = append(out, b)
	}
	return out
}

func frames(packets [][]byte) []packet.Frame {
	fs := make([]packet.Frame, len(packets))
	for i := range packets {
		fs[i].Data = packets[i]
	}
	return fs
}

func clients(n int) []packet.Frame {
	packets := make([][]byte, n)
	for i := range packets {
		packets[i] = udp6(uint16(i + 1))
	}
	return frames(packets)
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	forwardingAllocatesNothing(t, still(t))
}

func TestForwardingByPolicyDoesNotAllocate(t *testing.T) {
	forwardingAllocatesNothing(t, stillWith(t, func(o *Options) {
		everywhere := netip.MustParsePrefix("0.0.0.0/0")
		o.Config.Bypass = []netip.Prefix{netip.MustParsePrefix("64:ff9b::c633:6480/121")}
		o.Config.Deny4 = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		o.Config.DenyPorts = []PortRule{{everywhere, packet.UDP, 25, 25}, {everywhere, packet.UDP, 6660, 6669}}
		o.Config.Broadcasts = []packet.Addr4{{192, 0, 2, 255}}
	}))
}

// The check of sequence numbers does not allocate once the windows of the sessions have their memory.
func TestSequenceCheckDoesNotAllocate(t *testing.T) {
	g := stillWith(t, func(o *Options) { o.Config.Session.CheckSequence = true })
	syn := frames([][]byte{client([6]byte{0, 1, 1, 7, 9, packet.FlagSYN}, nil)})
	w := g.workers[packet.V6]
	w.batch(syn)
	if n := testing.AllocsPerRun(100, func() { w.batch(syn) }); n != 0 {
		t.Errorf("%v allocations in a batch", n)
	}
}

func forwardingAllocatesNothing(t *testing.T, g *Gateway) {
	t.Helper()
	six, four := g.workers[packet.V6], g.workers[packet.V4]
	out := clients(batch)
	six.batch(out)
	in := frames(answers(t, g, batch))
	if n := testing.AllocsPerRun(100, func() { six.batch(out); four.batch(in) }); n != 0 {
		t.Errorf("%v allocations in two batches", n)
	}
	for _, d := range []metrics.Direction{metrics.From6To4, metrics.From4To6} {
		if p, _ := g.Counters.Traffic(d); p < 100*batch {
			t.Errorf("%v: %d packets were forwarded", d, p)
		}
	}
}

func TestRefusingDoesNotAllocate(t *testing.T) {
	g := still(t)
	b := udp6(1)
	b[7] = 1 // hop limit
	fs := frames([][]byte{b})
	if n := testing.AllocsPerRun(100, func() { g.workers[packet.V6].batch(fs) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := g.Counters.Drops(drop.HopLimit); n < 100 {
		t.Errorf("%d drops were counted", n)
	}
}

func BenchmarkFrom6(b *testing.B) {
	g := still(b)
	w, fs := g.workers[packet.V6], clients(batch)
	for b.Loop() {
		w.batch(fs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
}

func BenchmarkFrom4(b *testing.B) {
	g := still(b)
	g.workers[packet.V6].batch(clients(batch))
	w, fs := g.workers[packet.V4], frames(answers(b, g, batch))
	for b.Loop() {
		w.batch(fs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
}

// BenchmarkManyFlows sends each packet from another one of many clients, in random order, so that look-ups miss the
// cache. With a single packet per batch nothing is prefetched.
func BenchmarkManyFlows(b *testing.B) {
	const flows = 1 << 20
	g := stillWith(b, func(o *Options) {
		o.Max = 2 * flows
		entries, err := pool4.ParseRange("198.18.0.0/26", "1024-65535")
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := o.Pool4.Add(entries); err != nil {
			b.Fatal(err)
		}
	})
	w, fs := g.workers[packet.V6], clients(batch)
	move := func(i int, n uint32) {
		src := packet.IPv6(fs[i].Data).Src()
		binary.BigEndian.PutUint32(src[8:], n)
	}
	for n := range uint32(flows) {
		move(int(n%batch), n)
		if n%batch == batch-1 {
			w.batch(fs)
		}
	}
	for _, size := range []int{1, batch} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			n := uint32(1)
			for b.Loop() {
				for i := range size {
					n = n*1664525 + 1013904223 // Numerical Recipes' generator; flow n%batch has port i
					move(i, n>>8%(flows/batch)*batch+uint32(i))
				}
				w.batch(fs[:size])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/packet")
		})
	}
}

// Workers share tables and counters, but write no common cache line per packet: with a processor each, the second
// does not slow down the first.
func BenchmarkWorkersSideBySide(b *testing.B) {
	for n := 1; n <= 2; n++ {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			g := stillWith(b, func(o *Options) { o.Workers = 2 })
			all := clients(2 * batch)
			var group sync.WaitGroup
			b.ResetTimer()
			for i := range n {
				group.Go(func() {
					for range b.N {
						g.workers[i].batch(all[i*batch:][:batch])
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/packet-and-worker")
		})
	}
}
