package gateway

import (
	"sync"
	"time"

	"nat64d/table"
)

// deliverEvery is the minimum interval of deliveries: our own choice. The rings of package session hold what happens
// meanwhile. An event after some time without any is delivered at once, so packets wake up the deliverer 50 times a second at
// most.
const deliverEvery = 20 * time.Millisecond

// deliver hands events to their observers until stop is called, which returns when all events are delivered.
func (g *Gateway) deliver() (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			var again <-chan time.Time
			if g.delivered() {
				again = time.After(deliverEvery)
			}
			select {
			case <-done:
				g.delivered()
				return
			case <-again:
			case <-g.mail.events:
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// delivered delivers what is in the rings, and reports whether there was something. An observer that panics loses only the events
// that it was called with.
func (g *Gateway) delivered() (some bool) {
	defer func() {
		if value := recover(); value != nil {
			g.upkeep.panics.Observed(value)
			some = true // and the rest is still to be delivered
		}
	}()
	return g.Sessions.Deliver() > 0
}

// happened tells the deliverer that there are events again.
func (g *Gateway) happened() {
	select {
	case g.mail.events <- struct{}{}:
	default: // it has not seen the previous one
	}
}

// TimeOf returns when an event happened by the system's clock, as it is set now.
func (g *Gateway) TimeOf(at table.Time) time.Time { return time.Now().Add(at.Duration() - g.clock()) }
