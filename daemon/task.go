//go:build linux

package daemon

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"nat64d/gateway"
)

// task is work that lasts as long as the daemon.
type task struct {
	name string
	// run works until ctx is done and then returns nil. An error stops the daemon. A task that has nothing to do returns nil early.
	run func(ctx context.Context) error
	// notReady returns why packets cannot be translated, as far as this task knows: a sentence for each reason, none when it is
	// ready. Nil stands for a task that is always ready. Any goroutine may call it.
	notReady func() []string
}

// runTasks runs tasks until ctx is done or the first of them fails, and returns when all have ended. The error names the task. A
// task that panics is run again.
func runTasks(ctx context.Context, tasks []task, p *gateway.Panics) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error {
			if err := t.supervised(ctx, p); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// untilNext returns the time until the system's clock is at the next multiple of a time. Checks that can be earlier or later begin
// then, so that one wake-up of an idle daemon serves all of them.
func untilNext(every time.Duration) time.Duration {
	now := time.Now()
	return now.Truncate(every).Add(every).Sub(now)
}

// event tells one goroutine that something has changed. Changes that it has not seen yet are one.
type event chan struct{}

func newEvent() event { return make(event, 1) }

// signal never blocks.
func (e event) signal() {
	select {
	case e <- struct{}{}:
	default: // one is pending
	}
}
