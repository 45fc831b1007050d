//go:build long

package test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// After a flood of a million sessions has ended, the gateway takes at most a fifth more memory than before, whether its state is
// kept or not.
func TestLongMemoryAfterFlood(t *testing.T) {
	const sessions = 1_000_000
	for _, state := range []string{"save: false", "dir: " + stateDir(t)} {
		t.Run(state, func(t *testing.T) {
			l := network(t, lab.Options{})
			ips(t, l.Gateway, "-6 route add "+manyClients+" via "+lab.Client6+" dev "+l.NIC6, "route add 203.0.113.0/24 via "+lab.Server4)
			serveEcho(t, l)
			g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: 198.51.100.0/28 } ]
bib: [ { proto: udp, v4: "198.51.100.1:80", v6: "[%s]:80" } ]
sessions: { port_hold_down: 5s, allow_unsafe_timeouts: true, max_inbound_per_binding: 1000000, max_inbound_per_client: 1000000 }
state: { %s }
`, lab.Client6, state))
			checkEcho := func() {
				t.Helper()
				c, err := l.Client.Dial(t.Context(), "tcp", target+":7")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := exchange(c, 1); err != nil {
					t.Error(err)
				}
			}
			checkEcho()
			_, before := taken(t, g.cmd.Process.Pid)
			fillTables(t, l, g, sessions)
			_, full := taken(t, g.cmd.Process.Pid)
			n := g.sessions()
			for _, key := range []string{"udp", "icmp", "tcp_opening", "tcp_transitory"} {
				g.must("config", "set", "sessions.timeouts."+key, "2s")
			}
			ended := time.Now()
			var after int
			for time.Since(ended) < 40*time.Second {
				time.Sleep(10 * time.Second)
				_, after = taken(t, g.cmd.Process.Pid)
				t.Logf("%v: %d sessions, %d MiB", time.Since(ended).Round(time.Second), g.sessions(), after>>20)
			}
			t.Logf("| %s | %d | %d MiB | %d MiB | %d MiB |", state, n, before>>20, full>>20, after>>20)
			if after > before/5*6 {
				t.Errorf("%d bytes before the flood, %d after it", before, after)
			}
			checkEcho()
			g.stop()
		})
	}
}

// fillTables opens sessions of all kinds until the gateway has that many.
func fillTables(t *testing.T, l *lab.Lab, g *daemon, sessions int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	to6, to4 := netip.MustParseAddr("64:ff9b::203.0.113.1"), netip.MustParseAddr("198.51.100.1")
	from := netip.MustParsePrefix(manyClients).Addr().As16()
	send6 := sender(t, l.Client, l.Gateway, l.NIC6, unix.ETH_P_IPV6)
	send4 := sender(t, l.Server, l.Gateway, l.NIC4, unix.ETH_P_IP)
	var flows atomic.Int64
	running.Go(func() {
		for began := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
			for n := flows.Load(); n < int64(time.Since(began).Seconds()*60_000) && ctx.Err() == nil; n++ {
				flows.Store(n + 1)
				binary.BigEndian.PutUint64(from[8:], uint64(n))
				client := netip.AddrFrom16(from)
				switch n % 8 {
				case 0, 1, 2:
					send6(forgedIP(client, to6, unix.IPPROTO_UDP, forgedUDP(5000, 9)))
				case 3, 4, 5:
					send6(forgedIP(client, to6, unix.IPPROTO_TCP, forgedSYN(5000, 9)))
				case 6:
					send6(forgedIP(client, to6, unix.IPPROTO_ICMPV6, forgedEcho(128, uint16(n))))
				case 7:
					source := netip.AddrFrom4([4]byte{198, 18, byte(n >> 16), byte(n >> 8)})
					send4(forgedIP(source, to4, unix.IPPROTO_UDP, forgedUDP(uint16(n>>3)|1024, 80)))
				}
			}
		}
	})
	eventually(t, 2*time.Minute, "the tables are full", func() error {
		if n := g.sessions(); n < sessions {
			return fmt.Errorf("%d sessions after %d packets", n, flows.Load())
		}
		return nil
	})
}
