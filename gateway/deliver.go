package gateway

import (
	"sync"
	"time"

	"nat64d/table"
)

// deliverEvery is how often events go to their observers: our own choice. The rings of package session hold what happens
// meanwhile.
const deliverEvery = 20 * time.Millisecond

// deliver hands events to their observers until stop is called, which returns when all events are delivered.
func (g *Gateway) deliver() (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(deliverEvery)
		defer tick.Stop()
		for {
			g.Sessions.Deliver()
			select {
			case <-done:
				g.Sessions.Deliver()
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// TimeOf returns when an event happened by the system's clock, as it is set now.
func (g *Gateway) TimeOf(at table.Time) time.Time { return time.Now().Add(at.Duration() - g.clock()) }
