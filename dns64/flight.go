package dns64

import (
	"context"
	"sync"
)

// flights lets concurrent identical questions share one query to the upstreams. Its methods may be called by any number of
// goroutines.
//
// golang.org/x/sync/singleflight is not sufficient. It does not count waiters, so it can neither cancel a query without waiters
// nor bound the number of such queries, and it keeps the channel of each waiter that has given up until the query ends. A
// client could therefore have any number of queries under way.
type flights struct {
	mu      sync.Mutex
	flying  map[flightKey]*flight
	unheard int // number of flights without waiters
}

// flightKey identifies a question to upstreams.
type flightKey struct {
	Question
	upstreams *Upstreams
}

// flight is one query to the upstreams, with the number of its waiters.
type flight struct {
	ended   chan struct{} // closed when e and err are set
	e       *entry
	err     error
	waiting int
	cancel  context.CancelFunc
}

// wait returns the result of fetch, or an error if ctx ends first. A fetch without waiters continues, so that its answer is in
// the cache for the next query. At most unheard of them continue: otherwise a client could cause any number of queries that
// upstreams answer late.
func (fs *flights) wait(ctx context.Context, k flightKey, unheard int, fetch func(context.Context) (*entry, error)) (*entry, error) {
	f := fs.board(ctx, k, fetch)
	select {
	case <-f.ended:
		return f.e, f.err
	case <-ctx.Done():
		if context.Cause(ctx) == errShare { // the client has exceeded its share
			unheard = 0
		}
		fs.leave(k, f, unheard)
		return nil, ctx.Err()
	}
}

// board returns the flight of a question, and starts one if there is none.
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

// leave removes a waiter from a flight.
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
	delete(fs.flying, k) // the next query starts a new flight
	f.cancel()
}

// land ends a flight and wakes its waiters.
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
