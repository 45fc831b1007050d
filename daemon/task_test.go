//go:build linux

package daemon

import (
	"context"
	"errors"
	"testing"
)

func TestRunTasksStopsAllWhenOneFails(t *testing.T) {
	t.Parallel()
	failed := errors.New("no such device")
	stopped := false
	err := runTasks(t.Context(), []task{
		{name: "idle", run: func(context.Context) error { return nil }},
		{name: "waits", run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }},
		{name: "fails", run: func(context.Context) error { return failed }},
	})
	if !errors.Is(err, failed) || err.Error() != "fails: no such device" || !stopped {
		t.Errorf("error %v, the other task stopped: %v", err, stopped)
	}
}

func TestRunTasksEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	if err := runTasks(ctx, []task{{name: "waits", run: wait}, {name: "waits, too", run: wait}}); err != nil {
		t.Error(err)
	}
}

func TestReadinessJoinsReasonsOfTasks(t *testing.T) {
	t.Parallel()
	r := readiness{tasks: []task{
		{name: "a", notReady: func() []string { return []string{"no carrier"} }},
		{name: "b"},
		{name: "c", notReady: func() []string { return nil }},
		{name: "d", notReady: func() []string { return []string{"paused"} }},
	}}
	if got := r.reasons(); len(got) != 2 || got[0] != "no carrier" || got[1] != "paused" {
		t.Errorf("got %q", got)
	}
}

func TestEventsBeforeTheirReaderAreOne(t *testing.T) {
	t.Parallel()
	e := newEvent()
	e.signal()
	e.signal()
	<-e
	select {
	case <-e:
		t.Error("two signals were two events")
	default:
	}
}
