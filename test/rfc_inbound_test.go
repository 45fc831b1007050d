package test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
	"nat64d/session"
)

// with returns an ordinary setting with a change to the configuration of sessions.
func with(change func(c *session.Config)) settingOptions {
	o := ordinary()
	o.conf = func(c *gateway.Config) { change(&c.Session) }
	return o
}

// dependent returns a setting with address-dependent filtering, storing one with endpoint-independent filtering.
func dependent() settingOptions {
	return storingSYNs(with(func(c *session.Config) { c.AddressDependent, c.InboundRefresh = true, true }), 16, 0, 0)
}

func storing() settingOptions {
	return storingSYNs(ordinary(), 16, 4, 0)
}

// storingSYNs returns a setting like o that stores SYNs.
func storingSYNs(o settingOptions, total, perSource, perPool4 int) settingOptions {
	conf := o.conf
	o.conf = func(c *gateway.Config) {
		if conf != nil {
			conf(c)
		}
		c.SYNs.Total, c.SYNs.PerSource, c.SYNs.PerPool4 = total, perSource, perPool4
	}
	return o
}

func TestAddressDependentFilter(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5.1-08": strangersUDP,
		"N64-3.5.3-05": strangersEcho,
		"N64-3.5.2-06": strangersSYNIsStored,
		"N64-3.5.2-09": strangersSYNIsMet,
	})
}

func strangersUDP(t *testing.T) {
	s := newSetting(t, dependent())
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
	only(t, s.send(packet.V4, ip4(serverAddr, poolAddr, packet.NumUDP, udp(7, port, 4))), packet.V6) // from any port of it
	s.advance(100 * time.Second)
	nothing(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumUDP, udp(443, port, 4))))
	s.counted(t, drop.FilteredAddress, 0)
	for _, x := range s.sessions() {
		if x.Remaining.Round(time.Second) != 200*time.Second { // U47-06b
			t.Errorf("after the packet that was refused a session lives for %v, want 200 s", x.Remaining)
		}
	}
	only(t, s.send(packet.V6, ip6(clientAddr, behind64(secondServer), packet.NumUDP, udp(40000, 7, 4))), packet.V4)
	only(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumUDP, udp(443, port, 4))), packet.V6)
}

func strangersEcho(t *testing.T) {
	s := newSetting(t, dependent())
	id := mapped(t, s, firsts(clientAddr, serverAs6)[2]).Port()
	only(t, s.send(packet.V4, ip4(serverAddr, poolAddr, packet.NumICMP, echo(packet.EchoReply4, id))), packet.V6)
	nothing(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumICMP, echo(packet.EchoReply4, id))))
	s.counted(t, drop.FilteredAddress, 0)
}

func strangersSYNIsStored(t *testing.T) {
	s := newSetting(t, dependent())
	port := connect(t, s)
	syn := ip4(secondServer, poolAddr, packet.NumTCP, tcp(443, port, packet.FlagSYN))
	nothing(t, s.send(packet.V4, syn))
	s.counted(t, drop.StoredSYN, 0)
	nothing(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumTCP, tcp(443, port, packet.FlagACK)))) // N64-3.5.2-08a
	if all := s.StoredSYNs(); len(all) != 1 || all[0].State != session.V4Init {
		t.Errorf("stored SYNs: %+v, want one session in V4_INIT", all)
	}
	only(t, s.send(packet.V4, ip4(serverAddr, poolAddr, packet.NumTCP, tcp(7, port, packet.FlagSYN))), packet.V6) // a known address
}

func strangersSYNIsMet(t *testing.T) {
	s := newSetting(t, dependent())
	port := connect(t, s)
	nothing(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumTCP, tcp(443, port, packet.FlagSYN))))
	s.advance(5 * time.Second)
	only(t, s.send(packet.V6, ip6(clientAddr, behind64(secondServer), packet.NumTCP, tcp(40000, 443, packet.FlagSYN))), packet.V4)
	if n := len(s.StoredSYNs()); n != 0 {
		t.Errorf("%d SYNs are stored still", n)
	}
	for _, x := range s.sessions() {
		if x.Remote.Addr == secondServer.As4() && (x.State != session.Established || x.Remaining.Round(time.Second) != 2*time.Hour) {
			t.Errorf("the connection is in state %v for %v, want ESTABLISHED for 2 h", x.State, x.Remaining)
		}
	}
}

func TestUnboundPorts(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5.2-05": nobodyOpensFromOutside,
		"N64-3.5.2-24": storedSYNsAreBounded,
		"N64-5.3-02":   nothingIsBoundFromOutside, // and DEC-9
	})
}

func nobodyOpensFromOutside(t *testing.T) {
	s := newSetting(t, storingSYNs(with(func(c *session.Config) { c.AllowInboundTCP = false }), 16, 0, 0))
	port := connect(t, s)
	nothing(t, s.send(packet.V4, of4(packet.NumTCP, tcp(443, 5000, packet.FlagSYN))))
	nothing(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumTCP, tcp(443, port, packet.FlagSYN))))
	if n := len(s.StoredSYNs()); n != 0 {
		t.Errorf("%d SYNs are stored although connections from IPv4 are disabled", n)
	}
}

func storedSYNsAreBounded(t *testing.T) {
	o := storingSYNs(ordinary(), 16, 4, 8)
	o.pool4 = pool[:3]
	s := newSetting(t, o)
	flood := func(dst netip.Addr) {
		for host := range byte(8) {
			for port := range uint16(8) {
				a := netip.AddrFrom4([4]byte{198, 51, 100, host + dst.As4()[3]<<4})
				nothing(t, s.send(packet.V4, ip4(a, dst, packet.NumTCP, tcp(443, 5000+port, packet.FlagSYN))))
			}
		}
	}
	for i, want := range []int{8, 16, 16} { // per address, then in total
		flood(pool[i])
		all := s.StoredSYNs()
		if len(all) != want {
			t.Errorf("%d SYNs are stored after %d floods, want %d", len(all), i+1, want)
		}
		sources := map[packet.Addr4]int{}
		for _, x := range all {
			sources[x.Remote.Addr]++
		}
		for a, n := range sources {
			if n > 4 {
				t.Errorf("%d SYNs of %v are stored, want 4 at most", n, a)
			}
		}
	}
	if n := s.Counters.Drops(drop.StoredSYNLimit); n != 3*64-16 {
		t.Errorf("%d were refused, want all others", n)
	}
	sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0))) // clients are not affected
}

func nothingIsBoundFromOutside(t *testing.T) {
	s := newSetting(t, storing())
	for _, b := range [][]byte{
		of4(packet.NumTCP, tcp(443, 5000, packet.FlagSYN)), of4(packet.NumTCP, tcp(443, 5000, packet.FlagACK)),
		of4(packet.NumUDP, udp(443, 5000, 4)),
		of4(packet.NumICMP, echo(packet.EchoRequest4, 5000)), of4(packet.NumICMP, echo(packet.EchoReply4, 5000)),
	} {
		nothing(t, s.send(packet.V4, b))
	}
	if n := len(s.bindings()); n != 0 {
		t.Errorf("%d bindings were made", n)
	}
}

// newFlows sends the first packets of n flows of a client, and returns how many of them passed. The others must be
// answered with 1/3.
func newFlows(t *testing.T, s *setting, client netip.Addr, from uint16, n int) (passed int) {
	t.Helper()
	for i := range n {
		got := s.send(packet.V6, ip6(client, serverAs6, packet.NumUDP, udp(from+uint16(i), 53, 4)))
		if len(got) == 1 && got[0].side == packet.V4 {
			passed++
			continue
		}
		icmp6(t, got, 1, 3)
	}
	return passed
}

func TestClientLimits(t *testing.T) {
	t.Parallel()
	neighbour, stranger := netip.MustParseAddr("2001:db8:1::99"), netip.MustParseAddr("2001:db8:1:1::10")
	for id, c := range map[string]struct {
		change func(c *session.Config)
		reason drop.Reason
	}{
		"C68-04":  {func(c *session.Config) { c.MaxBindingsPerClient = 5 }, drop.ClientBindings},
		"C68-04c": {func(c *session.Config) { c.NewPerSecond = 5 }, drop.ClientRate},
		"C68-05":  {func(c *session.Config) { c.MaxPerClient = 5 }, drop.ClientSessions},
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			s := newSetting(t, with(c.change))
			if n := newFlows(t, s, clientAddr, 2000, 8); n != 5 {
				t.Errorf("%d flows of a client passed, want 5", n)
			}
			if n := s.Counters.Drops(c.reason); n != 3 {
				t.Errorf("%d refusals were counted as %v, want 3", n, c.reason)
			}
			if n := newFlows(t, s, neighbour, 2000, 1); n != 0 {
				t.Error("another address of the client's /64 has a share of its own")
			}
			if n := newFlows(t, s, stranger, 2000, 5); n != 5 {
				t.Errorf("%d flows of another client passed, want 5", n)
			}
			if n := newFlows(t, s, clientAddr, 2000, 5); n != 5 { // C68-11: existing flows continue
				t.Errorf("%d of the client's old flows still pass, want all 5", n)
			}
		})
	}
	t.Run("new flows a second later", func(t *testing.T) {
		t.Parallel()
		s := newSetting(t, with(func(c *session.Config) { c.NewPerSecond = 5 }))
		newFlows(t, s, clientAddr, 2000, 8)
		s.advance(time.Second)
		if n := newFlows(t, s, clientAddr, 3000, 8); n != 5 {
			t.Errorf("a second later %d flows passed, want 5", n)
		}
	})
}

func TestHoldDown(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"C68-08":         releasedPortRests,
		"C68-08 number":  onlySoManyPortsRest,
		"C68-08 restart": allPortsRestAfterTheStart,
	})
}

func onlySoManyPortsRest(t *testing.T) {
	o := with(func(c *session.Config) { c.PortHoldDown, c.MaxHeldPorts = 2*time.Minute, 3 })
	o.ports = "7000-7004"
	s := newSetting(t, o)
	if n := newFlows(t, s, clientAddr, 2000, 5); n != 5 {
		t.Fatalf("%d flows passed, want 5", n)
	}
	s.advance(301 * time.Second)
	s.eventually(t, func() bool { return s.Bindings.Len(packet.UDP) == 0 })
	if n := newFlows(t, s, secondClient, 2000, 5); n != 2 {
		t.Errorf("%d of five ports were used again at once, want the two that three need not rest for", n)
	}
}

func allPortsRestAfterTheStart(t *testing.T) {
	s := newSetting(t, with(func(c *session.Config) { c.PortHoldDown = 2 * time.Minute }))
	s.Pool4.HoldDownAll()
	all := firsts(clientAddr, serverAs6)
	for i, p := range protos {
		if got := s.send(packet.V6, all[i]); p == packet.TCP {
			only(t, got, packet.V4)
		} else {
			icmp6(t, got, 1, 3)
		}
	}
	if n := s.Counters.Drops(drop.PoolResting); n != 2 {
		t.Errorf("%d refusals were counted, want 2", n)
	}
	s.bind(t, packet.UDP, netip.AddrPortFrom(secondClient, 53), netip.AddrPortFrom(poolAddr, 53))
	only(t, s.send(packet.V4, ip4(serverAddr, poolAddr, packet.NumUDP, udp(443, 53, 4))), packet.V6)
	s.advance(2*time.Minute + time.Second)
	s.eventually(t, func() bool { return !s.Pool4.HoldingDownAll() })
	for _, b := range all {
		only(t, s.send(packet.V6, b), packet.V4)
	}
}

func releasedPortRests(t *testing.T) {
	o := with(func(c *session.Config) { c.PortHoldDown = 2 * time.Minute })
	o.ports = "7000-7001"
	s := newSetting(t, o)
	if n := newFlows(t, s, clientAddr, 2000, 2); n != 2 {
		t.Fatalf("%d flows passed, want 2", n)
	}
	connect(t, s)
	s.advance(301 * time.Second)
	s.eventually(t, func() bool { return s.Bindings.Len(packet.UDP) == 0 })
	if n := newFlows(t, s, secondClient, 2000, 1); n != 0 {
		t.Error("a UDP port was used again at once")
	}
	s.advance(110 * time.Second)
	if n := newFlows(t, s, secondClient, 2000, 1); n != 0 {
		t.Error("a UDP port was used again after 110 seconds")
	}
	s.advance(11 * time.Second)
	s.eventually(t, func() bool { return newFlows(t, s, secondClient, 2000, 1) == 1 })
}

func TestBindingLog(t *testing.T) {
	t.Parallel()
	// flow returns the log lines of one UDP flow from its begin to its end.
	flow := func(t *testing.T, sessions bool) (lines []string) {
		events := make(chan session.Event, 16)
		s := newSetting(t, ordinary())
		kinds := session.KindsOf(session.BindingMade, session.BindingEnded)
		if sessions {
			kinds |= session.KindsOf(session.SessionMade, session.SessionEnded)
		}
		s.Sessions.Observe(kinds, func(batch []session.Event, _ uint64) {
			for _, e := range batch {
				events <- e
			}
		})
		port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
		s.advance(301 * time.Second)
		s.eventually(t, func() bool { return s.Bindings.Len(packet.UDP) == 0 })
		want := packet.Endpoint4{Addr: poolAddr.As4(), Port: port}
		for len(lines) < 2 || sessions && len(lines) < 4 {
			e := <-events
			if e.Proto != packet.UDP || e.Client != (packet.Endpoint6{Addr: clientAddr.As16(), Port: 40000}) || e.Mapped != want {
				t.Errorf("%+v is logged, want the client and %v", e, want)
			}
			lines = append(lines, fmt.Sprint(e.Kind, e.Remote != packet.Endpoint4{}))
		}
		return lines
	}
	t.Run("C68-12", func(t *testing.T) { // and C68-12a: without the peers of the client
		t.Parallel()
		if got, want := fmt.Sprint(flow(t, false)), "[binding made false binding ended false]"; got != want {
			t.Errorf("the log says %s, want %s", got, want)
		}
	})
	t.Run("C68-12a", func(t *testing.T) {
		t.Parallel()
		if got, want := fmt.Sprint(flow(t, true)), "[binding made false session made true session ended true binding ended false]"; got != want {
			t.Errorf("the log says %s, want %s", got, want)
		}
	})
}
