//go:build linux

package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"nat64d/lab"
)

// A TCP connection survives a stop and a start: the guard stays in between, so the machine does not reset it.
func TestHandoverKeepsConnections(t *testing.T) {
	l := network(t, lab.Options{})
	state, err := os.MkdirTemp("/dev/shm", "nat64d-handover")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	yaml := fmt.Sprintf("pool4: [ { address: %s, ports: 7000-8000 } ]\nstate: { dir: %s }\n", lab.Gateway4, state)
	ln, err := l.Server.Listen("tcp4", lab.Server4+":4242")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	first := startConfig(t, l, yaml, "--handover", "30s")
	c, err := l.Client.Dial(t.Context(), "tcp6", net.JoinHostPort(lab.Server4As6, "4242"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	first.stop()
	for _, conn := range []net.Conn{s, c} { // the kernels repeat these until the next process translates them
		if _, err := io.WriteString(conn, "sent during the gap"); err != nil {
			t.Fatal(err)
		}
	}
	second := startConfig(t, l, yaml, "--handover", "30s")
	for _, conn := range []net.Conn{s, c} {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, make([]byte, len("sent during the gap"))); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
	}
	second.stop()
	if n := len(tables(t, l)); n == 0 {
		t.Error("the guard does not stay after a stop with --handover")
	}
}
