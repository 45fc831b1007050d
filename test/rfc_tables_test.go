package test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

var protos = []packet.Proto{packet.TCP, packet.UDP, packet.ICMP}

// firsts returns the first packet of a conversation of each protocol.
func firsts(client, server netip.Addr) [][]byte {
	return [][]byte{
		ip6(client, server, packet.NumTCP, tcp(40000, 443, packet.FlagSYN)),
		ip6(client, server, packet.NumUDP, udp(40000, 443, 4)),
		ip6(client, server, packet.NumICMPv6, echo(packet.EchoRequest6, 40000)),
	}
}

func TestTables(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.1-01": rowsOfEachProtocol, // and N64-3.2-01, N64-3.2-02
		"N64-3.1-03": protocolsAreApart,
		"N64-3.1-07": staticPortIsNeverDynamic,
	})
}

func rowsOfEachProtocol(t *testing.T) {
	s := newSetting(t, ordinary())
	want := map[packet.Proto]netip.AddrPort{}
	for i, b := range firsts(clientAddr, serverAs6) {
		want[protos[i]] = mapped(t, s, b)
	}
	for _, b := range s.bindings() {
		if b.Client != (packet.Endpoint6{Addr: clientAddr.As16(), Port: 40000}) ||
			netip.AddrPortFrom(netip.AddrFrom4(b.Mapped.Addr), b.Mapped.Port) != want[b.Proto] || b.Sessions != 1 {
			t.Errorf("the binding is %+v, want the client's and %v", b, want[b.Proto])
		}
	}
	sessions := s.sessions()
	if len(sessions) != len(protos) || len(s.bindings()) != len(protos) {
		t.Fatalf("%d bindings and %d sessions, want three of each", len(s.bindings()), len(sessions))
	}
	for _, x := range sessions {
		remote := packet.Endpoint4{Addr: serverAddr.As4(), Port: 443}
		if x.Proto == packet.ICMP {
			remote.Port = 0 // the binding contains the Identifier
		}
		if x.Remote != remote || x.Remaining <= 0 || (x.Proto == packet.TCP) != (x.State == session.V6Init) {
			t.Errorf("the session is %+v, want one with %v", x, remote)
		}
	}
}

func protocolsAreApart(t *testing.T) {
	s := newSetting(t, ordinary())
	clients := map[packet.Proto]netip.Addr{packet.TCP: clientAddr, packet.UDP: secondClient, packet.ICMP: routerOn6}
	for p, a := range clients {
		s.bind(t, p, netip.AddrPortFrom(a, 1000), netip.AddrPortFrom(poolAddr, 5000))
	}
	for p, b := range map[packet.Proto][]byte{
		packet.TCP:  ip4(serverAddr, poolAddr, packet.NumTCP, tcp(443, 5000, packet.FlagSYN)),
		packet.UDP:  ip4(serverAddr, poolAddr, packet.NumUDP, udp(443, 5000, 4)),
		packet.ICMP: ip4(serverAddr, poolAddr, packet.NumICMP, echo(packet.EchoReply4, 5000)),
	} {
		if _, dst := addrs(t, only(t, s.send(packet.V4, b), packet.V6)); dst.Addr() != clients[p] {
			t.Errorf("%v port 5000 belongs to %v, want %v", p, dst.Addr(), clients[p])
		}
	}
}

func staticPortIsNeverDynamic(t *testing.T) {
	o := ordinary()
	o.ports = "7000-7003"
	s := newSetting(t, o)
	s.bind(t, packet.UDP, netip.AddrPortFrom(clientAddr, 53), netip.AddrPortFrom(poolAddr, 7001))
	s.bind(t, packet.UDP, netip.AddrPortFrom(clientAddr, 54), netip.AddrPortFrom(poolAddr, 9000))
	var ports []uint16
	for port := range uint16(3) {
		ports = append(ports, mapped(t, s, ip6(secondClient, serverAs6, packet.NumUDP, udp(2000+port, 443, 4))).Port())
	}
	if slices.Sort(ports); !slices.Equal(ports, []uint16{7000, 7002, 7003}) {
		t.Errorf("clients got the ports %d, want all but the static one", ports)
	}
	icmp6(t, s.send(packet.V6, ip6(secondClient, serverAs6, packet.NumUDP, udp(2003, 443, 4))), 1, 3)
	for port, x := range map[uint16]uint16{7001: 53, 9000: 54} {
		_, dst := addrs(t, only(t, s.send(packet.V4, ip4(serverAddr, poolAddr, packet.NumUDP, udp(443, port, 4))), packet.V6))
		if dst != netip.AddrPortFrom(clientAddr, x) {
			t.Errorf("port %d leads to %v, want port %d of the client", port, dst, x)
		}
	}
	client, foreign := packet.Endpoint6{Addr: clientAddr.As16(), Port: 55}, packet.Endpoint4{Addr: secondServer.As4(), Port: 7001}
	if s.Bindings.AddStatic(packet.UDP, client, foreign) == nil {
		t.Error("a static binding got an address that is not in pool4")
	}
}

func TestTCPWithoutSession(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5.2-09a": segmentsWithoutSession,
	})
}

func segmentsWithoutSession(t *testing.T) {
	s := newSetting(t, ordinary())
	for _, flags := range []byte{packet.FlagACK, packet.FlagFIN | packet.FlagACK, packet.FlagRST} {
		nothing(t, s.send(packet.V6, from6(packet.NumTCP, flags, 0)))
		nothing(t, s.send(packet.V4, from4(packet.NumTCP, flags, 0, 5000, true)))
	}
	if n := s.Counters.Drops(drop.NoSession) + s.Counters.Drops(drop.NoBinding); n != 6 {
		t.Errorf("%d drops were counted, want six", n)
	}
	s.bind(t, packet.TCP, netip.AddrPortFrom(clientAddr, 40000), netip.AddrPortFrom(poolAddr, 5000))
	for _, flags := range []byte{packet.FlagACK, packet.FlagFIN | packet.FlagACK, packet.FlagRST} {
		only(t, s.send(packet.V6, from6(packet.NumTCP, flags, 0)), packet.V4)
		only(t, s.send(packet.V4, from4(packet.NumTCP, flags, 0, 5000, true)), packet.V6)
	}
	if n := len(s.sessions()); n != 0 {
		t.Errorf("they made %d sessions", n)
	}
}

// conversations returns a setting with one conversation of each protocol, 50 seconds old, and their ports.
func conversations(t *testing.T) (*setting, map[packet.Proto]uint16) {
	t.Helper()
	s := newSetting(t, ordinary())
	ports := map[packet.Proto]uint16{}
	for i, b := range firsts(clientAddr, serverAs6) {
		ports[protos[i]] = mapped(t, s, b).Port()
	}
	only(t, s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, ports[packet.TCP], true)), packet.V6)
	s.advance(50 * time.Second)
	return s, ports
}

// received returns the packets that a client gets in conversations, sent those that a server gets.
func received() [][]byte {
	return [][]byte{
		ip6(serverAs6, clientAddr, packet.NumTCP, tcp(443, 40000, packet.FlagACK)),
		ip6(serverAs6, clientAddr, packet.NumUDP, udp(443, 40000, 4)),
		ip6(serverAs6, clientAddr, packet.NumICMPv6, echo(packet.EchoReply6, 40000)),
	}
}

func sentOn(ports map[packet.Proto]uint16) [][]byte {
	return [][]byte{
		ip4(poolAddr, serverAddr, packet.NumTCP, tcp(ports[packet.TCP], 443, packet.FlagACK)),
		ip4(poolAddr, serverAddr, packet.NumUDP, udp(ports[packet.UDP], 443, 4)),
		ip4(poolAddr, serverAddr, packet.NumICMP, echo(packet.EchoRequest4, ports[packet.ICMP])),
	}
}

// errorsAbout sends errors about every conversation from both sides; all must be translated.
func errorsAbout(t *testing.T, s *setting, ports map[packet.Proto]uint16) {
	t.Helper()
	for _, q := range received() {
		only(t, s.send(packet.V6, ip6(clientAddr, serverAs6, packet.NumICMPv6, complaint(1, 4, 0, q))), packet.V4)
	}
	for _, q := range sentOn(ports) {
		only(t, s.send(packet.V4, ip4(routerOn4, poolAddr, packet.NumICMP, complaint(3, 1, 0, q))), packet.V6)
	}
}

func TestErrorsLeaveStateAlone(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5-01": errorsChangeNothing,
		"U47-12":     errorsEndNoMapping,
		"T53-10":     errorsEndNoConnection,
		"I55-06":     errorsDoNotRefreshQueries,
		"U47-06c":    reactionsDoNotRefresh,
	})
}

func errorsChangeNothing(t *testing.T) {
	s, ports := conversations(t)
	bindings, sessions := s.bindings(), s.sessions()
	errorsAbout(t, s, ports)
	if !slices.Equal(s.bindings(), bindings) || !slices.Equal(s.sessions(), sessions) {
		t.Errorf("after the errors: %+v and %+v, before: %+v and %+v", s.bindings(), s.sessions(), bindings, sessions)
	}
	unknown := ip6(behind64(secondServer), secondClient, packet.NumUDP, udp(443, 40000, 4))
	nothing(t, s.send(packet.V6, ip6(secondClient, behind64(secondServer), packet.NumICMPv6, complaint(1, 4, 0, unknown))))
	if n := len(s.bindings()); n != len(bindings) {
		t.Errorf("an error made %d bindings", n-len(bindings))
	}
}

func errorsEndNoMapping(t *testing.T) {
	s, ports := conversations(t)
	errorsAbout(t, s, ports)
	if got := mapped(t, s, from6(packet.NumUDP, 0, 4)).Port(); got != ports[packet.UDP] {
		t.Errorf("after the error the client has port %d, before %d", got, ports[packet.UDP])
	}
	only(t, s.send(packet.V4, from4(packet.NumUDP, 0, 4, ports[packet.UDP], false)), packet.V6)
}

func errorsEndNoConnection(t *testing.T) {
	s, ports := conversations(t)
	errorsAbout(t, s, ports)
	only(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagACK, 10)), packet.V4)
	only(t, s.send(packet.V4, from4(packet.NumTCP, packet.FlagACK, 10, ports[packet.TCP], true)), packet.V6)
	for _, x := range s.sessions() {
		if x.Proto == packet.TCP && x.State != session.Established {
			t.Errorf("the connection is in state %v", x.State)
		}
	}
}

func errorsDoNotRefreshQueries(t *testing.T) {
	s, ports := conversations(t)
	errorsAbout(t, s, ports)
	s.advance(9 * time.Second) // 59 seconds since the query
	if n := s.live(packet.ICMP); n != 1 {
		t.Errorf("%d ICMP sessions after 59 seconds", n)
	}
	s.advance(2 * time.Second)
	if n := s.live(packet.ICMP); n != 0 {
		t.Errorf("%d ICMP sessions after 61 seconds: errors have refreshed them", n)
	}
}

func reactionsDoNotRefresh(t *testing.T) {
	s, ports := conversations(t)
	for _, q := range received() { // replies to received packets
		only(t, s.send(packet.V6, ip6(clientAddr, serverAs6, packet.NumICMPv6, complaint(1, 4, 0, q))), packet.V4)
	}
	unasked := ip4(secondServer, poolAddr, packet.NumTCP, tcp(443, ports[packet.TCP], packet.FlagSYN))
	only(t, s.send(packet.V4, unasked), packet.V6)
	s.advance(100 * time.Second)
	only(t, s.send(packet.V6, ip6(clientAddr, behind64(secondServer), packet.NumTCP, tcp(40000, 443, packet.FlagRST))), packet.V4)
	for _, x := range s.sessions() {
		want := map[packet.Proto]time.Duration{packet.TCP: 2*time.Hour - 150*time.Second, packet.UDP: 150 * time.Second}[x.Proto]
		if x.Remote.Addr == secondServer.As4() {
			want = 140 * time.Second
		}
		if x.Remaining.Round(time.Second) != want {
			t.Errorf("%v with %v lives for %v, want %v", x.Proto, netip.AddrFrom4(x.Remote.Addr), x.Remaining, want)
		}
	}
}

// live counts the unexpired sessions of a protocol.
func (s *setting) live(p packet.Proto) (n int) {
	for _, x := range s.sessions() {
		if x.Proto == p {
			n++
		}
	}
	return n
}
