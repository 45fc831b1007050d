package test

import (
	"net"
	"testing"
	"time"

	"nat64d/lab"
)

const addressDependent = "filtering: { mode: address_dependent }\n"

// spareFile gives the gateway sparePool.
const spareFile = "pool4:\n  - { address: 192.0.2.64, ports: 1024-65535 }\n"

// With address-dependent filtering, a third host reaches the client only after the client has sent to it, then from
// any port (RFC 6146 section 3.5.1).
func TestAddressDependentFiltering(t *testing.T) {
	l := network(t, lab.Options{Far: true})
	g := startConfig(t, l, spareFile+addressDependent)
	p, mapped := bindService(t, g)
	if !reaches(t, l.Server, mapped) {
		t.Error("the peer does not reach the client from another port")
	}
	if reaches(t, l.FarServer, mapped) {
		t.Error("a third host reaches the client")
	}
	if g.dropped("filtered_address") == 0 {
		t.Error("the drop is not counted")
	}
	sendTo(t, p, farTarget+":9")
	eventually(t, 2*time.Second, "the session is there", func() error { return g.expectSessions("udp", lab.FarServer4+":9") })
	if !reaches(t, l.FarServer, mapped) {
		t.Error("the third host does not reach the client after the client has sent to it")
	}
	g.stop()
}

// The filtering mode changes while the gateway runs. A host with a session keeps its access.
func TestFilteringChangesWhileRunning(t *testing.T) {
	l := network(t, lab.Options{Far: true})
	g := startConfig(t, l, spareFile)
	_, mapped := bindService(t, g)
	g.must("config", "set", "filtering.mode", "address_dependent")
	if reaches(t, l.FarServer, mapped) {
		t.Error("a third host reaches the client although filtering is address-dependent")
	}
	g.must("config", "set", "filtering.mode", "endpoint_independent")
	if !reaches(t, l.FarServer, mapped) {
		t.Error("a third host does not reach the client although filtering is endpoint-independent")
	}
	g.must("config", "set", "filtering.mode", "address_dependent")
	if !reaches(t, l.FarServer, mapped) {
		t.Error("the third host has a session, and does not reach the client")
	}
	g.stop()
}

// bindService opens a socket of the client that answers every datagram, and binds its port by sending to the server.
func bindService(t *testing.T, g *daemon) (p net.PacketConn, mapped string) {
	t.Helper()
	listenUDP(t, g.lab.Server, lab.Server4+":9") // does not answer, otherwise two answering sockets would exchange datagrams for ever
	listenUDP(t, g.lab.FarServer, lab.FarServer4+":9")
	p = listenUDP(t, g.lab.Client, reach6(service))
	echoUDP(p)
	sendTo(t, p, target+":9")
	eventually(t, 2*time.Second, "the binding is there", func() error { return g.expectSessions("udp", lab.Server4+":9") })
	return p, g.binding(service).Mapped.String()
}

// sendTo sends a datagram to a literal address.
func sendTo(t *testing.T, p net.PacketConn, address string) {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteTo([]byte("hello"), to); err != nil {
		t.Fatal(err)
	}
}

// reaches reports whether a datagram from a host is answered.
func reaches(t *testing.T, from *lab.Namespace, address string) bool {
	t.Helper()
	c, err := from.Dial(limit(t, 5*time.Second), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return false
	}
	_, err = c.Read(make([]byte, 8))
	return err == nil
}
