//go:build linux

package guard_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/linux/guard"
	"nat64d/pool4"
)

// wire sends frames to a NIC of the gateway.
type wire struct {
	t        *testing.T
	c        *packet.Conn
	from, to net.HardwareAddr
}

// wireTo returns the wire between a namespace, which has one NIC, and a NIC of the gateway.
func wireTo(t *testing.T, l *lab.Lab, n *lab.Namespace, nic string) *wire {
	t.Helper()
	w := &wire{t: t}
	err := n.Do(func() error {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Flags&net.FlagLoopback == 0 {
				w.from = i.HardwareAddr
				w.c, err = packet.Listen(&i, packet.Raw, 0, nil)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.c.Close() })
	do(t, l, func() error {
		i, err := net.InterfaceByName(nic)
		if err == nil {
			w.to = i.HardwareAddr
		}
		return err
	})
	return w
}

// send sends a packet with tags: pairs of a tag's EtherType and its contents.
func (w *wire) send(etherType uint16, p []byte, tags ...uint16) {
	w.t.Helper()
	f := append([]byte(nil), w.to...)
	f = append(f, w.from...)
	for _, n := range tags {
		f = binary.BigEndian.AppendUint16(f, n)
	}
	f = binary.BigEndian.AppendUint16(f, etherType)
	if _, err := w.c.WriteTo(append(f, p...), &packet.Addr{HardwareAddr: w.to}); err != nil {
		w.t.Fatal(err)
	}
}

// datagram4 returns an IPv4 packet with a UDP datagram without a checksum.
func datagram4(from, to string, port uint16) []byte {
	p := make([]byte, 28)
	binary.BigEndian.PutUint16(p[20:], 9)
	binary.BigEndian.PutUint16(p[22:], port)
	binary.BigEndian.PutUint16(p[24:], 8)
	return header4(p, from, to, unix.IPPROTO_UDP)
}

// echo4 returns an IPv4 packet with an echo request.
func echo4(from, to string, identifier uint16) []byte {
	p := make([]byte, 28)
	p[20] = 8
	binary.BigEndian.PutUint16(p[24:], identifier)
	binary.BigEndian.PutUint16(p[22:], ^(8<<8 + identifier))
	return header4(p, from, to, unix.IPPROTO_ICMP)
}

func header4(p []byte, from, to string, proto byte) []byte {
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], netip.MustParseAddr(from).AsSlice())
	copy(p[16:], netip.MustParseAddr(to).AsSlice())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	return p
}

// none6 returns an IPv6 packet of a protocol that no host knows.
func none6(from, to string) []byte {
	p := make([]byte, 48)
	p[0], p[5], p[6], p[7] = 0x60, 8, 253, 64
	copy(p[8:], netip.MustParseAddr(from).AsSlice())
	copy(p[24:], netip.MustParseAddr(to).AsSlice())
	return p
}

// untouched fails unless the host counts the packet that control sends, and no packet that covered sends before it.
func untouched(t *testing.T, l *lab.Lab, what, counter string, covered, control func()) {
	t.Helper()
	read := func() uint64 {
		c, err := l.Gateway.Counters()
		if err != nil {
			t.Fatal(err)
		}
		return c[counter]
	}
	before := read()
	covered()
	control()
	for end := time.Now().Add(5 * time.Second); read() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s: the host does not count an uncovered packet in %s", what, counter)
			return
		}
	}
	if n := read() - before; n != 1 {
		t.Errorf("%s: the host has accepted %d covered packets", what, n-1)
	}
}

// The table alone and the programs alone drop the same packets, in untagged frames and in frames with a priority tag.
func TestTableAndProgramsDropSamePackets(t *testing.T) {
	t.Parallel()
	for _, layer := range []string{"table", "programs"} {
		t.Run(layer, func(t *testing.T) {
			t.Parallel()
			l := network(t)
			run(t, l, "ip", "-6", "route", "add", "local", "64:ff9b::/96", "dev", "lo")
			run(t, l, "ip", "-6", "route", "add", "local", "2001:db8:77::/96", "dev", "lo")
			o := options(l)
			o.Program = layer == "programs"
			g := guard.New(o)
			c := guard.Covered{Pool4: entries(t, lab.Gateway4, "7000-8000"), Pool6: wellKnown}
			for _, e := range entries(t, lab.Gateway4, "700-701") {
				if e.Proto.String() == "icmp" {
					c.Echo = append(c.Echo, pool4.Entry{Addr: e.Addr, Proto: e.Proto, Lo: 700, Hi: 700}, pool4.Entry{Addr: e.Addr, Proto: e.Proto, Lo: 701, Hi: 777})
				}
			}
			do(t, l, func() error { return g.Apply(c) })
			if ws := g.Warnings(); len(ws) != 0 {
				t.Fatal(ws)
			}
			if o.Program {
				run(t, l, "nft", "flush", "ruleset")
			}
			coveredByHost(t, l)
			c.Echo = nil
			do(t, l, func() error { return g.Apply(c) })
			if o.Program {
				run(t, l, "nft", "flush", "ruleset")
			}
			w := wireTo(t, l, l.Server, l.NIC4)
			untouched(t, l, "an Identifier that is not bound any more", "Icmp.InEchos", func() {}, func() { w.send(unix.ETH_P_IP, echo4(lab.Server4, lab.Gateway4, 777)) })
			do(t, l, g.Remove)
			untouched(t, l, "after Remove", "Udp.NoPorts", func() {}, func() { w.send(unix.ETH_P_IP, datagram4(lab.Server4, lab.Gateway4, 7500)) })
		})
	}
}

// coveredByHost sends covered and uncovered packets.
func coveredByHost(t *testing.T, l *lab.Lab) {
	t.Helper()
	w4, w6 := wireTo(t, l, l.Server, l.NIC4), wireTo(t, l, l.Client, l.NIC6)
	for _, tags := range [][]uint16{nil, {unix.ETH_P_8021Q, 5 << 13}, {unix.ETH_P_8021AD, 1 << 13}} {
		what := fmt.Sprintf("tags %04x", tags)
		untouched(t, l, what+", UDP", "Udp.NoPorts", func() {
			w4.send(unix.ETH_P_IP, datagram4(lab.Server4, lab.Gateway4, 7000), tags...)
			w4.send(unix.ETH_P_IP, datagram4(lab.Server4, lab.Gateway4, 8000), tags...)
		}, func() { w4.send(unix.ETH_P_IP, datagram4(lab.Server4, lab.Gateway4, 8001), tags...) })
		untouched(t, l, what+", ping", "Icmp.InEchos", func() {
			w4.send(unix.ETH_P_IP, echo4(lab.Server4, lab.Gateway4, 700), tags...)
			w4.send(unix.ETH_P_IP, echo4(lab.Server4, lab.Gateway4, 777), tags...)
		}, func() { w4.send(unix.ETH_P_IP, echo4(lab.Server4, lab.Gateway4, 778), tags...) })
		untouched(t, l, what+", IPv6", "Ip6InUnknownProtos", func() {
			w6.send(unix.ETH_P_IPV6, none6(lab.Client6, "64:ff9b::1"), tags...)
			w6.send(unix.ETH_P_IPV6, none6(lab.Client6, "64:ff9b::ffff:ffff"), tags...)
		}, func() { w6.send(unix.ETH_P_IPV6, none6(lab.Client6, "2001:db8:77::1"), tags...) })
	}
}

// Check detects, describes and repairs any damage to the table.
func TestCheckRepairsDamage(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	c := guard.Covered{Pool4: entries(t, lab.Gateway4, "7000-8000"), Pool6: wellKnown}
	c.Echo = entries(t, lab.Gateway4, "777")[2:]
	do(t, l, func() error { return g.Apply(c) })
	list := func() string { // sorted, because re-created objects come last
		words := strings.Fields(run(t, l, "nft", "-s", "list", "table", "netdev", "nat64d"))
		for i := range words {
			words[i] = strings.TrimSuffix(words[i], ",")
		}
		return strings.Join(slices.Sorted(slices.Values(words)), " ")
	}
	intact := list()
	for _, d := range []struct{ nft, want string }{
		{"flush ruleset", "table"},
		{"delete table netdev nat64d", "table"},
		{"flush chain netdev nat64d ingress4", "chain ingress4"},
		{"flush chain netdev nat64d covered4", "chain covered4"},
		{"flush chain netdev nat64d covered6", "chain covered6"},
		{"flush chain netdev nat64d echo4", "chain echo4"},
		{"flush set netdev nat64d pool4", "set pool4"},
		{"flush set netdev nat64d pool6", "set pool6"},
		{"flush set netdev nat64d reserved", "set reserved"},
		{"delete element netdev nat64d pool4 { " + lab.Gateway4 + " . tcp . 7000-8000 }", "set pool4"},
		{"add element netdev nat64d pool4 { " + lab.Gateway4 + " . tcp . 22 }", "set pool4"},
		{"insert rule netdev nat64d ingress4 accept", "chain ingress4"},
		{"add rule netdev nat64d ingress6 drop", "chain ingress6"},
		{"add chain netdev nat64d ingress4 { policy drop; }", "chain ingress4"},
		{"add table netdev nat64d { flags dormant; }", "table"},
		{"add chain netdev nat64d other { type filter hook ingress device " + l.NIC4 + " priority -5; }", "not ours"},
		{"add set netdev nat64d other { type ipv4_addr; }", "not ours"},
		{"flush table netdev nat64d; delete chain netdev nat64d ingress4", "chain ingress4"},
		{"flush chain netdev nat64d covered4; delete set netdev nat64d pool4; add set netdev nat64d pool4 { type ipv4_addr; }", "not ours"},
	} {
		run(t, l, "nft", d.nft)
		if damage := check(t, l, g); !strings.Contains(damage, d.want) {
			t.Errorf("after nft %s Check returns %q, want %q in it", d.nft, damage, d.want)
		}
		if damage := check(t, l, g); damage != "" {
			t.Errorf("after nft %s and a repair Check returns %q", d.nft, damage)
		}
		if got := list(); got != intact {
			t.Errorf("after nft %s and a repair the table has\n%s\nwant\n%s", d.nft, got, intact)
		}
	}
	if answers(t, l, "7001") {
		t.Error("the host answers a port of pool4")
	}
}

// After "nft flush ruleset" the table no longer lists the ports that were reserved, but the guard knows them.
func TestRemoveReleasesPortsAfterFlush(t *testing.T) {
	t.Parallel()
	l := network(t)
	reserve(t, l, "6443")
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))
	for _, repair := range []bool{true, false} {
		run(t, l, "nft", "flush", "ruleset")
		if repair {
			check(t, l, g)
		}
	}
	do(t, l, g.Remove)
	if got := reserved(t, l); got != "6443" {
		t.Errorf("after Remove reserved ports are %q, want 6443", got)
	}
}

// Chains stay hooked while the sets change, and without changes nothing is sent.
func TestApplyChangesInPlace(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	var w *guard.Watcher
	do(t, l, func() (err error) { w, err = guard.Watch(); return err })
	changed := make(chan struct{}, 100)
	go func() {
		defer close(changed)
		for {
			own, err := w.Wait()
			if err != nil {
				return
			}
			if own {
				changed <- struct{}{}
			}
		}
	}()
	handles := func() (list []string) {
		for line := range strings.Lines(run(t, l, "nft", "-a", "list", "table", "netdev", "nat64d")) {
			if strings.Contains(line, "# handle") && !strings.Contains(line, "icmp id") {
				list = append(list, strings.TrimSpace(line))
			}
		}
		return list
	}
	c := guard.Covered{Pool6: wellKnown}
	do(t, l, func() error { return g.Apply(c) })
	before := handles()
	for _, ports := range []string{"7000-8000", "7000-7500", "7400-9000", "7000-7001", "1-65535"} {
		c.Pool4 = entries(t, lab.Gateway4, ports)
		c.Echo = entries(t, lab.Gateway4, ports)[2:]
		c.Bypass = append(c.Bypass, netip.PrefixFrom(netip.MustParseAddr("64:ff9b::"), 128-len(ports)).Masked())
		do(t, l, func() error { return g.Apply(c) })
		if out := run(t, l, "nft", "list", "set", "netdev", "nat64d", "pool4"); !strings.Contains(out, ". udp . "+ports) || strings.Count(out, "udp") != 1 {
			t.Errorf("after a change to %s the set is %s", ports, out)
		}
	}
	if got := handles(); strings.Join(got, "\n") != strings.Join(before, "\n") {
		t.Errorf("objects were replaced:\n%s\nbefore\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
	}
	run(t, l, "nft", "add table netdev end")
	for len(changed) > 0 {
		<-changed
	}
	for range 3 {
		do(t, l, func() error { return g.Apply(c) })
		check(t, l, g)
	}
	run(t, l, "nft", "add element netdev nat64d pool6 { 2001:db8:99::1 }") // the first notification is for this element
	<-changed
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	n := 0
	for range changed {
		n++
	}
	if n > 1 {
		t.Errorf("%d notifications without a change", n)
	}
}
