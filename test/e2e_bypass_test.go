package test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// A part of the prefix that is a native IPv6 network behind the server; one of its hosts, and the IPv4 host that the
// same address represents if it is translated.
const (
	nativePart = "64:ff9b::cb00:7180/121" // 203.0.113.128/25
	nativeHost = "64:ff9b::cb00:7182"
	nativeV4   = "203.0.113.130"
)

// nativeLab is a lab whose gateway forwards IPv6 and whose server is also an IPv6 host that owns nativeHost.
func nativeLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := network(t, lab.Options{Far: true})
	if err := l.Forward(true); err != nil {
		t.Fatal(err)
	}
	ip(t, l.Server, "-6 addr add "+nativeHost+"/128 dev lo nodad")
	ip(t, l.FarServer, "addr add "+nativeV4+"/24 dev eth0")
	echoTCP(t, l.Server, net.JoinHostPort(nativeHost, "7"))
	echoTCP(t, l.FarServer, nativeV4+":7")
	echoTCP(t, l.FarServer, lab.FarServer4+":7")
	return l
}

// reach connects to an address in the prefix. It reports whether the connection was translated, according to the list
// of sessions.
func (g *daemon) reach(v6, v4 string) (translated bool, err error) {
	g.t.Helper()
	c, err := g.lab.Client.Dial(limit(g.t, 2*time.Second), "tcp", net.JoinHostPort(v6, "7"))
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := exchange(c, 1); err != nil {
		return false, err
	}
	port := netip.MustParseAddrPort(c.LocalAddr().String()).Port()
	for _, s := range g.listSessions() {
		if s.Client.Port() == port && s.Peer.Addr().String() == v4 {
			return true, nil
		}
	}
	return false, nil
}

// reaches waits until connections to an address are translated, or are not.
func (g *daemon) reaches(v6, v4 string, translated bool) {
	g.t.Helper()
	eventually(g.t, 10*time.Second, fmt.Sprintf("%s is reached, translated: %v", v6, translated), func() error {
		got, err := g.reach(v6, v4)
		if err == nil && got != translated {
			err = fmt.Errorf("translated: %v", got)
		}
		return err
	})
}

// While the kernel forwards and has a more specific route, it handles the destinations of that route.
func TestMoreSpecificRouteBypassesTranslation(t *testing.T) {
	l := nativeLab(t)
	g := startConfig(t, l, spareFile)
	const farAs6 = "64:ff9b::203.0.113.2"
	g.reaches(nativeHost, nativeV4, true)
	ip(t, l.Gateway, "-6 route add "+nativePart+" via "+lab.Server6)
	g.reaches(nativeHost, nativeV4, false)
	g.reaches(farAs6, lab.FarServer4, true)
	if g.dropped("bypassed") == 0 {
		t.Error("the bypassed packets are not counted")
	}
	if err := l.Gateway.SetSysctl("net/ipv6/conf/all/forwarding", "0"); err != nil {
		t.Fatal(err)
	}
	g.reaches(nativeHost, nativeV4, true)
	if err := l.Gateway.SetSysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	g.reaches(nativeHost, nativeV4, false)
	ip(t, l.Gateway, "-6 route del "+nativePart)
	g.reaches(nativeHost, nativeV4, true)
	if !strings.Contains(g.log.String(), nativePart) {
		t.Error("the log does not show the bypassed prefix")
	}
	g.stop()
}

// The configuration can bypass destinations without a more specific route, and can deny single ports.
func TestAccessList(t *testing.T) {
	l := nativeLab(t)
	ip(t, l.Gateway, "-6 route add default via "+lab.Server6)
	g := startConfig(t, l, spareFile+"bypass_v6: [ \""+nativePart+"\" ]\n")
	g.reaches(nativeHost, nativeV4, false)
	g.must("config", "set", "bypass_v6", "")
	g.reaches(nativeHost, nativeV4, true)
	g.must("config", "set", "bypass_v6", nativePart)
	g.reaches(nativeHost, nativeV4, false)

	serveEcho(t, l)
	g.must("config", "set", "deny_v4", "0.0.0.0/0:tcp:7,203.0.113.0/24:udp")
	if _, err := g.reach("64:ff9b::"+lab.FarServer4, lab.FarServer4); !errors.Is(err, syscall.EACCES) {
		t.Errorf("a port that is denied: got %v, want %v", err, syscall.EACCES)
	}
	if err := echoDatagram(t, l.Client, target+":7", 100); err != nil {
		t.Errorf("the same port of another protocol: %v", err)
	}
	g.must("config", "set", "deny_v4", "0.0.0.0/0:tcp:8-9")
	g.reaches("64:ff9b::"+lab.FarServer4, lab.FarServer4, true)
	g.stop()
}
