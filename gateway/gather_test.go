package gateway

import (
	"context"
	"slices"
	"testing"
	"time"

	"nat64d/packet"
)

// scripted is a port that returns a given number of packets from each Receive, and records when Gather is called.
type scripted struct {
	nowhere
	script   []int
	next     int
	gathered []int
	end      func()
}

func (s *scripted) Gather(time.Duration) { s.gathered = append(s.gathered, s.next) }

func (s *scripted) Receive(fs []packet.Frame, _ time.Duration) (int, error) {
	if s.next == len(s.script) {
		s.end()
		return 0, nil
	}
	n := copy(fs, clients(s.script[s.next]))
	s.next++
	return n, nil
}

// The gateway calls Gather only if moderation is configured, and only after a batch of several packets that was not
// full: neither a single packet nor a backlog is delayed.
func TestSinglePacketsAreNotDelayed(t *testing.T) {
	t.Parallel()
	script := []int{1, 1, 2, 1, batch, batch, batch - 1, 0, 1}
	for moderation, want := range map[time.Duration][]int{50 * time.Microsecond: {3, 7}, 0: nil} {
		ctx, end := context.WithCancel(t.Context())
		port := &scripted{script: script, end: end}
		g := stillWith(t, func(o *Options) {
			o.Config.Moderation = moderation
			o.Open = func(s packet.Family, send bool) (Port, error) {
				if s == packet.V6 && !send {
					return port, nil
				}
				return &nowhere{}, nil
			}
		})
		if err := g.workers[packet.V6].run(ctx); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(port.gathered, want) {
			t.Errorf("moderation %v: packets gathered before harvests %v, want %v", moderation, port.gathered, want)
		}
	}
}
