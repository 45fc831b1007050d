package gateway

import (
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
)

// Our own choices: over how long losses are compared with what arrives, from which share on they are logged, and how
// often at most.
const (
	lossWindow = 10 * time.Second
	lossShare  = 100 // a loss of 1/lossShare is logged
	lossEvery  = time.Hour
)

// loss compares the packets that the kernel dropped with those that arrived. Only the maintenance goroutine uses it.
type loss struct {
	start         time.Duration // start of the window; 0: none yet
	lost, arrived uint64        // counters at its start
	logged        time.Duration // 0: never
}

// check logs the advice at the end of a window with a loss of more than 1 %.
func (l *loss) check(g *Gateway, now time.Duration) {
	if g.upkeep.ringAdvice == "" || l.start != 0 && now-l.start < lossWindow {
		return
	}
	lost, arrived := g.Counters.Drops(drop.Ring), g.arrived()
	first := l.start == 0
	newLost, newArrived := lost-l.lost, arrived-l.arrived
	l.start, l.lost, l.arrived = now, lost, arrived
	if first || newLost*lossShare <= newArrived || l.logged != 0 && now-l.logged < lossEvery {
		return
	}
	l.logged = now
	g.upkeep.log.Warn(g.upkeep.ringAdvice, "lost", newLost, "of", newArrived, "within", lossWindow)
}

// arrived counts received packets; a super-packet counts once.
func (g *Gateway) arrived() (n uint64) {
	n = g.translated()
	for r := drop.None + 1; r < drop.Count; r++ {
		n += g.Counters.Drops(r)
	}
	return n
}

// translated counts translated packets.
func (g *Gateway) translated() (n uint64) {
	for _, d := range []metrics.Direction{metrics.From6To4, metrics.From4To6, metrics.Hairpin} {
		packets, _ := g.Counters.Traffic(d)
		n += packets
	}
	return n
}
