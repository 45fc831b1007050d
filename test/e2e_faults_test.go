package test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// The faults of TestFaults.
const (
	outage    = 200 * time.Millisecond // how long something is missing
	prompt    = time.Second            // bound of the time after a fault until there is service again, on a noisy machine
	neighbour = 4 * time.Second        // the same if kernels must find their neighbours again: they repeat a lost question after a second
	viaServer = "route replace default via " + lab.Server4
	second    = "192.0.2.3" // another router on the server's link, with its own MAC
)

// fault is something that happens to a gateway.
type fault struct {
	name     string
	do       func()
	lasts    time.Duration // how long there can be no service
	after    time.Duration // bound of the time until there is service again; 0: prompt
	lossless bool          // no datagram is lost
	log      string        // the log must contain it
	reason   string        // the drop reason that must count packets
}

// faulty is a gateway to which faults happen.
type faulty struct {
	*testing.T
	*lab.Lab
	g *daemon
}

// Established flows survive faults of the host: idle connections, a TCP download and a UDP flow have service again when the fault
// is over, and the kernel never resets a connection. First pool4 is the host's own address, then one that nat64d answers ARP for.
func TestFaults(t *testing.T) {
	l := network(t, lab.Options{})
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", stateDir(t))
	f := &faulty{T: t, Lab: l}
	ip(t, l.Server, "addr add "+lab.FarServer4+"/32 dev lo",
		"link add eth1 link eth0 type macvlan mode bridge", "addr add "+second+"/32 dev eth1", "link set eth1 up")
	if err := l.Server.SetSysctl("net/ipv4/conf/all/arp_ignore", "1"); err != nil { // only eth1 answers for its address
		t.Fatal(err)
	}
	f.at(viaServer)
	echoTCP(t, l.Server, ":7")
	echoUDP(packetConn(t, l.Server, lab.FarServer4+":7"))
	f.g = start(t, l, lab.Gateway4+":2000-29999", "--handover", "10s")
	before := counters(t, l.Gateway)
	f.suffer("of the host", f.ofRoutes(), f.ofAddresses(), f.ofGuard(), f.ofProcess(), f.ofLinks(), f.ofNICs())
	f.g.must("pool4", "add", lab.Spare4, "2000-29999")
	f.g.must("pool4", "remove", lab.Gateway4, "2000-29999")
	f.g.pool4State(lab.Spare4, "answered")
	f.suffer("answered by nat64d", f.ofLinks()[:1], f.ofNICs()[:1], f.ofNICs()[2:3], f.renumbering())
	if n := counters(t, l.Gateway).Since(before)["Tcp.OutRsts"]; n != 0 {
		t.Errorf("the gateway's kernel has sent %d RST", n)
	}
	f.g.stop()
}

// suffer lets faults happen, one after the other, while flows are established, and logs the cost as rows of a table.
func (f *faulty) suffer(pool4 string, lists ...[]fault) {
	f.Helper()
	flows := makeSteady(f.T, f.Client, f.Server, farTarget)
	defer flows.end()
	for _, c := range slices.Concat(lists...) {
		dropped := uint64(0)
		if c.reason != "" {
			dropped = f.g.dropped(c.reason)
		}
		cost := flows.during(c.name, c.do)
		f.Logf("| %s, pool4 %s | %v |", c.name, pool4, cost)
		if c.after == 0 {
			c.after = prompt
		}
		if cost.udp > c.lasts+c.after {
			f.Errorf("%s: no service for %v, want at most %v", c.name, cost.udp, c.lasts+c.after)
		}
		if c.lossless && cost.lost > 0 {
			f.Errorf("%s: %d datagrams were lost, want none", c.name, cost.lost)
		}
		if !strings.Contains(f.g.log.String(), c.log) {
			f.Errorf("%s: the log lacks %q", c.name, c.log)
		}
		if c.reason != "" && f.g.dropped(c.reason) == dropped {
			f.Errorf("%s: no packet is counted as %s", c.name, c.reason)
		}
	}
}

// at runs commands of ip in the gateway.
func (f *faulty) at(commands ...string) {
	f.Helper()
	ip(f.T, f.Gateway, commands...)
}

// away takes something away and brings it back.
func (f *faulty) away(away, back []string) func() {
	return func() {
		f.at(away...)
		time.Sleep(outage)
		f.at(back...)
	}
}

func (f *faulty) ofRoutes() []fault {
	return []fault{
		{name: "no fault", lossless: true, do: func() { time.Sleep(outage) }},
		{name: "MTU changed", lossless: true, log: "mtu=1400", do: f.away([]string{"link set v6 mtu 1400"}, []string{"link set v6 mtu 1500"})},
		{name: "other next hop", do: f.away([]string{"route replace default via " + second}, []string{viaServer})},
		{name: "netlink overrun", lasts: 5 * time.Second, lossless: true, log: "overrun", do: f.overrun},
		{name: "default route withdrawn", lasts: outage, reason: "no_route", do: f.away([]string{"route del default"}, []string{viaServer})},
	}
}

func (f *faulty) ofAddresses() []fault {
	four, six := "192.0.2.1/24 dev v4", "2001:db8:1::1/64 dev v6"
	return []fault{
		{name: "IPv4 address removed", lasts: outage, reason: "no_route", do: f.away([]string{"addr del " + four}, []string{"addr add " + four, viaServer})},
		{name: "IPv6 address removed", lasts: outage, reason: "no_route", do: f.away([]string{"addr del " + six}, []string{"addr add " + six})},
	}
}

// ofGuard damages the guard, which is repaired at once.
func (f *faulty) ofGuard() (list []fault) {
	for _, damage := range []string{
		"flush ruleset", "delete table netdev nat64d", "flush chain netdev nat64d ingress4", "flush set netdev nat64d pool4",
		"add chain netdev nat64d ingress4 { policy drop; }",
	} {
		list = append(list, fault{name: "nft " + damage, lossless: true, log: "differed", do: func() {
			n := f.g.repairs()
			f.run("nft", damage)
			eventually(f.T, 2*time.Second, "the guard is repaired after nft "+damage, func() error {
				if f.g.repairs() == n {
					return errors.New("it is not")
				}
				return nil
			})
		}})
	}
	return list
}

func (f *faulty) ofProcess() []fault {
	return []fault{
		{name: "SIGSTOP and SIGCONT", lasts: outage, lossless: true, do: func() {
			f.g.signal(syscall.SIGSTOP)
			time.Sleep(outage)
			f.g.signal(syscall.SIGCONT)
		}},
		{name: "full queue of the NIC", lasts: outage, reason: "transmit", do: func() {
			f.run("tc", "qdisc add dev v4 root tbf rate 64kbit burst 2000 limit 2000")
			time.Sleep(outage)
			f.run("tc", "qdisc del dev v4 root")
		}},
	}
}

func (f *faulty) ofLinks() []fault {
	return []fault{
		{name: "IPv4 link down", lasts: outage, after: neighbour, log: "interface=v4 index=3 up=false",
			do: f.away([]string{"link set v4 down"}, []string{"link set v4 up", viaServer})},
		{name: "IPv6 link down", lasts: outage, after: neighbour, log: "interface=v6 index=2 up=false",
			do: f.away([]string{"link set v6 down"}, []string{"link set v6 up"})},
		{name: "IPv4 link without carrier", lasts: outage, after: neighbour, do: func() {
			ip(f.T, f.Server, "link set eth0 down")
			time.Sleep(outage)
			ip(f.T, f.Server, "link set eth0 up")
		}},
		{name: "IPv4 NIC renamed", lasts: outage, after: neighbour, log: "interface=v4 index=0 up=false",
			do: f.away([]string{"link set v4 down", "link set v4 name x4"}, []string{"link set x4 name v4", "link set v4 up", viaServer})},
	}
}

func (f *faulty) ofNICs() []fault {
	return []fault{
		{name: "IPv4 NIC with another MAC", do: func() { f.at("link set v4 address 02:00:00:00:00:04") }},
		{name: "IPv6 NIC with another MAC", do: func() { f.at("link set v6 address 02:00:00:00:00:06") }},
		{name: "IPv4 NIC replaced", lasts: outage, after: neighbour, log: "the NIC is back\" side=v4", do: func() { f.replace(f.Unplug4, f.Plug4) }},
		{name: "IPv6 NIC replaced", lasts: outage, after: neighbour, log: "the NIC is back\" side=v6", do: func() { f.replace(f.Unplug6, f.Plug6) }},
	}
}

// replace removes a NIC and puts one with another index and MAC in its place.
func (f *faulty) replace(unplug, plug func() error) {
	err := unplug()
	time.Sleep(outage)
	if err = errors.Join(err, plug()); err != nil {
		f.Error(err)
	}
	f.at(viaServer)
}

// renumbering changes the host's own address, and the name of a NIC for good.
func (f *faulty) renumbering() []fault {
	return []fault{
		{name: "host renumbered", do: func() {
			// The kernel deletes a secondary address with its primary one.
			f.at("addr add 192.0.2.9/24 dev v4", "addr del 192.0.2.1/24 dev v4", "addr replace 192.0.2.9/24 dev v4", viaServer)
		}},
		{name: "IPv4 NIC with another name, and a restart", lasts: startWithin, do: func() {
			f.at("link set v4 down", "link set v4 name wan0", "link set wan0 up", viaServer)
			f.g.signal(syscall.SIGTERM)
			f.g.wait()
			f.g = launch(f.T, f.Lab, f.g.socket, "--v6", f.NIC6, "--v4", "wan0", "--pool6", lab.Prefix6, "--pool4", lab.Spare4+":2000-29999")
			f.g.ready()
		}},
	}
}

// overrun makes the kernel lose notifications, then that of another default route.
func (f *faulty) overrun() {
	var changes strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&changes, "link set lo txqueuelen %d\n", 1000+i%2)
	}
	file := write(f.T, f.TempDir(), changes.String())
	f.g.signal(syscall.SIGSTOP)
	f.at("-batch "+file, "route replace default via "+second)
	f.g.signal(syscall.SIGCONT)
	arrived := func() uint64 {
		s, err := f.Server.Statistics("eth1")
		if err != nil {
			f.Fatal(err)
		}
		return s.RxPackets
	}
	before := arrived()
	eventually(f.T, neighbour, "packets take the new route", func() error {
		if n := arrived() - before; n < 100 {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
	f.at(viaServer)
}

// run runs a command in the gateway.
func (f *faulty) run(name, args string) {
	f.Helper()
	path, _ := tool(f.T, name)
	if out, err := f.Gateway.Output(limit(f.T, 5*time.Second), path, strings.Fields(args)...); err != nil {
		f.Errorf("%s %s: %v: %s", name, args, err, out)
	}
}
