//go:build linux

package daemon

import (
	"bytes"
	"sync"
)

// tailBytes is how much of the log a bug report has at most: our own choice.
const tailBytes = 128 << 10

// logTail keeps the last lines of the log, without the events of the tables. It is safe for concurrent use.
type logTail struct {
	mu   sync.Mutex
	last []byte // whole lines, at most twice tailBytes
}

// Write adds lines. It implements io.Writer and always succeeds.
func (l *logTail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last = append(l.last, b...); len(l.last) > 2*tailBytes {
		rest := l.last[len(l.last)-tailBytes:]
		_, rest, _ = bytes.Cut(rest, []byte("\n")) // the first line may be cut
		l.last = append(l.last[:0], rest...)
	}
	return len(b), nil
}

// String returns the lines.
func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.last)
}
