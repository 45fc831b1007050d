//go:build linux

package nexthop_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	rawsocket "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/linux/nexthop"
)

func TestRunFollowsLinks(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	server := mac(t, g.Server, "eth0")
	g.want(lab.Server4, server+" mtu 1500")
	first := g.Link4()
	if !first.Up || first.Index == 0 || first.Name != g.NIC4 {
		t.Errorf("the link is %+v", first)
	}

	g.ip("link set " + g.NIC4 + " mtu 1400")
	g.want(lab.Server4, server+" mtu 1400")
	if g.Link4().MTU != 1400 || g.Link6().MTU != 1500 {
		t.Errorf("MTUs are %d and %d", g.Link4().MTU, g.Link6().MTU)
	}
	ip(t, g.Server, "link set eth0 down")
	until(t, "no carrier", func() bool { return !g.Link4().Up })
	ip(t, g.Server, "link set eth0 up")
	until(t, "carrier", func() bool { return g.Link4().Up })
	g.ip("link set " + g.NIC4 + " down")
	g.want(lab.Server4, "no_route")
	g.ip("link set " + g.NIC4 + " up")
	g.want(lab.Server4, server+" mtu 1400")

	events := g.linkEvents.Load()
	if err := g.Unplug4(); err != nil {
		t.Fatal(err)
	}
	until(t, "the interface is gone", func() bool { return g.Link4().Index == 0 })
	g.want(lab.Server4, "no_route")
	if err := g.Plug4(); err != nil {
		t.Fatal(err)
	}
	g.want(lab.Server4, mac(t, g.Server, "eth0")+" mtu 1500")
	until(t, "carrier", func() bool { return g.Link4().Up })
	if l := g.Link4(); l.Index == first.Index {
		t.Errorf("the interface that came back is %+v, the one before %+v", l, first)
	}
	if g.linkEvents.Load() < events+2 {
		t.Errorf("%d link events for a removed and re-created interface", g.linkEvents.Load()-events)
	}
}

// TestNewMACIsAnnounced checks that neighbours know the new MAC of an interface at once.
func TestNewMACIsAnnounced(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	g := follow(t, l, nexthop.ARPAuto)
	for _, c := range []struct {
		host      *lab.Namespace
		nic, addr string
	}{{l.Client, l.NIC6, lab.Gateway6}, {l.Server, l.NIC4, lab.Gateway4}} {
		entry := func() string { return ip(t, c.host, "neigh show "+c.addr+" dev eth0") }
		ip(t, c.host, "neigh replace "+c.addr+" lladdr 02:00:00:00:00:99 dev eth0 nud reachable")
		for _, mac := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02"} {
			g.ip("link set " + c.nic + " address " + mac)
			until(t, c.addr+" is known at "+mac, func() bool { return strings.Contains(entry(), mac) })
		}
	}
}

// TestNeighboursAreFoundAtOnceAfterFlaps checks that neither the limit of requests per second nor a question that the kernel has
// sent without a carrier delays the search for a neighbour.
func TestNeighboursAreFoundAtOnceAfterFlaps(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	g := follow(t, l, nexthop.ARPAuto)
	server := mac(t, l.Server, "eth0")
	g.want(lab.Server4, server+" mtu 1500")
	for range 5 {
		ip(t, l.Server, "link set eth0 down")
		until(t, "no carrier", func() bool { return !g.Link4().Up })
		g.resolve(lab.Server4) // while the server cannot answer
		ip(t, l.Server, "link set eth0 up")
		began := time.Now()
		until(t, "carrier", func() bool { return g.Link4().Up })
		up := time.Now()
		g.want(lab.Server4, server+" mtu 1500")
		if d := time.Since(up); d > 900*time.Millisecond { // the kernel repeats its question after a second
			t.Errorf("the neighbour was found %v after the carrier, which came after %v", d, up.Sub(began))
		}
	}
}

func TestMTUOfIPv6(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	if err := l.Gateway.SetSysctl("net/ipv6/conf/"+l.NIC6+"/mtu", "1280"); err != nil {
		t.Fatal(err)
	}
	g := follow(t, l, nexthop.ARPAuto)
	if g.Link6().MTU != 1280 || g.Link4().MTU != 1500 {
		t.Errorf("MTUs are %d and %d", g.Link6().MTU, g.Link4().MTU)
	}
}

func TestNewLogsMissingInterfaces(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	var log bytes.Buffer
	read := func(v6, v4 string) (table *nexthop.Table, err error) {
		err = l.Gateway.Do(func() error {
			table, err = nexthop.New(nexthop.Interfaces{V6: v6, V4: v4}, nexthop.ARPAuto, slog.New(slog.NewJSONHandler(&log, nil)))
			return err
		})
		return table, err
	}
	for _, c := range []struct{ v6, v4 string }{{l.NIC6, "eth7"}, {"eth7", l.NIC4}, {"eth7", "eth7"}} {
		log.Reset()
		table, err := read(c.v6, c.v4)
		if err != nil {
			t.Errorf("%s, %s: %v, want it to wait", c.v6, c.v4, err)
			continue
		}
		if there := table.Link6().Index != 0; there != (c.v6 == l.NIC6) || there != table.Connected6() {
			t.Errorf("%s, %s: the v6 interface is there: %v, connected: %v", c.v6, c.v4, there, table.Connected6())
		}
		if there := table.Link4().Index != 0; there != (c.v4 == l.NIC4) || there != table.Connected4() {
			t.Errorf("%s, %s: the v4 interface is there: %v, connected: %v", c.v6, c.v4, there, table.Connected4())
		}
		if n := strings.Count(log.String(), "eth7\\\" does not exist, waiting for it: this host has lo, "); n != 1 {
			t.Errorf("%s, %s: logged %d times that eth7 does not exist: %s", c.v6, c.v4, n, &log)
		}
	}
	if _, err := read("lo", l.NIC4); err == nil || !strings.Contains(err.Error(), `interface "lo" is of type loopback: must be an Ethernet one`) {
		t.Errorf("lo: %v", err)
	}
}

func TestOneInterface(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{OneNIC: true})
	g := follow(t, l, nexthop.ARPAuto)
	g.want(lab.Server4, mac(t, g.Server, "eth0")+" mtu 1500")
	g.want(lab.Client6, mac(t, g.Client, "eth0")+" mtu 1500")
}

// TestARPIsAnswered checks ARP for addresses of pool4 with the server's kernel as requester.
func TestARPIsAnswered(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	g := follow(t, l, nexthop.ARPAuto)
	gateway := ip(t, l.Gateway, "-br link show dev "+l.NIC4)
	gateway = strings.Fields(gateway)[2]
	// The server has cached another owner of the spare address; the announcement replaces it.
	ip(t, l.Server, "neigh replace "+lab.Spare4+" lladdr 02:00:00:00:00:99 dev eth0 nud stale")
	entry := func(addr string) string { return ip(t, l.Server, "neigh show "+addr+" dev eth0") }
	proxied := []netip.Addr{netip.MustParseAddr(lab.Spare4), netip.MustParseAddr("192.0.2.65"), netip.MustParseAddr("198.51.100.1")}
	g.SetProxied(proxied)
	until(t, "the announcement corrects the entry of a former owner", func() bool {
		return strings.Contains(entry(lab.Spare4), gateway)
	})
	ask := func(addr string) { // a datagram makes the kernel send a request
		c, err := l.Server.Dial(t.Context(), "udp", addr+":9")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte("?"))
	}
	until(t, "a request is answered", func() bool { ask("192.0.2.65"); return strings.Contains(entry("192.0.2.65"), gateway) })

	// nat64d does not answer for an address that is not proxied, nor for one that the host has added since: then only
	// the kernel answers.
	if err := l.Server.SetSysctl("net/ipv4/neigh/eth0/retrans_time_ms", "50"); err != nil {
		t.Fatal(err)
	}
	until(t, "another address is not answered for", func() bool { ask("192.0.2.66"); return strings.Contains(entry("192.0.2.66"), "FAILED") })
	g.SetProxied(nil)
	until(t, "an address no longer proxied is not answered for", func() bool {
		if strings.Contains(entry("192.0.2.65"), gateway) { // an earlier answer, or one still in transit
			ip(t, l.Server, "neigh flush dev eth0")
		}
		ask("192.0.2.65")
		return strings.Contains(entry("192.0.2.65"), "FAILED")
	})

	// nat64d answers again when the interface has been re-created.
	g.SetProxied(proxied)
	if err := l.Unplug4(); err != nil {
		t.Fatal(err)
	}
	if err := l.Plug4(); err != nil {
		t.Fatal(err)
	}
	gateway = strings.Fields(ip(t, l.Gateway, "-br link show dev "+l.NIC4))[2]
	until(t, "a request after the interface came back is answered", func() bool {
		ask("192.0.2.65")
		return strings.Contains(entry("192.0.2.65"), gateway)
	})
}

// TestARPInPriorityTaggedFrames sends requests in frames of VLAN 0, which are answered like untagged ones, and of other
// VLANs, which are ignored.
func TestARPInPriorityTaggedFrames(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	g := follow(t, l, nexthop.ARPAuto)
	spare := netip.MustParseAddr(lab.Spare4)
	g.SetProxied([]netip.Addr{spare})
	var nic *net.Interface
	var conn *rawsocket.Conn
	err := l.Server.Do(func() (err error) {
		if nic, err = net.InterfaceByName("eth0"); err == nil {
			conn, err = rawsocket.Listen(nic, rawsocket.Raw, unix.ETH_P_ARP, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	zero, seven := []byte{0x81, 0, 0xa0, 0}, []byte{0x81, 0, 0xa0, 7}
	number := byte(100) // of the sender; identifies the request of an answer
	ask := func(tags ...[]byte) {
		number++
		frame := slices.Concat(bytes.Repeat([]byte{0xff}, 6), nic.HardwareAddr, slices.Concat(tags...),
			[]byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1}, nic.HardwareAddr, []byte{192, 0, 2, number}, make([]byte, 6), spare.AsSlice())
		if _, err := conn.WriteTo(frame, &rawsocket.Addr{HardwareAddr: frame[:6]}); err != nil {
			t.Fatal(err)
		}
	}
	// answered returns the number of the request that the next answer is for.
	answered := func() byte {
		b := make([]byte, 64)
		for {
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			if n >= 42 && b[21] == 2 && bytes.Equal(b[28:32], spare.AsSlice()) {
				return b[41]
			}
		}
	}
	until(t, "a request is answered", func() bool { // the responder needs time to start
		ask()
		b := make([]byte, 64)
		for {
			if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return false
			}
			if n >= 42 && b[21] == 2 && b[41] == number {
				return true
			}
		}
	})
	for _, tags := range [][][]byte{{zero}, {zero, zero}, {{0x88, 0xa8, 0, 0}}} {
		ask(seven)
		ask(zero, seven)
		ask(seven, zero)
		ask(tags...)
		if got := answered(); got != number {
			t.Errorf("tags %x: the next answer is for request %d, want %d, the first without a VLAN", tags, got, number)
		}
	}
}
