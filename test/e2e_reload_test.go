package test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// reloadFile is a configuration with an address of pool4 and a lifetime that a test changes.
func reloadFile(pool4, udp string) string {
	text := "sessions: { timeouts: { udp: " + udp + " } }\npool4:\n"
	for a := range strings.FieldsSeq(pool4) {
		text += "  - { address: " + a + ", ports: 7000-7999 }\n"
	}
	return text
}

// On SIGHUP, nat64d reads the file again: flows continue with the new settings. An invalid file changes nothing.
func TestReload(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, reloadFile("198.51.100.7", "5m"))
	serveEcho(t, l)
	var conns []net.Conn
	t.Cleanup(func() { closeAll(conns) })
	for i, proto := range []string{"tcp", "udp"} {
		c, err := open(l, proto, 0, service+i)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	alive := func(when string) {
		t.Helper()
		for i, c := range conns {
			if err := exchange(c, uint64(i)); err != nil {
				t.Errorf("flow %d, %s: %v", i, when, err)
			}
		}
	}

	g.rewrite(reloadFile("198.51.100.7 198.51.100.8", "10m"))
	g.hangUp("10m")
	alive("with more addresses")
	if left := g.remaining(service + 1); left < 9*time.Minute {
		t.Errorf("the UDP session, refreshed by a packet, has %v left, want nearly 10m", left)
	}
	if n := g.pool4Addresses(); n != 2 {
		t.Errorf("pool4 has %d addresses, want 2", n)
	}

	for _, c := range []struct{ yaml, want string }{
		{reloadFile("198.51.100.7", "1s"), "udp"},
		{reloadFile("198.51.100.300", "15m"), "198.51.100.300"},
		{reloadFile("198.51.100.7", "15m") + "pool44: []\n", "pool44"},
		{reloadFile("198.51.100.7", "15m") + "interfaces: [\n", "yaml"},
		{reloadFile("198.51.100.7", "15m") + "host: { guard: false }\n", "restart"},
	} {
		checkBadReload(t, g, c.yaml, c.want)
	}
	alive("after reloads that were refused")
	if n := g.pool4Addresses(); n != 2 {
		t.Errorf("pool4 has %d addresses after reloads that were refused, want 2", n)
	}

	g.rewrite(reloadFile("198.51.100.8", "5m"))
	g.must("reload")
	if n := g.sessions(); n != 0 {
		t.Errorf("%d sessions are left although the address that they used is gone", n)
	}
	if c, err := open(l, "tcp", 0, 0); err != nil {
		t.Errorf("a new flow: %v", err)
	} else {
		conns = append(conns, c)
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// checkBadReload makes the daemon read an invalid file, by signal and by nat64ctl, and expects an error.
func checkBadReload(t *testing.T, g *daemon, yaml, want string) {
	t.Helper()
	g.rewrite(yaml)
	before := len(g.log.String())
	g.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the log says what is wrong with "+yaml, func() error {
		if said := g.log.String()[before:]; !strings.Contains(said, "level=ERROR") || !strings.Contains(said, want) {
			return fmt.Errorf("the log is %q", said)
		}
		return nil
	})
	if _, errs, code := g.ctl("reload"); code != 1 || !strings.Contains(errs, want) {
		t.Errorf("nat64ctl reload: exit code %d, want 1, and %q must contain %q", code, errs, want)
	}
	if got := g.value("sessions.timeouts.udp"); got != "10m" {
		t.Errorf("a reload that was refused has set the lifetime of UDP sessions to %s", got)
	}
}

// hangUp sends SIGHUP and waits until the lifetime of UDP sessions has changed.
func (g *daemon) hangUp(udp string) {
	g.t.Helper()
	g.signal(syscall.SIGHUP)
	eventually(g.t, 5*time.Second, "the file is in effect", func() error {
		if got := g.value("sessions.timeouts.udp"); got != udp {
			return errors.New("the lifetime of UDP sessions is " + got)
		}
		return nil
	})
}

// value returns the value of a key of the configuration.
func (g *daemon) value(key string) string {
	g.t.Helper()
	var k control.ConfigKey
	decode(g.t, g.must("config", "get", key, "-o", "json"), &k)
	return k.Value
}

// remaining returns the remaining lifetime of a session from a port of a client.
func (g *daemon) remaining(port uint16) time.Duration {
	g.t.Helper()
	for _, s := range g.listSessions() {
		if s.Client.Port() == port {
			return time.Duration(s.Expires)
		}
	}
	g.t.Fatalf("no session from port %d", port)
	return 0
}

// pool4Addresses returns the number of addresses of pool4 for TCP.
func (g *daemon) pool4Addresses() int {
	g.t.Helper()
	for _, p := range g.status().Protocols {
		if p.Protocol == "tcp" {
			return p.Pool4Addresses
		}
	}
	return 0
}
