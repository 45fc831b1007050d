package test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	link "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/test/dissect"
)

// discardPort is the port on both sides of a binding for the markers of these tests.
const discardPort = 9

// globalHost is an IPv4 address that is valid with the well-known prefix, unlike documentation addresses: a globally
// reachable one of RFC 7535. No packet of these tests reaches it.
var globalHost = netip.MustParseAddr("192.31.196.1")

// wireFiles are the files of packets in and out. Those whose ICMP errors set path MTUs in the gateway come last.
var wireFiles = []string{
	"v6_to_v4.json", "v4_to_v6.json", "prefix_lengths.json", "hairpin.json", "fragments.json", "icmp_errors_6to4.json", "icmp_errors_4to6.json",
}

// wireGroup are vectors for one daemon, sent one after the other.
type wireGroup struct {
	config  string // JSON form, the same for the whole group
	vectors []wireVector
}

// Every vector passes through the released daemon on packet sockets, with every engine: input is a frame from one
// veth end, output are frames at both ends. Only the gateway's own kernel is involved.
func TestWireVectorsOnSockets(t *testing.T) {
	binaries(t)
	for i, group := range wireGroups(t) {
		engines := []string{"auto"}
		if i == 0 {
			engines = []string{"ring", "mmsg", "simple"}
		}
		for _, engine := range engines {
			t.Run(fmt.Sprintf("%d %s", i, engine), func(t *testing.T) {
				t.Parallel()
				w := newWire(t, &group.vectors[0], engine)
				for _, v := range group.vectors {
					t.Run(v.ID, func(t *testing.T) {
						v.check(t, w.send(t, &v))
					})
				}
				w.g.stop()
			})
		}
	}
}

// wireGroups reads all vectors and groups those with the same configuration, the largest group first.
func wireGroups(t *testing.T) (groups []wireGroup) {
	t.Helper()
	for _, name := range wireFiles {
		var file wireFile
		load(t, name, &file)
		for _, v := range file.Vectors {
			b, err := json.Marshal([]any{v.Config, v.BIB})
			if err != nil {
				t.Fatal(err)
			}
			i := 0
			for i < len(groups) && groups[i].config != string(b) {
				i++
			}
			if i == len(groups) {
				groups = append(groups, wireGroup{config: string(b)})
			}
			groups[i].vectors = append(groups[i].vectors, v)
		}
	}
	return groups
}

// wire is a running gateway and the bare ends of its two links.
type wire struct {
	g       *daemon
	ends    [2]*link.Conn // by side
	nics    [2]link.Addr  // the gateway's, by side
	client  netip.Addr    // sends the markers of the IPv6 side, from discardPort
	mapped  netip.Addr    // of pool4, mapped from client and discardPort
	prefix  pool6.Prefix  // the prefix of globalHost
	markers uint64
}

// newWire starts a gateway for vectors with the configuration of v.
func newWire(t *testing.T, v *wireVector, engine string) *wire {
	t.Helper()
	l := network(t, lab.Options{MTU6: int(v.Config.MTU6), MTU4: int(v.Config.MTU4)})
	w := &wire{client: v.BIB[0].V6, mapped: v.Config.Pool4[0]}
	var err error
	if w.prefix, err = pool6.ParsePrefix(v.Config.Pref64[0]); err != nil {
		t.Fatal(err)
	}
	w.listen(t, l)
	w.strip(t, l)
	w.g = startConfig(t, l, v.yaml(t), "--engine", engine)
	return w
}

// listen opens the two ends.
func (w *wire) listen(t *testing.T, l *lab.Lab) {
	t.Helper()
	for side, c := range [2]struct {
		end       *lab.Namespace
		nic       string
		etherType int
	}{packet.V6: {l.Client, l.NIC6, unix.ETH_P_IPV6}, packet.V4: {l.Server, l.NIC4, unix.ETH_P_IP}} {
		err := l.Gateway.Do(func() error {
			nic, err := net.InterfaceByName(c.nic)
			if err == nil {
				w.nics[side] = link.Addr{HardwareAddr: nic.HardwareAddr}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = c.end.Do(func() error {
			nic, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			w.ends[side], err = link.Listen(nic, link.Datagram, c.etherType, nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.ends[side].Close() })
	}
}

// strip removes the addresses of the ends, so that their kernels send nothing. It routes everything to them, so that
// an unexpected packet is not lost because of an unresolved neighbour.
func (w *wire) strip(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.Client.SetSysctl("net/ipv6/conf/all/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	ip(t, l.Server, "addr flush dev eth0")
	host := func(n byte) netip.Addr { // on the client's link
		a := w.client.As16()
		clear(a[8:])
		a[15] = n
		return netip.AddrFrom16(a)
	}
	for _, c := range []struct {
		nic     string
		us, hop netip.Addr
		mac     net.Addr
	}{
		{l.NIC6, host(1), host(2), w.ends[packet.V6].LocalAddr()},
		{l.NIC4, netip.MustParseAddr(lab.Gateway4), netip.MustParseAddr(lab.Server4), w.ends[packet.V4].LocalAddr()},
	} {
		family, nodad := "-6", " nodad"
		if c.us.Is4() {
			family, nodad = "-4", ""
		}
		ip(t, l.Gateway,
			fmt.Sprintf("%s addr flush dev %s scope global", family, c.nic),
			fmt.Sprintf("%s addr add %v dev %s%s", family, c.us, c.nic, nodad),
			fmt.Sprintf("%s route add %v dev %s", family, c.hop, c.nic),
			fmt.Sprintf("%s route add default via %v dev %s", family, c.hop, c.nic),
			fmt.Sprintf("%s neigh replace %v lladdr %v dev %s nud permanent", family, c.hop, c.mac, c.nic))
	}
}

// yaml returns the configuration file for a vector, with an additional binding for the markers.
func (v *wireVector) yaml(t *testing.T) string {
	t.Helper()
	type section = map[string]any
	var prefixes, addresses, bindings []section
	for _, p := range v.Config.Pref64 {
		policy := "allow"
		if v.Config.Strict && p == lab.Prefix6 { // the vector is only about the well-known prefix
			policy = "drop"
		}
		prefixes = append(prefixes, section{"prefix": p, "private_v4": policy})
	}
	for _, a := range v.Config.Pool4 {
		addresses = append(addresses, section{"address": a})
	}
	bind := func(proto string, v6 netip.Addr, p6 uint16, v4 netip.Addr, p4 uint16) {
		bindings = append(bindings, section{"proto": proto, "v6": netip.AddrPortFrom(v6, p6).String(), "v4": netip.AddrPortFrom(v4, p4).String()})
	}
	bind("udp", v.BIB[0].V6, discardPort, v.Config.Pool4[0], discardPort)
	for _, b := range v.BIB {
		bind(b.Proto, b.V6, b.P6, b.V4, b.P4)
	}
	var text strings.Builder
	for key, value := range (section{
		"pool6": prefixes, "pool4": addresses, "bib": bindings,
		"translation": section{"lowest_ipv6_mtu": v.Config.Lowest},
		"icmp":        section{"rate_per_second": 0, "rate_total": 0, "error_source": cmp.Or(v.Config.Reporter, "router")},
	}) {
		b, err := json.Marshal(value) // YAML is a superset of JSON
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s: %s\n", key, b)
	}
	return text.String()
}

// send sends the packets of a vector and returns the packets that they caused, on both sides. Two markers follow
// them: one is translated, the other is answered with Time Exceeded. After both, no further packets can come.
func (w *wire) send(t *testing.T, v *wireVector) (all []sent) {
	t.Helper()
	side := sideNames[v.Input.Side]
	for _, p := range v.Input.Packets {
		w.write(t, side, unhex(t, p))
	}
	marker := w.marker(side)
	w.write(t, side, marker)
	w.write(t, side, hops(marker, 1))
	out := outputs{pieces: dissect.NewReassembler(), lenient: v.malformed(t)}
	for _, s := range []packet.Family{packet.V6, packet.V4} {
		for _, b := range w.read(t, s, marker[len(marker)-8:]) {
			out.check(b, packet.Offload{})
			all = append(all, sent{side: s, ip: b})
		}
	}
	for _, err := range out.wrong {
		t.Error(err)
	}
	return all
}

// marker returns a packet that carries a new number.
func (w *wire) marker(side packet.Family) []byte {
	w.markers++
	message := udp(discardPort, discardPort, 8)
	binary.BigEndian.PutUint64(message[packet.UDPLen:], 0xfeedface_00000000+w.markers)
	if side == packet.V4 {
		return ip4(globalHost, w.mapped, packet.NumUDP, message)
	}
	return ip6(w.client, netip.AddrFrom16(w.prefix.Embed(globalHost.As4())), packet.NumUDP, message)
}

func (w *wire) write(t *testing.T, side packet.Family, b []byte) {
	t.Helper()
	if _, err := w.ends[side].WriteTo(b, &w.nics[side]); err != nil {
		t.Fatal(err)
	}
}

// read returns the packets received on a side before the marker.
func (w *wire) read(t *testing.T, side packet.Family, marker []byte) (all [][]byte) {
	t.Helper()
	if err := w.ends[side].SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1<<16); ; {
		n, _, err := w.ends[side].ReadFrom(b)
		switch {
		case err != nil:
			t.Fatalf("the marker has not come out on side %v: %v", side, err)
		case bytes.Contains(b[:n], marker):
			return all
		case !ofKernel(t, b[:n]):
			all = append(all, bytes.Clone(b[:n]))
		}
	}
}

// ofKernel reports whether a packet is the gateway kernel's own: neighbour and multicast listener discovery.
func ofKernel(t *testing.T, b []byte) bool {
	t.Helper()
	p, err := dissect.IP(b)
	if p == nil {
		t.Fatal(err)
	}
	src, dst := p.Src.Addr(), p.Dst.Addr()
	return src.Is6() && (src.IsLinkLocalUnicast() || src.IsUnspecified() || dst.IsMulticast())
}

// ip runs commands of ip(8) in a namespace.
func ip(t *testing.T, n *lab.Namespace, commands ...string) {
	t.Helper()
	path, _ := tool(t, "ip")
	for _, c := range commands {
		if out, err := n.Output(limit(t, 5*time.Second), path, strings.Fields(c)...); err != nil {
			t.Fatalf("ip %s: %v: %s", c, err, out)
		}
	}
}
