//go:build linux

package nic

import (
	"fmt"
	"time"
)

// Our own choices, from measurements (docs/performance.md). A window is the time over which counters are compared.
// Receiving in threads needs to be worth it for a while, and the more often it turns out to be needed again soon, the
// longer.
const (
	Window     = 100 * time.Millisecond
	ringShare  = 50               // a window that loses 1/ringShare of its packets turns threads on
	ringLeast  = 64               // and at least so many of them
	calmLeast  = 10 * time.Second // threads remain for so long after the last need
	calmMost   = 5 * time.Minute
	soon       = 30 * time.Second // a need within this time after the end of the last one doubles the time
	bulkRate   = 50_000           // packets a second
	bulkTurn   = 2                // of so many packets, one is a TCP segment that arrived coalesced
	runsLeast  = 100              // datagrams in a window that is judged
	runsTurn   = 2                // of so many datagrams, one continues a run: coalescing pays
	mergedTurn = 4                // of so many datagrams, less than one was coalesced: it does not
	patience   = 5                // windows in a row before UDPForwarding is turned off
	observe    = 5                // windows of an observation
)

// Sample contains counters of the gateway at a time.
type Sample struct {
	At       time.Duration // by a monotonic clock
	Frames   uint64        // received; packets that the NIC or the kernel has coalesced are one
	Packets  uint64        // on the wire, in these frames
	Lost     uint64        // frames that the kernel dropped because a ring was full
	Merged   uint64        // UDP datagrams that arrived coalesced with the one before
	Adjacent uint64        // UDP datagrams that arrived directly after one of their flow, and that the gateway has coalesced
}

// minus returns what has been counted since o.
func (s Sample) minus(o Sample) Sample {
	return Sample{s.At - o.At, s.Frames - o.Frames, s.Packets - o.Packets, s.Lost - o.Lost, s.Merged - o.Merged, s.Adjacent - o.Adjacent}
}

// segments returns the number of TCP segments that arrived coalesced with the one before.
func (s Sample) segments() uint64 { return s.Packets - s.Frames - s.Merged }

// rate returns the number of arrived packets a second.
func (s Sample) rate() float64 { return float64(s.Packets+s.Lost) / s.At.Seconds() }

// Choice is the value of the settings that follow the load, and the reason for their last change.
type Choice struct {
	Threaded      bool
	UDPForwarding bool
	Reason        string // empty before the first change
}

// Controller chooses the settings that follow the load. It sees only counters, and does no I/O.
//
// Threads receive packets while there is too much load for soft interrupts: these have precedence over the gateway, so
// that the ring is full before the gateway runs. The scheduler shares the processor between threads and the gateway.
// Threads also coalesce more TCP segments of bulk transfers, because they run less often. For other loads, they only add a
// wake-up, and the ring of the NIC may lose packets that soft interrupts would handle in time. So after a while without a
// need, the controller tries soft interrupts again. UDPForwarding pays only while datagrams of a flow arrive in a row.
type Controller struct {
	last   Sample
	choice Choice
	rest   int // windows until the observation ends, unless a setting is on

	// Of Threaded.
	needed time.Duration // when it was last needed
	ended  time.Duration // when it was last turned off; 0: never
	calm   time.Duration // how long it remains without a need

	// Of UDPForwarding.
	began time.Duration // when it was turned on
	idle  int           // windows in a row in which too little was coalesced
	retry time.Duration // when it may be turned on again
	pause time.Duration // from the next failure until then
}

// NewController returns a controller of settings that are all at their original values. It observes nothing before Begin.
func NewController() *Controller { return &Controller{calm: calmLeast, pause: calmLeast} }

// Choice returns the last choice.
func (c *Controller) Choice() Choice { return c.choice }

// Begin starts an observation after a pause.
func (c *Controller) Begin(s Sample) { c.last, c.rest = s, observe }

// Step returns the choice for the time after a sample. It ignores a sample that comes less than half a Window after the
// last one. Call it once in a Window until Rests.
func (c *Controller) Step(s Sample) Choice {
	d := s.minus(c.last)
	if d.At < Window/2 {
		return c.choice
	}
	c.last = s
	c.rest = max(c.rest-1, 0)
	c.stepThreaded(d, s.At)
	c.stepUDPForwarding(d, s.At)
	return c.choice
}

// Rests reports whether the observation ends: no setting is on, and there was no need for one.
func (c *Controller) Rests() bool {
	return !c.choice.Threaded && !c.choice.UDPForwarding && c.rest == 0
}

func (c *Controller) stepThreaded(d Sample, now time.Duration) {
	loses := d.Lost >= ringLeast && d.Lost*ringShare > d.Frames+d.Lost
	bulk := d.rate() >= bulkRate && d.segments()*bulkTurn >= d.Packets
	switch {
	case c.choice.Threaded:
		if loses || bulk {
			c.needed = now
		} else if now-c.needed >= c.calm {
			c.choice.Threaded, c.ended = false, now
			c.choice.Reason = fmt.Sprintf("threads off: not needed for %v", c.calm)
		}
	case loses:
		c.startThreads(now)
		c.choice.Reason = fmt.Sprintf("threads on: the ring lost %.0f %% at %.0f packets a second", share(d.Lost, d.Frames+d.Lost), d.rate())
	case bulk:
		c.startThreads(now)
		c.choice.Reason = fmt.Sprintf("threads on: bulk TCP, %.0f packets a second", d.rate())
	}
}

func (c *Controller) startThreads(now time.Duration) {
	if c.ended != 0 && now-c.ended < soon {
		c.calm = min(2*c.calm, calmMost)
	} else {
		c.calm = calmLeast
	}
	c.choice.Threaded, c.needed = true, now
}

func (c *Controller) stepUDPForwarding(d Sample, now time.Duration) {
	switch {
	case !c.choice.UDPForwarding && d.Packets >= runsLeast && d.Adjacent*runsTurn >= d.Packets && now >= c.retry:
		c.choice.UDPForwarding, c.idle, c.began = true, 0, now
		c.choice.Reason = fmt.Sprintf("rx-udp-gro-forwarding on: %.0f %% of the packets continue a run of datagrams", share(d.Adjacent, d.Packets))
	case !c.choice.UDPForwarding:
	case d.Packets >= runsLeast && d.Merged*mergedTurn >= d.Packets:
		c.idle = 0
	default:
		if c.idle++; c.idle < patience {
			return
		}
		c.stopUDPForwarding(d, now)
	}
}

// stopUDPForwarding turns it off. If it has not paid although packets arrived, it remains off for a while.
func (c *Controller) stopUDPForwarding(d Sample, now time.Duration) {
	c.choice.UDPForwarding = false
	if d.Packets < runsLeast {
		c.choice.Reason = "rx-udp-gro-forwarding off: hardly any packets"
		return
	}
	if now-c.began > soon {
		c.pause = calmLeast
	}
	c.retry, c.pause = now+c.pause, min(2*c.pause, calmMost)
	c.choice.Reason = fmt.Sprintf("rx-udp-gro-forwarding off: only %.0f %% of the packets arrive coalesced", share(d.Merged, d.Packets))
}

// share returns a part in per cent.
func share(part, all uint64) float64 { return 100 * float64(part) / float64(max(all, 1)) }
