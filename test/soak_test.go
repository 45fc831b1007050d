package test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/lab"
	"nat64d/ops/control"
)

// The sessions that TestSoak makes in a second with SOAK in the environment, and without, where others need the processors.
const (
	soakRate      = 16_000
	soakRateShort = 2_000
)

// TestSoak makes and ends sessions of all protocols. After a warm-up, the memory, the descriptors and the goroutines of the
// gateway stay as they are. When the traffic has ended, no session and no port is left, and the counters of each direction add up
// exactly. SOAK is the duration.
func TestSoak(t *testing.T) {
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK"), "60s"))
	if err != nil {
		t.Fatal(err)
	}
	rate := soakRateShort
	if os.Getenv("SOAK") != "" {
		rate = soakRate
	}
	l := network(t, lab.Options{})
	ips(t, l.Gateway, "-6 route add "+manyClients+" via "+lab.Client6+" dev "+l.NIC6, "route add 203.0.113.0/24 via "+lab.Server4)
	serveEcho(t, l)
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: 198.51.100.0/28 } ]
state: { dir: %s }
sessions:
  allow_unsafe_timeouts: true
  port_hold_down: 1s
  timeouts: { udp: 2s, udp_dns: 1s, icmp: 2s, tcp_opening: 2s, tcp_transitory: 2s }
`, stateDir(t)))
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var running sync.WaitGroup
	forged := forgeSessions(ctx, t, l, &running, rate)
	var real, failed atomic.Int64
	running.Go(func() { realSessions(ctx, l, &real, &failed) })
	var samples []usage
	for tick := time.Tick(lasts / 40); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick:
			samples = append(samples, usageOf(t, g))
		}
	}
	running.Wait()
	made := checkQuiet(t, g)
	checkUsage(t, samples[len(samples)/3:])
	t.Logf("%d sessions forwarded of %d forged, %d real ones, %d of these failed; %+v after the warm-up, %+v at the end",
		made, forged.Load(), real.Load(), failed.Load(), samples[len(samples)/3], samples[len(samples)-1])
	if made < uint64(forged.Load())/10*9 || real.Load() == 0 || failed.Load() > real.Load()/20 {
		t.Error("the gateway has lost more than a tenth of the sessions")
	}
	g.stop()
}

// forgeSessions opens one session in each packet, with UDP, TCP or ICMP, and counts them. The server drops what it gets.
func forgeSessions(ctx context.Context, t *testing.T, l *lab.Lab, running *sync.WaitGroup, rate int) (made *atomic.Int64) {
	t.Helper()
	made = new(atomic.Int64)
	send := sender(t, l.Client, l.Gateway, l.NIC6, unix.ETH_P_IPV6)
	from, to := netip.MustParsePrefix(manyClients).Addr().As16(), netip.MustParseAddr("64:ff9b::203.0.113.1")
	running.Go(func() {
		for began := time.Now(); ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			for n := made.Load(); n < int64(time.Since(began).Seconds()*float64(rate)); n++ {
				binary.BigEndian.PutUint64(from[8:], uint64(n))
				client := netip.AddrFrom16(from)
				switch n % 3 {
				case 0:
					send(forgedIP(client, to, unix.IPPROTO_UDP, forgedUDP(5000, 9)))
				case 1:
					send(forgedIP(client, to, unix.IPPROTO_TCP, forgedSYN(5000, 9)))
				case 2:
					send(forgedIP(client, to, unix.IPPROTO_ICMPV6, forgedEcho(128, uint16(n))))
				}
				made.Store(n + 1)
			}
		}
	})
	return made
}

// realSessions opens TCP connections, and UDP flows with and without fragments, one after the other, and has the server echo
// through each.
func realSessions(ctx context.Context, l *lab.Lab, made, failed *atomic.Int64) {
	for n := 0; ctx.Err() == nil; n++ {
		network, size := []string{"tcp", "udp", "udp"}[n%3], []int{8, 8, 3000}[n%3]
		if err := echoOnce(ctx, l, network, size); err != nil && ctx.Err() == nil {
			failed.Add(1)
		}
		made.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
}

func echoOnce(ctx context.Context, l *lab.Lab, network string, size int) error {
	c, err := l.Client.Dial(ctx, network, target+":7")
	if err != nil {
		return err
	}
	defer c.Close()
	out, in := bytes.Repeat([]byte{7}, size), make([]byte, size)
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(out); err != nil {
		return err
	}
	n, err := c.Read(in)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d are echoed", n, size)
	}
	return err
}

// usage is what a process takes.
type usage struct{ memory, files, goroutines, threads int }

func usageOf(t *testing.T, g *daemon) (u usage) {
	t.Helper()
	u.files, u.memory = taken(t, g.cmd.Process.Pid)
	u.goroutines = g.status().Goroutines
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	u.threads = len(threads)
	return u
}

// checkUsage compares the medians of the first and the last third of the samples. Some goroutines and descriptors belong to
// requests, such as the one for the status.
func checkUsage(t *testing.T, all []usage) {
	t.Helper()
	third := len(all) / 3
	for _, x := range []struct {
		what  string
		of    func(usage) int
		slack int
	}{
		{"bytes of memory", func(u usage) int { return u.memory }, 8 << 20},
		{"descriptors", func(u usage) int { return u.files }, 2},
		{"goroutines", func(u usage) int { return u.goroutines }, 4},
		{"threads", func(u usage) int { return u.threads }, 4},
	} {
		first, last := median(all[:third], x.of), median(all[len(all)-third:], x.of)
		if last > first+x.slack {
			t.Errorf("%d %s after the warm-up, %d at the end", first, x.what, last)
		}
	}
}

func median(all []usage, of func(usage) int) int {
	values := make([]int, len(all))
	for i, u := range all {
		values[i] = of(u)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// checkQuiet waits until all sessions have ended and the counters of each direction add up, which they do when no packet is under
// way. It returns the number of frames that were forwarded from IPv6.
func checkQuiet(t *testing.T, g *daemon) (forwarded uint64) {
	t.Helper()
	eventually(t, 30*time.Second, "sessions and ports are free, and the counters add up", func() error {
		arrived, sum := map[string]uint64{}, map[string]uint64{}
		left := uint64(0)
		var all []control.Counter
		decode(t, g.must("stats", "--all", "-o", "json"), &all)
		for _, c := range all {
			switch direction := c.Labels["direction"]; c.Name {
			case "nat64_arrived_frames_total":
				arrived[direction] = c.Value
			case "nat64_forwarded_frames_total":
				if direction == "6to4" {
					forwarded = c.Value
				}
				sum[direction] += c.Value
			case "nat64_host_packets_total", "nat64_waiting_frames":
				sum[direction] += c.Value
			case "nat64_dropped_packets_total":
				if c.Labels["reason"] != drop.Transmit.String() { // of forwarded ones
					sum[direction] += c.Value
				}
			case "nat64_sessions", "nat64_bib_entries", "nat64_pool4_ports_used":
				left += c.Value
			}
		}
		if left != 0 || len(arrived) == 0 || !maps.Equal(arrived, sum) {
			return fmt.Errorf("%d sessions, bindings and ports are left; %v frames have arrived, %v are accounted for", left, arrived, sum)
		}
		return nil
	})
	return forwarded
}
