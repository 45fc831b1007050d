package gateway

import (
	"sync"
	"sync/atomic"
)

// mailbox passes results of the sweep to the worker that sends on the side concerned.
type mailbox[T any] struct {
	mu      sync.Mutex
	waiting []T
	any     atomic.Bool
}

// maxMail limits the pending entries: only after an outage do more connections become idle in one sweep.
const maxMail = 1024

func (m *mailbox[T]) put(t T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) < maxMail {
		m.waiting = append(m.waiting, t)
		m.any.Store(true)
	}
}

// take moves the entries to the worker's own slice.
func (m *mailbox[T]) take(into []T) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	into = append(into[:0], m.waiting...)
	m.waiting = m.waiting[:0]
	m.any.Store(false)
	return into
}
