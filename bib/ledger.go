package bib

import (
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// ledger is the counts, limits and transport addresses that a new binding or session needs room in: those of a table, or the copies
// of a trial. Its methods change nothing else.
type ledger struct {
	conf        *Config
	max         int64
	counts      *counts
	pool        *pool4.Pool
	clients     clients
	subscribers *subscribers // nil without limits
}

func (t *Table) ledger() ledger {
	return ledger{conf: t.conf.Load(), max: t.max, counts: &t.counts, pool: t.pool, clients: t.clients, subscribers: t.subscribers.Load()}
}

// counts is how many bindings there are.
type counts struct {
	total   atomic.Int64
	count   [packet.Protos]atomic.Int64
	statics [packet.Protos]atomic.Int64 // those of count that are static
}

// reserve counts a new binding, if there are less than max.
func (c *counts) reserve(p packet.Proto, max int64) drop.Reason {
	for {
		n := c.total.Load()
		if n >= max {
			return drop.BindingLimit
		}
		if c.total.CompareAndSwap(n, n+1) {
			c.count[p].Add(1)
			return drop.None
		}
	}
}

// unreserve gives back the count of a binding that has ended, or was not made.
func (c *counts) unreserve(p packet.Proto) {
	c.count[p].Add(-1)
	c.total.Add(-1)
}

// admit counts a new dynamic binding, if the limits allow it.
func (l *ledger) admit(q *pool4.Request) (counted table.Generation, r drop.Reason) {
	if r = l.counts.reserve(q.Proto, l.max); r != drop.None {
		return 0, r
	}
	if counted, r = l.admitBinding(q.Client.Addr, q.Proto, q.Exact != packet.Endpoint4{}); r != drop.None {
		l.counts.unreserve(q.Proto)
	}
	return counted, r
}

// cancel gives back the counts of admit.
func (l *ledger) cancel(q *pool4.Request, counted table.Generation) {
	l.subscribers.leave(q.Client.Addr, counted, forBinding(q.Proto))
	l.counts.unreserve(q.Proto)
}

// allocate takes a transport address for a new dynamic binding.
func (l *ledger) allocate(q pool4.Request) (packet.Endpoint4, drop.Reason) {
	if l.conf.Pool.BlockSize != 0 {
		q.Owner = packet.Mask6(q.Client.Addr, l.conf.Limits.PrefixLen)
	}
	return l.clients.allocate(l.pool, q)
}

// end gives back what a binding has.
func (l *ledger) end(e *end) {
	if e.Static {
		l.pool.Release(e.Proto, e.Mapped)
	} else {
		l.pool.Retire(e.Proto, e.Mapped)
	}
	l.clients.leave(e.Client.Addr)
	l.subscribers.leave(e.Client.Addr, e.counted, forBinding(e.Proto))
	l.counts.unreserve(e.Proto)
}
