//go:build linux

package daemon

import (
	"context"
	"testing"
	"time"

	"nat64d/gateway"
)

func TestCrowd(t *testing.T) {
	t.Parallel()
	var c crowd
	now := time.Now()
	for i, step := range []struct {
		after         time.Duration
		first, second gateway.Batches
		want          bool
	}{
		{0, gateway.Batches{Frames: 640, Batches: 10}, gateway.Batches{}, false}, // since an unknown time
		{crowdOver, gateway.Batches{Frames: 640 + 480, Batches: 20}, gateway.Batches{}, true},
		{crowdOver / 2, gateway.Batches{Frames: 2000, Batches: 2000}, gateway.Batches{}, true}, // too soon to look again
		{crowdOver, gateway.Batches{Frames: 2000, Batches: 2000}, gateway.Batches{}, false},
		{crowdOver, gateway.Batches{Frames: 2000, Batches: 2000}, gateway.Batches{Frames: 6400, Batches: 100}, true},
		{crowdOver, gateway.Batches{Frames: 2063, Batches: 2000}, gateway.Batches{Frames: 6400, Batches: 100}, false}, // no batch was timed
		{crowdOver, gateway.Batches{}, gateway.Batches{}, false},                                                      // the gateway has begun again
	} {
		now = now.Add(step.after)
		if got := c.look(now, func(to []gateway.Batches) []gateway.Batches { return append(to, step.first, step.second) }); got != step.want {
			t.Errorf("step %d: crowded is %v", i, got)
		}
	}
}

func TestGiveWay(t *testing.T) {
	t.Parallel()
	d := &Daemon{}
	d.crowd.at, d.crowd.crowded = time.Now().Add(time.Hour), true
	worked := 2 * time.Millisecond
	begin := time.Now()
	d.giveWay(t.Context(), begin.Add(-worked))
	if took := time.Since(begin); took < pauseFactor*worked {
		t.Errorf("a listing that has worked for %v pauses for %v", worked, took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin = time.Now()
	d.giveWay(ctx, begin.Add(-time.Hour))
	if took := time.Since(begin); took >= listingPause {
		t.Errorf("a listing that has ended pauses for %v", took)
	}
}
