//go:build linux

package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/gateway"
)

// exitLocked is the exit code of a process that ends at once after a panic.
const exitLocked = 3

// lastWords is the maximum length of what such a process writes.
const lastWords = 4096

// endAtOnce writes why to standard error and ends the process. It does not wait for the reader of standard error, and makes
// room if that is a pipe that is full. The guard stays, and keeps the host quiet until the next start.
func endAtOnce(why string) {
	text := []byte("nat64d: " + why)
	text = append(text[:min(len(text), lastWords-1)], '\n')
	stderr := int(os.Stderr.Fd())
	if size, err := unix.FcntlInt(uintptr(stderr), unix.F_GETPIPE_SZ, 0); err == nil {
		_, _ = unix.FcntlInt(uintptr(stderr), unix.F_SETPIPE_SZ, 2*size) // beyond the limit of the user: the pipe stays as it is
	}
	fds := []unix.PollFd{{Fd: int32(stderr), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 0); err == nil && n == 1 && fds[0].Revents&unix.POLLOUT != 0 {
		_, _ = unix.Write(stderr, text)
	}
	os.Exit(exitLocked)
}

// The time between a panic of a task and its new start: our own choice. It doubles until the task has run for longestPause, so
// that a task that always panics costs little and does not fill the log.
const (
	pauseAfterPanic = time.Second
	longestPause    = time.Minute
)

// supervised runs a task again after each panic.
func (t *task) supervised(ctx context.Context, p *gateway.Panics) error {
	for pause := pauseAfterPanic; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		err, panicked := t.attempt(ctx, p)
		if !panicked {
			return err
		}
		if time.Since(began) >= longestPause {
			pause = pauseAfterPanic
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// attempt runs a task once and catches its panic.
func (t *task) attempt(ctx context.Context, p *gateway.Panics) (err error, panicked bool) {
	defer func() {
		if value := recover(); value != nil {
			p.Aside("task "+t.name, value)
			panicked = true
		}
	}()
	return t.run(ctx), false
}

// panicWarnings returns a sentence if there were panics.
func panicWarnings(p *gateway.Panics) []string {
	n, last := p.Count()
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("nat64d has a bug: it has panicked %d times, last at %s; please report the log", n, last.Format(time.DateTime))}
}
