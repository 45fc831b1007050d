package dns64

import (
	"context"
	"sync"
)

// flights lets concurrent identical questions share one query to the upstreams. Its methods may be called by any number of
// goroutines.
//
// golang.org/x/sync/singleflight does not serve here. It counts no waiters, so it cannot cancel a query that nobody waits
// for any more, nor bound how many such queries run on; and it keeps the channel of each waiter that has left until the
// query ends. Both are limits that a client could otherwise exhaust from outside.
type flights struct {
	mu      sync.Mutex
	flying  map[flightKey]*flight
	unheard int // how many of them nobody waits for any more
}

// flightKey names a question to upstreams.
type flightKey struct {
	Question
	upstreams *Upstreams
}

// flight is one query to the upstreams and those who wait for it.
type flight struct {
	ended   chan struct{} // closed when e and err hold
	e       *entry
	err     error
	waiting int
	cancel  context.CancelFunc
}

// wait returns what fetch returns, or an error when ctx is done first. A fetch that nobody waits for any more goes on, so
// that its answer is known to who asks next; but no more than so many do: else whoever can have questions asked that are
// answered late could have any number of them under way.
func (fs *flights) wait(ctx context.Context, k flightKey, unheard int, fetch func(context.Context) (*entry, error)) (*entry, error) {
	f := fs.board(ctx, k, fetch)
	select {
	case <-f.ended:
		return f.e, f.err
	case <-ctx.Done():
		if context.Cause(ctx) == errShare { // what its client asks for has had its time
			unheard = 0
		}
		fs.leave(k, f, unheard)
		return nil, ctx.Err()
	}
}

// board returns the flight of a question, which begins if there is none.
func (fs *flights) board(ctx context.Context, k flightKey, fetch func(context.Context) (*entry, error)) *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, flies := fs.flying[k]
	switch {
	case !flies:
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{ended: make(chan struct{}), cancel: cancel}
		if fs.flying == nil {
			fs.flying = map[flightKey]*flight{}
		}
		fs.flying[k] = f
		go func() {
			defer fs.land(k, f)
			f.e, f.err = fetch(ctx)
		}()
	case f.waiting == 0:
		fs.unheard--
	}
	f.waiting++
	return f
}

// leave is called by who does not wait any more.
func (fs *flights) leave(k flightKey, f *flight, unheard int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.waiting--; f.waiting > 0 || fs.flying[k] != f {
		return
	}
	if fs.unheard < unheard {
		fs.unheard++
		return
	}
	delete(fs.flying, k) // who asks from here on begins anew
	f.cancel()
}

// land ends a flight.
func (fs *flights) land(k flightKey, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.flying[k] == f {
		delete(fs.flying, k)
		if f.waiting == 0 {
			fs.unheard--
		}
	}
	f.cancel()
	close(f.ended)
}
