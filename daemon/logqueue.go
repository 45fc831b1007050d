//go:build linux

package daemon

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	queueBytes = 8 << 20     // maximum length of the queue: 0.4 s of a log with 100,000 events a second
	chunkBytes = 64 << 10    // of lines that are written together
	tellEvery  = time.Second // minimum interval of lines that report a loss
	stuckAfter = time.Second // the status reports a write that takes longer
)

// LogQueue accepts lines of the log from any goroutine; a single goroutine writes them. No other goroutine waits for
// the reader of standard error, which may be slow, stopped or dead: if the queue is full or a write fails, lines are
// lost. They are counted, and reported in a line of the log as soon as a write succeeds.
type LogQueue struct {
	out  io.Writer
	wake event
	done chan struct{}             // closed when everything is written and no more lines are accepted
	lost atomic.Uint64             // lines
	busy atomic.Pointer[time.Time] // start of the current write; nil: none

	notice   atomic.Pointer[func(lost uint64) []byte]      // renders the line that reports lost lines
	panicked atomic.Pointer[func(where string, value any)] // records a panic of the writing goroutine

	mu     sync.Mutex
	chunks [][]byte // whole lines, oldest first
	spare  []byte   // an empty chunk for reuse, so that a log that is written immediately creates no garbage
	size   int      // bytes in chunks
	closed bool
	failed error // of the last write
}

// NewLogQueue starts a goroutine that writes to out.
func NewLogQueue(out io.Writer) *LogQueue {
	q := &LogQueue{out: out, wake: newEvent(), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues whole lines and returns immediately. It implements io.Writer for the handlers of package slog, which
// call it once per line.
func (q *LogQueue) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.size+len(b) > queueBytes {
		q.lost.Add(lines(b))
		return len(b), nil
	}
	last := len(q.chunks) - 1
	if last < 0 || len(q.chunks[last])+len(b) > chunkBytes {
		q.chunks = append(q.chunks, q.freshLocked())
		last++
	}
	q.chunks[last] = append(q.chunks[last], b...)
	q.size += len(b)
	q.wake.signal()
	return len(b), nil
}

// freshLocked returns an empty chunk. The caller holds q.mu.
func (q *LogQueue) freshLocked() []byte {
	if c := q.spare; c != nil {
		q.spare = nil
		return c
	}
	return make([]byte, 0, chunkBytes)
}

// recycle keeps a written chunk for reuse.
func (q *LogQueue) recycle(chunk []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(chunk) == chunkBytes {
		q.spare = chunk[:0]
	}
}

// Close waits until all lines are written, at most within. Later lines are lost.
func (q *LogQueue) Close(within time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.signal()
	select {
	case <-q.done:
	case <-time.After(within):
	}
}

// trouble returns why lines are being lost, or "".
func (q *LogQueue) trouble() string {
	q.mu.Lock()
	failed := q.failed
	q.mu.Unlock()
	began := q.busy.Load()
	switch {
	case began != nil && time.Since(*began) > stuckAfter:
		return "its reader takes nothing"
	case failed != nil:
		return failed.Error()
	}
	return ""
}

// run writes until the queue is closed and empty. After a panic it begins again.
func (q *LogQueue) run() {
	defer close(q.done)
	w := logWriter{q: q}
	for !w.run() {
		time.Sleep(pauseAfterPanic)
	}
}

// run writes until the queue is closed and empty, or returns false after a panic.
func (w *logWriter) run() (over bool) {
	q := w.q
	var chunk []byte
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		q.lost.Add(lines(chunk))
		if record := q.panicked.Load(); record != nil {
			(*record)("writer of the log", value)
		}
	}()
	for {
		for chunk = q.take(); chunk != nil; chunk = q.take() {
			w.report()
			w.write(chunk)
			q.recycle(chunk)
		}
		if q.over() {
			w.tried = time.Time{}
			w.report()
			return true
		}
		w.report()
		var again <-chan time.Time
		if q.lost.Load() > w.reported {
			again = time.After(tellEvery)
		}
		select {
		case <-q.wake:
		case <-again:
		}
	}
}

// take returns the oldest lines, or nil.
func (q *LogQueue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.chunks) == 0 {
		return nil
	}
	chunk := q.chunks[0]
	q.chunks[0] = nil
	q.chunks = q.chunks[1:]
	q.size -= len(chunk)
	return chunk
}

// over reports whether the queue is closed and empty.
func (q *LogQueue) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.chunks) == 0
}

// logWriter is used only by the writing goroutine.
type logWriter struct {
	q        *LogQueue
	reported uint64 // number of lost lines already reported
	tried    time.Time
	torn     bool // the last write ended in the middle of a line
}

// report writes a line about newly lost lines, if there are any.
func (w *logWriter) report() {
	lost, render := w.q.lost.Load(), w.q.notice.Load()
	if lost == w.reported || render == nil || time.Since(w.tried) < tellEvery {
		return
	}
	w.tried = time.Now()
	if _, err := w.put((*render)(lost - w.reported)); err == nil {
		w.reported = lost
	}
}

// write writes lines, and counts those that it cannot write.
func (w *logWriter) write(chunk []byte) {
	if n, err := w.put(chunk); err != nil {
		w.q.lost.Add(lines(chunk[n:]))
	}
}

// put writes b and returns how many bytes it wrote.
func (w *logWriter) put(b []byte) (n int, err error) {
	now := time.Now()
	w.q.busy.Store(&now)
	defer w.q.busy.Store(nil)
	if w.torn {
		if _, err = w.all([]byte{'\n'}); err == nil {
			w.torn = false
		}
	}
	if err == nil {
		n, err = w.all(b)
		w.torn = n > 0 && b[n-1] != '\n'
	}
	w.q.mu.Lock()
	w.q.failed = err
	w.q.mu.Unlock()
	return n, err
}

// all writes all of b, even to a pipe that another process has made non-blocking.
func (w *logWriter) all(b []byte) (n int, err error) {
	for n < len(b) {
		var some int
		some, err = w.q.out.Write(b[n:])
		if n += some; err == nil {
			continue
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return n, nil
}

// lines counts lines, including truncated ones.
func lines(b []byte) uint64 {
	n := bytes.Count(b, []byte{'\n'})
	if len(b) > 0 && b[len(b)-1] != '\n' {
		n++
	}
	return uint64(n)
}
