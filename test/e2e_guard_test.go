package test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// busy are TCP connections through the gateway, each of which continuously exchanges messages.
type busy struct {
	conns    []net.Conn
	stop     atomic.Bool
	messages atomic.Int64
	wait     sync.WaitGroup
	mu       sync.Mutex
	errs     []error
}

// makeBusy opens n connections to the echo server and starts to exchange messages.
func makeBusy(t *testing.T, l *lab.Lab, n int) *busy {
	t.Helper()
	b := &busy{}
	t.Cleanup(func() { b.stop.Store(true); closeAll(b.conns) })
	for i := range n {
		c, err := open(l, "tcp", 0, service+i)
		if err != nil {
			t.Fatal(err)
		}
		b.conns = append(b.conns, c)
	}
	for i, c := range b.conns {
		b.wait.Go(func() {
			for k := uint64(0); !b.stop.Load(); k++ {
				if err := exchange(c, uint64(i)<<32|k); err != nil {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.errs = append(b.errs, fmt.Errorf("connection %d after %d messages: %w", i, k, err))
					return
				}
				b.messages.Add(1)
			}
		})
	}
	return b
}

// end ends the exchange and fails the test for each lost connection, and for each RST sent by the gateway's kernel.
func (b *busy) end(t *testing.T, l *lab.Lab, before lab.Counters) {
	t.Helper()
	b.stop.Store(true)
	b.wait.Wait()
	if len(b.errs) > 0 {
		t.Errorf("%d of %d connections were lost, the first: %v", len(b.errs), len(b.conns), b.errs[0])
	}
	if n := counters(t, l.Gateway).Since(before)["Tcp.OutRsts"]; n != 0 {
		t.Errorf("the gateway's kernel has sent %d RST", n)
	}
	t.Logf("%d connections, %d messages", len(b.conns), b.messages.Load())
}

// change makes the i-th change to a running gateway, of another kind each time. After an even number of rounds the
// original state is restored.
func (g *daemon) change(i int) {
	g.t.Helper()
	verb, on := "add", "10"
	if i/5%2 == 1 {
		verb, on = "remove", "11"
	}
	switch i % 5 {
	case 0:
		g.must("pool4", verb, lab.Gateway4, "20000-21000")
	case 1:
		mapped := []string{lab.Gateway4 + ":300-350"}
		if verb == "add" {
			mapped = append(mapped, "["+lab.Client6+"]:300-350")
		}
		g.must(append([]string{"bib", verb, "tcp"}, mapped...)...)
	case 2:
		g.must("pool6", "add", "2001:db8:77::/96") // a reload reverts it
		g.must("pool6", "remove", "2001:db8:77::/96")
	case 3:
		g.must("config", "set", "sessions.max_per_client", "50"+on)
	case 4:
		g.must("reload")
	}
}

// guardedFile uses the machine's own address for pool4.
const guardedFile = "pool4:\n  - { address: " + lab.Gateway4 + ", ports: 7000-8000 }\n"

// Changes and reloads do not reset connections through the machine's own address, nor does the deletion of the
// guard's table or of the rules in its chains.
func TestGuardUnderLoad(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, guardedFile)
	serveEcho(t, l)
	before := counters(t, l.Gateway)
	b := makeBusy(t, l, 50)
	for i := range 20 {
		g.change(i)
	}
	if n := g.repairs(); n != 0 {
		t.Errorf("%d repairs although only nat64d has changed the table", n)
	}
	for n, damage := range []string{"flush ruleset", "delete table netdev nat64d", "flush chain netdev nat64d ingress4", "flush set netdev nat64d pool4", "flush ruleset"} {
		if _, err := l.Gateway.Output(t.Context(), "nft", damage); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Second, "the guard is repaired after nft "+damage, func() error {
			if got := g.repairs(); got != uint64(n+1) {
				return fmt.Errorf("%d repairs, want %d", got, n+1)
			}
			return nil
		})
	}
	b.end(t, l, before)
	if w := strings.Join(g.status().Warnings, "\n"); !strings.Contains(w, "restored 5 times") {
		t.Errorf("the status does not report the repairs: %s", w)
	}
	if !strings.Contains(g.log.String(), "restored") {
		t.Error("the log does not report the repairs")
	}
	g.stop()
}

// repairs returns how often the guard was repaired.
func (g *daemon) repairs() uint64 {
	g.t.Helper()
	var all []control.Counter
	decode(g.t, g.must("stats", "--all", "-o", "json"), &all)
	for _, c := range all {
		if c.Name == "nat64_guard_repairs_total" {
			return c.Value
		}
	}
	g.t.Fatal("no counter guard_repairs")
	return 0
}

// Only the client answers a ping with the Identifier of a static binding, also on the machine's own address.
func TestStaticPingOnHostAddress(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, guardedFile+"bib:\n  - { proto: icmp, v4: \""+lab.Gateway4+":777-779\", v6: \"["+lab.Client6+"]:777-779\" }\n")
	if err := pingTwice(t, l.Server, lab.Gateway4, 778, 1, 56); err != nil { // the first one may be lost while a neighbour is resolved
		t.Fatal(err)
	}
	sequence := uint16(1)
	answered := func(identifier uint16, host, client uint64) {
		t.Helper()
		gateway, client6 := counters(t, l.Gateway), counters(t, l.Client)
		sequence++
		if _, err := l.Server.PingAs(limit(t, 5*time.Second), lab.Gateway4, identifier, sequence, 56); err != nil {
			t.Errorf("Identifier %d: %v", identifier, err)
		}
		h := counters(t, l.Gateway).Since(gateway)["Icmp.InEchos"]
		c := counters(t, l.Client).Since(client6)["Icmp6InEchos"]
		if h != host || c != client {
			t.Errorf("Identifier %d: the machine has seen %d requests and the client %d, want %d and %d", identifier, h, c, host, client)
		}
	}
	for _, bound := range []uint16{777, 778, 779} {
		answered(bound, 0, 1)
	}
	answered(776, 1, 0)
	answered(780, 1, 0)
	g.must("bib", "remove", "icmp", lab.Gateway4+":777-779")
	answered(778, 1, 0)
	g.must("bib", "add", "icmp", lab.Gateway4+":900", "["+lab.Client6+"]:901")
	answered(900, 0, 1)
	answered(901, 1, 0)
}

// Without the sysctl, as in a container with a read-only /proc/sys, the daemon warns and forwards packets.
func TestReadOnlySysctl(t *testing.T) {
	l := network(t, lab.Options{})
	p := binaries(t)
	socket := socketPath(t)
	file := write(t, t.TempDir(), configHead(l, socket)+guardedFile)
	script := "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec " + p.nat64d + " -c " + file
	g := launchAs(t, l, "unshare", socket, "-m", "sh", "-c", script)
	g.ready()
	serveEcho(t, l)
	c, err := open(l, "tcp", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if w := strings.Join(g.status().Warnings, "\n"); !strings.Contains(w, "read-only") {
		t.Errorf("no warning about the sysctl: %s", w)
	}
	if log := g.log.String(); strings.Contains(log, "nftables table") {
		t.Errorf("the guard changes its own table again and again: %s", log)
	}
	g.stop()
}

// nat64d warns of NAT rules of the host that may use ports of pool4, at the start and when they are added later.
func TestMasqueradingOntoPool4(t *testing.T) {
	l := network(t, lab.Options{})
	nft(t, l.Gateway, "table ip nat {\nchain early {\ntype nat hook postrouting priority 100\nmasquerade\n}\n}\n")
	g := startConfig(t, l, guardedFile)
	warned := func(chain string) error {
		w := strings.Join(g.status().Warnings, "\n")
		if !strings.Contains(w, chain) || !strings.Contains(w, "7000-8000") || !strings.Contains(g.log.String(), chain) {
			return errors.New(w)
		}
		return nil
	}
	if err := warned("chain ip nat early"); err != nil {
		t.Errorf("no warning at the start: %v", err)
	}
	nft(t, l.Gateway, "table inet later {\nchain src {\ntype nat hook postrouting priority 100\noifname \""+l.NIC4+"\" masquerade\n}\n}\n")
	eventually(t, 10*time.Second, "a warning of the rule that came later", func() error { return warned("chain inet later src") })
}
