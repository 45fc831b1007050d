package test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/icmp"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/test/dissect"
	"nat64d/xlat"
)

// memoryPort is a port without a NIC. When the gateway calls Receive again, it has sent all packets caused by earlier
// ones.
type memoryPort struct {
	mu      sync.Mutex
	wake    sync.Cond
	in      []packet.Frame
	idle    int // how often Receive had no packets
	closed  bool
	outputs *outputs
	side    packet.Family
}

// outputs are the packets that the gateway has sent, on both sides.
type outputs struct {
	mu      sync.Mutex
	sent    []sent
	pieces  *dissect.Reassembler
	wrong   []error // every test fails for them, unless it is
	lenient bool
}

type sent struct {
	side    packet.Family
	ip      []byte // starts with the IP header
	offload packet.Offload
	head    []byte // the Ethernet header
}

func newMemoryPort(s packet.Family, o *outputs) *memoryPort {
	p := &memoryPort{side: s, outputs: o}
	p.wake.L = &p.mu
	return p
}

// Wake makes Receive return.
func (p *memoryPort) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake.Broadcast()
}

// Gather does not wait, because all packets have arrived.
func (p *memoryPort) Gather(time.Duration) {}

func (p *memoryPort) Receive(fs []packet.Frame, _ time.Duration) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.in) == 0 && !p.closed {
		p.idle++
		p.wake.Broadcast()
		p.wake.Wait()
	}
	if p.closed {
		return 0, errors.New("closed")
	}
	n := copy(fs, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *memoryPort) Send(out []packet.Out) (int, error) {
	p.outputs.mu.Lock()
	defer p.outputs.mu.Unlock()
	for _, o := range out {
		p.outputs.check(slices.Concat(append([][]byte{o.Head[packet.Headroom:], o.Payload}, o.More...)...), o.Offload)
		p.outputs.sent = append(p.outputs.sent, sent{
			side: p.side, ip: slices.Concat(o.Head[packet.Headroom:], o.Payload), offload: o.Offload,
			head: slices.Clone(o.Head[packet.VnetLen:packet.Headroom]),
		})
	}
	return 0, nil
}

func (p *memoryPort) Drops() packet.Drops { return packet.Drops{} }

func (p *memoryPort) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.wake.Broadcast()
	return nil
}

// check has gopacket decode what was sent, and notes what it finds wrong: in the packet, and in what fragments make together.
func (o *outputs) check(ip []byte, offload packet.Offload) {
	if offload.Checksum == packet.ChecksumPartial {
		ip = dissect.Finish(ip, int(offload.CsumStart), int(offload.CsumOffset))
	}
	p, err := dissect.IP(ip)
	if err == nil && p.Fragmented() {
		var whole []byte
		if whole, err = o.pieces.Add(p); whole != nil {
			_, err = dissect.IP(whole)
		}
	}
	if err != nil && !o.lenient {
		o.wrong = append(o.wrong, err)
	}
}

// settle waits until the gateway has processed the packets.
func (p *memoryPort) settle(fs ...packet.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.idle == 0 {
		p.wake.Wait()
	}
	before := p.idle
	p.in = append(p.in, fs...)
	p.wake.Broadcast()
	for p.idle == before {
		p.wake.Wait()
	}
}

// plain is a Routes in which every destination is one hop away.
type plain struct {
	mtu6, mtu4 uint32
	gw6        packet.Addr6
	gw4        packet.Addr4
	generation atomic.Uint64
	pending    atomic.Bool                // link addresses are being resolved
	asked      atomic.Int32               // how often they were requested
	ways       map[netip.Addr]drop.Reason // why some addresses are unreachable
}

var (
	mac6, mac4 = [6]byte{2, 0, 0, 0, 0, 6}, [6]byte{2, 0, 0, 0, 0, 4}
	peer       = [6]byte{2, 0, 0, 0, 0, 9}
)

func (r *plain) Hop6(f *packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{Dst: peer, Src: mac6, MTU: r.mtu6}, r.pending.Load(), r.ways[netip.AddrFrom16(f.Dst)]
}

func (r *plain) Hop4(f *packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{Dst: peer, Src: mac4, MTU: r.mtu4}, r.pending.Load(), r.ways[netip.AddrFrom4(f.Dst)]
}

func (r *plain) ByDestination() bool                       { return true }
func (r *plain) Generation() uint64                        { return r.generation.Load() }
func (r *plain) Resolve6(packet.Selector6, packet.Client)  { r.asked.Add(1) }
func (r *plain) Resolve4(packet.Selector4, packet.Client)  { r.asked.Add(1) }
func (r *plain) Local4(packet.Addr4) bool                  { return false }
func (r *plain) Source6(packet.Addr6) (packet.Addr6, bool) { return r.gw6, true }
func (r *plain) Source4(packet.Addr4) (packet.Addr4, bool) { return r.gw4, true }

// owner is the test that a setting ends with: a *testing.T or *testing.B, or a case of rapid.
type owner interface {
	rapid.TB
	Context() context.Context
	Cleanup(func())
}

// setting is a gateway between two memory ports, with a clock that only advances when told to.
type setting struct {
	*gateway.Gateway
	routes *plain
	ports  [2]*memoryPort
	out    *outputs
	mu     sync.Mutex
	now    time.Duration
}

type settingOptions struct {
	pool6   []string
	pool4   []netip.Addr
	ports   string // of each address; empty: all
	routes  *plain
	policy  config.PrivateV4
	errors  int
	literal bool                  // LiteralReporter
	log     *slog.Logger          // nil: nothing is logged
	lowest  int                   // LowestIPv6MTU; 0: 1280
	conf    func(*gateway.Config) // further changes to the configuration; nil: none
}

var lifetimes = session.Config{
	AllowInboundTCP: true,
	Timeouts: session.Timeouts{
		UDP: 300 * time.Second, ICMP: 60 * time.Second, TCPEstablished: 2 * time.Hour,
		TCPOpening: 4 * time.Minute, TCPTransitory: 4 * time.Minute,
	},
}

func newSetting(t owner, o settingOptions) *setting {
	s := &setting{out: &outputs{pieces: dissect.NewReassembler()}, routes: o.routes}
	s.ports = [2]*memoryPort{newMemoryPort(packet.V6, s.out), newMemoryPort(packet.V4, s.out)}
	conf := gateway.Config{Xlat: xlat.Config{TOS: xlat.CopyTOS, TrafficClass: xlat.CopyTOS}, ErrorsPerSecond: o.errors,
		Answers: [drop.Choices]bool{drop.Ordinary: true, drop.IfDenied: true},
		Session: lifetimes, SYNs: synstore.Limits{Lifetime: 6 * time.Second}, LiteralReporter: o.literal, LowestIPv6MTU: cmp.Or(o.lowest, 1280), Plateaus: icmp.Plateaus}
	for _, p := range o.pool6 {
		prefix, err := pool6.ParsePrefix(p)
		if err != nil {
			t.Fatal(err)
		}
		conf.Pool6, conf.Private = append(conf.Pool6, prefix), append(conf.Private, policyOf(o.policy, prefix))
	}
	if o.conf != nil {
		o.conf(&conf)
	}
	pool := pool4.New([16]byte{1})
	for _, a := range o.pool4 {
		entries, err := pool4.ParseRange(a.String(), cmp.Or(o.ports, "1-65535"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := pool.Add(entries); err != nil {
			t.Fatal(err)
		}
	}
	s.Gateway = gateway.New(gateway.Options{
		Config: conf, Routes: o.routes, Hops: func() gateway.Hops { return o.routes }, Pool4: pool, Max: 1 << 12, Log: cmp.Or(o.log, slog.New(slog.DiscardHandler)),
		Open:  func(side packet.Family, send bool) (gateway.Port, error) { return s.port(side, send), nil },
		Clock: s.clock,
	})
	ctx := t.Context()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		for _, p := range s.ports {
			_ = p.Close()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, w := range s.out.wrong {
			t.Error(w)
		}
	})
	return s
}

// policyOf applies a policy for the Well-Known Prefix.
func policyOf(p config.PrivateV4, prefix pool6.Prefix) config.PrivateV4 {
	if prefix.IsWellKnown() {
		return p
	}
	return config.PrivateV4Auto
}

func (s *setting) port(side packet.Family, send bool) gateway.Port {
	if send {
		return newMemoryPort(side, s.out)
	}
	return s.ports[side]
}

func (s *setting) clock() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// advance advances the clock.
func (s *setting) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now += d
}

// eventually waits for an action of one of the gateway's goroutines.
func (s *setting) eventually(t testing.TB, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the condition did not hold within five seconds")
}

func (s *setting) bind(t testing.TB, p packet.Proto, v6 netip.AddrPort, v4 netip.AddrPort) {
	client := packet.Endpoint6{Addr: v6.Addr().As16(), Port: v6.Port()}
	mapped := packet.Endpoint4{Addr: v4.Addr().As4(), Port: v4.Port()}
	if err := s.Bindings.AddStatic(p, client, mapped); err != nil {
		t.Fatal(err)
	}
}

// send delivers packets on one side and returns the packets that the gateway sent in response.
func (s *setting) send(side packet.Family, packets ...[]byte) []sent {
	fs := make([]packet.Frame, len(packets))
	for i, p := range packets {
		fs[i].Data = p
	}
	return s.sendFrames(side, fs...)
}

func (s *setting) sendFrames(side packet.Family, fs ...packet.Frame) []sent {
	s.ports[side].settle(fs...)
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	got := s.out.sent
	s.out.sent = nil
	return got
}
