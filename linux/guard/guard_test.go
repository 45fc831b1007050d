//go:build linux

package guard_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/linux/guard"
	"nat64d/pool4"
	"nat64d/pool6"
)

// network returns a lab for the test.
func network(t *testing.T) *lab.Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// options guard the gateway of l.
func options(l *lab.Lab) guard.Options {
	return guard.Options{V6: l.NIC6, V4: l.NIC4, ReservePorts: true}
}

// entries parses a range of all protocols.
func entries(t *testing.T, addr, ports string) []pool4.Entry {
	t.Helper()
	e, err := pool4.ParseRange(addr, ports)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var wellKnown = []pool6.Prefix{mustPrefix("64:ff9b::/96")}

func mustPrefix(s string) pool6.Prefix {
	p, err := pool6.ParsePrefix(s)
	if err != nil {
		panic(err)
	}
	return p
}

// do calls f in the gateway's namespace and fails the test on an error.
func do(t *testing.T, l *lab.Lab, f func() error) {
	t.Helper()
	if err := l.Gateway.Do(f); err != nil {
		t.Fatal(err)
	}
}

// apply guards entries and the well-known prefix.
func apply(t *testing.T, l *lab.Lab, g *guard.Guard, e []pool4.Entry) {
	t.Helper()
	do(t, l, func() error { return g.Apply(guard.Covered{Pool4: e, Pool6: wellKnown}) })
}

// run runs a command in the gateway's namespace and returns what it prints.
func run(t *testing.T, l *lab.Lab, name string, args ...string) string {
	t.Helper()
	out, err := l.Gateway.Output(t.Context(), name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

const reservedPorts = "net/ipv4/ip_local_reserved_ports"

// reserved returns the reserved ports of the gateway.
func reserved(t *testing.T, l *lab.Lab) string {
	t.Helper()
	s, err := l.Gateway.Sysctl(reservedPorts)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// reserve sets the reserved ports of the gateway.
func reserve(t *testing.T, l *lab.Lab, ports string) {
	t.Helper()
	if err := l.Gateway.SetSysctl(reservedPorts, ports); err != nil {
		t.Fatal(err)
	}
}

// answers reports whether the gateway's own stack responds to a TCP connection, with an acceptance or a reset.
func answers(t *testing.T, l *lab.Lab, port string) bool {
	t.Helper()
	c, err := l.Server.DialFrom(t.Context(), net.Dialer{Timeout: 300 * time.Millisecond}, "tcp",
		net.JoinHostPort(lab.Gateway4, port))
	switch {
	case err == nil:
		c.Close()
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		return true
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
	return false
}

// unreachable reports whether the gateway's own stack rejects a UDP datagram.
func unreachable(t *testing.T, l *lab.Lab, port string) bool {
	t.Helper()
	c, err := l.Server.Dial(t.Context(), "udp", net.JoinHostPort(lab.Gateway4, port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 1))
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestApplyDropsOnlyPool4Packets(t *testing.T) {
	t.Parallel()
	l := network(t)
	if !answers(t, l, "7001") || !unreachable(t, l, "7001") {
		t.Fatal("without a guard the host does not reject port 7001")
	}
	ln, err := l.Gateway.Listen("tcp", net.JoinHostPort(lab.Gateway4, "22"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0\r\n")
			c.Close()
		}
	}()

	apply(t, l, guard.New(options(l)), entries(t, lab.Gateway4, "7000-8000"))
	for _, port := range []string{"7000", "7001", "8000"} {
		if answers(t, l, port) {
			t.Errorf("the host answers TCP port %s of pool4", port)
		}
		if unreachable(t, l, port) {
			t.Errorf("the host rejects UDP port %s of pool4", port)
		}
	}
	for _, port := range []string{"6999", "8001"} {
		if !answers(t, l, port) {
			t.Errorf("the host does not answer TCP port %s, which is not in pool4", port)
		}
	}
	c, err := l.Server.DialFrom(t.Context(), net.Dialer{Timeout: time.Second}, "tcp", net.JoinHostPort(lab.Gateway4, "22"))
	if err != nil {
		t.Fatalf("the service outside pool4 is not reachable: %v", err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "SSH-2.0\r\n" {
		t.Errorf("the service outside pool4 answers %q, %v", b, err)
	}
}

func TestApplyDropsPool6Packets(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	apply(t, l, g, nil)
	c, err := l.Client.Dial(t.Context(), "udp", net.JoinHostPort(lab.Server4As6, "9"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !strings.Contains(run(t, l, "nft", "list", "table", "netdev", "nat64d"), "counter packets 1 ") {
		if time.Now().After(deadline) {
			t.Fatal("the packet to pool6 is not dropped:\n", run(t, l, "nft", "list", "ruleset"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if out := run(t, l, "ping", "-c1", "-W2", lab.Client6); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("the host's own IPv6 does not pass: %s", out)
	}
}

// Packets to bypassed destinations reach the host, except those to a NAT64 prefix inside the bypass.
func TestApplyExcludesBypass(t *testing.T) {
	t.Parallel()
	l := network(t)
	run(t, l, "ip", "-6", "route", "add", "local", "64:ff9b::c000:200/120", "dev", "lo")
	prefixes := []pool6.Prefix{wellKnown[0], mustPrefix("2001:db8::/32"), mustPrefix("2001:db8:64::/96")}
	bypass := []netip.Prefix{
		netip.MustParsePrefix("64:ff9b::c000:200/127"), netip.MustParsePrefix("64:ff9b::c000:202/128"), netip.MustParsePrefix("64:ff9b::c000:202/127"),
		netip.MustParsePrefix("2001:db8:64::/64"), netip.MustParsePrefix("2001:db8:64::/96"),
	}
	g := guard.New(options(l))
	do(t, l, func() error { return g.Apply(guard.Covered{Pool6: prefixes, Bypass: bypass}) })
	ping := func(address string) bool {
		out, _ := l.Client.Output(t.Context(), "ping", "-c1", "-W1", address)
		return strings.Contains(out, " 0% packet loss")
	}
	if !ping("64:ff9b::192.0.2.1") || !ping("64:ff9b::192.0.2.3") {
		t.Error("a bypassed packet does not reach the host")
	}
	if ping("64:ff9b::192.0.2.4") {
		t.Error("a packet outside the bypass reaches the host")
	}
	out := run(t, l, "nft", "list", "table", "netdev", "nat64d")
	for _, want := range []string{
		"64:ff9b::-64:ff9b::c000:1ff", "64:ff9b::c000:204-64:ff9b::ffff:ffff", "2001:db8::-2001:db8:64::ffff:ffff", "2001:db8:64:1::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	do(t, l, func() error { return g.Apply(guard.Covered{Pool6: prefixes}) })
	if ping("64:ff9b::192.0.2.1") {
		t.Error("a packet reaches the host after the bypass was removed")
	}
}

// TestApplyPassesHostFragments sends a datagram of three fragments to a port of the host outside pool4.
func TestApplyPassesHostFragments(t *testing.T) {
	t.Parallel()
	l := network(t)
	apply(t, l, guard.New(options(l)), entries(t, lab.Gateway4, "7000-8000"))
	server, err := l.Gateway.ListenPacket("udp4", lab.Gateway4+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := l.Server.Dial(t.Context(), "udp", lab.Gateway4+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, 4000)); err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := server.ReadFrom(make([]byte, 8192)); n != 4000 {
		t.Errorf("received %d bytes, %v, want 4000", n, err)
	}
}

// TestManyAddresses covers more addresses than fit into one message: every other address, so that none can be merged.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	l := network(t)
	var e []pool4.Entry
	for i := range 10000 {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 7), byte(i << 1)})
		e = append(e, entries(t, a.String(), "1024-65535")...)
	}
	apply(t, l, guard.New(options(l)), e)
	if n := strings.Count(run(t, l, "nft", "list", "set", "netdev", "nat64d", "pool4"), "1024-65535"); n != 20000 {
		t.Errorf("the set has %d elements, want 20000", n)
	}
}

func TestTableIsReadable(t *testing.T) {
	t.Parallel()
	l := network(t)
	e := append(entries(t, "198.51.100.0/30", ""), entries(t, lab.Gateway4, "7000-8000")...)
	e = append(e, entries(t, lab.Gateway4, "7900-8100")...) // overlaps
	e = append(e, entries(t, "198.51.100.9", "65535")...)
	apply(t, l, guard.New(options(l)), e)
	out := run(t, l, "nft", "list", "table", "netdev", "nat64d")
	for _, want := range []string{
		"198.51.100.0/30 . tcp . 1024-65535",
		"198.51.100.0/30 . udp . 1024-65535",
		"192.0.2.1 . tcp . 7000-8100",
		"198.51.100.9 . udp . 65535",
		"ip daddr . meta l4proto . th dport @pool4 counter packets 0 bytes 0 drop",
		"elements = { 64:ff9b::/96 }",
		"ip6 daddr @pool6 counter",
		`device "` + l.NIC4 + `"`,
		`device "` + l.NIC6 + `"`,
		"set reserved",
		"7000-8100",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
}

func TestApplyReservesPorts(t *testing.T) {
	t.Parallel()
	l := network(t)
	reserve(t, l, "6443,7500-7600,30000-32767")
	g := guard.New(options(l))
	for _, c := range []struct{ addr, ports, want string }{
		{lab.Gateway4, "7000-8000", "6443,7000-8000,30000-32767"},
		{lab.Gateway4, "7900-8001", "6443,7500-7600,7900-8001,30000-32767"},
		{lab.Spare4, "1024-65535", "6443,7500-7600,30000-32767"}, // not an address of the host
		{lab.Gateway4, "65000-65535", "6443,7500-7600,30000-32767,65000-65535"},
	} {
		apply(t, l, g, entries(t, c.addr, c.ports))
		if got := reserved(t, l); got != c.want {
			t.Errorf("with %s %s reserved ports are %q, want %q", c.addr, c.ports, got, c.want)
		}
	}
	reserve(t, l, reserved(t, l)+",9999") // the administrator adds one
	do(t, l, g.Remove)
	if got, want := reserved(t, l), "6443,7500-7600,9999,30000-32767"; got != want {
		t.Errorf("after Remove reserved ports are %q, want %q", got, want)
	}
	if out := run(t, l, "nft", "list", "ruleset"); out != "" {
		t.Errorf("after Remove the ruleset is\n%s", out)
	}
	do(t, l, g.Remove)
}

func TestApplyTakesOverAfterCrash(t *testing.T) {
	t.Parallel()
	l := network(t)
	reserve(t, l, "6443")
	apply(t, l, guard.New(options(l)), entries(t, lab.Gateway4, "7000-8000")) // and ends without Remove
	second := guard.New(options(l))
	apply(t, l, second, entries(t, lab.Gateway4, "9000-9100"))
	if out := run(t, l, "nft", "list", "tables"); strings.Count(out, "table") != 1 {
		t.Errorf("tables after a second start:\n%s", out)
	}
	if got, want := reserved(t, l), "6443,9000-9100"; got != want {
		t.Errorf("reserved ports are %q, want %q", got, want)
	}
	if !answers(t, l, "7001") {
		t.Error("the old range is still covered")
	}
	third := guard.New(options(l)) // a start with an invalid configuration cleans up as well
	do(t, l, third.Remove)
	if got := reserved(t, l); got != "6443" {
		t.Errorf("reserved ports are %q, want 6443", got)
	}
}

// TestCheckRetries checks that Check repeats an installation that failed.
func TestCheckRetries(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))
	next := entries(t, lab.Gateway4, "9000-9100")
	err := readOnly(l, "/proc/sys", func() error { return g.Apply(guard.Covered{Pool4: next, Pool6: wellKnown}) })
	if err != nil {
		t.Fatalf("Apply with a read-only /proc/sys: %v, want only a warning", err)
	}
	if ws := g.Warnings(); len(ws) != 1 || !strings.Contains(ws[0], "read-only") {
		t.Errorf("warnings with a read-only /proc/sys: %q", ws)
	}
	if answers(t, l, "9001") || !answers(t, l, "7001") {
		t.Error("without the sysctl the ports are not guarded")
	}
	check(t, l, g)
	if got, want := reserved(t, l), "9000-9100"; got != want {
		t.Errorf("reserved ports are %q, want %q", got, want)
	}
	if ws := g.Warnings(); len(ws) != 0 {
		t.Errorf("warnings after everything worked: %q", ws)
	}
}

func TestCheckReinstalls(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	check(t, l, g) // before any Apply
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))

	run(t, l, "nft", "flush", "ruleset")
	check(t, l, g)
	if answers(t, l, "7001") {
		t.Error("a flushed table is not installed again")
	}

	if err := l.Unplug4(); err != nil {
		t.Fatal(err)
	}
	check(t, l, g) // while the interface is missing
	if err := l.Plug4(); err != nil {
		t.Fatal(err)
	}
	check(t, l, g)
	if answers(t, l, "7001") {
		t.Error("the re-created interface is not guarded")
	}
	if got, want := reserved(t, l), "7000-8000"; got != want {
		t.Errorf("reserved ports are %q, want %q", got, want)
	}
}

func TestOneInterfaceForBoth(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(guard.Options{V6: l.NIC4, V4: l.NIC4})
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))
	if answers(t, l, "7001") {
		t.Error("the host answers a port of pool4")
	}
	if got := reserved(t, l); got != "" {
		t.Errorf("reserved ports are %q although that is off", got)
	}
}

// check calls Check and returns the damage that it repaired.
func check(t *testing.T, l *lab.Lab, g *guard.Guard) (damage string) {
	t.Helper()
	do(t, l, func() (err error) { damage, err = g.Check(); return err })
	return damage
}
