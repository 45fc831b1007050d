//go:build linux

package nexthop

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/packet"
)

// ruleBytes builds an RTM_NEWRULE of IPv4 for a table below 256.
func ruleBytes(table, action uint8, attrs ...[]byte) []byte {
	b := []byte{unix.AF_INET, 0, 0, 0, table, 0, 0, action, 0, 0, 0, 0}
	for _, a := range attrs {
		if len(a) >= 8 && binary.NativeEndian.Uint16(a[2:]) == unix.FRA_SRC {
			b[2] = 32
		}
		if len(a) >= 8 && binary.NativeEndian.Uint16(a[2:]) == unix.FRA_DST {
			b[1] = 32
		}
		b = append(b, a...)
	}
	return b
}

// number32 builds an attribute of 32 bits in the host's order.
func number32(kind uint16, n uint32) []byte {
	return attribute(kind, binary.NativeEndian.AppendUint32(nil, n)...)
}

func port16(kind uint16, lo, hi uint16) []byte {
	return attribute(kind, binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, lo), hi)...)
}

// twoNICs returns two interfaces: "in" with index 6 on the v6 side, and "out" with index 4 on the v4 side, which
// belongs to the VRF "blue" with table 77.
func twoNICs() (nics [sides]nic) {
	nics[v6].Link = Link{Name: "in", Index: 6}
	nics[v4] = nic{Link: Link{Name: "out", Index: 4}, vrf: 77, master: "blue"}
	return nics
}

// TestRules adds one rule before that for the main table. Table 100 has a route; main has none, so the result is
// no_route if the rule does not match.
func TestRules(t *testing.T) {
	t.Parallel()
	const to, goTo = unix.FR_ACT_TO_TBL, unix.FR_ACT_GOTO
	inverted := func(b []byte) []byte { b[8] = fibRuleInvert; return b }
	typed := func(b []byte, tos uint8) []byte { b[3] = tos; return b }
	for _, c := range []struct {
		name string
		rule []byte
		want bool
		cost int // number of rules, without that for main
		see  fields
	}{
		{"all", ruleBytes(100, to), true, 1, 0},
		{"from this source", ruleBytes(100, to, attribute(unix.FRA_SRC, 198, 51, 100, 7)), true, 1, fieldSource},
		{"from another source", ruleBytes(100, to, attribute(unix.FRA_SRC, 198, 51, 100, 8)), false, 1, fieldSource},
		{"to this destination", ruleBytes(100, to, attribute(unix.FRA_DST, 192, 0, 2, 9)), true, 1, 0},
		{"to another destination", ruleBytes(100, to, attribute(unix.FRA_DST, 192, 0, 2, 8)), false, 1, 0},
		{"a mark", ruleBytes(100, to, number32(unix.FRA_FWMARK, 0x80000), number32(unix.FRA_FWMASK, 0xff0000)), false, 0, 0},
		{"no mark", ruleBytes(100, to, number32(unix.FRA_FWMARK, 0), number32(unix.FRA_FWMASK, 0xff0000)), true, 1, 0},
		{"not a mark", inverted(ruleBytes(100, to, number32(unix.FRA_FWMARK, 1))), true, 1, 0},
		{"the incoming interface", ruleBytes(100, to, attribute(unix.FRA_IIFNAME, 'i', 'n', 0)), true, 1, fieldOrigin},
		{"the VRF of an interface", ruleBytes(100, to, attribute(unix.FRA_IIFNAME, 'b', 'l', 'u', 'e', 0)), false, 1, fieldOrigin},
		{"another interface", ruleBytes(100, to, attribute(unix.FRA_IIFNAME, 'x', 0)), false, 0, 0},
		{"not another interface", inverted(ruleBytes(100, to, attribute(unix.FRA_IIFNAME, 'x', 0))), true, 1, 0},
		{"the host's own packets", ruleBytes(100, to, attribute(unix.FRA_IIFNAME, 'l', 'o', 0)), false, 1, fieldOrigin},
		{"an outgoing interface", ruleBytes(100, to, attribute(unix.FRA_OIFNAME, 'o', 'u', 't', 0)), false, 0, 0},
		{"a user", ruleBytes(100, to, attribute(unix.FRA_UID_RANGE, 0xe8, 3, 0, 0, 0xe8, 3, 0, 0)), false, 0, 0},
		{"a tunnel", ruleBytes(100, to, attribute(unix.FRA_TUN_ID, 0, 0, 0, 0, 0, 0, 0, 1)), false, 0, 0},
		{"this protocol", ruleBytes(100, to, attribute(unix.FRA_IP_PROTO, 17)), true, 1, fieldProto},
		{"another protocol", ruleBytes(100, to, attribute(unix.FRA_IP_PROTO, 6)), false, 1, fieldProto},
		{"these ports", ruleBytes(100, to, port16(unix.FRA_DPORT_RANGE, 50, 60)), true, 1, fieldPorts | fieldProto},
		{"other ports", ruleBytes(100, to, port16(unix.FRA_SPORT_RANGE, 50, 60)), false, 1, fieldPorts | fieldProto},
		{"ports by mask", ruleBytes(100, to, port16(unix.FRA_SPORT_RANGE, 0xf000, 0xf000), attribute(fraSportMask, 0, 0xf0)), false, 1, fieldPorts | fieldProto},
		{"this type of service", typed(ruleBytes(100, to), 0x10), true, 1, fieldTOS},
		{"another type of service", typed(ruleBytes(100, to), 0x08), false, 1, fieldTOS},
		{"this DSCP", ruleBytes(100, to, attribute(fraDSCP, 0x14)), true, 1, fieldTOS},
		{"another DSCP", ruleBytes(100, to, attribute(fraDSCP, 0x04)), false, 1, fieldTOS},
		{"a DSCP by mask", ruleBytes(100, to, attribute(fraDSCP, 0x04), attribute(fraDSCPMask, 0x0f)), true, 1, fieldTOS},
		{"something of a newer kernel's", ruleBytes(100, to, attribute(99, 1)), false, 0, 0},
		{"creator of the rule", ruleBytes(100, to, attribute(unix.FRA_PROTOCOL, 3)), true, 1, 0},
		{"prohibited", ruleBytes(0, unix.FR_ACT_PROHIBIT), false, 1, 0},
		{"nothing", ruleBytes(0, unix.FR_ACT_NOP), false, 1, 0},
		{"a jump to nowhere", ruleBytes(0, goTo, number32(unix.FRA_GOTO, 9999)), false, 1, 0},
		{"a long prefix only", ruleBytes(100, to, number32(unix.FRA_SUPPRESS_PREFIXLEN, 24)), false, 1, 0},
		{"a prefix that is long enough", ruleBytes(100, to, number32(unix.FRA_SUPPRESS_PREFIXLEN, 23)), true, 1, 0},
		{"not by this group", ruleBytes(100, to, number32(unix.FRA_SUPPRESS_IFGROUP, 5)), false, 1, 0},
		{"not by another group", ruleBytes(100, to, number32(unix.FRA_SUPPRESS_IFGROUP, 6)), true, 1, 0},
	} {
		m, ok := parseRule(c.rule)
		if !ok {
			t.Fatalf("%s: malformed", c.name)
		}
		s := snapshot{fib: newFIB(), nics: twoNICs(), groups: map[int]uint32{4: 5}}
		s.rules[v4] = s.fib.compile([]ruleMessage{m, {action: to, table: unix.RT_TABLE_MAIN, suppress: suppress{-1, -1}}}, &s.nics, v4)
		s.fib.load(change{table: 100, prefix: netip.MustParsePrefix("192.0.2.0/24"), route: route{kind: unix.RTN_UNICAST, hops: []hop{{index: 4}}}})
		s.choose()
		f := packet.Selector4{Src: [4]byte{198, 51, 100, 7}, Dst: [4]byte{192, 0, 2, 9}, SrcPort: 4000, DstPort: 53, Proto: 17, TOS: 0x51, Origin: packet.FromV6}
		of := flow4(&f)
		if got := s.way(v4, &of).reason == drop.None; got != c.want {
			t.Errorf("%s: matches %v, want %v", c.name, got, c.want)
		}
		if len(s.rules[v4]) != c.cost+1 || s.fields[v4] != c.see {
			t.Errorf("%s: %d rules look at %b, want %d at %b", c.name, len(s.rules[v4]), s.fields[v4], c.cost+1, c.see)
		}
	}
}

// A jump continues at its target, or at the next compiled rule after it.
func TestRuleGoto(t *testing.T) {
	t.Parallel()
	table := func(pref, id uint32) ruleMessage {
		return ruleMessage{priority: pref, action: unix.FR_ACT_TO_TBL, table: id, suppress: suppress{-1, -1}}
	}
	jump := ruleMessage{priority: 1, action: unix.FR_ACT_GOTO, target: 30}
	never := table(30, 100)
	never.impossible = true
	nics := twoNICs()
	f := newFIB()
	rules := f.compile([]ruleMessage{jump, table(10, unix.RT_TABLE_MAIN), never, table(40, 101)}, &nics, v4)
	if len(rules) != 3 || rules[0].next != 2 || f.tables[rules[2].table].id != 101 || f.index(100) >= 0 {
		t.Errorf("rules are %+v, tables %+v", rules, f.tables)
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add(ruleBytes(100, unix.FR_ACT_TO_TBL, attribute(unix.FRA_SRC, 198, 51, 100, 7), number32(unix.FRA_FWMARK, 1)))
	f.Add(ruleBytes(0, unix.FR_ACT_GOTO, number32(unix.FRA_GOTO, 9), port16(unix.FRA_DPORT_RANGE, 1, 2), attribute(fraDportMask, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseRule(b)
		if !ok {
			return
		}
		s := snapshot{fib: newFIB(), nics: twoNICs()}
		for d, src := range [sides]netip.Addr{v6: netip.IPv6LinkLocalAllNodes(), v4: netip.MustParseAddr("192.0.2.1")} {
			s.rules[d] = s.fib.compile([]ruleMessage{m, m}, &s.nics, side(d))
			s.choose()
			if w := s.way(side(d), &flow{src: src, dst: netip.MustParseAddr("192.0.2.9")}); w.reason != drop.NoRoute {
				t.Errorf("%x: a way without routes: %+v", b, w)
			}
		}
	})
}

// linkOfVRF returns what a kernel with VRFs reports for an interface after "ip link set eth1 master blue" with table
// 77: struct ifinfomsg and attributes.
func linkOfVRF(t *testing.T) netlink.Link {
	t.Helper()
	b := nl.NewIfInfomsg(unix.AF_UNSPEC).Serialize()
	binary.NativeEndian.PutUint16(b[2:], unix.ARPHRD_ETHER)
	binary.NativeEndian.PutUint32(b[4:], 3)
	binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP|unix.IFF_LOWER_UP)
	b = append(b, attribute(unix.IFLA_IFNAME, []byte("eth1\x00")...)...)
	b = append(b, number32(unix.IFLA_MTU, 1500)...)
	b = append(b, number32(unix.IFLA_MASTER, 9)...)
	b = append(b, attribute(unix.IFLA_ADDRESS, 2, 0, 0, 0, 0, 4)...)
	const portTable = 1 // IFLA_VRF_PORT_TABLE
	b = append(b, attribute(unix.IFLA_LINKINFO, slices.Concat(
		attribute(unix.IFLA_INFO_KIND, []byte("veth\x00")...),
		attribute(unix.IFLA_INFO_SLAVE_KIND, []byte("vrf\x00")...),
		attribute(unix.IFLA_INFO_SLAVE_DATA, number32(portTable, 77)...),
	)...)...)
	link, err := netlink.LinkDeserialize(&unix.NlMsghdr{}, b)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// An interface in a VRF uses the table of the VRF, because of the rule that the kernel adds with the first VRF. The
// other interface does not.
func TestInterfaceOfVRF(t *testing.T) {
	t.Parallel()
	s := snapshot{fib: newFIB()}
	s.nics[v4] = nicOf(linkOfVRF(t))
	s.nics[v6].Link = Link{Name: "eth0", Index: 2}
	if n := &s.nics[v4]; n.vrf != 77 || n.Index != 3 || !n.Up || !bytes.Equal(n.MAC[:], net.HardwareAddr{2, 0, 0, 0, 0, 4}) {
		t.Fatalf("the interface is read as %+v", n)
	}
	l3mdev, ok := parseRule(ruleBytes(0, unix.FR_ACT_TO_TBL, number32(unix.FRA_PRIORITY, 1000), attribute(unix.FRA_L3MDEV, 1)))
	if !ok {
		t.Fatal("the rule for VRFs is malformed")
	}
	rules := slices.Insert(defaultRules(), 1, l3mdev)
	for d := range s.rules {
		s.rules[d] = s.fib.compile(rules, &s.nics, side(d))
	}
	if len(s.rules[v4]) != 4 || len(s.rules[v6]) != 3 {
		t.Errorf("%d rules for the interface of the VRF, %d for the other one", len(s.rules[v4]), len(s.rules[v6]))
	}
	default4 := netip.MustParsePrefix("0.0.0.0/0")
	s.fib.load(change{table: unix.RT_TABLE_MAIN, prefix: default4, route: route{kind: unix.RTN_UNICAST, hops: []hop{{index: 5}}}})
	own := netip.MustParsePrefix("192.0.2.1/32")
	s.fib.load(change{table: 77, prefix: own, route: route{kind: unix.RTN_LOCAL, hops: []hop{{index: 3}}}})
	f := packet.Selector4{Dst: [4]byte{203, 0, 113, 9}}
	of := flow4(&f)
	if w := s.way(v4, &of); w.reason != drop.OtherInterface {
		t.Errorf("without a route in the VRF the main table decides: %v", w.reason)
	}
	s.fib.load(change{table: 77, prefix: default4, route: route{kind: unix.RTN_UNICAST, hops: []hop{{index: 3}}}})
	if w := s.way(v4, &of); w.hop.index != 3 {
		t.Errorf("the route in the VRF is ignored: %+v", w)
	}
	if !s.local(v4, own.Addr()) || s.local(v6, own.Addr()) {
		t.Error("an address in the VRF is local on the other side, or not local on its own")
	}
}
