package gateway

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
)

// The addresses and ports of the self-test: documentation addresses of RFC 5737 and RFC 3849.
var (
	testClient = packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	testPeer   = packet.Addr4{198, 51, 100, 1}
	testPool   = netip.AddrFrom4([4]byte{192, 0, 2, 1})
)

const (
	testClientPort = 40000
	testPeerPort   = 443
	testSegment    = 1000 // payload bytes of a segment of the super-packet
	testSegments   = 3
)

// SelfTest takes packets in both directions through the code and the tables that the packets of the network pass, and checks
// what leaves: a UDP datagram and its reply, with their checksums, and a TCP super-packet with the checksum that its sender has left
// to the NIC. It uses the prefix and the translation of c, and a gateway of its own in memory, so that it leaves nothing behind.
func SelfTest(c Config, o Options) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("self-test: panic: %v", value)
		}
	}()
	t, err := newSelfTest(&c, o)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	for _, step := range []func() error{t.datagram, t.reply, t.superPacket} {
		if err := step(); err != nil {
			return fmt.Errorf("self-test: %w", err)
		}
	}
	return nil
}

// selfTest is a gateway between two ports in memory.
type selfTest struct {
	g      *Gateway
	prefix pool6.Prefix
	ports  [sides]memoryPort
	mapped packet.Endpoint4 // of the client's UDP port
}

func newSelfTest(c *Config, o Options) (*selfTest, error) {
	t := &selfTest{}
	t.prefix, _ = pool6.ParsePrefix("64:ff9b::/96")
	if len(c.Pool6) > 0 {
		t.prefix = c.Pool6[0]
	}
	pool := pool4.New(o.Key)
	var entries []pool4.Entry
	for _, p := range []packet.Proto{packet.UDP, packet.TCP} {
		entries = append(entries, pool4.Entry{Addr: testPool, Proto: p, Lo: 1024, Hi: 65535})
	}
	if _, _, err := pool.Add(entries); err != nil {
		return nil, err
	}
	session := c.Session
	session.MaxPerClient, session.MaxBindingsPerClient = 0, 0
	const few = 1 << 10
	t.g = New(Options{
		Config: Config{Pool6: []pool6.Prefix{t.prefix}, Xlat: c.Xlat, LowestIPv6MTU: c.LowestIPv6MTU, Session: session},
		Routes: noRoutes{}, Hops: func() Hops { return noRoutes{} }, Pool4: pool, Max: few, Key: o.Key, Log: o.Log,
		Open: func(s packet.Family, _ bool) (Port, error) { return &t.ports[s], nil },
	})
	return t, t.g.Open()
}

// pass processes a packet that arrives on a side and returns its only translation.
func (t *selfTest) pass(from packet.Family, f packet.Frame) (*packet.Out, []byte, error) {
	out := &t.ports[1-from].sent
	*out = (*out)[:0]
	t.g.workers[from].batch([]packet.Frame{f})
	if len(*out) != 1 {
		return nil, nil, fmt.Errorf("%d packets left for one from side %v", len(*out), from)
	}
	o := &(*out)[0]
	return o, slices.Concat(o.Head[packet.Headroom:], o.Payload), nil
}

// client returns the headers of an IPv6 packet of the client.
func (t *selfTest) client(proto uint8, transport int) []byte {
	b := make([]byte, packet.IPv6Len+transport)
	peer := t.prefix.Embed(testPeer)
	packet.IPv6(b).Put(0, transport, proto, 64, &testClient, &peer)
	binary.BigEndian.PutUint16(b[packet.IPv6Len:], testClientPort)
	binary.BigEndian.PutUint16(b[packet.IPv6Len+2:], testPeerPort)
	return b
}

func (t *selfTest) datagram() error {
	const payload = "nat64d self-test"
	b := t.client(packet.NumUDP, packet.UDPLen+len(payload))
	udp := b[packet.IPv6Len:]
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[packet.UDPLen:], payload)
	binary.BigEndian.PutUint16(udp[6:], packet.PseudoHeader(b, len(udp)).Bytes(udp).Checksum())
	_, ip, err := t.pass(packet.V6, packet.Frame{Data: b})
	if err != nil {
		return err
	}
	var v packet.View
	if r := v.Parse4(ip); r != drop.None || v.Transport4() != drop.None {
		return fmt.Errorf("the IPv4 datagram is malformed: %x", ip)
	}
	t.mapped = packet.Endpoint4{Addr: *v.IP4().Src(), Port: v.SrcPort}
	switch {
	case *v.IP4().Dst() != testPeer || v.DstPort != testPeerPort || t.mapped.Addr != testPool.As4():
		return fmt.Errorf("the IPv4 datagram has other addresses: %x", ip)
	case packet.PseudoHeader(ip, len(v.Transport())).Bytes(v.Transport()).Fold() != 0xffff || string(v.Transport()[packet.UDPLen:]) != payload:
		return fmt.Errorf("the IPv4 datagram has a wrong checksum or payload: %x", ip)
	}
	return nil
}

func (t *selfTest) reply() error {
	b := make([]byte, packet.IPv4Len+packet.UDPLen+4)
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP}, len(b), &testPeer, &t.mapped.Addr)
	udp := b[packet.IPv4Len:]
	binary.BigEndian.PutUint16(udp, testPeerPort)
	binary.BigEndian.PutUint16(udp[2:], t.mapped.Port)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[6:], packet.PseudoHeader(b, len(udp)).Bytes(udp).Checksum())
	_, ip, err := t.pass(packet.V4, packet.Frame{Data: b})
	if err != nil {
		return err
	}
	var v packet.View
	if v.Parse6(ip) != drop.None || v.Headers6() != drop.None {
		return fmt.Errorf("the IPv6 reply is malformed: %x", ip)
	}
	switch {
	case *v.IP6().Src() != t.prefix.Embed(testPeer) || *v.IP6().Dst() != testClient || v.DstPort != testClientPort:
		return fmt.Errorf("the IPv6 reply has other addresses: %x", ip)
	case packet.PseudoHeader(ip, len(v.Transport())).Bytes(v.Transport()).Fold() != 0xffff:
		return fmt.Errorf("the IPv6 reply has a wrong checksum: %x", ip)
	}
	return nil
}

// segment returns a TCP segment of the client, whose checksum is left to the NIC.
func (t *selfTest) segment(flags byte, payload int) packet.Frame {
	b := t.client(packet.NumTCP, packet.TCPLen+payload)
	tcp := b[packet.IPv6Len:]
	tcp[12], tcp[13] = packet.TCPLen/4<<4, flags
	binary.BigEndian.PutUint16(tcp[packet.TCPChecksum:], packet.PseudoHeader(b, len(tcp)).Fold())
	return packet.Frame{Data: b, Offload: packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv6Len, CsumOffset: packet.TCPChecksum}}
}

func (t *selfTest) superPacket() error {
	if _, _, err := t.pass(packet.V6, t.segment(packet.FlagSYN, 0)); err != nil {
		return err
	}
	f := t.segment(packet.FlagACK, testSegments*testSegment)
	f.Offload.GSO, f.Offload.GSOSize, f.Offload.HdrLen = packet.GSOTCPv6, testSegment, packet.IPv6Len+packet.TCPLen
	o, ip, err := t.pass(packet.V6, f)
	if err != nil {
		return err
	}
	want := f.Offload
	want.GSO, want.CsumStart, want.HdrLen = packet.GSOTCPv4, packet.IPv4Len, packet.IPv4Len+packet.TCPLen
	at := packet.IPv4Len + packet.TCPChecksum
	sum := packet.PseudoHeader(ip, len(ip)-packet.IPv4Len).Fold()
	switch {
	case o.Offload != want:
		return fmt.Errorf("a super-packet left as %+v, want %+v", o.Offload, want)
	case binary.BigEndian.Uint16(ip[at:]) != sum:
		return fmt.Errorf("a super-packet left with the pseudo-header sum %x, want %x", ip[at:at+2], sum)
	}
	return nil
}

// memoryPort keeps what is sent, and receives nothing.
type memoryPort struct{ sent []packet.Out }

func (*memoryPort) Receive([]packet.Frame, time.Duration) (int, error) { return 0, nil }
func (*memoryPort) Wake()                                              {}
func (*memoryPort) Gather(time.Duration)                               {}
func (*memoryPort) Drops() packet.Drops                                { return packet.Drops{} }
func (*memoryPort) Close() error                                       { return nil }
func (p *memoryPort) Send(out []packet.Out) (int, error) {
	p.sent = append(p.sent, out...)
	return 0, nil
}

// noRoutes have every destination one hop away.
type noRoutes struct{}

func (noRoutes) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, false, drop.None
}
func (noRoutes) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, false, drop.None
}
func (noRoutes) ByDestination() bool                       { return true }
func (noRoutes) Generation() uint64                        { return 0 }
func (noRoutes) Resolve6(packet.Selector6, packet.Client)  {}
func (noRoutes) Resolve4(packet.Selector4, packet.Client)  {}
func (noRoutes) Local4(packet.Addr4) bool                  { return false }
func (noRoutes) Source6(packet.Addr6) (packet.Addr6, bool) { return packet.Addr6{}, false }
func (noRoutes) Source4(packet.Addr4) (packet.Addr4, bool) { return packet.Addr4{}, false }
