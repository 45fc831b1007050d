package test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"nat64d/lab"
)

// Uploads to 200 hosts start simultaneously, each of which needs a Packet Too Big, while nat64d refuses hundreds of
// packets of another address of the same client. No upload waits for a retransmission because an error is missing.
func TestPacketTooBigForManyUploads(t *testing.T) {
	const uploads, size = 200, 20_000
	l := network(t, lab.Options{MTU4: 1400})
	ip(t, l.Server, "route add local 198.51.100.0/24 dev lo")
	ip(t, l.Gateway, "route add 198.51.100.0/24 via "+lab.Server4)
	g := startConfig(t, l, spareFile+"deny_v4: [ 203.0.113.0/24 ]\n")
	listener, err := l.Server.Listen("tcp", "0.0.0.0:9")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go discard(listener)
	ctx := limit(t, 10*time.Second)
	refused, err := l.Client.ListenPacket("udp6", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	for i := range 500 {
		_, _ = refused.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP("64:ff9b::203.0.113.1"), Port: i + 1}) // some are answered with an error
	}
	var group errgroup.Group
	begin := time.Now()
	for i := range uploads {
		group.Go(func() error {
			c, err := l.Client.Dial(ctx, "tcp", fmt.Sprintf("[64:ff9b::c633:64%02x]:9", i+1))
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if _, err := c.Write(make([]byte, size)); err != nil {
				return err
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
			var n uint64
			if err := binary.Read(c, binary.BigEndian, &n); err != nil || n != size {
				return fmt.Errorf("upload %d: the server has %d bytes: %v", i, n, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("the uploads took %v", d)
	}
	if g.dropped("too_big") == 0 || g.dropped("denied4") == 0 {
		t.Errorf("%d packets were too big and %d denied", g.dropped("too_big"), g.dropped("denied4"))
	}
	g.stop()
}

// discard sends the client of each connection the number of bytes received.
func discard(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if n, err := io.Copy(io.Discard, c); err == nil {
				_ = binary.Write(c, binary.BigEndian, uint64(n))
			}
		}()
	}
}
