package test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// pool4 is the machine's own address: the machine's own services and connections live beside it.
func TestPoolOnHostAddress(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, ownPool)
	serveHTTP(t, l)
	echoTCP(t, l.Gateway, lab.Gateway4+":22")
	resets := watchResets(t, l)
	for i := range 20 {
		checkDownload(t, l, 1<<20)
		checkHostService(t, l, uint64(i))
	}
	checkUpload(t, l, 16<<20)
	// The machine is a client of the same server, from the same address.
	if got, err := l.Gateway.Download(limit(t, 20*time.Second), lab.Server4+":80", 1<<20); err != nil || got.Sum != lab.Sum(1<<20) {
		t.Errorf("download by the gateway machine itself: %+v, %v", got, err)
	}
	if n := resets(); n != 0 {
		t.Errorf("the machine answered %d packets with RST", n)
	}
	g.stop()
}

// Without the guard the machine's TCP answers replies to connections that it does not know with RST.
func TestHostAddressNeedsGuard(t *testing.T) {
	l := network(t, lab.Options{})
	startConfig(t, l, "pool4:\n  - { address: 192.0.2.1, ports: 7000-8000 }\nhost: { guard: false }\n")
	serveHTTP(t, l)
	resets := watchResets(t, l)
	if got, err := l.Client.Download(limit(t, 5*time.Second), target+":80", 1<<20); err == nil {
		t.Errorf("a download of %d bytes succeeded without the guard: this lab proves nothing about it", got.Bytes)
	}
	if resets() == 0 {
		t.Error("no RST from the machine was seen without the guard: this lab proves nothing about it")
	}
}

// checkHostService uses a service of the gateway machine itself, from the IPv4 side.
func checkHostService(t *testing.T, l *lab.Lab, number uint64) {
	t.Helper()
	c, err := l.Server.Dial(limit(t, 5*time.Second), "tcp", lab.Gateway4+":22")
	if err != nil {
		t.Errorf("the machine's own service: %v", err)
		return
	}
	defer c.Close()
	if err := exchange(c, number); err != nil {
		t.Errorf("the machine's own service: %v", err)
	}
}

// watchResets listens on the server's wire and returns a function that tells how many RST segments came from the ports
// of ownPool so far. The clients of these tests send none.
func watchResets(t *testing.T, l *lab.Lab) func() int {
	t.Helper()
	var conn *packet.Conn
	err := l.Server.Do(func() error {
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = packet.Listen(nic, packet.Datagram, unix.ETH_P_IP, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return // closed
			}
			if isReset(b[:n]) {
				count.Add(1)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close() // the reader's end
		<-done
	})
	return func() int { return int(count.Load()) }
}

// isReset reports whether an IPv4 packet is an RST from a port of ownPool.
func isReset(b []byte) bool {
	const protocol, source, tcp, rst = 9, 12, 6, 0x04
	if len(b) < 20 || b[protocol] != tcp || net.IP(b[source:source+4]).String() != lab.Gateway4 {
		return false
	}
	segment := b[4*int(b[0]&0x0f):]
	if len(segment) < 14 {
		return false
	}
	port := int(segment[0])<<8 | int(segment[1])
	return port >= 7000 && port <= 8000 && segment[13]&rst != 0
}
