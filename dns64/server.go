package dns64

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Server listens for queries. Its goroutines share nothing with those that carry packets, and a panic while handling a query
// fails only that query.
type Server struct {
	f       *Forwarder
	packets []*net.UDPConn
	streams []net.Listener
	tls     *tls.Config // of the streams; nil: TCP
}

// Listen opens a UDP and a TCP socket for each address. After an error none is open.
func Listen(f *Forwarder, addrs []netip.AddrPort) (*Server, error) {
	s := &Server{f: f}
	for _, a := range addrs {
		if err := s.open(a); err != nil {
			s.Close()
			return nil, fmt.Errorf("dns64: %w", err)
		}
	}
	return s, nil
}

// ListenTLS opens a socket for DNS over TLS (RFC 7858).
func ListenTLS(f *Forwarder, addr netip.AddrPort, c *tls.Config) (*Server, error) {
	s := &Server{f: f, tls: c}
	if err := s.openStream(addr); err != nil {
		return nil, fmt.Errorf("dns64: %w", err)
	}
	return s, nil
}

// Close closes the sockets.
func (s *Server) Close() {
	for _, c := range s.packets {
		c.Close()
	}
	for _, l := range s.streams {
		l.Close()
	}
}

// client is the sender of a query.
type client struct {
	addr   netip.Addr
	own    bool // it is the host itself, which sends from the address that it asks
	stream bool
	limit  int // longest answer that it accepts
}

// outcome is the immediate result for a query: an answer, no answer, or a question that must be resolved first.
type outcome int

const (
	answered outcome = iota
	silent
	pending
)

// Transfer reports whether a question asks for a zone transfer, which is refused.
func Transfer(kind uint16) bool { return kind == dns.TypeAXFR || kind == dns.TypeIXFR }

// answer appends the answer to a query to dst if it needs no upstream. Otherwise it returns a job that resolves the query.
func (f *Forwarder) answer(dst, packet []byte, from *client, now time.Time) ([]byte, *job, outcome) {
	s := f.state.Load()
	q, rcode, ok := parseQuery(packet)
	if !ok {
		return dst, nil, silent
	}
	if !from.stream {
		from.limit = int(min(q.size, s.Size))
	}
	if !from.own && !s.serves(from.addr) {
		f.Stats.add(denied)
		rcode = dns.RcodeRefused
	} else if rcode == dns.RcodeSuccess && Transfer(q.kind) {
		rcode = dns.RcodeRefused
	}
	if rcode != dns.RcodeSuccess {
		f.Stats.answered(q.kind, rcode)
		return f.limited(s, q.appendRefusal(dst, rcode, 0, s.Size), len(dst), &q, from, now)
	}
	var room [maxName + 5]byte
	question := append(lower(room[:0], q.name()), q.question[len(q.question)-4:]...)
	pick := s.Policy.pick(from.addr, q.kind, q.class, &f.turn)
	e := s.made.get(s.made.key(question, q.do, q.flags&flagCD != 0, q.flags&flagRD != 0, pick), question)
	if e == nil || !e.fresh(now) {
		f.Stats.add(misses)
		return dst, &job{f: f, s: s, pick: pick}, pending
	}
	f.Stats.add(hits)
	e.hits.Add(1)
	if s.Cache.Prefetch && e.due(now) {
		f.prefetch(s, e, &q, pick, from.addr)
	}
	return f.finish(s, dst, e, &q, from, now)
}

// finish appends the answer of an entry, within the rate limit.
func (f *Forwarder) finish(s *state, dst []byte, e *entry, q *query, from *client, now time.Time) ([]byte, *job, outcome) {
	f.Stats.answered(q.kind, e.rcode())
	if e.made {
		f.Stats.add(made)
	}
	at := len(dst)
	dst = e.appendTo(dst, q, now, from.limit, s.Size)
	if dst[at+2]&(flagTC>>8) != 0 {
		f.Stats.add(truncated)
	}
	return f.limited(s, dst, at, q, from, now)
}

// limited applies the rate limit to the answer at dst[at:]: it passes it, empties it, or drops it.
func (f *Forwarder) limited(s *state, dst []byte, at int, q *query, from *client, now time.Time) ([]byte, *job, outcome) {
	if from.stream {
		return dst, nil, answered
	}
	switch s.limit.judge(from.addr, now) {
	case slip:
		f.Stats.add(limited)
		return q.appendRefusal(dst[:at], int(dst[at+3]&15), flagTC, s.Size), nil, answered
	case discard:
		f.Stats.add(limited)
		return dst[:at], nil, silent
	}
	return dst, nil, answered
}

// prefetch refreshes an entry in the background. Without a free place the entry stays due.
func (f *Forwarder) prefetch(s *state, e *entry, q *query, pick int, client netip.Addr) {
	question, err := q.asked()
	if err != nil {
		return
	}
	p := f.acquire(context.Background(), s, client)
	if p == nil {
		e.renew.Store(0)
		return
	}
	f.Stats.add(prefetched)
	go func() {
		defer p.release()
		_, _ = f.resolve(p.ctx, s, question, pick, true) // without a better answer, the entry stays
	}()
}

// job is a query that needs upstreams.
type job struct {
	f    *Forwarder
	s    *state
	pick int
}

// run resolves a query and appends the answer to dst. If upstreams do not answer in bounded time, the answer is a failure. After
// a panic there is none.
func (j *job) run(at *place, dst, packet []byte, from *client) (answer []byte, o outcome) {
	defer func() {
		if recover() != nil {
			j.f.Stats.add(panics)
			answer, o = nil, silent
		}
	}()
	q, _, _ := parseQuery(packet) // it was parsed before
	question, err := q.asked()
	var e *entry
	if err == nil {
		e, err = j.f.resolve(at.ctx, j.s, question, j.pick, false)
	}
	if at.lost() {
		return j.fail(dst, packet, from)
	}
	if err != nil {
		return j.failed(dst, &q, from)
	}
	answer, _, o = j.f.finish(j.s, dst, e, &q, from, time.Now())
	return answer, o
}

// fail appends the answer to a query that got no place.
func (j *job) fail(dst, packet []byte, from *client) ([]byte, outcome) {
	j.f.Stats.add(busy)
	q, _, _ := parseQuery(packet) // it was parsed before
	return j.failed(dst, &q, from)
}

// failed appends the answer to a query that could not be resolved.
func (j *job) failed(dst []byte, q *query, from *client) ([]byte, outcome) {
	j.f.Stats.answered(q.kind, dns.RcodeServerFailure)
	dst, _, o := j.f.limited(j.s, q.appendRefusal(dst, dns.RcodeServerFailure, 0, j.s.Size), len(dst), q, from, time.Now())
	return dst, o
}
