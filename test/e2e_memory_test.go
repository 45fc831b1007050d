package test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// manyClients is a network of which openFlows uses an address for each flow. The gateway routes it to the client.
const manyClients = "2001:db8:8000::/33"

// openFlows sends a datagram from another client in each packet, at a rate a second, until ctx is done, and counts them.
func openFlows(ctx context.Context, t *testing.T, l *lab.Lab, running *sync.WaitGroup, rate int) (opened *atomic.Int64) {
	t.Helper()
	opened = new(atomic.Int64)
	send := sender(t, l.Client, l.Gateway, l.NIC6, unix.ETH_P_IPV6)
	from, to := netip.MustParsePrefix(manyClients).Addr().As16(), netip.MustParseAddr(lab.Server4As6)
	running.Go(func() {
		for began := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
			for n := opened.Load(); n < int64(time.Since(began).Seconds()*float64(rate)) && ctx.Err() == nil; n++ {
				binary.BigEndian.PutUint64(from[8:], uint64(n))
				send(forgedIP(netip.AddrFrom16(from), to, unix.IPPROTO_UDP, forgedUDP(5000, 9)))
				opened.Store(n + 1)
			}
		}
	})
	return opened
}

// A flood makes memory scarce: the gateway refuses new flows without using more than memory_limit, and established ones
// continue. When flows have ended, it admits others.
func TestMemoryLimit(t *testing.T) {
	l := network(t, lab.Options{})
	ips(t, l.Gateway, "-6 route add "+manyClients+" via "+lab.Client6+" dev "+l.NIC6)
	serveEcho(t, l)
	listenUDP(t, l.Server, lab.Server4+":9") // otherwise the server answers with ICMP errors
	g := startConfig(t, l, fmt.Sprintf("state: { dir: %s }\npool4: [ { address: 198.51.100.0/28 } ]\nsessions: { port_hold_down: 0s, allow_unsafe_timeouts: true }\n", stateDir(t)))
	m := g.status().Memory
	if !m.Auto || m.Scarce || m.Sessions != m.MaxSessions || m.Limit <= m.Used {
		t.Errorf("without a limit: %+v", m)
	}
	limit := m.Used + 24<<20
	g.must("config", "set", "memory_limit", fmt.Sprint(limit))
	if m := g.status().Memory; m.Limit != limit || m.Auto || m.Scarce || m.Sessions < 10_000 || m.Sessions > 200_000 {
		t.Errorf("with a limit: %+v", m)
	}
	var flows [2]net.Conn
	for i, network := range []string{"tcp", "udp"} {
		c, err := l.Client.Dial(t.Context(), network, target+":7")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		flows[i] = c
	}
	echo := func() error { return errors.Join(exchange(flows[0], 1), exchange(flows[1], 2)) }
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	flooding, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	openFlows(flooding, t, l, &running, 60_000)
	eventually(t, time.Minute, "flows are refused for lack of memory", func() error {
		if n := g.dropped("memory_limit"); n < 10_000 {
			return fmt.Errorf("%d refused, %+v", n, g.status().Memory)
		}
		return echo()
	})
	m = g.status().Memory
	stop()
	running.Wait()
	t.Logf("%d sessions, %+v", g.sessions(), m)
	if _, used := taken(t, g.cmd.Process.Pid); int64(used) > limit || m.Used > limit || !m.Scarce {
		t.Errorf("%d bytes in use, %+v", used, m)
	}
	if out := g.must("status"); !strings.Contains(out, "SCARCE") {
		t.Errorf("the status does not show that memory is scarce:\n%s", out)
	}
	g.must("config", "set", "sessions.timeouts.udp", "1s")
	eventually(t, time.Minute, "flows are admitted", func() error {
		c, err := l.Client.Dial(t.Context(), "tcp", target+":7")
		if err != nil {
			return err
		}
		defer c.Close()
		return exchange(c, 3)
	})
	g.must("config", "set", "memory_limit", "auto")
	eventually(t, time.Minute, "memory is no longer scarce", func() error {
		if m := g.status().Memory; m.Scarce {
			return fmt.Errorf("%+v", m)
		}
		return exchange(flows[0], 4)
	})
	g.stop()
}
