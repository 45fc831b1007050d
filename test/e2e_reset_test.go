package test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// After the loss of all sessions, open connections hang by default. With sessions.reset_unknown_tcp the next segment of a client
// is answered with a reset that its kernel accepts, so that it connects again at once. IPv4 hosts get no reset.
func TestLostConnectionIsReset(t *testing.T) {
	l := network(t, lab.Options{})
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", stateDir(t))
	serveEcho(t, l)
	first := start(t, l, sparePool)
	client, server := dialTo(t, l.Client, target+":80", l.Server, lab.Server4+":80")
	first.signal(syscall.SIGKILL)
	first.wait()
	second := start(t, l, sparePool, "--fresh")

	for _, end := range []net.Conn{client, server} {
		if _, err := end.Write([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
	}
	if err := readWithin(t, client, 400*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) { // longer than a retransmission timeout
		t.Errorf("by default, the client reads %v, want a timeout", err)
	}
	second.must("config", "set", "sessions.reset_unknown_tcp", "true")
	if err := readWithin(t, client, 5*time.Second); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %v, want ECONNRESET", err)
	}
	if n := second.counter("nat64_tcp_resets_sent_total"); n != 1 {
		t.Errorf("%d resets were sent, want 1", n)
	}
	again, err := open(l, "tcp", 0, 0)
	if err != nil {
		t.Fatalf("cannot connect again: %v", err)
	}
	closeAll([]net.Conn{again})
	// By now the IPv4 host has repeated its segment, too.
	if err := readWithin(t, server, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the IPv4 host reads %v, want a timeout", err)
	}
	second.stop()
}

// readWithin returns the error of a read that takes at most d.
func readWithin(t *testing.T, c net.Conn, d time.Duration) error {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 64))
	return err
}
