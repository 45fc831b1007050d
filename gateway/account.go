package gateway

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/table"
)

// Our own choices for the accounts of a worker: 16,384 clients, 1 MiB. A client may be in the accounts of each worker.
const (
	accountSets = 1 << 11
	accountWays = 8
)

// accounting has the accounts of each worker; nil: accounting is off, and a packet costs one comparison.
type accounting []accounts

// accounts counts the traffic of the clients that one worker has carried packets of. Only that worker writes; any goroutine may
// read. A client has its place in one set, which a keyed hash of its address selects. If the set is full, a client takes the place
// of the one that has been silent the longest. So memory is bounded, and neither a lock nor an allocation is needed.
type accounts struct {
	key  table.Key
	sets [][accountWays]account
}

// account is the traffic of one client, in a cache line.
type account struct {
	changes        atomic.Uint32 // odd while the place goes to another client
	last           uint32        // second of the last packet; only the worker uses it
	client         [2]atomic.Uint64
	packets, bytes [2]atomic.Uint64 // from IPv6 to IPv4, and back
	_              [8]byte
}

// of returns the accounts of a worker, or nil.
func (a *accounting) of(worker int) *accounts {
	if a == nil {
		return nil
	}
	return &(*a)[worker]
}

// Account is the traffic of one client at one worker: received packets that were translated and left. A super-packet counts once.
type Account struct {
	Client         packet.Addr6
	Packets, Bytes [2]uint64 // by metrics.From6To4 and metrics.From4To6
}

// SetAccounting begins or ends to count the traffic of each client. It begins with zero.
func (g *Gateway) SetAccounting(on bool) {
	g.settings.admin.Lock()
	defer g.settings.admin.Unlock()
	if on == (g.settings.accounting.Load() != nil) {
		return
	}
	if !on {
		g.settings.accounting.Store(nil)
		return
	}
	a := make(accounting, len(g.workers))
	for i := range a {
		a[i] = accounts{g.Bindings.Key(), make([][accountWays]account, accountSets)}
	}
	g.settings.accounting.Store(&a)
}

// Accounts calls f with the accounts of all workers, unless accounting is off. The caller adds up the accounts of one client.
func (g *Gateway) Accounts(f func(Account)) {
	a := g.settings.accounting.Load()
	if a == nil {
		return
	}
	for i := range *a {
		(*a)[i].each(f)
	}
}

func (t *accounts) each(f func(Account)) {
	for s := range t.sets {
		for i := range t.sets[s] {
			if a, ok := t.sets[s][i].read(); ok {
				f(a)
			}
		}
	}
}

// read returns a copy, or nothing if there is no client or the place goes to another one meanwhile.
func (a *account) read() (c Account, ok bool) {
	before := a.changes.Load()
	if before == 0 || before&1 != 0 {
		return c, false
	}
	for i := range a.client {
		binary.BigEndian.PutUint64(c.Client[i*8:], a.client[i].Load())
	}
	for d := range a.packets {
		c.Packets[d], c.Bytes[d] = a.packets[d].Load(), a.bytes[d].Load()
	}
	return c, a.changes.Load() == before
}

// add counts a packet.
func (t *accounts) add(client *packet.Addr6, d metrics.Direction, bytes int, now time.Duration) {
	hi, lo := binary.BigEndian.Uint64(client[:8]), binary.BigEndian.Uint64(client[8:])
	a := t.place(hi, lo)
	a.last = uint32(now / time.Second)
	// There is a single writer, so that no atomic read-modify-write is needed.
	a.packets[d].Store(a.packets[d].Load() + 1)
	a.bytes[d].Store(a.bytes[d].Load() + uint64(bytes))
}

// place returns the place of a client, which it makes if there is none.
func (t *accounts) place(hi, lo uint64) *account {
	set := &t.sets[t.key.Hash(hi, lo, 0)%accountSets]
	oldest := &set[0]
	for i := range set {
		a := &set[i]
		if a.client[0].Load() == hi && a.client[1].Load() == lo && a.changes.Load() != 0 {
			return a
		}
		if a.changes.Load() == 0 {
			oldest = a
			break
		}
		if a.last < oldest.last {
			oldest = a
		}
	}
	oldest.begin(hi, lo)
	return oldest
}

// begin gives the place to a client.
func (a *account) begin(hi, lo uint64) {
	a.changes.Add(1)
	a.client[0].Store(hi)
	a.client[1].Store(lo)
	for d := range a.packets {
		a.packets[d].Store(0)
		a.bytes[d].Store(0)
	}
	a.changes.Add(1)
}

// charge counts a packet of a client if it has left with r, or hairpins, and returns r.
func (w *worker) charge(p *inflight, client *packet.Addr6, d metrics.Direction, r drop.Reason) drop.Reason {
	if w.accounts != nil && (p.left || p.again) {
		w.accounts.add(client, d, len(p.view.Data), w.now)
	}
	return r
}
