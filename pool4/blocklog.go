package pool4

import (
	"sync"
	"sync/atomic"
)

// blockLog keeps what is to be logged of blocks until Expire, since it happens under locks that packets wait for. There
// are as many as blocks have changed hands since the last call.
type blockLog struct {
	wanted atomic.Bool

	mu      sync.Mutex
	waiting []blockEvent
}

type blockEvent struct {
	block Block
	ended bool
}

// add notes that a block has got or lost its owner.
func (l *blockLog) add(b Block, ended bool) {
	if !l.wanted.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, blockEvent{b, ended})
}

// drain calls f for what has been noted. The caller holds no lock.
func (l *blockLog) drain(f func(Block, bool)) {
	for _, e := range l.take() {
		f(e.block, e.ended)
	}
}

func (l *blockLog) take() []blockEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.waiting
	l.waiting = nil
	return all
}
