//go:build linux

package nic

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// load is what happens in one window.
type load struct{ frames, packets, lost, merged, adjacent uint64 }

// play observes a load for n windows and returns the numbers of the windows after which a setting changed, with the choice.
func play(c *Controller, at *Sample, l load, n int) (changes []string) {
	if c.Rests() {
		c.Begin(*at)
	}
	for i := range n {
		at.At += Window
		at.Frames += l.frames
		at.Packets += l.packets
		at.Lost += l.lost
		at.Merged += l.merged
		at.Adjacent += l.adjacent
		was := c.Choice()
		if now := c.Step(*at); now.Threaded != was.Threaded || now.UDPForwarding != was.UDPForwarding {
			changes = append(changes, fmt.Sprintf("%d %s %s", i, word(now.Threaded), word(now.UDPForwarding)))
		}
	}
	return changes
}

// Loads of one window: a worker handles 20,000 packets, more than that fill the ring.
var (
	quiet    = load{frames: 10, packets: 10}
	moderate = load{frames: 15_000, packets: 15_000}
	flood    = load{frames: 5_000, packets: 5_000, lost: 45_000}
	relieved = load{frames: 40_000, packets: 40_000, lost: 10_000}
	served   = load{frames: 40_000, packets: 40_000}
	runs     = load{frames: 20_000, packets: 20_000, adjacent: 18_000}
	merging  = load{frames: 1_500, packets: 20_000, merged: 18_500}
	mixed    = load{frames: 20_000, packets: 20_000, adjacent: 1_000}
	bulk     = load{frames: 2_000, packets: 20_000}
	trickle  = load{frames: 200, packets: 2_000}
	leaky    = load{frames: 20_000, packets: 20_000, lost: 60}
)

func expectChanges(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: the choice changed after the windows %q, want %q", when, got, want)
	}
}

// A flood turns threads on in its first window. They remain for ten seconds after it.
func TestThreadsFollowLosses(t *testing.T) {
	t.Parallel()
	c, at := NewController(), Sample{}
	expectChanges(t, "quiet", play(c, &at, quiet, 50))
	expectChanges(t, "moderate", play(c, &at, moderate, 50))
	expectChanges(t, "few losses", play(c, &at, leaky, 50))
	expectChanges(t, "flood", play(c, &at, flood, 1), "0 on off")
	expectChanges(t, "flood in threads", play(c, &at, relieved, 300))
	expectChanges(t, "without losses", play(c, &at, served, 90))
	if c.Rests() {
		t.Error("the observation ended while threads are on")
	}
	expectChanges(t, "after it", play(c, &at, quiet, 200), "9 off off")
	if !c.Rests() {
		t.Error("the observation continues")
	}
}

// Bulk transfers turn threads on, slower ones do not.
func TestThreadsFollowBulkTransfers(t *testing.T) {
	t.Parallel()
	c, at := NewController(), Sample{}
	expectChanges(t, "a slow transfer", play(c, &at, trickle, 50))
	expectChanges(t, "a fast one", play(c, &at, bulk, 300), "0 on off")
	expectChanges(t, "slow again", play(c, &at, trickle, 300), "99 off off")
}

// A steady flood, of which threads lose nothing, and floods that come and go do not make the threads switch every ten
// seconds: each time that they are needed again soon, they stay twice as long.
func TestThreadsDoNotFlap(t *testing.T) {
	t.Parallel()
	const hour = int(time.Hour / Window)
	c, at, switches, lost := NewController(), Sample{}, 0, 0
	for range hour {
		l := served
		if !c.Choice().Threaded {
			l, lost = flood, lost+1
		}
		switches += len(play(c, &at, l, 1))
	}
	if switches > 40 || lost > 20 {
		t.Errorf("a steady flood: %d switches in an hour, losses in %d windows", switches, lost)
	}
	c, at, switches = NewController(), Sample{}, 0
	for range hour / 300 {
		switches += len(play(c, &at, flood, 1)) + len(play(c, &at, quiet, 299))
	}
	if switches > 40 {
		t.Errorf("floods that come and go: %d switches in an hour", switches)
	}
}

// Datagrams in a row turn forwarding of coalesced datagrams on; it goes off when they stop.
func TestUDPForwardingFollowsRuns(t *testing.T) {
	t.Parallel()
	c, at := NewController(), Sample{}
	expectChanges(t, "no runs", play(c, &at, mixed, 50))
	expectChanges(t, "runs", play(c, &at, runs, 1), "0 off on")
	expectChanges(t, "merged", play(c, &at, merging, 300))
	expectChanges(t, "no runs any more", play(c, &at, mixed, 20), "4 off off")
	expectChanges(t, "runs at once", play(c, &at, runs, 200), "84 off on", "89 off off")
	expectChanges(t, "a pause", play(c, &at, quiet, 10))
}

// If the NIC cannot coalesce the runs, each attempt is followed by a longer pause.
func TestUDPForwardingThatDoesNotPay(t *testing.T) {
	t.Parallel()
	c, at := NewController(), Sample{}
	if n := len(play(c, &at, runs, 36_000)); n > 40 {
		t.Errorf("%d switches in an hour", n)
	}
}

// A sample that comes too early, or with counters that did not change, changes nothing.
func TestEarlySamples(t *testing.T) {
	t.Parallel()
	c := NewController()
	c.Begin(Sample{})
	if got := c.Step(Sample{At: Window / 3, Lost: 1 << 20}); got.Threaded {
		t.Errorf("an early sample was judged: %+v", got)
	}
	if got := c.Step(Sample{At: Window, Lost: 1 << 20}); !got.Threaded || got.Reason == "" {
		t.Errorf("the next was not: %+v", got)
	}
}

// recorded reads a series of samples that was recorded from a gateway on a veth with rx-gro on and threads off.
func recorded(t *testing.T, name string) (series []Sample) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var s Sample
		if _, err := fmt.Sscan(line, &s.At, &s.Frames, &s.Packets, &s.Lost, &s.Merged, &s.Adjacent); err != nil {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		s.At *= time.Millisecond
		series = append(series, s)
	}
	return series
}

// replay passes a recorded series on after what came before it, and returns the settings that were on in some window.
func replay(c *Controller, at *Sample, series []Sample) (on Choice) {
	before, first := *at, series[0]
	c.Begin(before)
	for _, s := range series[1:] {
		d := s.minus(first)
		*at = Sample{before.At + d.At, before.Frames + d.Frames, before.Packets + d.Packets, before.Lost + d.Lost,
			before.Merged + d.Merged, before.Adjacent + d.Adjacent}
		choice := c.Step(*at)
		on.Threaded = on.Threaded || choice.Threaded
		on.UDPForwarding = on.UDPForwarding || choice.UDPForwarding
	}
	return on
}

// One recorded load follows another, with 45 quiet seconds between them, so that the best choice reverses.
func TestRecordedLoads(t *testing.T) {
	t.Parallel()
	c, at := NewController(), Sample{}
	for _, tt := range []struct {
		name string
		want Choice
	}{
		{"requests", Choice{}},                                // one datagram at a time
		{"flood", Choice{Threaded: true}},                     // 1000 flows in turn
		{"connections", Choice{}},                             // short ones, 64 at a time
		{"runs", Choice{Threaded: true, UDPForwarding: true}}, // a flood of 16 datagrams of a flow in a row
		{"requests", Choice{}},
		{"bulk", Choice{Threaded: true}},  // eight streams of TCP in frames of 1500 bytes
		{"super", Choice{Threaded: true}}, // the same in super-packets
		{"connections", Choice{}},
	} {
		if on := replay(c, &at, recorded(t, tt.name)); on != tt.want {
			t.Errorf("%s: turned on: %+v, want %+v", tt.name, on, tt.want)
		}
		play(c, &at, quiet, 450)
		if !c.Rests() {
			t.Fatalf("after %s: %+v", tt.name, c.Choice())
		}
	}
}
