package test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// Two IPv6 hosts with separate kernels reach each other by pool4 addresses (RFC 6146 section 3.8): over UDP, in
// fragments, over TCP while the MTU of a link between them decreases; ICMP errors reach their senders.
func TestHairpinBetweenTwoHosts(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(map[bool]string{false: "super-packets", true: "packets"}[old], func(t *testing.T) {
			l := network(t, lab.Options{Far: true, NoOffload: old})
			g := start(t, l, sparePool)
			g.must("bib", "add", "tcp,udp", lab.Spare4+":20000-20001", reach6(service)+"-20001")
			mapped := netip.MustParseAddrPort(reach4(service))
			echoUDP(listenUDP(t, l.Client, reach6(service)))
			for _, size := range []int{8, 1400, 8000} {
				if err := echoDatagram(t, l.FarClient, as6(mapped), size); err != nil {
					t.Errorf("%d bytes over UDP: %v", size, err)
				}
			}
			far, near := dialTo(t, l.FarClient, as6(mapped), l.Client, reach6(service))
			told := counter(t, l.Client, "Icmp6InPktTooBigs")
			stream(t, far, near, l.SetFarMTU6, []int{1500})
			stream(t, near, far, l.SetFarMTU6, []int{1500, 1280})
			if told() == 0 {
				t.Error("the client never received a Packet Too Big")
			}
			checkHairpinError(t, l, netip.AddrPortFrom(mapped.Addr(), service+1))
			g.stop()
		})
	}
}

// checkHairpinError sends to a bound port without a listener.
func checkHairpinError(t *testing.T, l *lab.Lab, mapped netip.AddrPort) {
	t.Helper()
	c, err := l.FarClient.Dial(limit(t, 5*time.Second), "udp", as6(mapped))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := exchange(c, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %v (ICMPv6 type 1 code 4)", err, syscall.ECONNREFUSED)
	}
	if _, err := l.FarClient.Dial(limit(t, 5*time.Second), "tcp", as6(mapped)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %v (RST)", err, syscall.ECONNREFUSED)
	}
}
