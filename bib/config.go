package bib

import "nat64d/pool4"

// Config is what may change while packets flow.
type Config struct {
	Limits             Limits
	SessionsPerBinding int // of any binding, begun from either side (RFC 6888 REQ-5); a lower limit ends none; 0: no limit
	Pool               pool4.Config
	Log                func(Binding, Change) // called with bindings that begin and end, outside of locks; it must not wait; may be nil
}

// Change is what has happened to a binding.
type Change uint8

// The changes.
const (
	Made     Change = iota
	Idle            // a dynamic binding has ended with its last session
	Unlinked        // Unlink has ended it
)

// Limits bound what one client may have, a client being all IPv6 addresses of one prefix (RFC 6888 REQ-4 and REQ-5).
// Static bindings do not count. Lowering a limit ends nothing.
type Limits struct {
	PrefixLen    int  // the length of the prefix that makes a client
	Bindings     int  // dynamic bindings; 0: no limit
	FairShare    bool // while less than a quarter of the ports of a protocol is free, a client with more than its share gets none
	Sessions     int  // sessions, begun from either side; 0: no limit
	NewPerSecond int  // sessions that the client may begin a second, and in a burst; 0: no limit
}

func (l *Limits) any() bool {
	return l.Bindings != 0 || l.FairShare || l.Sessions != 0 || l.NewPerSecond != 0
}

// ofSessions reports whether sessions have limits.
func (l *Limits) ofSessions() bool { return l.Sessions != 0 || l.NewPerSecond != 0 }

// needsRecount reports whether Configure will need new subscribers for these limits.
func (t *Table) needsRecount(l *Limits) bool {
	old := t.subscribers.Load()
	return l.any() && (old == nil || old.bits != l.PrefixLen || l.ofSessions() && !old.sessions)
}

// Prepare reserves the memory that Configure will need for c, and frees the memory that it has reserved before. It
// panics with *table.NoMemory where Configure would. Only the goroutine that calls Configure may call it.
func (t *Table) Prepare(c Config) {
	t.prepared = nil
	if t.needsRecount(&c.Limits) {
		t.prepared = t.makeSubscribers(c.Limits.PrefixLen)
	}
}

// Configure replaces the configuration; one goroutine at a time may call it. Bindings and sessions of clients are
// counted only while there are limits: when the first limit is set, or the length of the prefix changes, Configure
// counts all bindings, under the lock of one shard at a time, and calls recount, which must call JoinLocked for every
// session. Until it returns, there are no limits.
func (t *Table) Configure(c Config, recount func()) {
	t.pool.Configure(c.Pool)
	switch {
	case !c.Limits.any():
		t.conf.Store(&c)
		t.subscribers.Store(nil)
		return
	case t.needsRecount(&c.Limits):
		unlimited := c
		unlimited.Limits = Limits{PrefixLen: c.Limits.PrefixLen}
		t.conf.Store(&unlimited)
		t.subscribers.Store(t.newSubscribers(&c.Limits))
		t.recount()
		recount()
	}
	t.conf.Store(&c)
}

// recount counts all dynamic bindings.
func (t *Table) recount() {
	for i := range t.index6.Shards() {
		t.recountShard(i)
	}
}

func (t *Table) recountShard(i int) {
	s := t.index6.LockShard(i)
	defer s.Unlock()
	s.Each(func(slot uint32) {
		if e := t.entries.At(slot); e.refs.Load()&static == 0 {
			e.counted = t.joinLocked(e.client.Addr, e.counted, forBinding(e.proto))
		}
	})
}

// log tells of a binding that has begun or ended. The caller holds no lock.
func (t *Table) log(b Binding, what Change) {
	if log := t.conf.Load().Log; log != nil {
		log(b, what)
	}
}
