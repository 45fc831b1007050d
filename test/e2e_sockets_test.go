package test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// nat64d reports a connection of the machine from a port of pool4 and does not interrupt it, at the start and at each
// change. It warns about a conflict that is forced, or that appears later.
func TestConnectionsOfTheMachine(t *testing.T) {
	l := network(t, lab.Options{})
	echoTCP(t, l.Server, lab.Server4+":5000")
	own, err := l.Gateway.DialFrom(limit(t, 5*time.Second), net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(lab.Gateway4 + ":7123")),
	}, "tcp", lab.Server4+":5000")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	works := func(when string, number uint64) {
		t.Helper()
		if err := exchange(own, number); err != nil {
			t.Errorf("%s: the machine's own connection: %v", when, err)
		}
	}
	works("before", 1)
	refused := launch(t, l, socketPath(t), "--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", ownPool)
	if code := refused.wait(); code != 1 || !strings.Contains(refused.log.String(), "port 7123") {
		t.Errorf("at the start: exit code %d, %s", code, refused.log.String())
	}
	works("after the refusal to start", 2)

	const pool = "pool4:\n  - { address: 192.0.2.1, ports: %s }\n"
	g := startConfig(t, l, fmt.Sprintf(pool, "7500-8000"))
	g.rewrite(fmt.Sprintf(pool, "7000-8000"))
	for _, args := range [][]string{
		{"pool4", "add", lab.Gateway4, "7100-7200", "--tcp"},
		{"bib", "add", "tcp", lab.Gateway4 + ":7123", reach6(service)},
		{"reload"},
	} {
		want := fmt.Sprintf("has a connection from %s port 7123 of this host to %s port 5000", lab.Gateway4, lab.Server4)
		if _, errs, code := g.ctl(args...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("nat64ctl %v: exit code %d, %s, want %q", args, code, errs, want)
		}
	}
	works("after refused changes", 3)
	g.must("pool4", "add", lab.Gateway4, "7100-7200", "--tcp", "--force")
	g.warned("port 7123 of this host")

	echoTCP(t, l.Gateway, lab.Gateway4+":7600")
	g.must("pool4", "add", lab.Gateway4, "7300") // triggers a check immediately
	g.warned("listens on 192.0.2.1 port 7600 of this host")
	g.stop()
}

// warned waits until the log and the status contain a warning.
func (g *daemon) warned(of string) {
	g.t.Helper()
	eventually(g.t, recoverWithin, "a warning of "+of, func() error {
		warnings := strings.Join(g.status().Warnings, "\n")
		if !strings.Contains(warnings, of) || !strings.Contains(g.log.String(), of) {
			return errors.New(warnings)
		}
		return nil
	})
}
