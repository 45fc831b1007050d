package test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/pool6"
)

// prefixes contains one prefix of each length (RFC 6052 section 2.2); the client needs routes to them.
var prefixes = []string{
	"3fff:32::/32", "2001:db8:4000::/40", "2001:db8:4800::/48", "2001:db8:5600:5600::/56", "2001:db8:6400:64::/64", lab.Prefix6,
}

// behind returns the transport address of the server's echo port in a prefix.
func behind(t *testing.T, prefix, v4 string) string {
	t.Helper()
	p, err := pool6.ParsePrefix(prefix)
	if err != nil {
		t.Fatal(err)
	}
	a := p.Embed(netip.MustParseAddr(v4).As4())
	return net.JoinHostPort(netip.AddrFrom16(a).String(), "7")
}

// routePrefixes adds routes to the additional prefixes on the client.
func routePrefixes(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, p := range prefixes[:len(prefixes)-1] {
		ip(t, l.Client, "-6 route add "+p+" via "+lab.Gateway6)
	}
}

// One gateway has prefixes of all lengths. Prefixes are added and removed while flows in the others continue.
func TestPrefixesOfEveryLength(t *testing.T) {
	l := network(t, lab.Options{})
	routePrefixes(t, l)
	yaml := spareFile + "pool6:\n"
	for _, p := range prefixes[1:] {
		yaml += "  - { prefix: \"" + p + "\" }\n"
	}
	g := startConfig(t, l, yaml)
	serveEcho(t, l)
	if _, err := l.Client.Dial(limit(t, 300*time.Millisecond), "tcp", behind(t, prefixes[0], lab.Server4)); err == nil {
		t.Error("a connection succeeded in a prefix that was not added yet")
	}
	g.must("pool6", "add", prefixes[0])
	var conns []net.Conn
	t.Cleanup(func() { closeAll(conns) })
	for i, p := range prefixes {
		c, err := l.Client.DialFrom(limit(t, 5*time.Second), client("tcp", 0, service+i), "tcp", behind(t, p, lab.Server4))
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		conns = append(conns, c)
		if err := echoDatagram(t, l.Client, behind(t, p, lab.Server4), 8000); err != nil {
			t.Errorf("%s: a large datagram: %v", p, err)
		}
	}
	g.must("pool6", "remove", prefixes[0])
	if out := g.must("pool6", "list"); strings.Contains(out, prefixes[0]) || !strings.Contains(out, prefixes[1]) {
		t.Errorf("pool6 list after the removal:\n%s", out)
	}
	if err := g.expectClient(service); err == nil {
		t.Error("the session in the removed prefix still exists")
	}
	for i, c := range conns[1:] {
		if err := exchange(c, uint64(i)); err != nil {
			t.Errorf("%s: %v", prefixes[i+1], err)
		}
	}
	if _, err := l.Client.Dial(limit(t, 300*time.Millisecond), "tcp", behind(t, prefixes[0], lab.Server4)); err == nil {
		t.Error("a connection succeeded in the removed prefix")
	}
	if _, errs, code := g.ctl("pool6", "add", "2001:db8:1::/64"); code != 1 || !strings.Contains(errs, lab.Gateway6) {
		t.Errorf("a prefix that contains an address of the machine: exit code %d, want 1; the error %q must name the address", code, errs)
	}
	g.stop()
}

// nat64d refuses denied clients and destinations with an ICMP error, from the configuration file and after a change.
// Other flows are not affected.
func TestDeniedAddresses(t *testing.T) {
	l := network(t, lab.Options{Far: true})
	g := startConfig(t, l, spareFile+"deny_v4: [ 203.0.113.0/24 ]\nallow_v6: [ \"2001:db8:1::/64\" ]\n")
	serveEcho(t, l)
	echoTCP(t, l.FarServer, lab.FarServer4+":7")
	check := func(from *lab.Namespace, to string, want error) {
		t.Helper()
		c, err := from.Dial(limit(t, 5*time.Second), "tcp", to)
		if !errors.Is(err, want) {
			t.Errorf("connection to %s: got %v, want %v", to, err, want)
		}
		closeAll([]net.Conn{c})
	}
	check(l.Client, target+":7", nil)
	check(l.Client, farTarget+":7", syscall.EACCES)
	check(l.FarClient, target+":7", syscall.EACCES)
	if g.dropped("denied4") == 0 || g.dropped("client6") == 0 {
		t.Error("the drops are not counted")
	}
	g.must("config", "set", "deny_v4", lab.Server4+"/32")
	g.must("config", "set", "allow_v6", "2001:db8:3::/64")
	check(l.FarClient, farTarget+":7", nil)
	check(l.FarClient, target+":7", syscall.EACCES)
	check(l.Client, farTarget+":7", syscall.EACCES)
	for _, key := range []string{"icmp.answer_denied", "icmp.errors"} { // with either, no error is sent; the other key remains on
		g.must("config", "set", key, "off")
		c, err := l.Client.Dial(limit(t, 300*time.Millisecond), "tcp", farTarget+":7")
		if err == nil || errors.Is(err, syscall.EACCES) {
			t.Errorf("with %s off, the refused connection returns %v", key, err)
		}
		closeAll([]net.Conn{c})
		g.must("config", "set", "icmp.answer_denied", "on")
	}
	g.must("config", "set", "icmp.errors", "all")
	check(l.Client, farTarget+":7", syscall.EACCES)
	g.stop()
}

// With the well-known prefix, the addresses of this lab, which are not global, can be refused (RFC 6052 section 3.1).
func TestPrivateAddressesBehindWellKnownPrefix(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, spareFile+"pool6: [ { prefix: \"64:ff9b::/96\", private_v4: drop } ]\n")
	serveEcho(t, l)
	if _, err := l.Client.Dial(limit(t, 5*time.Second), "tcp", target+":7"); !errors.Is(err, syscall.EACCES) {
		t.Errorf("got %v, want %v (ICMPv6 type 1 code 1)", err, syscall.EACCES)
	}
	if g.dropped("well_known") == 0 {
		t.Error("the drop is not counted")
	}
	g.stop()
}
