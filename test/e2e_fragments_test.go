package test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/packet"
)

// The fragmented load: datagrams of that many bytes, six fragments each on an Ethernet link, at 20 Mbit/s.
const (
	largeDatagram = 8000
	largePause    = largeDatagram * 8 * time.Second / 20e6
)

// losing makes a host drop every n-th fragment that it sends; 0: none.
func losing(t *testing.T, n *lab.Namespace, v6 bool, every int) {
	t.Helper()
	nft(t, n, "table netdev loss\ndelete table netdev loss")
	if every == 0 {
		return
	}
	match := "ip frag-off & 0x3fff != 0"
	if v6 {
		match = "ip6 nexthdr 44"
	}
	nft(t, n, fmt.Sprintf(`table netdev loss {
	chain out {
		type filter hook egress device eth0 priority 0;
		%s numgen inc mod %d 0 drop
	}
}`, match, every))
}

// A lost fragment causes the loss of its datagram only, in both directions.
func TestLostFragments(t *testing.T) {
	const datagrams, every, perDatagram = 300, 100, 6
	l := network(t, lab.Options{})
	g := start(t, l, sparePool)
	server := listenUDP(t, l.Server, lab.Server4+":9")
	client, err := l.Client.Dial(limit(t, time.Minute), "udp", target+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mapped := openFlow(t, client, server)
	losing(t, l.Server, false, every)
	losing(t, l.Client, true, every)
	up, down := make(chan int, 1), make(chan int, 1)
	go func() { up <- arrivals(server, datagrams) }()
	go func() { down <- arrivals(client.(net.PacketConn), datagrams) }()
	pace := time.NewTicker(largePause)
	defer pace.Stop()
	b := make([]byte, largeDatagram)
	for range datagrams {
		<-pace.C
		_, _ = client.Write(b) // only the number of lost ones counts
		_, _ = server.WriteTo(b, mapped)
	}
	const most = datagrams * perDatagram / every
	for name, n := range map[string]int{"up": <-up, "down": <-down} {
		if lost := datagrams - n; lost > most+1 {
			t.Errorf("%s: %d of %d datagrams were lost, want the %d with a lost fragment", name, lost, datagrams, most)
		}
	}
	g.stop()
}

// openFlow sends from a client until the server has received a datagram, and returns its source.
func openFlow(t *testing.T, client net.Conn, server net.PacketConn) (mapped net.Addr) {
	t.Helper()
	b := make([]byte, 1)
	eventually(t, startWithin, "a datagram arrives", func() (err error) {
		if _, err := client.Write(b); err != nil {
			return err
		}
		_ = server.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, mapped, err = server.ReadFrom(b)
		return err
	})
	return mapped
}

// arrivals counts the large datagrams that arrive, up to most or until none arrives for a while.
func arrivals(c net.PacketConn, most int) (n int) {
	b := make([]byte, largeDatagram)
	for n < most {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		got, _, err := c.ReadFrom(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return n
		case got == largeDatagram:
			n++
		}
	}
	return n
}

// Forged fragments without the rest of their datagrams do not block the source whose address they carry.
func TestForgedFragments(t *testing.T) {
	const forged, datagrams = 1000, 20
	l := network(t, lab.Options{})
	g := start(t, l, sparePool)
	server := listenUDP(t, l.Server, lab.Server4+":9")
	client, err := l.Client.Dial(limit(t, time.Minute), "udp", target+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mapped := openFlow(t, client, server)
	forge(t, l, forged)
	arrived := make(chan int, 1)
	go func() { arrived <- arrivals(client.(net.PacketConn), datagrams) }()
	b := make([]byte, largeDatagram)
	pace := time.NewTicker(largePause)
	defer pace.Stop()
	for range datagrams {
		<-pace.C
		if _, err := server.WriteTo(b, mapped); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-arrived; n < datagrams {
		t.Errorf("%d of %d datagrams of the server arrived after %d forged fragments", n, datagrams, forged)
	}
	if g.dropped("fragment_source") == 0 {
		t.Error("the forged fragments did not reach the limit of their source")
	}
	g.stop()
}

// forge sends only the first fragments of many datagrams with the server's address.
func forge(t *testing.T, l *lab.Lab, datagrams int) {
	t.Helper()
	from, to := netip.MustParseAddr(lab.Server4), netip.MustParseAddr(lab.Spare4)
	b := ip4(from, to, packet.NumUDP, udp(9, 5000, 1000))
	err := l.Server.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		for id := range datagrams {
			if err := unix.Sendto(s, fragment4(b, uint16(id+1), 0, 512), 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
