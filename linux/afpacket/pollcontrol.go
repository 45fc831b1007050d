//go:build linux

package afpacket

import "time"

// The constants of AdaptivePoll, our own choices.
const (
	pollMost  = 200 * time.Microsecond // length of the longest poll
	pollFirst = 25 * time.Microsecond  // of the shortest one, with which polling begins
	// pollShare bounds the time that polls waste: one part of so many. Polls that find packets count a third: they
	// shorten a round trip, but also use the processor, which a stream of packets should not use up.
	pollShare  = 10
	pollUseful = 3
	// pollSavings bounds the time that a worker can save up for polls, in five seconds without any: requests and responses
	// that follow one another closely are then short at once.
	pollSavings = 500 * time.Millisecond
	// pollFine multiplies the time that a poll took from another thread: a hog that gets the processor from us keeps it
	// for a time slice, in which packets wait.
	pollFine = 10
	// sparse is the time per packet below which a worker does not poll: it sleeps so shortly and so often that
	// polling would use the whole processor, and save little for each packet.
	sparse = 100 * time.Microsecond
)

// pollControl decides how long a worker polls before it sleeps, as hypervisors decide for a virtual processor that
// halts (Documentation/virt/kvm/halt-polling.rst): longer if the next packet came soon after the worker had slept,
// shorter if it came much later. It is a value without a clock. The zero value does not poll yet.
type pollControl struct {
	length time.Duration // of the next poll
	credit time.Duration // time that polls may still take; negative after a fine
}

// lull is the time between two batches on a processor.
type lull struct {
	gap     time.Duration // from the last packet of a worker to the next packet that it or another one on its processor got
	polled  time.Duration // part of it that the worker polled
	found   bool          // the poll ended because this worker or another one got a packet
	wanted  bool          // another thread used the processor while the worker polled
	elapsed time.Duration // since the previous lull was learned
}

// dense reports whether so many packets within a time are too many for polling.
func (c pollControl) dense(packets int, within time.Duration) bool {
	return within < time.Duration(packets)*sparse
}

// next returns how long to poll. Without credit for the whole length it is 0, because shorter polls find nothing.
func (c pollControl) next() time.Duration {
	if c.credit < c.length {
		return 0
	}
	return c.length
}

// learn adapts the length to a lull.
func (c *pollControl) learn(l lull) {
	c.credit = min(c.credit+l.elapsed/pollShare, pollSavings)
	soon := l.gap <= pollMost
	switch {
	case l.found: // even if another thread ran before
		c.credit -= l.polled / pollUseful
		return
	case l.wanted:
		c.credit = min(c.credit, 0) - pollFine*l.polled
		c.length = 0
		return
	case soon:
		c.length = min(max(2*c.length, pollFirst), pollMost)
	default:
		c.length /= 2
		if c.length < pollFirst {
			c.length = 0
		}
	}
	c.credit -= l.polled
}
