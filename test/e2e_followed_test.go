package test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// leased is the second address of these tests.
const leased = "192.0.2.77"

// mappedTo opens a flow and returns its connection and the transport address that the server sees.
func (g *daemon) mappedTo(network string, port int) (net.Conn, netip.AddrPort) {
	g.t.Helper()
	c, err := g.lab.Client.DialFrom(limit(g.t, 5*time.Second), client(network, 0, port), network, target+":7")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	if err := exchange(c, uint64(port)); err != nil {
		g.t.Fatal(err)
	}
	for _, s := range g.listSessions() {
		if s.Client.Port() == uint16(port) && s.Protocol == network {
			return c, s.Mapped
		}
	}
	g.t.Fatalf("no session from port %d", port)
	return nil, netip.AddrPort{}
}

// rows returns the rows of pool4 for TCP in a state.
func (g *daemon) rows(state string) (list []control.Pool4Entry) {
	g.t.Helper()
	var all []control.Pool4Entry
	decode(g.t, g.must("pool4", "list", "-o", "json"), &all)
	return slices.DeleteFunc(all, func(e control.Pool4Entry) bool { return e.State != state || e.Protocol != "tcp" })
}

// expectRow waits until pool4 has one row for TCP in a state, with an address.
func (g *daemon) expectRow(state, address string) {
	g.t.Helper()
	eventually(g.t, recoverWithin, "pool4 has "+address+" in state "+state, func() error {
		rows := g.rows(state)
		if len(rows) != 1 || rows[0].Address.IsValid() && rows[0].Address.String() != address || rows[0].Interface != g.lab.NIC4 {
			return fmt.Errorf("rows %+v", rows)
		}
		return nil
	})
}

// A row of pool4 that is the address of an interface follows it: new flows get the new address, those of the old one continue as long
// as the host has it, and end when another address takes its place. While the interface has none, the gateway is not ready, and
// flows continue when the address comes back. nat64d does not answer ARP for an address that has gone.
func TestPool4FollowsInterface(t *testing.T) {
	l := network(t, lab.Options{})
	serveEcho(t, l)
	if err := l.Gateway.SetSysctl("net/ipv4/conf/all/promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	g := start(t, l, "interface:"+l.NIC4)
	g.expectRow("host", lab.Gateway4)
	if rows := g.rows("host"); rows[0].Ports != "61000-65535" {
		t.Errorf("ports are %s", rows[0].Ports)
	}
	tcp, at := g.mappedTo("tcp", 20000)
	udp, _ := g.mappedTo("udp", 20001)
	if at.Addr().String() != lab.Gateway4 || at.Port() < 61000 {
		t.Errorf("the flow is mapped to %v", at)
	}

	ip(t, l.Gateway, "addr add "+leased+"/24 dev "+l.NIC4, "addr change "+lab.Gateway4+"/24 dev "+l.NIC4+" preferred_lft 0")
	g.expectRow("host", leased)
	g.expectRow("ending", lab.Gateway4)
	if _, at := g.mappedTo("tcp", 20002); at.Addr().String() != leased {
		t.Errorf("a flow after the change is mapped to %v", at)
	}
	for _, c := range []net.Conn{tcp, udp} {
		if err := exchange(c, 2); err != nil {
			t.Errorf("a flow of the old address: %v", err)
		}
	}

	ip(t, l.Gateway, "addr del "+lab.Gateway4+"/24 dev "+l.NIC4)
	eventually(t, recoverWithin, "the flows of the old address end", func() error {
		for _, s := range g.listSessions() {
			if s.Mapped.Addr().String() == lab.Gateway4 {
				return fmt.Errorf("there is %v", s)
			}
		}
		return nil
	})
	if err := exchange(udp, 3); err != nil { // it gets a binding of the new address
		t.Errorf("the UDP flow with the new address: %v", err)
	}
	packets := watchARP(t, l)
	ip(t, l.Server, "neigh flush dev eth0")
	speakFrom(t, l.Server, lab.Server4, lab.Gateway4)
	if _, err := l.Server.Ping(limit(t, 2*time.Second), leased, 1, 8); err != nil { // it is answered behind the datagram
		t.Error(err)
	}
	for _, p := range packets() {
		if p.sender.String() == lab.Gateway4 {
			t.Errorf("the gateway sent ARP for the address that it has lost: %v", p)
		}
	}

	last, at := g.mappedTo("tcp", 20003)
	ip(t, l.Gateway, "addr del "+leased+"/24 dev "+l.NIC4)
	g.expectRow("waiting", "")
	if why := g.status().NotReady; !slices.ContainsFunc(why, func(w string) bool {
		return strings.Contains(w, "interface "+l.NIC4+" has no IPv4 address: waiting for one")
	}) {
		t.Errorf("the reasons are %q", why)
	}
	ip(t, l.Gateway, "addr add "+leased+"/24 dev "+l.NIC4)
	g.expectRow("host", leased)
	if err := exchange(last, 4); err != nil {
		t.Errorf("a flow after its address has come back: %v", err)
	}
	if err := g.expectClient(20003); err != nil || at.Addr().String() != leased {
		t.Errorf("%v, mapped to %v", err, at)
	}
	g.checkFollowedChanges()
	g.stop()
}

// checkFollowedChanges removes and adds the row while the gateway runs.
func (g *daemon) checkFollowedChanges() {
	g.t.Helper()
	row := "interface:" + g.lab.NIC4
	if _, errs, code := g.ctl("pool4", "remove", leased); code == 0 || !strings.Contains(errs, "remove "+row+" instead") {
		g.t.Errorf("removing the address: exit code %d, %s", code, errs)
	}
	if out := g.must("pool4", "remove", row); !strings.Contains(out, "removed "+leased+" ("+row+") 61000-65535 for tcp, udp and icmp") {
		g.t.Errorf("removing the row: %s", out)
	}
	if n := g.sessions(); n != 0 {
		g.t.Errorf("%d sessions remain", n)
	}
	g.must("pool4", "add", row, "62000-62999", "--tcp")
	if _, at := g.mappedTo("tcp", 20004); at.Port() < 62000 || at.Port() > 62999 {
		g.t.Errorf("the flow is mapped to %v", at)
	}
	if out := g.must("pool4", "add", "interface:absent:7000"); !strings.Contains(out, "added interface:absent 7000 for tcp, udp and icmp") {
		g.t.Errorf("adding the row of an absent interface: %s", out)
	}
	g.warned("interface absent does not exist")
}

// The rows of interfaces survive a restart with the sessions of their addresses, of an earlier one too.
func TestPool4FollowsInterfaceOverRestart(t *testing.T) {
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", stateDir(t))
	l := network(t, lab.Options{})
	serveEcho(t, l)
	args := []string{"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", "interface:" + l.NIC4, "--handover", "10s"}
	g := launch(t, l, socketPath(t), args...)
	g.ready()
	old, _ := g.mappedTo("tcp", 20000)
	ip(t, l.Gateway, "addr add "+leased+"/24 dev "+l.NIC4, "addr change "+lab.Gateway4+"/24 dev "+l.NIC4+" preferred_lft 0")
	g.expectRow("ending", lab.Gateway4)
	now, _ := g.mappedTo("tcp", 20001)
	g.must("pool4", "add", "interface:absent")
	g = g.restarted(args...)
	for _, c := range []net.Conn{old, now} {
		if err := exchange(c, 5); err != nil {
			t.Errorf("a connection after a restart: %v", err)
		}
	}
	g.expectRow("ending", lab.Gateway4)
	if rows := g.rows("waiting"); len(rows) != 1 || rows[0].Interface != "absent" {
		t.Errorf("the row that was added is %+v", rows)
	}
	_ = old.Close()
	g.must("session", "remove", "--all", "--yes")
	eventually(t, 10*time.Second, "the earlier address leaves", func() error {
		if rows := g.rows("ending"); len(rows) > 0 {
			return fmt.Errorf("rows %+v", rows)
		}
		return nil
	})
	if rows := g.rows("host"); len(rows) != 1 || rows[0].Address.String() != leased {
		t.Errorf("pool4 has %+v", rows)
	}
	g.stop()
}

// Clients of a prefix get their own addresses, and all others the rest, also after a reload, which gives the present bindings to no
// other address.
func TestPool4ForClients(t *testing.T) {
	l := network(t, lab.Options{Clients: 2})
	serveEcho(t, l)
	const own = "192.0.2.66"
	rows := func(source netip.Addr) string {
		return fmt.Sprintf("pool4:\n  - { address: 192.0.2.64, ports: 7000-7999 }\n  - { address: %s, ports: 7000-7999, match: { source6: [%v] }, weight: 2 }\n", own, source)
	}
	g := startConfig(t, l, rows(lab.ClientAddress(1)))
	expect := func(what, proto string, i, port int, want string) {
		t.Helper()
		c, err := open(l, proto, i, port)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Cleanup(func() { c.Close() })
		for _, s := range g.listSessions() {
			if s.Client.Port() == uint16(port) && s.Mapped.Addr().String() != want {
				t.Errorf("%s: client %d is mapped to %v, want %s", what, i, s.Mapped, want)
			}
		}
	}
	for n, proto := range []string{"tcp", "udp"} {
		expect("start", proto, 0, 20000+n, "192.0.2.64")
		expect("start", proto, 1, 20010+n, own)
	}
	for _, command := range []string{"list", "usage"} {
		if out := g.must("pool4", command); !strings.Contains(out, "SOURCE6") || !strings.Contains(out, lab.ClientAddress(1).String()+"/128") || !strings.Contains(out, "others") {
			t.Errorf("pool4 %s shows\n%s", command, out)
		}
	}
	out := g.must("explain", "udp", lab.ClientAddress(1).String(), lab.Server4, "9")
	if !strings.Contains(out, own) || !strings.Contains(out, "an address for clients of "+lab.ClientAddress(1).String()+"/128") {
		t.Errorf("explain shows\n%s", out)
	}
	g.rewrite(rows(lab.ClientAddress(0)))
	g.must("reload")
	for n, proto := range []string{"tcp", "udp"} {
		expect("reload", proto, 0, 20020+n, own)
		expect("reload", proto, 1, 20030+n, "192.0.2.64")
		if err := g.expectClient(uint16(20010 + n)); err != nil {
			t.Errorf("after the reload: %v", err)
		}
	}
	g.stop()
}
