//go:build linux

package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"nat64d/gateway"
)

// noPanics fails the test when a panic would end the process.
func noPanics(t *testing.T) *gateway.Panics {
	return gateway.NewPanics(slog.New(slog.DiscardHandler), func(m string) { t.Error(m) })
}

// A task that panics is counted, logged and run again; the others do not notice.
func TestRunTasksRunsTaskAgainAfterPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, runs := noPanics(t), 0
		ctx, cancel := context.WithCancel(t.Context())
		err := runTasks(ctx, []task{
			{name: "waits", run: func(ctx context.Context) error { <-ctx.Done(); return nil }},
			{name: "panics", run: func(context.Context) error {
				if runs++; runs == 3 {
					cancel()
					return nil
				}
				panic("a bug in a task")
			}},
		}, p)
		if n, _ := p.Count(); err != nil || runs != 3 || n != 2 {
			t.Errorf("%v, %d runs, %d panics", err, runs, n)
		}
	})
}

// The process ends at once although no process reads standard error, a pipe that is full, and leaves a message there.
func TestEndAtOnceWithFullPipe(t *testing.T) {
	t.Parallel()
	if os.Getenv(endsAtOnce) != "" {
		_ = syscall.SetNonblock(2, true)
		for {
			if _, err := syscall.Write(2, make([]byte, 1024)); err != nil {
				break
			}
		}
		_ = syscall.SetNonblock(2, false)
		endAtOnce("a bug")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := exec.Command(os.Args[0], "-test.run", "^TestEndAtOnceWithFullPipe$")
	c.Env, c.Stderr = append(os.Environ(), endsAtOnce+"=1"), w
	var exit *exec.ExitError
	if err := c.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitLocked {
		t.Fatalf("%v, want exit code %d", err, exitLocked)
	}
	w.Close()
	if text, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(text), "nat64d: a bug\n") {
		t.Errorf("%v, standard error ends with %q", err, text[max(0, len(text)-20):])
	}
}

// endsAtOnce makes the test program call endAtOnce.
const endsAtOnce = "NAT64D_TEST_ENDS_AT_ONCE"

func TestRunTasksStopsAllWhenOneFails(t *testing.T) {
	t.Parallel()
	failed := errors.New("no such device")
	stopped := false
	err := runTasks(t.Context(), []task{
		{name: "idle", run: func(context.Context) error { return nil }},
		{name: "waits", run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }},
		{name: "fails", run: func(context.Context) error { return failed }},
	}, noPanics(t))
	if !errors.Is(err, failed) || err.Error() != "fails: no such device" || !stopped {
		t.Errorf("error %v, the other task stopped: %v", err, stopped)
	}
}

func TestRunTasksEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	if err := runTasks(ctx, []task{{name: "waits", run: wait}, {name: "waits, too", run: wait}}, noPanics(t)); err != nil {
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
