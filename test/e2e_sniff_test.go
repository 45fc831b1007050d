package test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"nat64d/lab"
)

// sniff captures packets of one family on an interface with a filter, so that other traffic cannot fill the socket's
// buffer. The returned function stops and returns the packets, starting with the IP header.
func sniff(t *testing.T, n *lab.Namespace, nic string, etherType int, only []bpf.Instruction) func() [][]byte {
	t.Helper()
	filter, err := bpf.Assemble(only)
	if err != nil {
		t.Fatal(err)
	}
	var conn *packet.Conn
	err = n.Do(func() error {
		i, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(i, packet.Datagram, etherType, &packet.Config{Filter: filter})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func() (all [][]byte) {
		t.Helper()
		defer conn.Close()
		// Packets that have arrived wait in the socket; the last one may still be in flight.
		if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 1<<16); ; {
			n, _, err := conn.ReadFrom(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, append([]byte(nil), b[:n]...))
		}
	}
}
