//go:build linux

package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/packet"
	"nat64d/pool4"
)

// Consecutive addresses with the same ports are one row. The rows beyond a limit are one.
func TestPoolUsesJoinsAddresses(t *testing.T) {
	t.Parallel()
	var entries []pool4.Usage
	add := func(p packet.Proto, addr string, lo, hi uint16) {
		entries = append(entries, pool4.Usage{Entry: pool4.Entry{Proto: p, Addr: netip.MustParseAddr(addr), Lo: lo, Hi: hi}, Used: 3, Held: 1})
	}
	add(packet.TCP, "192.0.2.1", 7000, 7099)
	add(packet.TCP, "192.0.2.1", 8000, 8099)
	add(packet.TCP, "192.0.2.2", 7000, 7099)
	add(packet.TCP, "192.0.2.4", 7000, 7099)
	add(packet.UDP, "192.0.2.5", 7000, 7099)
	var got []string
	for _, u := range poolUses(entries) {
		got = append(got, fmt.Sprint(u.proto, " ", u.name(), " ", u.ports, u.used, u.held))
	}
	want := []string{
		"tcp 192.0.2.1-192.0.2.2:7000-7099 200 6 2", "tcp 192.0.2.4:7000-7099 100 3 1", "tcp 192.0.2.1:8000-8099 100 3 1", "udp 192.0.2.5:7000-7099 100 3 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the rows are %q, want %q", got, want)
	}
	entries = nil
	for i := range uint16(maxPools + 5) {
		add(packet.ICMP, "192.0.2.1", 2*i, 2*i)
	}
	add(packet.UDP, "192.0.2.1", 1, 1)
	uses := poolUses(entries)
	if n := len(uses); n != maxPools+2 {
		t.Fatalf("%d rows, want %d", n, maxPools+2)
	}
	udp, other := &uses[0], &uses[len(uses)-1]
	if other.name() != "other" || other.used != 5*3 || udp.name() != "192.0.2.1:1-1" {
		t.Errorf("%d ports of the row %s are in use; the row of UDP is %s", other.used, other.name(), udp.name())
	}
}

// The share of a processor is that since the reading before, unless that is very recent.
func TestBusyRatio(t *testing.T) {
	t.Parallel()
	var b busy
	start := time.Now()
	at := func(seconds, used float64) float64 {
		now := start.Add(time.Duration(seconds * float64(time.Second)))
		return b.look(now, start, map[string]time.Duration{"v6/0": time.Duration(used * float64(time.Second))})["v6/0"]
	}
	for i, c := range []struct{ seconds, used, want float64 }{
		{10, 1, 0.1}, {10.1, 1.1, 0.1}, {20, 6, 0.5}, {30, 16.5, 1}, {40, 2, 0},
	} {
		if got := at(c.seconds, c.used); got != c.want {
			t.Errorf("reading %d: the share is %v, want %v", i, got, c.want)
		}
	}
}

// The processor time of a thread grows while it works.
func TestThreadTime(t *testing.T) {
	t.Parallel()
	before, err := threadTime(unix.Gettid())
	if err != nil {
		t.Fatal(err)
	}
	if before < 0 || before > time.Hour {
		t.Errorf("the thread has used %v", before)
	}
	if _, err := threadTime(1 << 22); err == nil {
		t.Error("a thread that does not exist has a processor time")
	}
}

// A value is found out again when that takes less than 1 % of the time.
func TestMeasuredBoundsItsCost(t *testing.T) {
	t.Parallel()
	var m measured[int]
	calls := 0
	look := func() int {
		calls++
		return calls
	}
	m.get(look)
	m.took, m.at = time.Second, time.Now().Add(-99*time.Second)
	if got := m.get(look); got != 1 {
		t.Errorf("call %d before 100 times the duration", got)
	}
	m.at = time.Now().Add(-101 * time.Second)
	if got := m.get(look); got != 2 {
		t.Errorf("call %d after 100 times the duration, want 2", got)
	}
}
