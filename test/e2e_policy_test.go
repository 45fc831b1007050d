package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// An address of the server without a route in the gateway's main tables, and its IPv6 form.
const (
	ruledServer4 = "198.51.100.9"
	ruledTarget  = "64:ff9b::c633:6409"
	mappedSpare  = "192.0.2.64" // the address of sparePool
)

// echoes waits until the client's datagrams to port 7 of a target are answered, or are not.
func echoes(t *testing.T, l *lab.Lab, target, after string, want bool) {
	t.Helper()
	c, err := l.Client.Dial(t.Context(), "udp", net.JoinHostPort(target, "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, 5*time.Second, fmt.Sprintf("%s: datagrams are answered: %v", after, want), func() error {
		if got := answered(c, 100*time.Millisecond); got != want {
			return fmt.Errorf("answered: %v", got)
		}
		return nil
	})
}

// answered reports whether data written to c comes back within a time. It ignores errors that ICMP has caused.
func answered(c net.Conn, d time.Duration) bool {
	_ = c.SetDeadline(time.Now().Add(d))
	b := make([]byte, 8)
	if _, err := c.Write(b); err != nil {
		_, _ = c.Write(b) // the first call may only return a previous error
	}
	for {
		_, err := c.Read(b)
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return err == nil
		}
	}
}

// Rules for the source of the translated packet, and for ports, apply in both directions. A rule without matching
// packets has no effect.
func TestPolicyRoutingByTranslatedSource(t *testing.T) {
	l := network(t, lab.Options{})
	ip(t, l.Server, "addr add "+ruledServer4+"/32 dev lo")
	echoUDP(listenUDP(t, l.Server, ruledServer4+":7"))
	g := startConfig(t, l, spareFile)
	works := func(after string) { t.Helper(); echoes(t, l, ruledTarget, after, true) }
	fails := func(after string) { t.Helper(); echoes(t, l, ruledTarget, after, false) }
	change := func(command string) string { t.Helper(); ip(t, l.Gateway, command); return command }
	change("route add unreachable " + ruledServer4)
	change("-6 route add unreachable " + lab.Client6 + "/128")
	change("route add " + ruledServer4 + " via " + lab.Server4 + " table 100")
	change("-6 route add " + lab.Client6 + "/128 dev " + l.NIC6 + " table 101")
	change("rule add fwmark 0x80000/0xff0000 lookup 100")
	change("-6 rule add fwmark 0x80000/0xff0000 lookup 101")
	fails(change("rule add from " + mappedSpare + " lookup 100"))
	works(change("-6 rule add from 64:ff9b::/96 lookup 101"))
	fails(change("rule del from " + mappedSpare + " lookup 100"))
	fails(change("rule add from " + mappedSpare + " iif " + l.NIC4 + " lookup 100"))
	works(change("rule add iif " + l.NIC6 + " ipproto udp dport 7 lookup 100"))
	works(change("-6 rule add pref 50 from " + ruledTarget + " ipproto udp sport 8 prohibit"))
	fails(change("-6 rule add pref 50 from " + ruledTarget + " ipproto udp sport 7 prohibit"))
	g.stop()
}

// Running flows lose nothing while a route that they do not use is added and deleted, with any rules. Packets to new
// destinations do not wait for each other.
func TestFlappingRouteUnderPolicyRules(t *testing.T) {
	l := network(t, lab.Options{})
	ip(t, l.Server, "route add local 198.18.0.0/16 dev lo")
	ip(t, l.Gateway, "route add 198.18.0.0/16 via "+lab.Server4+" table 100")
	ip(t, l.Gateway, "rule add from "+mappedSpare+" to 198.18.0.0/16 lookup 100")
	ip(t, l.Gateway, "rule add fwmark 0x80000/0xff0000 lookup main")
	ears := listenUDP(t, l.Server, "0.0.0.0:9")
	g := startConfig(t, l, spareFile)
	got := make(chan string, 4096)
	go func() {
		b := make([]byte, 64)
		for {
			n, _, err := ears.ReadFrom(b)
			if err != nil {
				return // closed
			}
			got <- string(b[:n])
		}
	}()
	p := listenUDP(t, l.Client, "[::]:0")
	eventually(t, 5*time.Second, "a datagram arrives", func() error {
		select {
		case <-got:
			return nil
		default:
			sendTo(t, p, "[64:ff9b::c612:1]:9")
			return fmt.Errorf("none has")
		}
	})
	stop, flapped := make(chan struct{}), make(chan error, 1)
	go func() { flapped <- flap(t, l, stop) }()
	seen, sent := map[string]bool{}, 0
	pace := time.NewTicker(400 * time.Microsecond) // so that no socket buffer overflows
	defer pace.Stop()
	for ; sent < 1500; sent++ { // every second datagram is the first to its destination
		<-pace.C
		to, err := net.ResolveUDPAddr("udp", fmt.Sprintf("[64:ff9b::c612:%x]:9", 1+sent%2*sent))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteTo(fmt.Appendf(nil, "datagram %d", sent), to); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-flapped; err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "all datagrams have arrived", func() error {
		for len(got) > 0 {
			seen[<-got] = true
		}
		if len(seen) < sent {
			return fmt.Errorf("%d of %d have", len(seen), sent)
		}
		return nil
	})
	g.stop()
}

// flap adds and deletes a route of the gateway until stop is closed.
func flap(t *testing.T, l *lab.Lab, stop <-chan struct{}) error {
	batch := write(t, t.TempDir(), "route add 203.0.113.0/24 dev "+l.NIC4+"\nroute del 203.0.113.0/24\n")
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := l.Gateway.Output(t.Context(), "ip", "-batch", batch); err != nil {
			return err
		}
	}
}

// nat64d refuses packets that an IPsec policy of the gateway covers, with an ICMP error, in both directions, as soon
// as the policy exists. It never sends them unencrypted.
func TestIPsecPoliciesAreEnforced(t *testing.T) {
	l := network(t, lab.Options{})
	echoTCP(t, l.Server, lab.Server4+":7")
	g := startConfig(t, l, spareFile)
	echoUDP(listenUDP(t, l.Server, lab.Server4+":7"))
	const esp = " dir out tmpl proto esp mode transport"
	for _, policy := range []string{"src " + mappedSpare + " dst " + lab.Server4, "src 64:ff9b::/96 dst " + lab.Client6 + "/128"} {
		echoes(t, l, lab.Server4As6, "before "+policy, true)
		c, err := l.Client.Dial(limit(t, 5*time.Second), "tcp", net.JoinHostPort(lab.Server4As6, "7"))
		if err != nil {
			t.Fatal(err)
		}
		before := g.dropped("ipsec")
		ip(t, l.Gateway, "xfrm policy add "+policy+esp)
		echoes(t, l, lab.Server4As6, policy, false)
		if answered(c, 100*time.Millisecond) {
			t.Errorf("%s: an existing connection continues unencrypted", policy)
		}
		c.Close()
		if g.dropped("ipsec") == before {
			t.Errorf("%s: no packet is counted as refused", policy)
		}
		if strings.Contains(policy, mappedSpare) {
			out, _ := l.Client.Output(limit(t, 5*time.Second), "ping", "-n", "-c", "1", "-W", "1", lab.Server4As6)
			if !strings.Contains(out, "prohibited") {
				t.Errorf("the client received no administratively prohibited error:\n%s", out)
			}
		}
		ip(t, l.Gateway, "xfrm policy flush")
	}
	echoes(t, l, lab.Server4As6, "after all", true)
	if log := g.log.String(); strings.Count(log, "IPsec policies") != 2 {
		t.Errorf("the log does not mention each period with policies exactly once:\n%s", log)
	}
	g.stop()
}
