package gateway

import (
	"sync"
	"time"

	"nat64d/table"
)

// How often events are delivered: our own choice. The rings of package session hold what happens meanwhile, also in the
// longer time that passes before a first observer is noticed.
const (
	deliverEvery = 20 * time.Millisecond
	idleDeliver  = 100 * time.Millisecond // without an observer
)

// deliver hands events to their observers until stop is called, which returns when all events are delivered.
func (g *Gateway) deliver() (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			g.Sessions.Deliver()
			wait := idleDeliver
			if g.Sessions.Observed() {
				wait = deliverEvery
			}
			select {
			case <-done:
				g.Sessions.Deliver()
				return
			case <-time.After(wait):
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
