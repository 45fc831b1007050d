package bib

import "nat64d/pool4"

// Config is what may change while packets flow.
type Config struct {
	Limits             Limits
	SessionsPerBinding int // of any binding, whoever began them (RFC 6888 REQ-5); a lower number ends none; 0: no limit
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
// Bindings that the administrator has made do not count. A limit that is lowered ends nothing.
type Limits struct {
	PrefixLen    int // the bits of an address that make a client
	Bindings     int // dynamic bindings; 0: no limit
	Sessions     int // sessions, whoever began them; 0: no limit
	NewPerSecond int // sessions that the client begins, in a second, and at once; 0: no limit
}

func (l *Limits) any() bool { return l.Bindings != 0 || l.Sessions != 0 || l.NewPerSecond != 0 }

// counts reports whether Configure will need other subscribers for these limits.
func (t *Table) needsRecount(l *Limits) bool {
	old := t.subscribers.Load()
	return l.any() && (old == nil || old.bits != l.PrefixLen)
}

// Prepare reserves the memory that Configure will need for c, and gives up what it has reserved before. It panics with
// *table.NoMemory where Configure would. The goroutine that calls Configure may call it.
func (t *Table) Prepare(c Config) {
	t.prepared = nil
	if t.needsRecount(&c.Limits) {
		t.prepared = t.makeSubscribers(c.Limits.PrefixLen)
	}
}

// Configure replaces the configuration; one goroutine at a time may call it. What clients have is counted only while
// there are limits: when the first is set, or the length of the prefix changes, all bindings are counted, under the
// lock of one shard at a time, and recount is called, which has to call JoinLocked for every session. Until it returns, there are no
// limits.
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
		t.subscribers.Store(t.newSubscribers(c.Limits.PrefixLen))
		t.recount()
		recount()
	}
	t.conf.Store(&c)
}

// recount counts the dynamic bindings that are there.
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
			e.counted = t.joinLocked(e.client.Addr, e.counted, forBinding)
		}
	})
}

// log tells of a binding that has begun or ended. The caller holds no lock.
func (t *Table) log(b Binding, what Change) {
	if log := t.conf.Load().Log; log != nil {
		log(b, what)
	}
}
