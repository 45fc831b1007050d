//go:build linux

package nexthop

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/lab"
	"nat64d/packet"
)

// routeCommands returns random changes to the routes and rules of l's gateway, for ip -batch; some of them fail.
func routeCommands(r *rand.Rand, l *lab.Lab, n int) string {
	var b strings.Builder
	for range n {
		action := []string{"add", "add", "append", "prepend", "replace", "del"}[r.IntN(6)]
		metric := fmt.Sprintf(" metric %d table %s", r.IntN(3)*100+100, []string{"main", "main", "100", "101"}[r.IntN(4)])
		hop4 := []string{"via 192.0.2.2", "via 192.0.2.3 mtu 1300", "dev " + l.NIC4, "dev " + l.NIC6}[r.IntN(4)]
		hop6 := []string{"via 2001:db8:1::2", "via 2001:db8:1::3 mtu 1300", "dev " + l.NIC6, "dev " + l.NIC4}[r.IntN(4)]
		kind := ""
		if r.IntN(5) == 0 {
			kind, hop4, hop6 = []string{"blackhole ", "unreachable ", "prohibit ", "throw "}[r.IntN(4)], "", ""
		}
		if r.IntN(2) == 0 {
			bits := 8 + r.IntN(25)
			a := netip.AddrFrom4([4]byte{198, 18, byte(r.IntN(4)), byte(r.IntN(4))})
			p, _ := a.Prefix(bits)
			tos := []string{"", "", "", "tos 0x10 ", "tos 0x04 "}[r.IntN(5)]
			fmt.Fprintf(&b, "route %s %s%v %s%s%s\n", action, kind, p, tos, hop4, metric)
			continue
		}
		bits := (32 + r.IntN(97)) * min(r.IntN(10), 1)
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, byte(r.IntN(4)), 15: byte(r.IntN(4))})
		p, _ := a.Prefix(bits)
		from := []string{"", "", "", "from 2001:db8:64::/48 ", "from 2001:db8:64::/127 "}[r.IntN(5)]
		fmt.Fprintf(&b, "-6 route %s %s%v %s%s%s\n", action, kind, p, from, hop6, metric)
	}
	return b.String()
}

// ruleCommands returns n random changes to the rules of l's gateway.
func ruleCommands(r *rand.Rand, l *lab.Lab, n int) string {
	var b strings.Builder
	for range n {
		family := []string{"", "-6 "}[r.IntN(2)]
		action := []string{"add", "add", "add", "del"}[r.IntN(4)]
		fmt.Fprintf(&b, "%srule %s pref %d", family, action, 100+10*r.IntN(20))
		if r.IntN(6) == 0 {
			b.WriteString(" not")
		}
		addr := func() string {
			if family == "" {
				return fmt.Sprintf("198.18.%d.0/%d", r.IntN(3), 16+8*r.IntN(2))
			}
			return fmt.Sprintf("2001:db8:990%d::/%d", r.IntN(3), 32+16*r.IntN(2))
		}
		source := []string{"203.0.113.0/24", "203.0.113.1"}[r.IntN(2)]
		if family != "" {
			source = []string{"2001:db8:64::/48", "2001:db8:64::1"}[r.IntN(2)]
		}
		for _, s := range []string{
			" from " + source, " to " + addr(), " iif " + []string{l.NIC6, l.NIC4, "lo"}[r.IntN(3)], " oif " + l.NIC4,
			fmt.Sprintf(" fwmark %#x/%#x", r.IntN(3), r.IntN(3)), fmt.Sprintf(" tos %#x", 4*r.IntN(12)),
			" ipproto " + []string{"udp", "tcp"}[r.IntN(2)], fmt.Sprintf(" dport %d-%d", 1+r.IntN(3), 3+r.IntN(3)),
			fmt.Sprintf(" sport %d", 1+r.IntN(4)), fmt.Sprintf(" uidrange %d-1000", r.IntN(2)*500),
		} {
			if r.IntN(5) == 0 {
				b.WriteString(s)
			}
		}
		b.WriteString([]string{
			" table 100", " table 101", " table 102", " table main suppress_prefixlength 20", " table 100 suppress_prefixlength 40",
			" table main suppress_ifgroup 7", fmt.Sprintf(" goto %d", 100+10*r.IntN(25)), " nop",
			" to " + addr() + " dport 3-5 ipproto udp " + []string{"blackhole", "unreachable", "prohibit"}[r.IntN(3)],
		}[r.IntN(9)] + "\n")
	}
	return b.String()
}

// TestRoutesAgreeWithKernel changes routes and rules at random while Run follows them. It then compares the result with
// a dump of the kernel's routes, and look-ups with the kernel's own answers for forwarded packets of the same flows.
func TestRoutesAgreeWithKernel(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, value := range map[string]string{
		"ipv6/conf/" + l.NIC4 + "/disable_ipv6": "0", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/forwarding": "1",
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/" + l.NIC6 + "/rp_filter": "0",
	} {
		if err := l.Gateway.SetSysctl("net/"+path, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Gateway.Output(t.Context(), "ip", "link", "set", l.NIC4, "group", "7"); err != nil {
		t.Fatal(err)
	}
	var tab *Table
	if err := l.Gateway.Do(func() (err error) {
		tab, err = New(Interfaces{V6: l.NIC6, V4: l.NIC4}, ARPAuto, slog.New(slog.NewTextHandler(t.Output(), nil)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Gateway.Do(func() error { return tab.Run(ctx) }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	compared := 0
	for round := range 5 {
		commands := routeCommands(r, l, 100) + ruleCommands(r, l, 12)
		if out := carryOut(t, l, commands); strings.Count(out, "Command failed") > 90 {
			t.Fatalf("most of 112 changes failed:\n%s", out)
		}
		deadline := time.Now().Add(5 * time.Second)
		for {
			wrong, routed := compare(t, l, tab)
			if wrong == "" {
				compared += routed
				break
			}
			if time.Now().After(deadline) { // Run has had enough time
				routes, _ := l.Gateway.Output(t.Context(), "sh", "-c", "ip rule; ip route show table all")
				routes6, _ := l.Gateway.Output(t.Context(), "sh", "-c", "ip -6 rule; ip -6 route show table all")
				t.Fatalf("round %d: %s\n%s\n%s\nafter\n%s", round, wrong, routes, routes6, commands)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Logf("%d comparisons of destinations with a hop", compared)
	if compared < 20 {
		t.Errorf("only %d comparisons were of destinations with a hop", compared)
	}
}

// carryOut executes commands, IPv6 commands last, and returns the messages of those that failed.
func carryOut(t *testing.T, l *lab.Lab, commands string) (failures string) {
	t.Helper()
	var four, six strings.Builder
	for c := range strings.Lines(commands) {
		if rest, ok := strings.CutPrefix(c, "-6 "); ok {
			six.WriteString(rest)
		} else {
			four.WriteString(c)
		}
	}
	for family, list := range map[string]string{"-4": four.String(), "-6": six.String()} {
		batch := filepath.Join(t.TempDir(), "batch")
		if err := os.WriteFile(batch, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := l.Gateway.Output(t.Context(), "ip", family, "-force", "-batch", batch)
		failures += out
	}
	return failures
}

// compare returns a difference between tab and the kernel, and the number of destinations with a hop.
func compare(t *testing.T, l *lab.Lab, tab *Table) (wrong string, routed int) {
	t.Helper()
	if err := l.Gateway.Do(func() error {
		k, err := openKernel()
		if err != nil {
			return err
		}
		defer k.close()
		s := tab.state.Load()
		fresh := newFIB()
		for _, t := range s.fib.tables {
			fresh.add(t.id)
		}
		if err := k.fib(&fresh); err != nil {
			return err
		}
		listed := contents(fresh)
		for p, rs := range contents(s.fib) {
			if listed[p] != rs {
				wrong = fmt.Sprintf("followed: %s%s, listed:%s", p, rs, listed[p])
			}
			delete(listed, p)
		}
		if len(listed) > 0 {
			wrong = fmt.Sprint("not followed: ", listed)
		}
		for n := range 60 {
			for d, f := range [sides]flow{v6: someFlow6(n), v4: someFlow4(n)} {
				if ambiguous(&s.fib, f.dst) {
					continue
				}
				got := s.way(side(d), &f)
				want := oracle(k, &f, s.nics[1-d].Index, s.nics[d].Index)
				if got != want {
					wrong = fmt.Sprintf("%+v: %+v, the kernel says %+v", f, got, want)
				}
				if want.reason == drop.None {
					routed++
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return wrong, routed
}

// flow6 and flow4 return one of a few flows.
func someFlow6(n int) flow {
	return flow{
		src:   netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x64, 15: byte(n % 3)}),
		dst:   netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, byte(n % 5), 15: byte(n / 5 % 5)}),
		sport: uint16(n % 4), dport: uint16(n % 7), proto: []uint8{6, 17}[n%2], tos: uint8(n*4) & dscpMask, origin: packet.FromV4,
	}
}

func someFlow4(n int) flow {
	f := someFlow6(n)
	f.src, f.dst, f.origin = netip.AddrFrom4([4]byte{203, 0, 113, byte(n % 3)}), netip.AddrFrom4([4]byte{198, 18, byte(n % 5), byte(n / 5 % 5)}), packet.FromV6
	return f
}

// oracle returns the kernel's routing decision for a packet that it would forward.
func oracle(k *kernel, f *flow, iif, index int) way {
	family := uint8(unix.AF_INET)
	if f.dst.Is6() {
		family = unix.AF_INET6
	}
	bits := uint8(f.dst.BitLen())
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.routes}
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: bits, Src_len: bits, Tos: f.tos}})
	for kind, v := range map[int][]byte{
		unix.RTA_DST: f.dst.AsSlice(), unix.RTA_SRC: f.src.AsSlice(), unix.RTA_IIF: nl.Uint32Attr(uint32(iif)), unix.RTA_IP_PROTO: {f.proto}, unix.RTA_UID: make([]byte, 4),
		unix.RTA_SPORT: binary.BigEndian.AppendUint16(nil, f.sport), unix.RTA_DPORT: binary.BigEndian.AppendUint16(nil, f.dport),
	} {
		req.AddData(nl.NewRtAttr(kind, v))
	}
	w := way{reason: drop.NoRoute} // also the result if the kernel returns an error
	_ = req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(b []byte) bool {
		c, ok := parseRoute(b)
		c.route.src, c.route.tos = netip.Prefix{}, 0 // the kernel returns those of the flow
		if ok {
			w = routes{c.route}.find(f, index).way
		}
		return true
	})
	return w
}

// ambiguous reports whether there are several hops to a, among which the kernel chooses by its own hash or, for IPv6
// routes with equal metrics, by the state of their neighbours.
func ambiguous(f *fib, a netip.Addr) bool {
	for _, t := range f.tables {
		for _, rs := range t.routes.Supernets(netip.PrefixFrom(a, a.BitLen())) {
			for i := range rs {
				if rs[i].kind == unix.RTN_UNICAST && len(rs[i].hops) > 1 || a.Is6() && i > 0 && rs[i].sameKey(&rs[i-1]) {
					return true
				}
			}
		}
	}
	return false
}
