package guard_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"nat64d/guard"
	"nat64d/lab"
)

func TestRefuse(t *testing.T) {
	t.Parallel()
	l := network(t)
	ln, err := l.Gateway.Listen("tcp", ":7022")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, c := range []struct{ addr, ports, want string }{
		{lab.Gateway4, "7000-8000", "(pid "},
		{lab.Gateway4, "7000-8000", "port 7022 of this host"},
		{lab.Gateway4, "8000-65535", "would leave it 0 of the 28232 ports"},
		{lab.Gateway4, "8000-60100", "would leave it 899 of the 28232 ports"},
		{lab.Gateway4, "7023-8000", ""},
		{lab.Spare4, "1024-65535", ""},
	} {
		e := entries(t, c.addr, c.ports)
		err := l.Gateway.Do(func() error { return guard.New(options(l)).Refuse(e) })
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s %s is refused: %v", c.addr, c.ports, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s %s: %v, want an error with %q", c.addr, c.ports, err, c.want)
		}
	}
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "33000-47000"))
	more := entries(t, lab.Gateway4, "47001-60500")
	if err := l.Gateway.Do(func() error { return g.Refuse(more) }); err == nil || !strings.Contains(err.Error(), "leave it 731 of") {
		t.Errorf("%v, want an addition judged beside what is guarded", err)
	}
	apply(t, l, g, more) // replaces
	do(t, l, func() error { return g.Refuse(entries(t, lab.Gateway4, "33000-45000")) })
	apply(t, l, g, entries(t, lab.Gateway4, "1024-65535")) // is not judged: it may have been forced
}

func TestRefuseListeningUDP(t *testing.T) {
	t.Parallel()
	l := network(t)
	open, err := l.Gateway.ListenPacket("udp4", lab.Gateway4+":7053")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	c, err := l.Gateway.DialFrom(t.Context(), net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(lab.Gateway4 + ":7100")),
	}, "udp", lab.Server4+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g := guard.New(options(l))
	err = l.Gateway.Do(func() error { return g.Refuse(entries(t, lab.Gateway4, "7000-7099")) })
	if err == nil || !strings.Contains(err.Error(), "port 7053") {
		t.Errorf("got %v, want the UDP port 7053 named", err)
	}
	do(t, l, func() error { return g.Refuse(entries(t, lab.Gateway4, "7100")) })
}
