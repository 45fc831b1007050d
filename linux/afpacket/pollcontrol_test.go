//go:build linux

package afpacket

import (
	"testing"
	"time"
)

const us = time.Microsecond

// repeat learns the same lull n times and returns the time that polls have wasted and the time that has passed. Each
// lull ends with its gap, and the poll is as long as the control says.
func (c *pollControl) repeat(n int, l lull) (wasted, passed time.Duration) {
	for range n {
		l.polled = min(c.next(), l.gap)
		l.found = l.polled == l.gap
		l.elapsed = l.gap
		c.learn(l)
		passed += l.gap
		if l.polled < l.gap {
			wasted += l.polled
		}
	}
	return wasted, passed
}

func TestPollControlLength(t *testing.T) {
	t.Parallel()
	grown := pollControl{length: pollMost, credit: pollSavings}
	for _, c := range []struct {
		name   string
		before pollControl
		n      int
		lull   lull
		want   time.Duration
	}{
		{"starts after a short lull", pollControl{credit: pollSavings}, 1, lull{gap: 100 * us}, pollFirst},
		{"grows until it finds packets", pollControl{credit: pollSavings}, 20, lull{gap: 90 * us}, 100 * us},
		{"grows at most to the limit", pollControl{credit: pollSavings}, 20, lull{gap: pollMost}, pollMost},
		{"stays while it finds packets", grown, 20, lull{gap: 100 * us}, pollMost},
		{"shrinks after a long lull", grown, 1, lull{gap: time.Millisecond}, pollMost / 2},
		{"ends after a few long lulls", grown, 4, lull{gap: time.Millisecond}, 0},
		{"does not start after a long lull", pollControl{credit: pollSavings}, 20, lull{gap: pollMost + 1}, 0},
		{"ends for another thread", grown, 1, lull{gap: time.Millisecond, wanted: true}, 0},
		{"ends for a thread that delayed a packet", grown, 1, lull{gap: pollMost + 1, wanted: true}, 0},
		{"stays if another thread delayed nothing", grown, 1, lull{gap: 90 * us, wanted: true}, pollMost},
		{"no credit", pollControl{length: pollMost}, 0, lull{}, 0},
	} {
		c.before.repeat(c.n, c.lull)
		if got := c.before.next(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A hog that uses its time slice whenever a worker yields is paid for by a long time without polls.
func TestPollControlPausesForAHog(t *testing.T) {
	t.Parallel()
	c := pollControl{length: pollMost, credit: pollSavings}
	const slice = 3 * time.Millisecond
	c.learn(lull{gap: slice, polled: slice, wanted: true, elapsed: slice})
	var pause time.Duration
	for c.next() == 0 {
		c.learn(lull{gap: 100 * us, elapsed: 100 * us})
		pause += 100 * us
	}
	if least := 200 * time.Millisecond; pause < least {
		t.Errorf("polls again after %v, want at least %v", pause, least)
	}
}

// Lulls of which half end just before polls would, and half much later, make each poll wasteful.
func TestPollControlWastesAtMostItsShare(t *testing.T) {
	t.Parallel()
	for _, gaps := range [][]time.Duration{
		{199 * us, 201 * us}, {199 * us, 199 * us, 199 * us, 250 * us}, {30 * us, 300 * us}, {190 * us, 2 * time.Millisecond}, {pollFirst, pollFirst, 500 * us},
	} {
		c := pollControl{credit: pollSavings}
		var wasted, passed time.Duration
		for range 20_000 {
			for _, g := range gaps {
				w, p := c.repeat(1, lull{gap: g})
				wasted, passed = wasted+w, passed+p
			}
		}
		if most := passed/pollShare + pollSavings + pollMost; wasted > most {
			t.Errorf("%v: wasted %v of %v, want at most %v", gaps, wasted, passed, most)
		}
	}
}

// Packets that come so regularly that each poll finds one do not make the worker use the whole processor.
func TestPollControlBoundsUsefulPolls(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{60 * us, 100 * us, 200 * us} {
		c := pollControl{credit: pollSavings}
		var polled, passed time.Duration
		for range 20_000 {
			l := lull{gap: gap, polled: min(c.next(), gap), elapsed: gap}
			l.found = l.polled == gap
			c.learn(l)
			polled, passed = polled+l.polled, passed+gap
		}
		if least, most := passed/4, passed*pollUseful/pollShare+pollUseful*pollSavings; polled < least || polled > most {
			t.Errorf("packets every %v: polled %v of %v, want %v to %v", gap, polled, passed, least, most)
		}
	}
}

func TestPollControlDense(t *testing.T) {
	t.Parallel()
	var c pollControl
	for _, r := range []struct {
		packets int
		within  time.Duration
		want    bool
	}{{1, sparse, false}, {1, sparse - 1, true}, {64, 64*sparse - 1, true}, {64, time.Second, false}} {
		if got := c.dense(r.packets, r.within); got != r.want {
			t.Errorf("%d packets within %v: %v, want %v", r.packets, r.within, got, r.want)
		}
	}
}
