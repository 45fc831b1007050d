package dns64

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// part is the reciprocal of the share of places, sockets and TCP connections that one client may use. A client whose questions
// stay unanswered thus does not block others.
const part = 4

// share returns one client's share of most.
func share(most int) int { return max(1, most/part) }

// sampled bounds the number of clients that a search for the one with the most places examines.
const sampled = 256

// errShare is the cause for cancelling a query when its place goes to a client with fewer places.
var errShare = errors.New("dns64: the client has more than its share of queries under way")

// clientKey is the key of a context's value: the prefix of the client that sent the query.
type clientKey struct{}

// prefixOf returns the prefix that identifies a client; bits is its length for IPv6.
func prefixOf(a netip.Addr, bits int) netip.Prefix {
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // all queries with the zero Addr share the zero Prefix
	return p
}

// places bounds the queries that wait for upstreams, in total and per client. When all places are taken, a client takes one from
// another client that has more. Within a client's share the same applies to the addresses of its prefix. Any number of goroutines
// may call the methods.
type places struct {
	mu      sync.Mutex
	total   int
	clients map[netip.Prefix]*holder
	limited *lru.Cache[netip.Prefix, time.Time] // when clients last were refused or lost a place; nil before the first time
}

// holder has the places of one client prefix, by address.
type holder struct {
	count int
	addrs map[netip.Addr][]*place // the oldest first
}

// place belongs to one query.
type place struct {
	of      *places
	client  netip.Prefix
	addr    netip.Addr
	ctx     context.Context // ends when the place is lost
	cancel  context.CancelCauseFunc
	expired bool // no longer counted; guarded by of.mu
}

// acquire returns a place for a query of an address, or nil; most is the total number of places.
func (ps *places) acquire(ctx context.Context, addr netip.Addr, bits, most int) *place {
	client := prefixOf(addr, bits)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	h := ps.clients[client]
	if h == nil {
		h = &holder{addrs: make(map[netip.Addr][]*place)}
	}
	switch {
	case h.count >= share(most):
		if !ps.replaceLocked(client, h, addr) {
			return nil
		}
	case ps.total >= most:
		heaviest, hog := ps.heaviestLocked()
		if hog == nil || hog.count <= h.count+1 {
			return nil
		}
		ps.evictLocked(heaviest, hog, hog.heaviest())
	}
	p := &place{of: ps, client: client, addr: addr}
	p.ctx, p.cancel = context.WithCancelCause(context.WithValue(ctx, clientKey{}, client))
	if ps.clients == nil {
		ps.clients = make(map[netip.Prefix]*holder)
	}
	ps.clients[client] = h
	h.addrs[addr] = append(h.addrs[addr], p)
	h.count++
	ps.total++
	return p
}

// replaceLocked gives an address the place of another address of its prefix that has more places, and reports whether
// there is one. The caller holds ps.mu.
func (ps *places) replaceLocked(client netip.Prefix, h *holder, addr netip.Addr) bool {
	hog := h.heaviest()
	if len(h.addrs[hog]) <= len(h.addrs[addr])+1 {
		ps.noteLocked(client)
		return false
	}
	ps.evictLocked(client, h, hog)
	return true
}

// evictLocked takes the oldest place from an address, whose query has waited the longest without an answer. The caller holds
// ps.mu.
func (ps *places) evictLocked(client netip.Prefix, h *holder, addr netip.Addr) {
	ps.noteLocked(client)
	oldest := h.addrs[addr][0]
	ps.dropLocked(oldest)
	oldest.cancel(errShare)
}

// noteLocked records that a client was limited. The caller holds ps.mu.
func (ps *places) noteLocked(client netip.Prefix) {
	const most = 1 << 10
	if ps.limited == nil {
		ps.limited, _ = lru.New[netip.Prefix, time.Time](most) // fails only for a size below 1
	}
	ps.limited.Add(client, time.Now())
}

// heaviestLocked returns the client with the most places among a sample. The caller holds ps.mu.
func (ps *places) heaviestLocked() (client netip.Prefix, h *holder) {
	looked := 0
	for c, o := range ps.clients { // in random order
		if h == nil || o.count > h.count {
			client, h = c, o
		}
		if looked++; looked == sampled {
			break
		}
	}
	return client, h
}

// heaviest returns the address with the most places among a sample.
func (h *holder) heaviest() (addr netip.Addr) {
	looked, most := 0, 0
	for a, list := range h.addrs { // in random order
		if len(list) > most {
			addr, most = a, len(list)
		}
		if looked++; looked == sampled {
			break
		}
	}
	return addr
}

// dropLocked removes a place from the counts. The caller holds ps.mu.
func (ps *places) dropLocked(p *place) {
	if p.expired {
		return
	}
	p.expired = true
	h := ps.clients[p.client]
	list := h.addrs[p.addr]
	i := slices.Index(list, p)
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(h.addrs, p.addr)
	} else {
		h.addrs[p.addr] = list
	}
	ps.total--
	if h.count--; h.count == 0 {
		delete(ps.clients, p.client)
	}
}

// release gives a place back.
func (p *place) release() {
	p.of.mu.Lock()
	p.of.dropLocked(p)
	p.of.mu.Unlock()
	p.cancel(context.Canceled)
}

// lost reports whether another query took the place.
func (p *place) lost() bool { return context.Cause(p.ctx) == errShare }

// taken returns the number of places in use.
func (ps *places) taken() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.total
}

// limitedFor is the time for which a limited client is shown.
const limitedFor = time.Minute

// limitedSince returns the clients that were limited within the time, the latest first.
func (ps *places) limitedSince(age time.Duration) (list []netip.Prefix) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.limited == nil {
		return nil
	}
	keys := ps.limited.Keys()
	slices.Reverse(keys)
	for _, c := range keys {
		if at, ok := ps.limited.Peek(c); ok && time.Since(at) < age {
			list = append(list, c)
		}
	}
	return list
}

// sockets bounds the queries to upstreams that are under way, in total and per client. Its methods may be called by any number
// of goroutines.
type sockets struct {
	all chan struct{}

	mu      sync.Mutex
	clients map[netip.Prefix]int
}

func newSockets(most int) *sockets {
	return &sockets{all: make(chan struct{}, most), clients: make(map[netip.Prefix]int)}
}

// acquire waits for a socket. It fails at once for a client that uses its whole share.
func (s *sockets) acquire(ctx context.Context) (release func(), err error) {
	client, known := ctx.Value(clientKey{}).(netip.Prefix)
	if known && !s.count(client, 1) {
		return nil, errShare
	}
	select {
	case s.all <- struct{}{}:
		return func() {
			<-s.all
			if known {
				s.count(client, -1)
			}
		}, nil
	case <-ctx.Done():
		if known {
			s.count(client, -1)
		}
		return nil, ctx.Err()
	}
}

// count adds n to the sockets of a client, and returns false if the sum would exceed its share.
func (s *sockets) count(client netip.Prefix, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clients[client] + n
	switch {
	case now > share(cap(s.all)):
		return false
	case now == 0:
		delete(s.clients, client)
	default:
		s.clients[client] = now
	}
	return true
}
