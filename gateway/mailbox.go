package gateway

import (
	"sync"
	"sync/atomic"
)

// mailbox hands what the sweep has found to the worker that sends on the side concerned.
type mailbox[T any] struct {
	mu      sync.Mutex
	waiting []T
	any     atomic.Bool
}

// maxMail is how many may wait: more connections than that fall silent in one sweep only after an outage.
const maxMail = 1024

func (m *mailbox[T]) put(t T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) < maxMail {
		m.waiting = append(m.waiting, t)
		m.any.Store(true)
	}
}

// take moves what waits into the worker's own slice.
func (m *mailbox[T]) take(into []T) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	into = append(into[:0], m.waiting...)
	m.waiting = m.waiting[:0]
	m.any.Store(false)
	return into
}
