//go:build linux

package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nat64d/gateway"
)

// cursed panics when the text is written for the first time.
type cursed struct {
	io.Writer
	text string
}

func (c *cursed) Write(b []byte) (int, error) {
	if c.text != "" && strings.Contains(string(b), c.text) {
		c.text = ""
		panic("a bug in a writer")
	}
	return c.Writer.Write(b)
}

// After a panic of the goroutine that writes the log, the panic is counted and logged, and later lines are written.
func TestLogWriterPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out reader
		q := NewLogQueue(&cursed{&out, "second"})
		l := &logs{Logger: slog.New(newHandler(false, slog.LevelInfo, q)), queue: q}
		p := gateway.NewPanics(l.Logger, func(why string) { t.Error(why) })
		l.recordPanics(p)
		for _, line := range []string{"first", "second", "third"} {
			l.Info(line)
			synctest.Wait()
		}
		q.Close(time.Minute)
		text := out.read()
		if !strings.Contains(text, "first") || !strings.Contains(text, "third") || !strings.Contains(text, `in="writer of the log" panic="a bug in a writer"`) {
			t.Errorf("the log is\n%s", text)
		}
		if n, _ := p.Count(); n != 1 || q.lost.Load() != 1 {
			t.Errorf("%d panics and %d lost lines, want one of each", n, q.lost.Load())
		}
	})
}

// A task that panics again and again is started at growing intervals, and its error is returned in the end.
func TestTaskRestartsAfterPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := gateway.NewPanics(slog.New(slog.DiscardHandler), func(why string) { t.Error(why) })
		began, runs, failure := time.Now(), 0, errors.New("failure")
		task := task{name: "test", run: func(context.Context) error {
			if runs++; runs <= 10 {
				panic("a bug")
			}
			return failure
		}}
		if err := task.supervised(t.Context(), p); !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); runs != 11 || took != 303*time.Second { // 1+2+4+8+16+32+4*60
			t.Errorf("%d runs took %v", runs, took)
		}
	})
}
